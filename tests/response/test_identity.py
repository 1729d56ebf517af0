"""``cut-identity`` on a simulated API that knows what a bound token may do: the canary, the rows, and who is spared."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringfence.evidence.handling import read_item
from ringfence.model.access import AccessPath, PathState
from ringfence.model.outcome import Already, Applied, Failed, Refused, Skipped
from ringfence.model.proof import Level
from ringfence.model.timeline import CanaryTried
from ringfence.platform.kubernetes.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    POD,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    VALIDATING_ADMISSION_POLICY,
)
from ringfence.response import statement, verbs
from ringfence.response.context import Context
from ringfence.response.results import Result
from ringfence.response.undo import undo_step
from ringfence.response.verbs import Wish
from ringfence.store import evidence, incidents
from tests.response.steps_of import conductor, contained, eradicated, events, released
from tests.simulator import Fault, Simulator

pytestmark = pytest.mark.slow  # whole responses, one after the other
PATH = "identity.kubernetes"
WithPolicy = Callable[..., Context]


def cut(context: Context, *, bindings: bool = False) -> Result:
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    return verbs.cut_identity(context, conductor(context), incident, Wish(command="cut-identity", bindings=bindings))


def row(context: Context) -> AccessPath:
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    (found,) = [one for one in statement.retest(context, incident).rows if one.path == PATH]
    return found


def tries(context: Context, what: str) -> list[str]:
    found = [event for event in events(context) if isinstance(event, CanaryTried) and event.path == f"{PATH}.{what}"]
    assert all(event.audit_id for event in found)
    return [event.result for event in found]


def outcomes(result: Result) -> dict[str, object]:
    return {step.step: step.outcome for step in result.steps}


def test_the_mildest_cut_comes_first_and_spares_the_siblings(context: Context, api: Simulator) -> None:
    contained(context)
    assert "the account may: get, create on configmaps in bank" in row(context).why
    result = cut(context)
    assert result.outcome == Applied()
    assert result.proof is not None
    assert result.proof.level is Level.PROVEN
    skipped = outcomes(result)["rights"]
    assert isinstance(skipped, Skipped)
    assert "cards-2" not in skipped.reason or "--bindings" in skipped.reason
    assert api.get(ROLE_BINDING, "bank", "cards") is not None
    assert tries(context, "write") == ["intended", "accepted", "refused"]
    now = row(context)
    assert (now.state, "has refused a canary's" in now.why) == (PathState.ALIVE, True), "it reads on"


def test_with_its_bindings_gone_the_row_is_dead_until_somebody_gives_rights_again(
    context: Context, api: Simulator
) -> None:
    contained(context)
    result = cut(context, bindings=True)
    assert outcomes(result)["rights"] == Applied()
    assert tries(context, "read") == ["intended", "accepted", "refused"]
    assert (row(context).state, row(context).level) == (PathState.DEAD, Level.PROVEN)
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    api.add(CLUSTER_ROLE, "", "door", {"rules": rules})
    everybody = [{"kind": "Group", "name": "system:serviceaccounts"}]
    role = {"kind": "ClusterRole", "name": "door"}
    api.add(CLUSTER_ROLE_BINDING, "", "door", {"roleRef": role, "subjects": everybody})
    assert (row(context).state, "secrets" in row(context).why) == (PathState.ALIVE, True), (
        "an old canary proves nothing"
    )


def test_what_no_canary_has_tried_is_not_dead(context: Context, with_policy: WithPolicy) -> None:
    contained(context)
    result = cut(with_policy(token_canary=False), bindings=True)
    assert outcomes(result)["rights"] == Applied()
    assert result.proof is not None
    assert result.proof.level is Level.COMPUTED
    assert "token_canary" in result.proof.why_not_higher
    assert (row(context).state, row(context).level) == (PathState.UNSEEN, Level.COMPUTED)


def test_a_canary_that_gets_through_is_no_proof(
    context: Context, api: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is there and does nothing: as when the API server is told to pass over it."""
    monkeypatch.setattr("ringfence.response.policy_canary._SECONDS", 0.1)
    monkeypatch.setattr("ringfence.response.policy_canary._POLL_SECONDS", 0.02)
    monkeypatch.setattr(Simulator, "_authorised", lambda *_: None)
    contained(context)
    result = cut(context)
    assert tries(context, "write") == ["intended", "accepted", "accepted"]
    assert result.proof is not None
    assert (result.proof.level, "went on accepting" in result.proof.why_not_higher) == (Level.COMPUTED, True)
    assert "which no canary has tried" in row(context).why


def test_another_refusal_than_the_policys_is_no_proof(
    context: Context, api: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.response.policy_canary._SECONDS", 0.1)
    monkeypatch.setattr("ringfence.response.policy_canary._POLL_SECONDS", 0.02)
    contained(context)
    authorised = Simulator._authorised

    def other(self: Simulator, *arguments: object) -> None:
        if self.all(VALIDATING_ADMISSION_POLICY):
            self.faults = [Fault("POST", "/configmaps", 403, 'admission webhook "w" denied the request', dry=True)]
        else:
            authorised(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Simulator, "_authorised", other)
    result = cut(context)
    assert tries(context, "write")[-1] == "accepted"
    assert result.proof is not None
    assert result.proof.level is Level.COMPUTED


def test_twice_is_already_so_and_undo_opens_both(context: Context, api: Simulator) -> None:
    contained(context)
    cut(context, bindings=True)
    again = cut(context, bindings=True)
    assert {name: type(one) for name, one in outcomes(again).items()} == {
        "writes": Already,
        "rights": Already,
        "look": Applied,
    }
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    for step in ("rights/2", "writes/2"):
        assert all(one == Applied() for _, one in undo_step(context, incident, step)), step
    assert api.all(VALIDATING_ADMISSION_POLICY) == []
    assert api.get(ROLE_BINDING, "bank", "cards") is not None
    assert row(context).state is PathState.ALIVE
    assert "admission policy" not in row(context).why


def test_a_protected_account_is_left_alone(context: Context, api: Simulator) -> None:
    contained(context)
    account = next(obj for key, obj in api.objects.items() if key[1] == "serviceaccounts")
    account["metadata"]["labels"] = {"ringfence.dev/protected": "true"}
    result = cut(context, bindings=True)
    assert {one.kind for name, one in outcomes(result).items() if name != "look"} == {"refused"}  # type: ignore[attr-defined]
    assert api.all(VALIDATING_ADMISSION_POLICY) == []
    assert api.get(ROLE_BINDING, "bank", "cards") is not None


def test_a_pod_that_is_gone_is_no_success(context: Context, api: Simulator) -> None:
    contained(context)
    api.objects = {key: obj for key, obj in api.objects.items() if key[1:] != ("pods", "bank", "cards-1")}
    assert api.get(POD, "bank", "cards-1") is None
    result = cut(context, bindings=True)
    assert isinstance(outcomes(result)["writes"], Skipped)
    assert not isinstance(result.outcome, Applied | Already)
    assert api.get(ROLE_BINDING, "bank", "cards") is not None


def test_a_policy_that_went_away_turns_the_words(context: Context, api: Simulator) -> None:
    contained(context)
    cut(context)
    api.objects = {key: obj for key, obj in api.objects.items() if key[1] != "validatingadmissionpolicies"}
    assert "does not hold" in row(context).why


def test_a_failed_canary_fails_no_cut(context: Context, api: Simulator) -> None:
    contained(context)
    denied = 'x is forbidden: User "alice" cannot create resource "serviceaccounts/token" in API group ""'
    api.faults.append(Fault("POST", "/token", 403, denied))
    result = cut(context)
    assert result.outcome == Applied()
    assert not isinstance(result.outcome, Failed)
    assert tries(context, "write") == ["intended", "not-possible"]


# --- the harder form ------------------------------------------------------------------------------------------------
def recreate(context: Context, *, break_glass: str = "") -> Result:
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    wish = Wish(command="cut-identity", break_glass=break_glass)
    return verbs.recreate_account(context, conductor(context), incident, wish)


def account_uid(api: Simulator) -> str:
    found = api.get(SERVICE_ACCOUNT, "bank", "cards")
    return str(found["metadata"]["uid"]) if found else ""


def test_an_account_is_sealed_before_it_is_recreated_and_a_pod_that_runs_on_stays_alive(
    context: Context, api: Simulator
) -> None:
    contained(context)
    before = account_uid(api)
    result = recreate(context)
    assert result.outcome == Applied()
    assert account_uid(api) not in ("", before)
    with context.store.read() as session:
        (seal,) = [one for one in evidence.seals(session, "INC-1") if one.subject_uid == before]
        items = evidence.items(session, "INC-1", evidence.capture_of(session, seal.id))
    assert (seal.complete, [item.id for item in items]) == (True, ["object"])
    now = row(context)
    assert (now.state, "401" in now.why, "runs on" in now.why) == (PathState.ALIVE, True, True)


def test_without_a_seal_of_the_account_nothing_dies(context: Context, api: Simulator) -> None:
    contained(context)
    before = account_uid(api)
    api.faults.append(Fault("GET", "/serviceaccounts/cards", 500, dry=None, times=1_000))
    result = recreate(context)
    assert not isinstance(result.outcome, Applied)
    api.faults.clear()
    assert account_uid(api) == before


def test_two_pods_of_one_account_have_it_recreated_once(context: Context, api: Simulator) -> None:
    contained(context, "cards-1", "cards-2", accept_outage=True)
    before = account_uid(api)
    result = recreate(context)
    kinds = sorted(step.outcome.kind for step in result.steps if step.action == "identity.recreate_account")
    assert kinds == ["already", "applied"]
    deletes = [one for one in api.writes if one.method == "DELETE" and one.path.endswith("/serviceaccounts/cards")]
    assert len(deletes) == 1
    assert account_uid(api) != before


def test_a_creation_that_fails_is_tried_again_at_once(
    context: Context, api: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.response.stages.identity._PAUSE_SECONDS", 0.0)
    contained(context)
    before = account_uid(api)
    api.faults.append(Fault("POST", "/serviceaccounts", 500, times=2))
    result = recreate(context)
    assert result.outcome == Applied()
    assert account_uid(api) not in ("", before)
    assert "401" in row(context).why, "the canary of the old account was tried all the same"


def test_an_account_that_was_left_deleted_is_made_again_by_the_next_command(
    context: Context, api: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: between the two requests nobody of the account gets in."""
    monkeypatch.setattr("ringfence.response.stages.identity._PAUSE_SECONDS", 0.0)
    contained(context)
    before = account_uid(api)
    api.faults.append(Fault("POST", "/serviceaccounts", 500))
    assert not isinstance(recreate(context).outcome, Applied)
    assert account_uid(api) == ""
    api.faults.clear()
    assert recreate(context).outcome == Applied()
    assert account_uid(api) not in ("", before)


def test_an_account_that_could_not_be_made_again_is_not_deleted(context: Context, api: Simulator) -> None:
    contained(context)
    before = account_uid(api)
    api.faults.append(Fault("POST", "/serviceaccounts", 403, 'admission webhook "w" denied the request', dry=True))
    result = recreate(context)
    assert {step.outcome.kind for step in result.steps if step.action == "identity.recreate_account"} == {"refused"}
    assert account_uid(api) == before


# --- tokens in Secrets ----------------------------------------------------------------------------------------------
def delete_tokens(context: Context) -> Result:
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    return verbs.delete_tokens(context, conductor(context), incident, Wish(command="cut-identity"))


def legacy(context: Context) -> AccessPath:
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    (found,) = [one for one in statement.retest(context, incident).rows if one.path == "identity.legacy"]
    return found


def test_tokens_in_secrets_are_found_and_deleted_only_where_that_is_opted_in(
    context: Context, api: Simulator, with_policy: WithPolicy
) -> None:
    contained(context)
    assert (legacy(context).state, legacy(context).level) == (PathState.UNSEEN, Level.NONE)
    closed = with_policy(disabled=frozenset({"identity.delete_tokens"}))
    result = delete_tokens(closed)
    assert isinstance(result.outcome, Refused)
    assert "identity.legacy_tokens" in result.outcome.next_step
    assert api.all(SECRET)

    opted_in = with_policy(legacy_tokens=True)
    assert (legacy(opted_in).state, "cards-token" in legacy(opted_in).why) == (PathState.ALIVE, True)
    assert delete_tokens(opted_in).outcome == Applied()
    assert api.all(SECRET) == []
    assert (legacy(opted_in).state, legacy(opted_in).level) == (PathState.DEAD, Level.OBSERVED)


def test_a_secrets_seal_holds_its_metadata_and_nothing_else(
    context: Context, api: Simulator, with_policy: WithPolicy
) -> None:
    contained(context)
    uid = api.all(SECRET)[0]["metadata"]["uid"]
    opted_in = with_policy(legacy_tokens=True)
    assert delete_tokens(opted_in).outcome == Applied()
    with context.store.read() as session:
        (seal,) = [one for one in evidence.seals(session, "INC-1") if one.subject_uid == uid]
        (item,) = evidence.items(session, "INC-1", evidence.capture_of(session, seal.id))
    content = b"".join(read_item(context.vault, "INC-1", item))
    assert seal.complete
    assert b"cards-token" in content
    assert b"c2VjcmV0" not in content


# --- the end ----------------------------------------------------------------------------------------------------------
def test_a_false_positive_gets_everything_back(context: Context, api: Simulator) -> None:
    contained(context, shape="fence")
    cut(context, bindings=True)
    assert api.get(ROLE_BINDING, "bank", "cards") is None
    released(context)
    assert api.get(POD, "bank", "cards-1") is not None
    assert api.all(VALIDATING_ADMISSION_POLICY) == []
    assert api.get(ROLE_BINDING, "bank", "cards") is not None


def test_after_an_attack_the_policy_goes_with_its_pod_and_the_rights_wait_for_a_person(
    context: Context, api: Simulator
) -> None:
    contained(context)
    cut(context, bindings=True)
    ended = eradicated(context)
    assert ended.done("fence.lift")
    assert api.all(VALIDATING_ADMISSION_POLICY) == []
    assert api.get(ROLE_BINDING, "bank", "cards") is None
