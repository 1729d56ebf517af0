"""``recover --dry-run``: what it says is what a recovery then does, and saying it changes nothing, anywhere."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from ringfence.model.access import PathState
from ringfence.model.outcome import Refused
from ringfence.model.proof import Level
from ringfence.model.run import RunState
from ringfence.platform.kubernetes.resources import APPLICATION, DEPLOYMENT, POD, SCALED_OBJECT
from ringfence.response import statement, verbs
from ringfence.response.context import Context
from ringfence.response.recovery.foresee import Foreseen, Stand, foresee
from ringfence.response.verbs import Wish
from ringfence.store import access, tables
from ringfence.store.database import Store
from tests.response.steps_of import changes, conductor, contained, eradicated
from tests.response.test_recover import (
    COMMIT,
    GOOD_IMAGE,
    OTHER,
    ArgoCd,
    accept_all,
    argo_stopped,
    deliver,
    incident,
    outcomes,
    recovered,
    roll_out,
    set_template,
    stopped,
)
from tests.simulator import Fault, Simulator, _key

pytestmark = pytest.mark.slow  # whole responses, one after the other


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringfence.response.recovery.check._READY_SECONDS", 0.2)
    monkeypatch.setattr("ringfence.response.recovery.window._RETEST_SECONDS", 0.1)


class ReadOnly:
    """The store of a context, with nothing that writes: an engine of this test may go on writing to it meanwhile."""

    def __init__(self, store: Store) -> None:
        self.read = store.read


def foreseen(context: Context, api: Simulator, **wish: Any) -> dict[str, Foreseen]:
    """By step; several targets: the last one. Whatever is asked, nothing may be written."""
    before = copy.deepcopy(api.objects), len(api.writes)
    blind = replace(context, store=ReadOnly(context.store))  # type: ignore[arg-type]
    found = foresee(blind, incident(context), verbs.order_of(Wish(command="recover", **wish)))
    assert (api.objects, len(api.writes)) == before
    return {one.step: one for one in found}


def stands(found: dict[str, Foreseen]) -> dict[str, str]:
    return {step: one.stand.value for step, one in found.items()}


def test_a_suspect_that_lives_shuts_the_first_gate_and_the_others_are_shown_all_the_same(
    context: Context, api: Simulator
) -> None:
    contained(context)
    found = foreseen(context, api)
    clean = found["clean"]
    assert (clean.stand, clean.ends) == (Stand.SHUT, True)
    assert isinstance(clean.outcome, Refused)
    assert "left running: Pod bank/cards-1" in clean.outcome.reason
    assert "ringfence eradicate INC-1" in clean.outcome.next_step
    assert list(found) == [
        *("clean", "hole", "source", "canary", "try-canary", "rebind", "restore", "unfreeze", "restore-rest"),
        *("try-all", "let-scale", "watch", "look", "over"),
    ]
    assert outcomes(recovered(context))["clean"] == clean.outcome


def test_rows_are_looked_at_anew_and_not_kept(context: Context, api: Simulator) -> None:
    """Stored rows would call a suspect alive that is gone, and kept ones would be an event of a dry run."""
    contained(context)
    eradicated(context)
    assert "siblings.image is unseen" in foreseen(context, api)["clean"].words
    accept_all(context)
    assert foreseen(context, api)["clean"].stand is Stand.PASSES


def test_the_hole_says_what_would_start_and_an_acceptance_opens_it(context: Context, api: Simulator) -> None:
    set_template(api, "registry.test/cards:1.4")
    contained(context)
    eradicated(context)
    accept_all(context, "workload.replacement")
    assert foreseen(context, api)["hole"].stand is Stand.SHUT
    statement.accept(context, incident(context), "workload.replacement", "the fix comes tomorrow")
    hole = foreseen(context, api)["hole"]
    assert hole.stand is Stand.PASSES
    assert hole.proof is not None
    assert hole.proof.level is Level.NONE


def test_an_acceptance_that_lapses_with_the_first_gate_opens_nothing(context: Context, api: Simulator) -> None:
    set_template(api, "registry.test/cards:1.4")
    contained(context)
    eradicated(context)
    accept_all(context)
    with context.store.write() as session:
        rows = access.rows(session, "INC-1")
        (row,) = [one for one in rows if one.path == "workload.replacement"]
        assert row.acceptance is not None
        weaker = row.acceptance.model_copy(update={"state": PathState.UNSEEN})
        body = row.model_copy(update={"acceptance": weaker}).to_json()
        table = tables.access_path
        session.execute(sa.update(table).where(table.c.path == row.path).values(body=body))
    hole = foreseen(context, api)["hole"]
    assert hole.stand is Stand.SHUT
    assert "was accepted as unseen, and the row is alive by now" in hole.words


def test_what_it_says_of_a_stopped_workload_is_what_is_then_sent(context: Context, api: Simulator) -> None:
    api.add(SCALED_OBJECT, "bank", "cards", {"spec": {"scaleTargetRef": {"name": "cards"}}}, annotations={"team": "a"})
    stopped(context)
    set_template(api, GOOD_IMAGE)
    accept_all(context)
    found = foreseen(context, api)
    assert stands(found) == {
        **{"clean": "passes", "hole": "passes", "source": "nothing", "canary": "changes", "try-canary": "later"},
        **{"rebind": "nothing", "restore": "changes", "unfreeze": "nothing", "restore-rest": "nothing"},
        **{"try-all": "later", "let-scale": "changes", "watch": "later", "look": "later", "over": "later"},
    }
    (first,), (rest,) = found["canary"].changes, found["restore"].changes
    assert "gets 1 replica" in first.effect
    assert "gets 2 replicas" in rest.effect
    before = set(changes(context))
    assert recovered(context).run.state is RunState.DONE
    sent = {key: record.change for key, record in changes(context).items() if key not in before}
    told = [change for one in found.values() for change in one.changes]
    assert sorted((c.verb, str(c.ref), c.subresource, c.id) for c in sent.values()) == sorted(
        (c.verb, str(c.ref), c.subresource, c.id) for c in told
    )


def test_a_size_that_somebody_gave_it_is_said(context: Context, api: Simulator) -> None:
    stopped(context)
    set_template(api, GOOD_IMAGE)
    accept_all(context)
    api.objects[_key(DEPLOYMENT, "bank", "cards")]["spec"]["replicas"] = 5
    canary = foreseen(context, api)["canary"]
    assert (canary.stand, "5 replicas" in canary.words) == (Stand.SHUT, True)


def test_argo_cd_is_not_asked_and_an_unapproved_commit_shuts_it(context: Context, api: Simulator) -> None:
    argo_stopped(context, api)
    source = foreseen(context, api)["source"]
    assert isinstance(source.outcome, Refused)
    assert f"would deliver {COMMIT}, and nobody has approved that" in source.outcome.reason
    assert foreseen(context, api, revisions=(OTHER,))["source"].stand is Stand.SHUT
    found = foreseen(context, api, revisions=(COMMIT[:8],))
    assert found["source"].stand is Stand.PASSES
    assert found["source"].proof is not None
    assert found["source"].proof.level is Level.COMPUTED, "a comparison of long ago is not one of just now"
    (thaw,) = found["unfreeze"].changes
    assert thaw.ref.kind == APPLICATION.kind
    api.objects[_key(APPLICATION, "argocd", "cards")]["status"]["conditions"] = [
        {"type": "ComparisonError", "message": "the repository does not answer"}
    ]
    assert foreseen(context, api, revisions=(COMMIT,))["source"].stand is Stand.UNKNOWN


def test_a_workload_that_waits_for_git_is_restored_after_argo_cd_was_let_go(context: Context, api: Simulator) -> None:
    set_template(api, "registry.test/cards:1.4")
    deliver(api, COMMIT)
    stopped(context)
    accept_all(context, "workload.replacement")
    found = foreseen(context, api, revisions=(COMMIT,))
    assert found["hole"].stand is Stand.PASSES
    assert found["hole"].proof is not None
    assert found["hole"].proof.level is Level.REQUESTED
    assert [found[step].stand for step in ("canary", "restore", "restore-rest")] == [
        Stand.LATER,
        Stand.LATER,
        Stand.CHANGES,
    ]
    with ArgoCd(api, lambda app: "automated" in app["spec"]["syncPolicy"] and set_template(api, GOOD_IMAGE)):
        assert recovered(context, revisions=(COMMIT,)).run.state is RunState.DONE


def test_rights_that_come_back_and_rights_that_may_not(context: Context, api: Simulator) -> None:
    contained(context)
    verbs.cut_identity(context, conductor(context), incident(context), Wish(command="cut", bindings=True))
    eradicated(context)
    roll_out(api, GOOD_IMAGE)
    accept_all(context)
    (back,) = foreseen(context, api)["rebind"].changes
    assert back.ref.name == "cards"
    api.faults.append(Fault("POST", "/rolebindings", 403, dry=None))
    rebind = foreseen(context, api)["rebind"]
    assert (rebind.stand, rebind.ends) == (Stand.SHUT, False), "the playbook goes on after it"


def test_what_runs_already_is_looked_at(context: Context, api: Simulator) -> None:
    contained(context)
    eradicated(context)
    accept_all(context)
    pod: Any = next(pod for pod in api.all(POD) if pod["metadata"].get("ownerReferences"))
    pod["spec"]["hostPID"] = True
    roll_out(api, GOOD_IMAGE)
    tried = foreseen(context, api)["try-canary"]
    assert tried.stand is Stand.SHUT
    assert "hostPID is on" in tried.words
    later = foreseen(context, api, accept_findings="it is the node's own agent")["try-canary"]
    assert (later.stand, "taken on" in later.words) == (Stand.LATER, True)


def test_an_action_that_is_not_enabled_is_said(context: Context, api: Simulator, with_policy: Any) -> None:
    stopped(context)
    set_template(api, GOOD_IMAGE)
    accept_all(context)
    other = with_policy(disabled=frozenset({"workload.restore"}))
    assert foreseen(other, api)["canary"].stand is Stand.SHUT
