"""Laws of every registered action, on the simulated API: what it reads and writes is what it asks the right for."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.actions.base import Action, Settings
from ringfence.actions.registry import ACTIONS
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.plan import Change, Plan
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import (
    APPLICATION,
    APPLICATION_SET,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    KNOWN,
    NETWORK_POLICY,
    NODE,
    POD,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    ROLE_BINDING,
    SCALED_JOB,
    SCALED_OBJECT,
    STATEFUL_SET,
    Resource,
)
from tests.actions.planning import FENCE, answer, apply, records, ref_of
from tests.simulator import Simulator, owner_reference
from tests.small_bank import add_pod, pod_body
from tests.wire import Request

Json = dict[str, Any]
Right = tuple[str, str, str]  # group, resource with its subresource, verb
IN_NAMESPACES = ("network.quarantine", "pod.delete", "workload.restart_clean", "workload.scale_to_zero")
TRIED = (*IN_NAMESPACES, "node.cordon", "identity.cut", "identity.unbind", "argocd.suspend_sync", "keda.pause")
"""The actions that need nothing but the cluster. A canary needs an image as well: it has tests of its own."""

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}


def right(request: Request) -> Right:
    """What the API server's authoriser is asked for a request."""
    match = _PATH.fullmatch(request.path)
    assert match is not None, request.path
    resource = f"{match['plural']}/{match['sub']}" if match["sub"] else match["plural"]
    verb = _VERBS.get(request.method) or ("get" if match["name"] else "list")
    return match["group"] or "", resource, verb


@pytest.fixture
def world(api: Simulator) -> Simulator:
    """The small bank, and a workload of every kind with a pod; each pod fenced already has its own label."""
    api.add(NODE, "", "node-1", {"spec": {}})
    template = {"metadata": {}, "spec": {"containers": [{"name": "c", "image": "registry.test/cards:2.0"}]}}
    deployment = api.objects["/apis/apps/v1", "deployments", "bank", "cards"]
    deployment["spec"]["template"] = template
    api.add(CRON_JOB, "bank", "nightly", {"spec": {"suspend": False}}, uid="uid-nightly")
    for resource in (STATEFUL_SET, DAEMON_SET, JOB, REPLICATION_CONTROLLER, REPLICA_SET):
        name = f"a-{resource.kind.lower()}"
        above: Json = {}
        if resource is JOB:
            nightly = {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": "nightly", "uid": "uid-nightly"},
            }
            above = {"ownerReferences": [owner_reference(nightly)]}
        labels = {"own": name}
        selector = labels if resource is REPLICATION_CONTROLLER else {"matchLabels": labels}
        spec = {"replicas": 1, "selector": selector, "template": template}
        api.add(resource, "bank", name, {"spec": spec}, uid=f"uid-{name}", **above)
        owner = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "uid": f"uid-{name}"},
        }
        add_pod(api, f"{name}-0", labels=dict(labels), ownerReferences=[owner_reference(owner)])
    everywhere = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "viewer"}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    api.add(CLUSTER_ROLE, "", "viewer", {"rules": rules})
    accounts = [{"kind": "ServiceAccount", "name": name, "namespace": "bank"} for name in ("cards", "payments")]
    for name, subjects in (("only-cards", accounts[:1]), ("two", accounts)):
        api.add(CLUSTER_ROLE_BINDING, "", name, {"roleRef": everywhere, "subjects": subjects})
        api.add(ROLE_BINDING, "bank", name, {"roleRef": everywhere, "subjects": subjects})
    scale(api)
    deliver(api)
    add_pod(api, "orphan", pod_body(), labels={"ringfence.dev/fence": FENCE})
    add_pod(api, "foreign", pod_body(), labels={"ringfence.dev/fence": "0000111122223333"})
    return api


def scale(api: Simulator) -> None:
    """KEDA: a ScaledObject for each workload that can have one, and a ScaledJob with a Job."""
    for resource, name, marks in (
        (DEPLOYMENT, "cards", {}),
        (STATEFUL_SET, "a-statefulset", {"team": "cards"}),
        (REPLICA_SET, "a-replicaset", {"autoscaling.keda.sh/paused-replicas": "2"}),
    ):
        meta = {"annotations": marks} if marks else {}
        target = {"scaleTargetRef": {"kind": resource.kind, "name": name}}
        api.add(SCALED_OBJECT, "bank", name, {"spec": target}, **meta)
    maker = api.add(SCALED_JOB, "bank", "exports", {"spec": {}})
    spec = {"selector": {"matchLabels": {"own": "export"}}, "template": {"metadata": {}, "spec": {"containers": []}}}
    api.add(JOB, "bank", "exports-1", {"spec": spec}, ownerReferences=[owner_reference(maker)])


def deliver(api: Simulator) -> None:
    """Argo CD: every policy and workload of the world has an Application of its own, made by an ApplicationSet."""
    api.add(APPLICATION_SET, "argocd", "teams", {"spec": {"generators": []}}, uid="uid-teams")
    maker = {"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet"}
    maker["metadata"] = {"name": "teams", "uid": "uid-teams"}  # type: ignore[assignment]
    delivered = (NETWORK_POLICY, DEPLOYMENT, STATEFUL_SET, DAEMON_SET, REPLICA_SET, JOB, CRON_JOB)
    for obj in [obj for resource in delivered for obj in api.all(resource)]:
        meta = obj["metadata"]
        name = f"{obj['kind'].lower()}-{meta['name']}"
        group = obj["apiVersion"].rpartition("/")[0]
        tracking = f"{name}:{group}/{obj['kind']}:{meta['namespace']}/{meta['name']}"
        meta.setdefault("annotations", {})["argocd.argoproj.io/tracking-id"] = tracking
        spec = {"syncPolicy": {"automated": {"selfHeal": True}}}
        api.add(APPLICATION, "argocd", name, {"spec": spec}, ownerReferences=[owner_reference(maker)])


def targets(api: Simulator, kinds: frozenset[str]) -> list[ObjectRef]:
    """Every object of the world of these kinds."""
    resources = [resource for resource in KNOWN.values() if resource.kind in kinds]
    return [
        ref_of(api, resource, obj["metadata"]["name"], obj["metadata"].get("namespace", ""))
        for resource in resources
        for obj in api.all(resource)
        if obj["metadata"].get("namespace", "bank") == "bank"
    ]


def through(action: Action[Any], target: ObjectRef, pool: ThreadPoolExecutor) -> tuple[ChangeRecord, ...]:
    """Look, plan, apply, verify."""
    plan = answer(action, target, pool)
    if not isinstance(plan, Plan):
        return ()
    made = records(plan, apply(action, plan))
    action.verify(target, made)
    return made


def take_back(action: Action[Any], made: Sequence[ChangeRecord]) -> None:
    for record in reversed(made):
        change = action.undo(record)
        if isinstance(change, Change):
            action.apply(change, "undo")


def make(cluster: Cluster, name: str, **settings: Any) -> Action[Any]:
    quick: Json = {"delete_wait_seconds": 0.05, "rollout_wait_seconds": 0.05, "share_account": True, **settings}
    return ACTIONS[name](cluster, Settings(FENCE, 1, **quick))


@pytest.mark.parametrize("name", TRIED)
def test_an_action_asks_for_exactly_the_rights_that_it_uses(
    name: str, cluster: Cluster, world: Simulator, wire: Any, pool: ThreadPoolExecutor
) -> None:
    action = make(cluster, name)
    wire.requests.clear()
    made: list[ChangeRecord] = []
    for target in targets(world, action.kinds):
        if world.get(KNOWN[target.api_version, target.kind], target.namespace, target.name) is not None:
            made += through(action, target, pool)
    take_back(action, made)
    for key in [key for key in world.objects if key[1] == "pods"]:
        del world.objects[key]  # only now nothing holds the fence
    take_back(action, made)
    used = {right(request) for request in wire.requests}
    asked = {(one.group, one.plural, verb) for one in action.permissions for verb in one.verbs}
    assert used - asked == set(), "used and not asked for"
    assert asked - used == set(), "asked for and not used"


@pytest.mark.parametrize("name", TRIED)
def test_planning_writes_nothing_and_every_change_was_tried_first(
    name: str, cluster: Cluster, world: Simulator, wire: Any, pool: ThreadPoolExecutor
) -> None:
    action = make(cluster, name)
    plans = 0
    for target in targets(world, action.kinds):
        before = json.dumps(list(world.objects.values()))
        wire.requests.clear()
        plan = answer(action, target, pool)
        assert (world.writes, json.dumps(list(world.objects.values()))) == ([], before)
        if isinstance(plan, Plan):
            plans += 1
            dry = sum(1 for r in wire.requests if r.query.get("dryRun") == "All" or b'"dryRun"' in r.body)
            assert dry == len(plan.changes) > 0
    assert plans


@pytest.mark.parametrize("name", TRIED)
def test_only_what_is_destructive_destroys_and_it_names_all_of_it(
    name: str, cluster: Cluster, world: Simulator, pool: ThreadPoolExecutor
) -> None:
    action = make(cluster, name)
    for target in targets(world, action.kinds):
        plan = answer(action, target, pool)
        if not isinstance(plan, Plan):
            continue
        assert action.destructive or plan.destroys == ()
        assert len(plan.destroys) == plan.impact.pods or not action.destructive
        assert all(ref.uid and ref.cluster == "cluster-1" for ref in plan.destroys)
        before = {pod["metadata"]["uid"] for pod in world.all(POD)}
        apply(action, plan)
        gone = before - {pod["metadata"]["uid"] for pod in world.all(POD)}
        assert gone == {ref.uid for ref in plan.destroys}


@pytest.mark.parametrize("name", TRIED)
def test_each_change_names_its_object_keeps_what_was_there_and_says_what_it_does(
    name: str, cluster: Cluster, world: Simulator, pool: ThreadPoolExecutor
) -> None:
    action = make(cluster, name)
    for target in targets(world, action.kinds):
        plan = answer(action, target, pool)
        if not isinstance(plan, Plan):
            continue
        assert plan.action == name
        assert plan.rationale
        assert len({change.id for change in plan.changes}) == len(plan.changes)
        for change in plan.changes:
            assert change.effect
            assert (change.prior is None) is (change.verb == "create")
            assert change.ref.uid or change.verb == "create"
            if change.verb == "patch":
                assert {"op": "test", "path": "/metadata/uid", "value": change.ref.uid} in change.body


@pytest.mark.parametrize("name", TRIED)
def test_what_is_done_once_is_not_done_twice(
    name: str, cluster: Cluster, world: Simulator, pool: ThreadPoolExecutor
) -> None:
    """A restart is the exception: asked for again, it restarts again."""
    action = make(cluster, name)
    for target in targets(world, action.kinds):
        plan = answer(action, target, pool)
        if not isinstance(plan, Plan) or name == "workload.restart_clean":
            continue
        apply(action, plan)
        state = json.dumps(list(world.objects.values()))
        again = apply(action, plan)
        assert {one.outcome.kind for one in again.values()} <= {"applied", "already"}
        assert json.dumps(list(world.objects.values())) == state


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_action_is_made_like_every_other(action: type[Action[Any]]) -> None:
    constructor: Callable[..., None] = action.__init__
    assert list(inspect.signature(constructor).parameters) == ["self", "cluster", "settings"]
    known = {resource.kind for resource in KNOWN.values()}
    assert action.kinds
    assert action.kinds <= known


@pytest.mark.parametrize("name", IN_NAMESPACES)
def test_what_stays_in_a_namespace_asks_for_no_more(name: str) -> None:
    assert not any(permission.everywhere for permission in ACTIONS[name].permissions)


def test_every_action_is_tried_here_or_has_its_reason() -> None:
    """An account that is recreated is no pod that ends, and what is restored was stopped before: tests of their own."""
    own = {"network.canary", "identity.recreate_account", "identity.delete_tokens", "workload.restore"}
    assert set(ACTIONS) - set(TRIED) <= own


def test_the_world_has_every_kind(world: Simulator) -> None:
    kinds: list[Resource] = [DEPLOYMENT, STATEFUL_SET, DAEMON_SET, REPLICA_SET, JOB, CRON_JOB, NODE, POD]
    assert all(targets(world, frozenset({resource.kind})) for resource in kinds)
