"""``argocd.suspend_sync``: the smallest freeze that holds, taken back exactly; on the simulated API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.actions.argocd import SuspendSync
from ringfence.actions.base import Settings
from ringfence.model.outcome import Already, Applied, Refused
from ringfence.model.proof import Level
from ringfence.platform.argocd import applications
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import APPLICATION, APPLICATION_SET, DEPLOYMENT, NETWORK_POLICY, POD
from tests.actions.planning import FENCE, answer, apply, planned, record, records, ref_of, refused, undone
from tests.actions.planning import without_server_fields as plain
from tests.simulator import Fault, Simulator, owner_reference

Json = dict[str, Any]
HEALS = {"prune": True, "selfHeal": True}
ARGO = "argocd"


@pytest.fixture
def action(cluster: Cluster) -> SuspendSync:
    return SuspendSync(cluster, Settings(FENCE, 1, rollout_wait_seconds=0.0))


def track(api: Simulator, resource: Any, name: str, application: str, namespace: str = "bank") -> None:
    """The object as Argo CD marks it when that Application delivers it."""
    obj = api.objects[f"/apis/{resource.api_version}", resource.plural, namespace, name]
    group = resource.api_version.rpartition("/")[0]
    mark = f"{application}:{group}/{resource.kind}:{namespace}/{name}"
    obj["metadata"].setdefault("annotations", {})[applications.TRACKING_ID] = mark


def add_application(api: Simulator, name: str, automated: Json | None = HEALS, **meta: Any) -> Json:
    policy = {"syncPolicy": {"automated": dict(automated)}} if automated is not None else {"syncPolicy": {}}
    spec = {"project": "default", **policy, "destination": {"server": "https://kubernetes.default.svc"}}
    return api.add(APPLICATION, ARGO, name, {"spec": spec}, **meta)


def sync_policy(api: Simulator, name: str) -> Json:
    found = api.get(APPLICATION, ARGO, name)
    assert found is not None
    return dict(found["spec"]["syncPolicy"])


def everything(api: Simulator) -> list[Json]:
    return [plain(obj) for resource in (APPLICATION, APPLICATION_SET) for obj in api.all(resource)]


def test_the_application_of_a_workload_is_frozen_and_comes_back_exactly(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    track(api, DEPLOYMENT, "cards", "bank")
    add_application(api, "bank")
    add_application(api, "other")
    before = everything(api)
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert (action.destructive, plan.destroys, plan.impact.pods) == (False, (), 0)
    assert "no commit reaches what Application bank delivers" in " ".join(plan.caveats)
    assert "at once (self-heal)" in plan.rationale
    answers = apply(action, plan)
    assert sync_policy(api, "bank") == {}
    assert sync_policy(api, "other") == {"automated": HEALS}
    assert action.verify(plan.target, records(plan, answers)).level is Level.COMPUTED
    assert undone(action, plan, answers, "suspend-bank").outcome == Applied()
    assert everything(api) == before
    assert isinstance(action.undo(record(plan, "suspend-bank", answers)), Already)
    assert action.verify(plan.target, records(plan, answers)).level is Level.REQUESTED


@pytest.mark.parametrize("automated", [None, {"enabled": False, "selfHeal": True}])
def test_an_application_that_does_not_sync_by_itself_is_left_alone(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor, automated: Json | None
) -> None:
    track(api, DEPLOYMENT, "cards", "bank")
    add_application(api, "bank", automated)
    said = answer(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert isinstance(said, Already)
    assert "Application bank does not sync by itself" in said.reason


def test_automated_sync_without_self_heal_is_frozen_too_as_the_next_commit_reverts(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    track(api, DEPLOYMENT, "cards", "bank")
    add_application(api, "bank", {})
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert "at the next commit" in plan.rationale
    answers = apply(action, plan)
    assert sync_policy(api, "bank") == {}
    undone(action, plan, answers, "suspend-bank")
    assert sync_policy(api, "bank") == {"automated": {}}


def test_what_nobody_delivers_needs_nothing_and_no_application_is_read(
    action: SuspendSync, api: Simulator, wire: Any, pool: ThreadPoolExecutor
) -> None:
    for target in (ref_of(api, DEPLOYMENT, "cards"), ref_of(api, POD, "cards-1")):
        assert isinstance(answer(action, target, pool), Already)
    assert not any("argoproj.io" in request.path for request in wire.requests)


def test_a_copy_with_the_annotation_of_its_original_is_nobodys(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["metadata"]["annotations"] = {
        applications.TRACKING_ID: "bank:apps/Deployment:bank/original"
    }
    add_application(api, "bank")
    assert isinstance(answer(action, ref_of(api, DEPLOYMENT, "cards"), pool), Already)


def test_a_label_alone_is_helms_unless_the_application_lists_the_object(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    meta = api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["metadata"]
    meta["labels"] = {"app.kubernetes.io/instance": "bank"}
    add_application(api, "bank")
    assert isinstance(answer(action, ref_of(api, DEPLOYMENT, "cards"), pool), Already)
    listed = {"group": "apps", "version": "v1", "kind": "Deployment", "namespace": "bank", "name": "cards"}
    api.objects["/apis/argoproj.io/v1alpha1", "applications", ARGO, "bank"]["status"] = {"resources": [listed]}
    assert [c.id for c in planned(action, ref_of(api, DEPLOYMENT, "cards"), pool).changes] == ["suspend-bank"]


def test_an_application_that_is_not_here_is_named_and_refused(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    track(api, DEPLOYMENT, "cards", "hub-bank")
    assert "hub-bank" in refused(action, ref_of(api, DEPLOYMENT, "cards"), pool).reason


def minded(api: Simulator, *names: str) -> None:
    """Policies that Argo CD delivers, each by an Application of its own, with a list that Git has in their selector."""
    for name in names:
        track(api, NETWORK_POLICY, name, f"of-{name}")
        policy = api.objects["/apis/networking.k8s.io/v1", "networkpolicies", "bank", name]
        policy["spec"]["podSelector"] = {
            **policy["spec"]["podSelector"],
            "matchExpressions": [{"key": "open", "operator": "DoesNotExist"}],
        }
        add_application(api, f"of-{name}")


def test_of_a_pod_only_the_policies_count_that_its_cut_changes(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    """A detach takes the label off by which allow-cards selects it: only allow-dns has to pass over the fence."""
    minded(api, "allow-cards", "allow-dns", "default-deny")
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    assert [change.id for change in plan.changes] == ["suspend-of-allow-dns"]
    fencing = SuspendSync(action.cluster, Settings(FENCE, 1, shape="fence"))
    plan = planned(fencing, ref_of(api, POD, "cards-1"), pool)
    assert {change.id for change in plan.changes} == {"suspend-of-allow-cards", "suspend-of-allow-dns"}


def test_a_list_that_git_does_not_have_is_no_drift_unless_syncs_replace_the_object(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    track(api, NETWORK_POLICY, "allow-dns", "bank")
    add_application(api, "bank")
    said = answer(action, ref_of(api, POD, "cards-1"), pool)
    assert isinstance(said, Already)
    assert "no drift" in said.reason
    policy = api.objects["/apis/networking.k8s.io/v1", "networkpolicies", "bank", "allow-dns"]
    policy["metadata"]["annotations"][applications.SYNC_OPTIONS] = "Prune=false,Replace=true"
    assert [change.id for change in planned(action, ref_of(api, POD, "cards-1"), pool).changes] == ["suspend-bank"]


def generated(api: Simulator, **spec: Any) -> None:
    made = api.add(APPLICATION_SET, ARGO, "teams", {"spec": {"generators": [], **spec}})
    track(api, DEPLOYMENT, "cards", "bank")
    add_application(api, "bank", ownerReferences=[owner_reference(made)])


@pytest.mark.parametrize("before", [None, [{"name": "other", "jsonPointers": ["/spec/source"]}]])
def test_an_application_set_is_told_to_leave_this_one_application_alone_first(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor, before: list[Json] | None
) -> None:
    generated(api, **({"ignoreApplicationDifferences": before} if before else {}))
    at_first = everything(api)
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert [change.id for change in plan.changes] == ["ignore-teams-bank", "suspend-bank"]
    answers = apply(action, plan)
    teams = api.get(APPLICATION_SET, ARGO, "teams")
    assert teams is not None
    ours = {"name": "bank", "jsonPointers": ["/spec/syncPolicy"]}
    assert teams["spec"]["ignoreApplicationDifferences"] == [*(before or []), ours]
    assert action.verify(plan.target, records(plan, answers)).level is Level.COMPUTED
    for change in ("suspend-bank", "ignore-teams-bank"):
        assert undone(action, plan, answers, change).outcome == Applied()
    assert everything(api) == at_first


def test_what_somebody_added_to_the_application_set_meanwhile_stays(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    generated(api)
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(action, plan)
    theirs = {"name": "loans", "jsonPointers": ["/spec/project"]}
    key = ("/apis/argoproj.io/v1alpha1", "applicationsets", ARGO, "teams")
    api.objects[key]["spec"]["ignoreApplicationDifferences"].insert(0, theirs)
    assert undone(action, plan, answers, "ignore-teams-bank").outcome == Applied()
    assert api.objects[key]["spec"]["ignoreApplicationDifferences"] == [theirs]


@pytest.mark.parametrize(
    "spec",
    [
        {"syncPolicy": {"applicationsSync": "create-only"}},
        {"ignoreApplicationDifferences": [{"jsonPointers": ["/spec/syncPolicy"]}]},
        {"ignoreApplicationDifferences": [{"name": "bank", "jsonPointers": ["/spec/syncPolicy/automated"]}]},
    ],
)
def test_an_application_set_that_puts_nothing_back_is_left_as_it_is(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor, spec: Json
) -> None:
    generated(api, **spec)
    assert [c.id for c in planned(action, ref_of(api, DEPLOYMENT, "cards"), pool).changes] == ["suspend-bank"]


def test_one_that_leaves_another_application_alone_is_told(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    generated(api, ignoreApplicationDifferences=[{"name": "other", "jsonPointers": ["/spec/syncPolicy"]}])
    assert len(planned(action, ref_of(api, DEPLOYMENT, "cards"), pool).changes) == 2


def of_a_parent(api: Simulator, automated: Json = HEALS) -> None:
    track(api, DEPLOYMENT, "cards", "bank")
    add_application(api, "parent")
    add_application(api, "bank", automated)
    track(api, APPLICATION, "bank", "parent", ARGO)


def test_below_a_parent_a_word_that_git_does_not_have_is_enough(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    of_a_parent(api)
    before = everything(api)
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert [change.id for change in plan.changes] == ["suspend-bank"]
    answers = apply(action, plan)
    assert sync_policy(api, "bank") == {"automated": {**HEALS, "enabled": False}}
    assert sync_policy(api, "parent") == {"automated": HEALS}
    assert undone(action, plan, answers, "suspend-bank").outcome == Applied()
    assert everything(api) == before


def test_where_the_server_does_not_know_the_word_the_parent_is_frozen_first(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    of_a_parent(api)
    before = everything(api)
    api.faults.append(
        Fault("PATCH", "/bank", 422, 'unknown field "spec.syncPolicy.automated.enabled"', dry=True, times=1)
    )
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert [change.id for change in plan.changes] == ["suspend-parent", "suspend-bank"]
    assert "would put Application bank back" in plan.changes[0].effect
    answers = apply(action, plan)
    assert (sync_policy(api, "parent"), sync_policy(api, "bank")) == ({}, {})
    for change in ("suspend-bank", "suspend-parent"):
        undone(action, plan, answers, change)
    assert everything(api) == before


def test_where_git_says_enabled_the_parent_is_frozen_first(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    of_a_parent(api, {**HEALS, "enabled": True})
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert [change.id for change in plan.changes] == ["suspend-parent", "suspend-bank"]


def test_a_parent_that_does_not_sync_by_itself_puts_nothing_back(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    of_a_parent(api)
    del api.objects["/apis/argoproj.io/v1alpha1", "applications", ARGO, "parent"]["spec"]["syncPolicy"]["automated"]
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    apply(action, plan)
    assert [change.id for change in plan.changes] == ["suspend-bank"]
    assert sync_policy(api, "bank") == {}


def test_an_application_that_delivers_itself_is_no_endless_way_up(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    track(api, DEPLOYMENT, "cards", "bank")
    add_application(api, "bank", {"enabled": True, "selfHeal": True})
    track(api, APPLICATION, "bank", "bank", ARGO)
    assert [c.id for c in planned(action, ref_of(api, DEPLOYMENT, "cards"), pool).changes] == ["suspend-bank"]


def test_a_sync_policy_that_somebody_has_set_since_is_not_overwritten(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    track(api, DEPLOYMENT, "cards", "bank")
    add_application(api, "bank")
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(action, plan)
    api.objects["/apis/argoproj.io/v1alpha1", "applications", ARGO, "bank"]["spec"]["syncPolicy"] = {
        "automated": {"prune": False}
    }
    said = action.undo(record(plan, "suspend-bank", answers))
    assert isinstance(said, Refused)
    assert said.next_step


def test_an_application_of_another_namespace_is_found_by_its_long_name(
    action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    track(api, DEPLOYMENT, "cards", "team-a_bank")
    add_application(api, "bank")
    spec = {"syncPolicy": {"automated": {}}}
    api.add(APPLICATION, "team-a", "bank", {"spec": spec})
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert [change.ref.namespace for change in plan.changes] == ["team-a"]


def test_a_sync_that_is_under_way_is_said(action: SuspendSync, api: Simulator, pool: ThreadPoolExecutor) -> None:
    track(api, DEPLOYMENT, "cards", "bank")
    add_application(api, "bank")
    key = ("/apis/argoproj.io/v1alpha1", "applications", ARGO, "bank")
    api.objects[key]["status"] = {"operationState": {"phase": "Running"}}
    assert any("under way" in caveat for caveat in planned(action, ref_of(api, DEPLOYMENT, "cards"), pool).caveats)
