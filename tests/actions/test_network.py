"""``network.quarantine`` against a simulated API: which requests, in which order, and when there is no plan at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.network import FENCE_KEY, Quarantine
from ringfence.actions.perform import Answer
from ringfence.errors import Denied
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Already, Applied, Failed, Refused
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.policies import evaluate
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD, SERVICE
from ringfence.platform.kubernetes.surroundings import read_pod, read_surroundings, reference
from tests.simulator import Fault, Simulator
from tests.small_bank import CARDS, POLICIES, add_pod, pod_body

Json = dict[str, Any]
FENCE = "9f2ce1d00a5b4c77"
FORBIDDEN = (
    'networkpolicies "allow-dns" is forbidden: User "alice" cannot patch resource "networkpolicies" in API group'
)
Planning = Callable[..., Plan | Refused]


@pytest.fixture
def action(cluster: Cluster) -> Quarantine:
    return Quarantine(cluster, Settings(FENCE, 1))


@pytest.fixture
def planning(cluster: Cluster, action: Quarantine, pool: ThreadPoolExecutor) -> Planning:
    def plan(name: str = "cards-1") -> Plan | Refused:
        pod, reading = read_pod(cluster, "bank", name)
        around = read_surroundings(cluster, "cluster-1", pod, reading, pool)
        return action.plan(reference("cluster-1", pod), around)

    return plan


def planned(planning: Planning, name: str = "cards-1") -> Plan:
    plan = planning(name)
    assert isinstance(plan, Plan), plan
    return plan


def refusal(planning: Planning, name: str) -> Refused:
    refused = planning(name)
    assert isinstance(refused, Refused)
    assert refused.next_step
    return refused


def apply(action: Quarantine, plan: Plan) -> dict[str, Answer]:
    return {change.id: action.apply(change, f"audit-{change.id}") for change in plan.changes}


def record(plan: Plan, change_id: str, answer: Answer) -> ChangeRecord:
    (change,) = [change for change in plan.changes if change.id == change_id]
    return ChangeRecord(
        incident="INC-1",
        step="contain/1",
        action=plan.action,
        ordinal=0,
        change=change,
        audit_id="a",
        intended_at="2026-11-23T03:00:00Z",  # type: ignore[arg-type]
        outcome=answer.outcome,
        result_uid=answer.uid,
    )


def live_pod(api: Simulator, name: str = "cards-1") -> Json:
    pod = api.get(POD, "bank", name)
    assert pod is not None
    return pod


def spec_of(api: Simulator, policy: str) -> Json:
    found = api.get(NETWORK_POLICY, "bank", policy)
    assert found is not None
    return dict(found["spec"])


# --- the plan -------------------------------------------------------------------------------------------------------


def test_the_deny_comes_first_and_the_pod_last(planning: Planning) -> None:
    plan = planned(planning)
    assert [change.id for change in plan.changes] == ["deny-all", "exclude-allow-dns", "detach"]
    assert [change.needed for change in plan.changes] == [True, False, True]
    assert plan.destroys == (), "a cut destroys nothing"


def test_planning_writes_nothing_and_every_change_has_passed_a_dry_run(
    planning: Planning, api: Simulator, wire: Any
) -> None:
    before = json.dumps(list(api.objects.values()))
    planned(planning)
    assert api.writes == []
    assert json.dumps(list(api.objects.values())) == before
    dry = [request.path for request in wire.requests if request.query.get("dryRun") == "All"]
    assert len(dry) == 3


def test_the_prior_state_of_everything_that_is_changed_is_in_the_plan(planning: Planning, api: Simulator) -> None:
    deny, exclude, detach = planned(planning).changes
    assert deny.prior is None
    assert exclude.prior is not None
    assert exclude.prior["spec"] == POLICIES["allow-dns"]
    assert detach.prior == live_pod(api)
    assert detach.ref.uid == live_pod(api)["metadata"]["uid"]


def test_each_patch_names_the_object_that_it_is_for(planning: Planning) -> None:
    for change in planned(planning).changes:
        if change.verb is Verb.PATCH:
            assert {"op": "test", "path": "/metadata/uid", "value": change.ref.uid} in change.body


def test_the_label_that_the_victim_can_read_says_nothing(
    planning: Planning, api: Simulator, action: Quarantine
) -> None:
    plan = planned(planning)
    assert {answer.outcome.kind for answer in apply(action, plan).values()} == {"applied"}
    meta = live_pod(api)["metadata"]
    assert meta["labels"][FENCE_KEY] == FENCE
    visible = json.dumps([meta["labels"], meta["annotations"]]).lower()
    for telling in ("inc-", "incident", "quarantine", "suspect", "compromise"):
        assert telling not in visible


def test_a_policy_that_allows_everybody_is_excluded_and_one_that_only_denies_is_left(planning: Planning) -> None:
    names = {change.ref.name for change in planned(planning).changes if change.id.startswith("exclude-")}
    assert names == {"allow-dns"}, "allow-cards loses the pod with its labels, default-deny only helps"


def test_a_policy_that_begins_to_match_by_the_change_is_excluded_too(planning: Planning, api: Simulator) -> None:
    orphans = {"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, "egress": [{}]}
    api.add(NETWORK_POLICY, "bank", "allow-orphans", {"spec": {**orphans, "policyTypes": ["Egress"]}})
    plan = planned(planning)
    assert "exclude-allow-orphans" in {change.id for change in plan.changes}
    assert any("allow-orphans" in caveat and "begins to select" in caveat for caveat in plan.caveats)


def test_a_policy_of_another_namespace_is_none_of_our_business(planning: Planning, api: Simulator) -> None:
    api.add(
        NETWORK_POLICY, "shop", "allow-all", {"spec": {"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]}}
    )
    assert len(planned(planning).changes) == 3


def test_the_plan_forecasts_what_customers_feel(planning: Planning) -> None:
    plan = planned(planning)
    (cards,) = plan.impact.services
    assert (cards.service, cards.ready_before, cards.ready_after) == ("cards", 2, 1)
    assert plan.impact.replacement_expected
    assert "ReplicaSet cards-6b7f" in plan.rationale


def test_a_probe_that_will_kill_the_pod_is_foretold(planning: Planning, api: Simulator) -> None:
    body = pod_body()
    body["spec"]["containers"][0]["livenessProbe"] = {"httpGet": {"path": "/"}}
    add_pod(api, "probed", body)
    assert any("liveness" in caveat for caveat in planned(planning, "probed").caveats)


# --- no plan --------------------------------------------------------------------------------------------------------


def test_a_pod_on_its_nodes_network_is_refused(planning: Planning, api: Simulator) -> None:
    body = pod_body()
    body["spec"]["hostNetwork"] = True
    add_pod(api, "host", body)
    assert "node's network" in refusal(planning, "host").reason


def test_a_pod_that_has_ended_is_refused(planning: Planning, api: Simulator) -> None:
    body = pod_body()
    body["status"]["phase"] = "Failed"
    add_pod(api, "ended", body)
    assert "ended" in refusal(planning, "ended").reason


@pytest.mark.parametrize(("method", "path"), [("POST", "/networkpolicies"), ("PATCH", "/pods/cards-1")])
def test_what_admission_would_refuse_is_refused_before_anything_is_written(
    planning: Planning, api: Simulator, method: str, path: str
) -> None:
    api.faults.append(Fault(method, path, 403, 'admission webhook "guard" denied the request: no', dry=True))
    refused = refusal(planning, "cards-1")
    assert "guard" in refused.reason
    assert "ringfence node INC cut" in refused.next_step
    assert api.writes == []


@pytest.mark.parametrize(("method", "path"), [("POST", "/networkpolicies"), ("PATCH", "/pods/cards-1")])
def test_without_the_right_to_cut_planning_raises(planning: Planning, api: Simulator, method: str, path: str) -> None:
    api.faults.append(Fault(method, path, 403, FORBIDDEN, dry=True))
    with pytest.raises(Denied):
        planning("cards-1")


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, FORBIDDEN), (403, 'admission webhook "gitops" denied it'), (409, "changed"), (503, "")],
)
def test_a_policy_that_cannot_be_excluded_does_not_stop_the_cut(
    planning: Planning, api: Simulator, status: int, message: str
) -> None:
    api.faults.append(Fault("PATCH", "/networkpolicies/allow-dns", status, message, dry=True))
    assert [change.id for change in planned(planning).changes][-1] == "detach"


def test_an_earlier_attempts_deny_is_no_obstacle(planning: Planning, api: Simulator, action: Quarantine) -> None:
    plan = planned(planning)
    action.apply(plan.changes[0], "a")
    again = planned(planning)
    assert [change.id for change in again.changes] == ["exclude-allow-dns", "detach"], "what is there is not made again"
    assert isinstance(action.apply(plan.changes[0], "a").outcome, Already)


# --- the cut --------------------------------------------------------------------------------------------------------


def test_the_pod_leaves_its_controller_its_service_and_every_policy_that_allows(
    planning: Planning, api: Simulator, action: Quarantine
) -> None:
    apply(action, planned(planning))
    assert [request.method for request in api.writes] == ["POST", "PATCH", "PATCH"]
    pod = live_pod(api)
    assert not pod["metadata"].get("ownerReferences"), "the ReplicaSet has let go of it"
    assert CARDS.items() & pod["metadata"]["labels"].items() == set()
    assert evaluate(pod, api.all(NETWORK_POLICY)).cut
    others = [other for other in api.all(POD) if other["metadata"]["name"] != "cards-1"]
    assert len(others) == 2, "a replacement has been started"
    for other in others:
        assert not evaluate(other, api.all(NETWORK_POLICY)).cut, "nobody else is cut"


def test_the_deny_policy_selects_the_fence_and_denies_both_ways(
    planning: Planning, api: Simulator, action: Quarantine
) -> None:
    apply(action, planned(planning))
    assert spec_of(api, f"ringfence-{FENCE}") == {
        "podSelector": {"matchLabels": {FENCE_KEY: FENCE}},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_an_orphan_is_kept_from_autoscalers(planning: Planning, api: Simulator, action: Quarantine) -> None:
    apply(action, planned(planning))
    annotations = live_pod(api)["metadata"]["annotations"]
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_annotations_that_were_there_stay(planning: Planning, api: Simulator, action: Quarantine) -> None:
    api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["annotations"] = {"team": "cards"}
    apply(action, planned(planning))
    assert live_pod(api)["metadata"]["annotations"]["team"] == "cards"


def test_a_second_time_changes_nothing(planning: Planning, api: Simulator, action: Quarantine) -> None:
    apply(action, planned(planning))
    before = json.dumps(list(api.objects.values()))
    again = planned(planning)
    assert [change.id for change in again.changes] == ["detach"], "the fence stands, what is excluded is excluded"
    assert {"op": "test", "path": "/metadata/uid", "value": again.target.uid} in again.changes[-1].body
    assert {answer.outcome.kind for answer in apply(action, again).values()} <= {"applied", "already"}
    assert json.dumps(list(api.objects.values())) == before


def test_a_pod_that_changed_its_labels_since_the_plan_is_not_patched(
    planning: Planning, api: Simulator, action: Quarantine
) -> None:
    plan = planned(planning)
    api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["labels"]["tier"] = "new"
    answer = action.apply(plan.changes[-1], "a")
    assert isinstance(answer.outcome, Failed)
    assert FENCE_KEY not in live_pod(api)["metadata"]["labels"]


# --- reading back ---------------------------------------------------------------------------------------------------


def test_a_cut_that_is_read_back_is_computed_and_says_why_it_is_not_more(
    planning: Planning, action: Quarantine, api: Simulator
) -> None:
    plan = planned(planning)
    assert action.verify(plan.target, ()).level is Level.REQUESTED, "not cut yet"
    apply(action, plan)
    proof = action.verify(plan.target, ())
    assert proof.level is Level.COMPUTED
    assert "canary" in proof.why_not_higher


def test_a_policy_that_still_opens_the_pod_is_named(planning: Planning, action: Quarantine, api: Simulator) -> None:
    plan = planned(planning)
    apply(action, plan)
    api.add(NETWORK_POLICY, "bank", "oops", {"spec": {"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]}})
    proof = action.verify(plan.target, ())
    assert (proof.level, "oops" in proof.why_not_higher) == (Level.REQUESTED, True)


def test_another_pod_of_the_same_name_is_no_proof(planning: Planning, action: Quarantine, api: Simulator) -> None:
    plan = planned(planning)
    apply(action, plan)
    labels = live_pod(api)["metadata"]["labels"]
    api.add(POD, "bank", "cards-1", pod_body(), labels=labels)
    assert action.verify(plan.target, ()).level is Level.REQUESTED


# --- taking back ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cut(planning: Planning, action: Quarantine) -> tuple[Plan, dict[str, Answer]]:
    plan = planned(planning)
    return plan, apply(action, plan)


def undo(action: Quarantine, cut: tuple[Plan, dict[str, Answer]], change_id: str) -> Change | Already | Refused:
    plan, answers = cut
    return action.undo(record(plan, change_id, answers[change_id]))


def end_pod(api: Simulator, name: str = "cards-1") -> None:
    del api.objects["/api/v1", "pods", "bank", name]


Cut = tuple[Plan, dict[str, Answer]]


def test_a_detached_pod_never_goes_back(action: Quarantine, cut: Cut) -> None:
    refused = undo(action, cut, "detach")
    assert isinstance(refused, Refused)
    assert "release" in refused.next_step


@pytest.mark.parametrize("change_id", ["deny-all", "exclude-allow-dns"])
def test_the_fence_stays_while_it_holds_a_pod(action: Quarantine, cut: Cut, change_id: str) -> None:
    refused = undo(action, cut, change_id)
    assert isinstance(refused, Refused)
    assert "cards-1" in refused.reason


def test_the_deny_is_deleted_by_its_uid(action: Quarantine, cut: Cut, api: Simulator) -> None:
    made = api.get(NETWORK_POLICY, "bank", f"ringfence-{FENCE}")
    assert made is not None
    end_pod(api)
    change = undo(action, cut, "deny-all")
    assert isinstance(change, Change)
    assert (change.verb, change.ref.uid) == (Verb.DELETE, made["metadata"]["uid"])
    assert action.apply(change, "a").outcome == Applied()
    assert api.get(NETWORK_POLICY, "bank", f"ringfence-{FENCE}") is None


def test_somebody_elses_policy_of_that_name_is_not_deleted(action: Quarantine, cut: Cut, api: Simulator) -> None:
    end_pod(api)
    api.add(NETWORK_POLICY, "bank", f"ringfence-{FENCE}", {"spec": POLICIES["default-deny"]})
    change = undo(action, cut, "deny-all")
    assert isinstance(change, Change)
    action.apply(change, "a")
    assert api.get(NETWORK_POLICY, "bank", f"ringfence-{FENCE}") is not None


def test_an_excluded_policy_gets_back_exactly_what_it_had(action: Quarantine, cut: Cut, api: Simulator) -> None:
    assert spec_of(api, "allow-dns") != POLICIES["allow-dns"]
    end_pod(api)
    change = undo(action, cut, "exclude-allow-dns")
    assert isinstance(change, Change)
    assert action.apply(change, "a").outcome == Applied()
    assert spec_of(api, "allow-dns") == POLICIES["allow-dns"]
    assert isinstance(undo(action, cut, "exclude-allow-dns"), Already)


def test_what_somebody_changed_since_is_not_overwritten(action: Quarantine, cut: Cut, api: Simulator) -> None:
    end_pod(api)
    theirs = {**POLICIES["allow-dns"], "podSelector": {"matchLabels": {"tier": "web"}}}
    api.objects["/apis/networking.k8s.io/v1", "networkpolicies", "bank", "allow-dns"]["spec"] = theirs
    assert isinstance(undo(action, cut, "exclude-allow-dns"), Refused)
    assert spec_of(api, "allow-dns") == theirs


@pytest.mark.parametrize("change_id", ["deny-all", "exclude-allow-dns"])
def test_what_is_gone_needs_no_undo(action: Quarantine, cut: Cut, api: Simulator, change_id: str) -> None:
    end_pod(api)
    for name in ("allow-dns", f"ringfence-{FENCE}"):
        del api.objects["/apis/networking.k8s.io/v1", "networkpolicies", "bank", name]
    assert isinstance(undo(action, cut, change_id), Already)


def test_a_policy_that_was_made_again_under_its_name_is_left_alone(
    action: Quarantine, cut: Cut, api: Simulator
) -> None:
    end_pod(api)
    api.add(NETWORK_POLICY, "bank", "allow-dns", {"spec": POLICIES["allow-dns"]})
    assert isinstance(undo(action, cut, "exclude-allow-dns"), Already)


def test_a_service_without_a_selector_serves_nobody_and_is_no_obstacle(planning: Planning, api: Simulator) -> None:
    api.add(SERVICE, "bank", "external", {"spec": {"selector": {}}})
    assert isinstance(planning("cards-1"), Plan)
