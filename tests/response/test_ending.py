"""``eradicate`` and ``release`` on a simulated API: the gate, broken glass, and how the fence comes down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringfence.evidence.vault import Vault
from ringfence.model.access import PathState, Verdict, verdict
from ringfence.model.incident import Incident, State
from ringfence.model.node_helper import NodeNetwork, NodeOrder, NodeReport
from ringfence.model.outcome import Already, Applied, Failed, Problem, Refused, Unknown, is_done
from ringfence.model.proof import Level
from ringfence.model.timeline import CanaryTried, GlassBroken, NodeHelperReported, Refusal
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.response.context import Context
from ringfence.response.results import Result
from ringfence.seal.signing import SigningKey
from ringfence.seal.verify import verify_bundle
from ringfence.store import evidence, incidents, journal, tables, targets, timeline
from tests.response.steps_of import (
    changes,
    contained,
    deny_policies,
    eradicated,
    events,
    is_fenced,
    policy,
    released,
    types,
)
from tests.simulator import Fault, Simulator
from tests.small_bank import POLICIES, add_pod, pod_body

WithPolicy = Callable[..., Context]
pytestmark = pytest.mark.slow  # whole responses, one after the other

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
DENIED = 'x is forbidden: User "alice" cannot create resource "serviceaccounts/token" in API group ""'


def incident(context: Context, incident_id: str = "INC-1") -> Incident:
    with context.store.read() as session:
        return incidents.get(session, incident_id)


def end(context: Context, incident_id: str = "INC-1", *, break_glass: str = "") -> Result:
    return eradicated(context, incident_id, break_glass=break_glass)


def let_go(context: Context, incident_id: str = "INC-1") -> Result:
    return released(context, incident_id)


def fence_down(ending: Result) -> bool:
    return ending.done("fence.lift")


def lives(api: Simulator, name: str = "cards-1") -> bool:
    return api.get(POD, "bank", name) is not None


def unsealed(context: Context, tmp_path: Path) -> None:
    """Contain with a vault that cannot be written: the pod is cut, and nothing is sealed."""
    (tmp_path / "no-folder").write_text("")
    assert contained(replace(context, vault=Vault(tmp_path / "no-folder"))).seals == ()


# --- the gate -------------------------------------------------------------------------------------------------------


def test_a_sealed_pod_is_deleted_and_the_fence_comes_down(context: Context, api: Simulator) -> None:
    contained(context)
    ending = end(context)
    assert ending.outcome == Applied()
    assert ending.proof is not None
    assert ending.proof.level is Level.OBSERVED
    assert not lives(api)
    assert (deny_policies(api), policy(api, "allow-dns")) == ([], POLICIES["allow-dns"])
    assert fence_down(ending)
    assert incident(context).state is State.RECOVERING
    rows = {row.path: row for row in ending.statement.rows}
    assert {rows[path].state for path in ("network.egress", "network.established", "network.dns")} == {PathState.DEAD}
    assert (rows["identity.kubernetes"].state, rows["identity.kubernetes"].level) == (PathState.DEAD, Level.PROVEN)
    assert verdict(ending.statement.rows) is not Verdict.CONTAINED, "the siblings and the template are still open"


def test_without_a_seal_nothing_dies(context: Context, api: Simulator, tmp_path: Path) -> None:
    unsealed(context, tmp_path)
    ending = end(context)
    assert isinstance(ending.outcome, Refused)
    assert "no seal" in ending.outcome.reason
    assert "evidence collect INC-1" in ending.outcome.next_step
    assert (lives(api), is_fenced(api), len(deny_policies(api))) == (True, True, 1)
    (refusal,) = [event for event in events(context) if isinstance(event, Refusal)]
    assert refusal.gate == "evidence"
    assert incident(context).state is State.CONTAINING


def test_a_seal_that_is_too_old_is_no_seal(context: Context, with_policy: WithPolicy, api: Simulator) -> None:
    contained(context)
    with context.store.write() as session:
        (seal,) = evidence.seals(session, "INC-1")
        aged = seal.model_copy(update={"sealed_at": seal.sealed_at.replace(year=2020)})
        session.execute(tables.seal.update().values(body=aged.to_json()))
    ending = end(context)
    assert isinstance(ending.outcome, Refused)
    assert "s old" in ending.outcome.reason
    assert lives(api)


def test_an_incomplete_seal_is_no_seal(context: Context, api: Simulator) -> None:
    api.faults.append(Fault("GET", "/pods/cards-1/log", 500))
    assert contained(context).seals
    ending = end(context)
    assert isinstance(ending.outcome, Refused)
    assert "logs/cards/current" in ending.outcome.reason
    assert lives(api)


def test_a_seal_of_another_pod_of_the_incident_does_not_open_the_gate(context: Context, api: Simulator) -> None:
    contained(context)
    with context.store.write() as session:
        (seal,) = evidence.seals(session, "INC-1")
        other = seal.model_copy(update={"subject_uid": "another"})
        session.execute(tables.seal.update().values(body=other.to_json()))
    assert isinstance(end(context).outcome, Refused)
    assert lives(api)


def test_broken_glass_deletes_and_leaves_its_mark(context: Context, api: Simulator, tmp_path: Path) -> None:
    unsealed(context, tmp_path)
    ending = end(context, break_glass="ransomware is encrypting the ledger")
    assert (ending.outcome, lives(api)) == (Applied(), False)
    (broken,) = [event for event in events(context) if isinstance(event, GlassBroken)]
    assert broken.reason == "ransomware is encrypting the ledger"
    assert broken.actor == context.actor
    assert "no seal" in broken.missing
    order = types(context)
    assert order.index("break-glass") < len(order) - 1 - order[::-1].index("change.intended"), "said before it is done"


@pytest.mark.parametrize("reason", ["", " ", "\n\t"])
def test_no_glass_breaks_without_a_reason(context: Context, api: Simulator, tmp_path: Path, reason: str) -> None:
    unsealed(context, tmp_path)
    assert isinstance(end(context, break_glass=reason).outcome, Refused)
    assert lives(api)
    assert "break-glass" not in types(context)


def test_glass_that_need_not_be_broken_is_not(context: Context) -> None:
    contained(context)
    end(context, break_glass="in a hurry")
    assert "break-glass" not in types(context)


def test_a_pod_that_was_never_fenced_is_not_deleted_not_even_through_broken_glass(
    context: Context, api: Simulator
) -> None:
    api.faults.append(Fault("POST", "/networkpolicies", 422, times=1))
    assert isinstance(contained(context).outcome, Failed)
    ending = end(context, break_glass="now")
    assert isinstance(ending.outcome, Refused)
    assert "not fenced" in ending.outcome.reason
    assert lives(api)


def test_a_pod_that_was_never_fenced_goes_on_when_it_is_released(context: Context, api: Simulator) -> None:
    api.faults.append(Fault("PATCH", "/pods/cards-1", 422, times=1))
    assert isinstance(contained(context).outcome, Failed)
    assert len(deny_policies(api)) == 1
    ending = let_go(context)
    assert isinstance(ending.outcome, Already)
    assert (lives(api), is_fenced(api)) == (True, False)
    assert (fence_down(ending), deny_policies(api)) == (True, []), "what was put up for it comes down"
    assert policy(api, "allow-dns") == POLICIES["allow-dns"]
    assert incident(context).state is State.CLOSED


# --- deleting -------------------------------------------------------------------------------------------------------


def test_a_pod_that_somebody_else_deleted_is_already_gone_and_the_fence_comes_down(
    context: Context, api: Simulator
) -> None:
    contained(context)
    del api.objects["/api/v1", "pods", "bank", "cards-1"]
    ending = end(context)
    assert isinstance(ending.outcome, Already)
    assert (deny_policies(api), fence_down(ending)) == ([], True)


def test_another_pod_under_the_name_is_left_alone(context: Context, api: Simulator) -> None:
    contained(context)
    api.add(POD, "bank", "cards-1", pod_body(), labels={"app": "cards"})
    assert isinstance(end(context).outcome, Already)
    assert lives(api)


def test_a_lost_answer_to_the_delete_is_looked_up(context: Context, api: Simulator) -> None:
    contained(context)
    api.faults.append(Fault("DELETE", "/pods/cards-1", lost=True))
    ending = end(context)
    assert isinstance(ending.outcome, Already)
    assert (lives(api), deny_policies(api)) == (False, [])


def test_a_pod_that_finalizers_hold_keeps_its_fence_until_it_is_gone(with_policy: WithPolicy, api: Simulator) -> None:
    context = with_policy(delete_wait_seconds=0.2)
    add_pod(api, "held", finalizers=["example.com/hold"])
    contained(context, "held")
    ending = end(context)
    assert ending.proof is not None
    assert "example.com/hold" in ending.proof.why_not_higher
    assert len(deny_policies(api)) == 1
    assert incident(context).state is State.ERADICATING
    del api.objects["/api/v1", "pods", "bank", "held"]
    assert fence_down(end(context))
    assert deny_policies(api) == []
    assert incident(context).state is State.RECOVERING


def test_a_crash_after_the_deletes_intent_is_settled_by_live_state(context: Context, api: Simulator) -> None:
    contained(context)
    end(context)
    name = next(name for name in changes(context) if name.endswith(":delete"))
    with context.store.write() as session:
        session.execute(tables.change.update().where(tables.change.c.id == "delete").values(outcome=None))
    assert isinstance(end(context).outcome, Already)
    assert isinstance(changes(context)[name].outcome, Already)


# --- the token canary -----------------------------------------------------------------------------------------------


def tries(context: Context) -> list[str]:
    return [event.result for event in events(context) if isinstance(event, CanaryTried)]


def test_a_token_like_the_stolen_one_is_accepted_before_and_refused_after(context: Context, api: Simulator) -> None:
    contained(context)
    end(context)
    assert tries(context) == ["intended", "accepted", "refused"]
    assert "minted" not in json.dumps([event.to_json() for event in events(context)]), "no token is ever written down"


def test_without_the_right_to_mint_the_deletion_goes_on_and_the_token_stays_unseen(
    context: Context, api: Simulator
) -> None:
    contained(context)
    api.faults.append(Fault("POST", "/serviceaccounts/cards/token", 403, DENIED))
    ending = end(context)
    assert ending.outcome == Applied()
    assert tries(context) == ["intended", "not-possible"]
    rows = {row.path: row.state for row in ending.statement.rows}
    assert rows["identity.kubernetes"] is PathState.UNSEEN


def test_no_canary_is_minted_where_the_configuration_says_none(with_policy: WithPolicy, api: Simulator) -> None:
    context = with_policy(token_canary=False)
    contained(context)
    end(context)
    assert tries(context) == []
    assert not any(request.path.endswith("/token") for request in api.writes)


# --- release --------------------------------------------------------------------------------------------------------


def test_release_deletes_the_pod_before_the_deny_goes(
    context: Context, api: Simulator, signing_key: SigningKey
) -> None:
    contained(context)
    api.writes.clear()
    ending = let_go(context)
    deleted = [request.path.rpartition("/")[2] for request in api.writes if request.method == "DELETE"]
    assert deleted[0] == "cards-1"
    assert deleted[1].startswith("ringfence-")
    assert incident(context).state is State.CLOSED
    (seal,) = ending.seals
    assert seal.id.endswith("/seal/2"), "it is sealed once more before it dies"
    verify_bundle(Path(seal.path), signing_key.public_key)


def test_release_puts_every_policy_back_exactly(context: Context, api: Simulator) -> None:
    before = {name: policy(api, name) for name in POLICIES}
    contained(context)
    assert policy(api, "allow-dns") != before["allow-dns"]
    assert fence_down(let_go(context))
    assert {name: policy(api, name) for name in POLICIES} == before
    assert {obj["metadata"]["name"] for obj in api.all(NETWORK_POLICY)} == set(POLICIES)


def test_a_released_pod_never_goes_back_to_its_service(context: Context, api: Simulator) -> None:
    contained(context)
    let_go(context)
    names = {pod["metadata"]["name"] for pod in api.all(POD)}
    assert "cards-1" not in names
    assert len(names) == 2, "the replacement goes on in its place"


def test_a_release_whose_pod_cannot_be_sealed_deletes_nothing(context: Context, api: Simulator, tmp_path: Path) -> None:
    unsealed(context, tmp_path)
    api.faults.append(Fault("GET", "/pods/cards-1/log", 500))
    ending = let_go(context)
    assert isinstance(ending.outcome, Refused)
    assert (lives(api), len(deny_policies(api))) == (True, 1)


def test_a_policy_that_somebody_edited_is_left_to_them_and_said(context: Context, api: Simulator) -> None:
    contained(context)
    theirs = {**POLICIES["allow-dns"], "podSelector": {"matchLabels": {"tier": "web"}}}
    api.objects["/apis/networking.k8s.io/v1", "networkpolicies", "bank", "allow-dns"]["spec"] = theirs
    ending = let_go(context)
    assert not fence_down(ending)
    (lift,) = [step.outcome for step in ending.steps if step.action == "fence.lift"]
    assert isinstance(lift, Failed)
    assert "allow-dns" in lift.problem.why
    assert "changed by somebody" in lift.problem.why
    assert policy(api, "allow-dns") == theirs
    assert deny_policies(api) == [], "the rest comes down all the same"


def test_every_change_that_takes_something_back_is_in_the_journal(context: Context) -> None:
    contained(context)
    let_go(context)
    journalled = changes(context)
    assert all(record.outcome is not None for record in journalled.values())
    undone = {record.change.id for record in journalled.values() if record.undone}
    assert undone == {"deny-all", "exclude-allow-dns"}


def test_a_second_release_finds_nothing_left_to_do(context: Context, api: Simulator) -> None:
    contained(context)
    let_go(context)
    api.writes.clear()
    ending = let_go(context)
    assert isinstance(ending.outcome, Already)
    assert api.writes == []
    assert incident(context).state is State.CLOSED


def on_its_node(context: Context, *, cut: bool, frozen: bool = False) -> None:
    """What the node helper tells after an order."""
    known = incident(context)
    with context.store.write() as session:
        (target,) = targets.of_incident(session, known.id)
        report = NodeReport(
            **{"target": target, "order": NodeOrder.CUT, "run": "r", "image": "i", "node": "node-1", "addresses": ()},
            started_at=NOW,
            ended_at=NOW,
            done=True,
            network=NodeNetwork(in_force=cut, interfaces=("veth1 (veth)",)),
            frozen=frozen,
        )
        told = NodeHelperReported(occurred_at=NOW, actor=context.actor, report=report)
        timeline.append(session, known.id, told, NOW)


@pytest.mark.parametrize(("cut", "frozen"), [(True, False), (False, True)])
def test_a_pod_that_its_node_still_holds_is_not_released_and_its_incident_not_closed(
    context: Context, api: Simulator, cut: bool, frozen: bool
) -> None:
    """It would stand cut, or still, for good, and nobody would look after it."""
    contained(context, shape="fence")
    on_its_node(context, cut=cut, frozen=frozen)
    ending = let_go(context)
    assert isinstance(ending.outcome, Refused)
    assert "ringfence node INC-1 uncut" in ending.outcome.next_step
    assert is_fenced(api)
    assert incident(context).state is not State.CLOSED
    on_its_node(context, cut=False)
    assert is_done(let_go(context).outcome)
    assert not is_fenced(api)
    assert incident(context).state is State.CLOSED


def test_a_pod_that_only_its_node_cut_is_not_called_released(context: Context, api: Simulator) -> None:
    """Admission refused the fence, say: there is nothing to unfence, and the pod is not free."""
    api.faults.append(Fault("PATCH", "/pods/cards-1", 403))
    contained(context, shape="fence")
    api.faults.clear()
    assert not is_fenced(api)
    on_its_node(context, cut=True)
    assert isinstance(let_go(context).outcome, Refused)
    assert incident(context).state is not State.CLOSED


def test_what_the_node_did_to_a_pod_that_is_deleted_goes_with_it(context: Context, api: Simulator) -> None:
    contained(context)
    on_its_node(context, cut=True)
    assert is_done(let_go(context).outcome)
    assert not lives(api)
    assert incident(context).state is State.CLOSED


# --- two incidents in one namespace ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "last"), [("INC-1", "INC-2"), ("INC-2", "INC-1")])
def test_an_exclusion_stays_until_the_last_fenced_pod_is_gone(
    context: Context, api: Simulator, first: str, last: str
) -> None:
    contained(context)
    contained(context, "cards-2", accept_outage=True)
    excluded = policy(api, "allow-dns")
    ending = let_go(context, first)
    assert policy(api, "allow-dns") == excluded, "it still keeps the other pod cut"
    assert len(deny_policies(api)) == 1
    # The exclusion is the first incident's; when the second ends before it, its own fence is down.
    assert fence_down(ending) is (first == "INC-2")
    assert fence_down(let_go(context, last))
    assert (policy(api, "allow-dns"), deny_policies(api)) == (POLICIES["allow-dns"], [])


def test_a_deny_that_an_ended_incident_had_to_leave_goes_with_the_next_and_so_does_its_own(
    context: Context, api: Simulator
) -> None:
    contained(context)
    contained(context, "cards-2", accept_outage=True)
    left = f"ringfence-{incident(context, 'INC-1').fence}"
    api.faults.append(Fault("DELETE", f"/networkpolicies/{left}", 403, "admission said no", times=1))
    assert not fence_down(let_go(context, "INC-1"))
    assert left in deny_policies(api)
    assert fence_down(let_go(context, "INC-2"))
    assert deny_policies(api) == [], "both, each by a request of its own"
    with context.store.read() as session:
        standing = journal.standing(session, cluster="cluster-1", kind="NetworkPolicy", namespace="bank")
    assert standing == ()


def test_the_fence_of_an_open_incident_is_not_touched_by_anothers_end(context: Context, api: Simulator) -> None:
    contained(context)
    contained(context, "cards-2", accept_outage=True)
    end(context, "INC-2")
    assert is_fenced(api)
    assert deny_policies(api) == [f"ringfence-{incident(context).fence}"]
    assert incident(context).state is State.CONTAINING


def test_an_unknown_deny_is_settled_and_taken_down_with_the_rest(context: Context, api: Simulator) -> None:
    """Its answer was lost and live state could not be read then; it must not be forgotten."""
    contained(context)
    unknown = Unknown(problem=Problem(code="unanswered", what="no answer")).to_json()
    with context.store.write() as session:
        session.execute(tables.change.update().where(tables.change.c.id == "deny-all").values(outcome=unknown))
    assert fence_down(let_go(context))
    assert deny_policies(api) == []


def test_two_attempts_of_one_incident_come_down_together(context: Context, api: Simulator) -> None:
    api.faults.append(Fault("PATCH", "/pods/cards-1", 422, times=1))
    assert isinstance(contained(context).outcome, Failed)
    assert is_done(contained(context).outcome)
    assert {"cut/1:deny-all", "cut/2:detach"} <= set(changes(context))
    assert fence_down(let_go(context))
    assert (policy(api, "allow-dns"), deny_policies(api)) == (POLICIES["allow-dns"], [])
