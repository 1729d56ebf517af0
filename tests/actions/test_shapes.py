"""The two shapes of a cut: which pod gets which and why, what a fence in place leaves as it was, groups, undo."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.fence import SHAPE_KEY
from ringfence.actions.network import DETACH, FENCE_KEY, Quarantine
from ringfence.errors import Denied, TargetError
from ringfence.model.outcome import Already, Applied, Failed, Refused
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.policies import evaluate
from ringfence.platform.kubernetes.resources import (
    DAEMON_SET,
    JOB,
    NETWORK_POLICY,
    POD,
    REPLICATION_CONTROLLER,
    SERVICE,
    STATEFUL_SET,
    Resource,
)
from ringfence.platform.kubernetes.surroundings import read_namespace, read_pod, reference, surroundings
from tests.actions.planning import (
    FENCE,
    apply,
    planned,
    record,
    ref_of,
    refused,
    undone,
    without_server_fields,
)
from tests.simulator import Fault, Refusal, Simulator, owner_reference
from tests.small_bank import CARDS, POLICIES, add_pod, pod_body

Json = dict[str, Any]
LEDGER = {"app": "ledger"}
OPERATOR = Resource("kafka.strimzi.io/v1", "StrimziPodSet", "strimzipodsets")
ALLOW_LEDGER = {"podSelector": {"matchLabels": LEDGER}, "policyTypes": ["Ingress"], "ingress": [{}]}
RELABEL_REFUSED = 'admission webhook "guard" denied the request: label app is required'


@pytest.fixture
def action(cluster: Cluster) -> Quarantine:
    return Quarantine(cluster, Settings(FENCE, 1))


def owned_pod(api: Simulator, resource: Resource, name: str = "ledger-0", **meta: Any) -> None:
    """A pod of a controller of that kind, behind a Service of its own and a policy that lets everybody in."""
    api.add(SERVICE, "bank", "ledger", {"spec": {"selector": LEDGER}})
    api.add(NETWORK_POLICY, "bank", "allow-ledger", {"spec": ALLOW_LEDGER})
    owner = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "ledger", "uid": "o1"}}
    if resource is not OPERATOR:
        selector = LEDGER if resource is REPLICATION_CONTROLLER else {"matchLabels": LEDGER}
        api.add(resource, "bank", "ledger", {"spec": {"replicas": 1, "selector": selector}}, uid="o1")
    add_pod(api, name, labels=dict(LEDGER), ownerReferences=[owner_reference(owner)], **meta)


def live_pod(api: Simulator, name: str) -> Json:
    pod = api.get(POD, "bank", name)
    assert pod is not None
    return pod


def ids(plan: Plan) -> list[str]:
    return [change.id for change in plan.changes]


# --- which shape ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", [STATEFUL_SET, DAEMON_SET, JOB, OPERATOR], ids=lambda r: r.kind)
def test_a_pod_that_its_controller_could_not_do_without_is_fenced_where_it_is(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor, resource: Resource
) -> None:
    owned_pod(api, resource)
    plan = planned(action, ref_of(api, POD, "ledger-0"), pool)
    assert ids(plan) == ["deny-all", "exclude-allow-dns", "exclude-allow-ledger", "fence"]
    assert plan.rationale.startswith(f"fence in place: its controller, {resource.kind} ledger, ")
    apply(action, plan)
    pod = live_pod(api, "ledger-0")
    assert pod["metadata"]["labels"] == {**LEDGER, FENCE_KEY: FENCE}
    assert pod["metadata"]["ownerReferences"], "it keeps its controller"
    assert evaluate(pod, api.all(NETWORK_POLICY)).cut


def test_a_replication_controllers_pod_is_detached(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    owned_pod(api, REPLICATION_CONTROLLER)
    assert ids(planned(action, ref_of(api, POD, "ledger-0"), pool))[-1] == DETACH


def test_a_bare_pod_is_fenced_where_it_is_as_nobody_would_replace_it(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_pod(api, "bare", labels=dict(LEDGER))
    plan = planned(action, ref_of(api, POD, "bare"), pool)
    assert ids(plan)[-1] == "fence"
    assert "no controller" in plan.rationale


def test_a_pod_without_any_label_is_fenced_and_comes_back_without_any(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_pod(api, "plain", labels=None)
    del api.objects["/api/v1", "pods", "bank", "plain"]["metadata"]["labels"]
    before = without_server_fields(live_pod(api, "plain"))
    plan = planned(action, ref_of(api, POD, "plain"), pool)
    answers = apply(action, plan)
    assert live_pod(api, "plain")["metadata"]["labels"] == {FENCE_KEY: FENCE}
    assert undone(action, plan, answers, "fence").outcome == Applied()
    assert without_server_fields(live_pod(api, "plain")) == before


def test_the_operator_may_ask_for_either_shape(cluster: Cluster, api: Simulator, pool: ThreadPoolExecutor) -> None:
    target = ref_of(api, POD, "cards-1")
    assert ids(planned(Quarantine(cluster, Settings(FENCE, 1, shape="fence")), target, pool))[-1] == "fence"
    add_pod(api, "bare", labels=dict(LEDGER))
    detach = Quarantine(cluster, Settings(FENCE, 1, shape="detach"))
    assert ids(planned(detach, ref_of(api, POD, "bare"), pool))[-1] == DETACH


@pytest.mark.parametrize("resource", [STATEFUL_SET, DAEMON_SET, JOB, OPERATOR], ids=lambda r: r.kind)
def test_a_detach_that_would_break_the_owner_is_refused_when_it_is_asked_for(
    cluster: Cluster, api: Simulator, pool: ThreadPoolExecutor, resource: Resource
) -> None:
    owned_pod(api, resource)
    words = refused(Quarantine(cluster, Settings(FENCE, 1, shape="detach")), ref_of(api, POD, "ledger-0"), pool)
    assert resource.kind in words.reason
    assert "--shape fence" in words.next_step


def test_a_pod_that_no_change_of_labels_frees_is_fenced_where_it_is(
    cluster: Cluster, action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    everything = {"selector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}
    api.add(STATEFUL_SET, "bank", "greedy", {"spec": everything})
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    assert ids(plan)[-1] == "fence"
    assert "greedy" in plan.rationale
    firm = Quarantine(cluster, Settings(FENCE, 1, shape="detach"))
    assert "greedy" in refused(firm, ref_of(api, POD, "cards-1"), pool).reason


# --- admission ------------------------------------------------------------------------------------------------------


def keeps_app(api: Simulator) -> None:
    """Admission that wants the label ``app`` on every pod."""
    guard = api._patch

    def patch(key: Any, operations: list[Json], dry: bool) -> Any:
        result = guard(key, operations, True)
        if key[1] == "pods" and "app" not in (json.loads(result.body)["metadata"].get("labels") or {}):
            raise Refusal(403, RELABEL_REFUSED)
        return result if dry else guard(key, operations, False)

    api._patch = patch  # type: ignore[method-assign]


def test_where_admission_keeps_the_labels_one_is_added(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    keeps_app(api)
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    assert ids(plan) == ["deny-all", "exclude-allow-cards", "exclude-allow-dns", "fence"]
    assert "label app is required" in plan.rationale
    answers = apply(action, plan)
    assert {answer.outcome.kind for answer in answers.values()} == {"applied"}
    assert evaluate(live_pod(api, "cards-1"), api.all(NETWORK_POLICY)).cut
    assert not evaluate(live_pod(api, "cards-2"), api.all(NETWORK_POLICY)).cut, "its sibling serves on"


def test_a_detach_that_was_asked_for_is_not_swapped_for_another_shape(
    cluster: Cluster, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    keeps_app(api)
    firm = Quarantine(cluster, Settings(FENCE, 1, shape="detach"))
    assert "label app is required" in refused(firm, ref_of(api, POD, "cards-1"), pool).reason


@pytest.mark.parametrize("status", [403, 422])
def test_where_admission_refuses_every_label_the_words_and_the_next_command_are_said(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor, status: int
) -> None:
    api.faults.append(Fault("PATCH", "/pods/cards-1", status, "policy no-label-changes: labels are frozen", dry=True))
    words = refused(action, ref_of(api, POD, "cards-1"), pool)
    assert "no-label-changes" in words.reason
    assert "ringfence respond cordon-node pod/cards-1 -n bank" in words.next_step
    assert "exemption" in words.next_step
    assert api.writes == []


def test_a_missing_right_is_no_reason_for_another_shape(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    forbidden = 'pods "cards-1" is forbidden: User "alice" cannot patch resource "pods" in API group ""'
    api.faults.append(Fault("PATCH", "/pods/cards-1", 403, forbidden, dry=True))
    with pytest.raises(Denied) as error:
        planned(action, ref_of(api, POD, "cards-1"), pool)
    assert "cannot patch" in error.value.why
    assert "patch pods/cards-1" in error.value.next_step


# --- what is said ---------------------------------------------------------------------------------------------------


def test_endpoints_that_stay_are_disclosed_and_counted(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    body = pod_body()
    body["spec"]["containers"][0]["livenessProbe"] = {"tcpSocket": {"port": 1}}
    owned_pod(api, STATEFUL_SET)
    add_pod(api, "ledger-1", body, labels=dict(LEDGER))
    plan = planned(action, ref_of(api, POD, "ledger-1"), pool)
    assert any("Service ledger" in caveat and "1 of 2" in caveat and "hang" in caveat for caveat in plan.caveats)
    assert any("liveness" in caveat for caveat in plan.caveats)
    (ledger,) = plan.impact.services
    assert (ledger.ready_before, ledger.ready_after, ledger.ready_with_replacement) == (2, 1, 1)
    assert not plan.impact.replacement_expected
    assert plan.destroys == ()


def test_that_a_new_pod_in_its_place_is_not_fenced_is_said(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    owned_pod(api, STATEFUL_SET)
    plan = planned(action, ref_of(api, POD, "ledger-0"), pool)
    assert any("StatefulSet ledger may start another, which is not fenced" in caveat for caveat in plan.caveats)


def test_hostile_names_are_shown_escaped(action: Quarantine, api: Simulator, pool: ThreadPoolExecutor) -> None:
    api.add(SERVICE, "bank", "led\x1b[31mger", {"spec": {"selector": LEDGER}})
    add_pod(api, "bare", labels=dict(LEDGER))
    plan = planned(action, ref_of(api, POD, "bare"), pool)
    assert "\x1b" not in json.dumps([plan.caveats, plan.rationale], ensure_ascii=False)


# --- taking back ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fenced(action: Quarantine, api: Simulator, pool: ThreadPoolExecutor) -> tuple[Plan, Any, dict[str, Json]]:
    """A fenced pod of a StatefulSet, its answers, and every object as it was."""
    owned_pod(api, STATEFUL_SET, annotations={"team": "ledger", "karpenter.sh/do-not-disrupt": "false"})
    before = {f"{key}": without_server_fields(obj) for key, obj in api.objects.items()}
    plan = planned(action, ref_of(api, POD, "ledger-0"), pool)
    return plan, apply(action, plan), before


def everything(api: Simulator) -> dict[str, Json]:
    return {f"{key}": without_server_fields(obj) for key, obj in api.objects.items()}


def test_undo_leaves_every_object_as_it_was(
    action: Quarantine, api: Simulator, fenced: tuple[Plan, Any, dict[str, Json]]
) -> None:
    plan, answers, before = fenced
    assert everything(api) != before
    for change_id in reversed(ids(plan)):
        assert undone(action, plan, answers, change_id).outcome == Applied(), change_id
    assert everything(api) == before
    for change_id in ids(plan):
        assert isinstance(action.undo(record(plan, change_id, answers)), Already), change_id


def test_the_inverse_in_the_plan_alone_takes_the_pod_back(
    action: Quarantine, api: Simulator, cluster: Cluster, fenced: tuple[Plan, Any, dict[str, Json]]
) -> None:
    plan, _, before = fenced
    inverse = plan.changes[-1].inverse
    assert inverse is not None
    cluster.patch(POD, "bank", "ledger-0", inverse.body)
    key = next(key for key in before if "'pods'" in key and "ledger-0" in key)
    assert everything(api)[key] == before[key]


def test_the_policies_stay_shut_until_the_pod_is_unfenced(
    action: Quarantine, fenced: tuple[Plan, Any, dict[str, Json]]
) -> None:
    plan, answers, _ = fenced
    for change_id in ("deny-all", "exclude-allow-dns"):
        held = action.undo(record(plan, change_id, answers))
        assert isinstance(held, Refused)
        assert "ledger-0" in held.reason


def test_what_somebody_changed_on_the_pod_since_stays(
    action: Quarantine, api: Simulator, fenced: tuple[Plan, Any, dict[str, Json]]
) -> None:
    plan, answers, _ = fenced
    meta = api.objects["/api/v1", "pods", "bank", "ledger-0"]["metadata"]
    meta["labels"]["added"] = "later"
    meta["annotations"]["karpenter.sh/do-not-disrupt"] = "theirs"
    assert undone(action, plan, answers, "fence").outcome == Applied()
    meta = live_pod(api, "ledger-0")["metadata"]
    assert meta["labels"] == {**LEDGER, "added": "later"}
    assert meta["annotations"] == {"team": "ledger", "karpenter.sh/do-not-disrupt": "theirs"}


def test_the_fence_shows_on_the_pod_whatever_label_others_add(
    action: Quarantine, api: Simulator, fenced: tuple[Plan, Any, dict[str, Json]]
) -> None:
    """A request whose answer was lost must not read as failed because the pod got another label meanwhile."""
    plan, _, _ = fenced
    api.objects["/api/v1", "pods", "bank", "ledger-0"]["metadata"]["labels"]["added"] = "later"
    assert isinstance(action.apply(plan.changes[-1], "a").outcome, Already)


def test_another_incidents_fence_is_not_taken_off(
    cluster: Cluster, api: Simulator, fenced: tuple[Plan, Any, dict[str, Json]]
) -> None:
    plan, answers, _ = fenced
    other = Quarantine(cluster, Settings("0000111122223333", 1))
    assert isinstance(other.undo(record(plan, "fence", answers)), Already)
    assert live_pod(api, "ledger-0")["metadata"]["labels"][FENCE_KEY] == FENCE


def test_a_pod_that_is_gone_or_another_needs_no_undo(
    action: Quarantine, api: Simulator, fenced: tuple[Plan, Any, dict[str, Json]]
) -> None:
    plan, answers, _ = fenced
    del api.objects["/api/v1", "pods", "bank", "ledger-0"]
    assert isinstance(action.undo(record(plan, "fence", answers)), Already)
    add_pod(api, "ledger-0", labels={FENCE_KEY: FENCE})
    assert isinstance(action.undo(record(plan, "fence", answers)), Already)


def test_a_request_of_an_attempt_that_was_cut_short_leaves_no_label_behind(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor, fenced: tuple[Plan, Any, dict[str, Json]]
) -> None:
    """The first attempt's patch came late and is in no journal: the second one's prior state has the label already."""
    again = planned(action, ref_of(api, POD, "ledger-0"), pool)
    answers = apply(action, again)
    assert undone(action, again, answers, "fence").outcome == Applied()
    meta = live_pod(api, "ledger-0")["metadata"]
    assert FENCE_KEY not in meta["labels"]
    assert SHAPE_KEY not in meta["annotations"]


# --- a detached pod stays detached ----------------------------------------------------------------------------------


def test_a_detached_pod_is_never_taken_for_one_that_was_fenced_in_place(
    cluster: Cluster, action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    """Its label must not come off by an undo: nothing would select the orphan then."""
    apply(action, planned(action, ref_of(api, POD, "cards-1"), pool))
    for shape in ("auto", "fence", "detach"):
        again = Quarantine(cluster, Settings(FENCE, 1, shape=shape))  # type: ignore[arg-type]
        plan = planned(again, ref_of(api, POD, "cards-1"), pool)
        assert ids(plan) == [DETACH], shape
        answers = apply(again, plan)
        assert isinstance(again.undo(record(plan, DETACH, answers)), Refused)


def test_a_pod_that_was_fenced_and_then_detached_stays_detached(
    cluster: Cluster, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    in_place = Quarantine(cluster, Settings(FENCE, 1, shape="fence"))
    first = planned(in_place, ref_of(api, POD, "cards-1"), pool)
    answers = apply(in_place, first)
    detach = Quarantine(cluster, Settings(FENCE, 1, shape="detach"))
    second = planned(detach, ref_of(api, POD, "cards-1"), pool)
    apply(detach, second)
    pod = live_pod(api, "cards-1")
    assert not pod["metadata"].get("ownerReferences")
    assert evaluate(pod, api.all(NETWORK_POLICY)).cut
    assert isinstance(in_place.undo(record(first, "fence", answers)), Refused)


def test_a_second_cut_leaves_a_pod_in_its_place_that_was_fenced_there(
    cluster: Cluster, action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    """Contain joins: without a shape of its own it must not take the pod out for good."""
    in_place = Quarantine(cluster, Settings(FENCE, 1, shape="fence"))
    apply(in_place, planned(in_place, ref_of(api, POD, "cards-1"), pool))
    apply(action, planned(action, ref_of(api, POD, "cards-1"), pool))
    assert live_pod(api, "cards-1")["metadata"]["ownerReferences"]
    assert CARDS.items() <= live_pod(api, "cards-1")["metadata"]["labels"].items()


def test_a_pod_that_an_earlier_version_detached_counts_as_detached(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_pod(api, "old", labels={FENCE_KEY: FENCE}, annotations={"karpenter.sh/do-not-disrupt": "true"})
    assert ids(planned(action, ref_of(api, POD, "old"), pool))[-1] == DETACH


def test_another_pod_under_the_name_is_not_looked_at(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    target = ref_of(api, POD, "cards-1")
    api.add(POD, "bank", "cards-1", pod_body())
    with pytest.raises(TargetError, match="another pod"):
        action.look("cluster-1", target, pool)


# --- groups ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def planning_group(cluster: Cluster, action: Quarantine, pool: ThreadPoolExecutor) -> Callable[[list[str]], list[Plan]]:
    """Plans for pods of one namespace that was read once."""

    def plan(names: list[str]) -> list[Plan]:
        namespace = read_namespace(cluster, "bank", pool)
        plans = []
        for name in names:
            pod, reading = read_pod(cluster, "bank", name)
            around = surroundings(cluster, "cluster-1", pod, reading, namespace)
            plan = action.plan(reference("cluster-1", pod), around)
            assert isinstance(plan, Plan), plan
            plans.append(plan)
        return plans

    return plan


def test_each_further_pod_of_a_group_costs_one_dry_run_and_one_patch(
    action: Quarantine, api: Simulator, wire: Any, planning_group: Callable[[list[str]], list[Plan]]
) -> None:
    for number in range(3):
        add_pod(api, f"bare-{number}", labels={"app": "bare"})
    (first,) = planning_group(["bare-0"])
    apply(action, first)
    wire.requests.clear()
    second, third = planning_group(["bare-1", "bare-2"])
    assert [ids(second), ids(third)] == [["fence"], ["fence"]]
    assert sum(1 for request in wire.requests if request.query.get("dryRun") == "All") == 2
    assert sum(1 for request in wire.requests if request.path.endswith("/networkpolicies")) == 1, "read once"


def test_owners_that_a_group_shares_are_read_once(wire: Any, planning_group: Callable[[list[str]], list[Plan]]) -> None:
    planning_group(["cards-1", "cards-2"])
    assert sum(1 for request in wire.requests if request.path.endswith("/replicasets/cards-6b7f")) == 1
    assert sum(1 for request in wire.requests if request.path.endswith("/deployments/cards")) == 1


def test_what_another_pod_of_the_group_made_meanwhile_is_already_so(
    action: Quarantine, api: Simulator, planning_group: Callable[[list[str]], list[Plan]]
) -> None:
    """Both were planned before either was cut: the second finds the deny-all and the exclusion made."""
    add_pod(api, "bare-0", labels={"app": "bare"})
    add_pod(api, "bare-1", labels={"app": "bare"})
    first, second = planning_group(["bare-0", "bare-1"])
    assert ids(first) == ids(second) == ["deny-all", "exclude-allow-dns", "fence"]
    assert {answer.outcome.kind for answer in apply(action, first).values()} == {"applied"}
    kinds = {name: answer.outcome.kind for name, answer in apply(action, second).items()}
    assert kinds == {"deny-all": "already", "exclude-allow-dns": "already", "fence": "applied"}
    assert evaluate(live_pod(api, "bare-1"), api.all(NETWORK_POLICY)).cut


def test_a_pod_that_is_planned_while_another_is_fenced_excludes_all_the_same(
    action: Quarantine, api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    """The namespace was read before the deny-all was made: the fenced sibling must not look unfenced."""
    add_pod(api, "bare-0", labels={"app": "bare"})
    add_pod(api, "bare-1", labels={"app": "bare"})
    namespace = read_namespace(cluster, "bank", pool)
    apply(action, planned(action, ref_of(api, POD, "bare-0"), pool))
    pod, reading = read_pod(cluster, "bank", "bare-1")
    plan = action.plan(reference("cluster-1", pod), surroundings(cluster, "cluster-1", pod, reading, namespace))
    assert isinstance(plan, Plan)
    assert "exclude-allow-dns" in ids(plan)
    assert not any("STILL OPEN" in caveat for caveat in plan.caveats)


def test_another_incidents_fresh_fence_is_no_obstacle(
    action: Quarantine, api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    add_pod(api, "bare-0", labels={"app": "bare"})
    add_pod(api, "bare-1", labels={"app": "bare"})
    namespace = read_namespace(cluster, "bank", pool)
    other = Quarantine(cluster, Settings("0000111122223333", 1))
    apply(other, planned(other, ref_of(api, POD, "bare-0"), pool))
    pod, reading = read_pod(cluster, "bank", "bare-1")
    plan = action.plan(reference("cluster-1", pod), surroundings(cluster, "cluster-1", pod, reading, namespace))
    assert isinstance(plan, Plan)
    assert "exclude-allow-dns" in ids(plan)


def test_a_carrier_that_nobody_fenced_keeps_its_isolation_and_that_is_said(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_pod(api, "decoy", labels={FENCE_KEY: "made-up"})
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    assert "exclude-allow-dns" not in ids(plan)
    assert any("STILL OPEN" in caveat and "decoy" in caveat for caveat in plan.caveats)


def test_every_policy_that_opens_a_pod_of_a_mixed_group_is_excluded(
    action: Quarantine, api: Simulator, planning_group: Callable[[list[str]], list[Plan]]
) -> None:
    for app in ("red", "blue"):
        add_pod(api, f"{app}-0", labels={"app": app})
        spec = {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Egress"], "egress": [{}]}
        api.add(NETWORK_POLICY, "bank", f"allow-{app}", {"spec": spec})
    for plan in planning_group(["red-0", "blue-0"]):
        apply(action, plan)
    for name in ("red-0", "blue-0"):
        assert evaluate(live_pod(api, name), api.all(NETWORK_POLICY)).cut, name


def test_a_deny_that_somebody_opened_is_made_no_more_and_fails_loudly(
    action: Quarantine, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.add(NETWORK_POLICY, "bank", f"ringfence-{FENCE}", {"spec": {**POLICIES["default-deny"], "egress": [{}]}})
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    assert ids(plan)[0] == "deny-all"
    assert isinstance(action.apply(plan.changes[0], "a").outcome, Failed)


def test_fifty_pods_that_are_cut_at_once_are_all_cut(
    action: Quarantine, api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    names = [f"bare-{number}" for number in range(50)]
    for number, name in enumerate(names):
        add_pod(api, name, labels={"app": f"bare-{number % 3}"})
    namespace = read_namespace(cluster, "bank", pool)

    def cut(name: str) -> set[str]:
        pod, reading = read_pod(cluster, "bank", name)
        plan = action.plan(reference("cluster-1", pod), surroundings(cluster, "cluster-1", pod, reading, namespace))
        assert isinstance(plan, Plan), plan
        return {answer.outcome.kind for answer in apply(action, plan).values()}

    with ThreadPoolExecutor(16) as many:
        kinds = set().union(*many.map(cut, names))
    assert kinds <= {"applied", "already"}
    shut = [evaluate(live_pod(api, name), api.all(NETWORK_POLICY)).cut for name in names]
    assert all(shut)
    assert sum(1 for policy in api.all(NETWORK_POLICY) if FENCE in policy["metadata"]["name"]) == 1


def test_a_fence_is_read_back_like_any_cut(action: Quarantine, api: Simulator, pool: ThreadPoolExecutor) -> None:
    owned_pod(api, STATEFUL_SET)
    plan = planned(action, ref_of(api, POD, "ledger-0"), pool)
    apply(action, plan)
    assert action.verify(plan.target, ()).level is Level.COMPUTED


def test_a_fence_in_place_removes_nothing(action: Quarantine, api: Simulator, pool: ThreadPoolExecutor) -> None:
    owned_pod(api, STATEFUL_SET)
    fence: Change = planned(action, ref_of(api, POD, "ledger-0"), pool).changes[-1]
    assert fence.verb is Verb.PATCH
    assert {operation["op"] for operation in fence.body} == {"test", "add"}
