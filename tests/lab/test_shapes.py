"""Every shape of a cut on its kind, and every stop and restart, on the lab: real packets, real controllers, real RBAC.

The actions run as a service account that has the rendered ClusterRoles and nothing else. Covered: both directions,
peers of another namespace, a named port, allow-DNS with an empty selector, a DoesNotExist policy that begins to match;
what undo leaves, object by object; that a detached pod is never adopted again; pods of a group that are cut at once.
Not here: the engine around the actions.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.enforcer import status
from lab.images import PYTHON
from lab.kube import Kube, Object, is_ready, wait_until
from lab.layout import Lab
from ringfence.actions.base import Action, Settings
from ringfence.actions.network import FENCE_KEY, Quarantine
from ringfence.actions.node import Cordon
from ringfence.actions.pod import Delete
from ringfence.actions.rbac import cluster_roles
from ringfence.actions.registry import ACTIONS
from ringfence.actions.restart import RestartClean
from ringfence.actions.scale import ScaleToZero
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.plan import Change, Plan
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.surroundings import read_namespace, read_pod, reference, surroundings
from ringfence.platform.kubernetes.targets import PERMISSIONS, resolve
from tests.lab.ground import NETWORKING, Ground, pod

pytestmark = pytest.mark.lab
Json = dict[str, Any]

HOME, AWAY = f"rfshape-home-{os.getpid()}", f"rfshape-away-{os.getpid()}"
ROLE = f"rfshape-{os.getpid()}"
CLUSTER = "lab"
WEB, DNS = 8080, 53
CLIENT, FRIEND = f"{HOME}/client", f"{AWAY}/friend"
WORKLOADS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Job": "batch/v1"}
_COUNTED = ("resourceVersion", "generation", "managedFields", "creationTimestamp")

POLICIES: dict[str, Object] = {
    "default-deny": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    "allow-dns": {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [{"ports": [{"port": DNS, "protocol": "UDP"}, {"port": DNS, "protocol": "TCP"}]}],
    },
    "allow-web": {
        "podSelector": {"matchLabels": {"tier": "web"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"namespaceSelector": {"matchLabels": {"team": ROLE}}}], "ports": [{"port": "web"}]},
            {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]},
        ],
        "egress": [
            {"to": [{"namespaceSelector": {"matchLabels": {"team": ROLE}}}]},
            {"to": [{"podSelector": {"matchLabels": {"app": "client"}}}]},
        ],
    },
    # Begins to match whatever is taken out by its labels.
    "allow-strays": {
        "podSelector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{}],
        "egress": [{}],
    },
}


# --- the ground -----------------------------------------------------------------------------------------------------


def template(name: str, **spec: Any) -> Object:
    labels = {"app": name, "tier": "web"}
    made = pod(name, HOME, labels, tcp=str(WEB), ports=[{"name": "web", "containerPort": WEB}], **spec)
    return {"metadata": {"labels": labels}, "spec": made["spec"]}


def workload(kind: str, name: str, **spec: Any) -> Object:
    selector = {} if kind == "Job" else {"selector": {"matchLabels": {"app": name}}}
    more = {"restartPolicy": "Never"} if kind == "Job" else {}
    content = {"template": template(name, **more), **selector, **spec}
    if kind == "StatefulSet":
        content["serviceName"] = name
    return {
        "apiVersion": WORKLOADS[kind],
        "kind": kind,
        "metadata": {"name": name, "namespace": HOME},
        "spec": content,
    }


def service(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": HOME},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "web"}]},
    }


@pytest.fixture(scope="module")
def ground(lab: Lab) -> Iterator[Ground]:
    made = Ground(lab, Kube.of(lab))
    try:
        made.make_namespace(HOME, {"own": ROLE})
        made.make_namespace(AWAY, {"team": ROLE})
        made.run(
            pod("client", HOME, {"app": "client"}, tcp=str(WEB)),
            pod("friend", AWAY, {"app": "friend"}, tcp=f"{WEB},{DNS}", udp=str(DNS)),
        )
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def cluster(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The lab's API server, as an account that has the rendered rights in HOME and nothing else."""
    rbac = "rbac.authorization.k8s.io"
    kube, made = ground.kube, []
    subject = {"kind": "ServiceAccount", "name": "responder", "namespace": HOME}
    near, everywhere = cluster_roles(ROLE, tuple(ACTIONS.values()), PERMISSIONS)
    try:
        kube.create(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "responder", "namespace": HOME}}
        )
        for role, kind in ((near, "RoleBinding"), (everywhere, "ClusterRoleBinding")):
            name = role["metadata"]["name"]
            kube.create(role)
            made.append(("ClusterRole", name))
            meta = {"name": name, **({"namespace": HOME} if kind == "RoleBinding" else {})}
            reference = {"apiGroup": rbac, "kind": "ClusterRole", "name": name}
            body = {"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": meta, "roleRef": reference}
            kube.create({**body, "subjects": [subject]})
            made += [("ClusterRoleBinding", name)] if kind == "ClusterRoleBinding" else []
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        }
        answer = kube.request("POST", f"/api/v1/namespaces/{HOME}/serviceaccounts/responder/token", request)
        config = yaml.safe_load(ground.lab.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": answer["status"]["token"]}
        file: Path = tmp_path_factory.mktemp("responder") / "kubeconfig"
        file.write_text(json.dumps(config))
        connected = connect(str(file), None, 10.0)
        yield connected
        connected.close()
    finally:
        for kind, name in made:
            kube.delete(f"{rbac}/v1", kind, name)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(12) as threads:
        yield threads


@pytest.fixture(autouse=True)
def policies(ground: Ground) -> None:
    ground.enforce(HOME, list(POLICIES.items()))


@dataclass
class Suspect:
    """A pod of one kind with its workload and Service; ``name`` is the pod's."""

    ground: Ground
    kind: str
    app: str
    name: str = ""

    @property
    def key(self) -> str:
        return f"{HOME}/{self.name}"

    def live(self) -> Object:
        return self.ground.kube.get("v1", "Pod", self.name, HOME)

    def ref(self) -> ObjectRef:
        return ObjectRef.of(CLUSTER, self.live())

    def workload(self) -> ObjectRef:
        return ObjectRef.of(CLUSTER, self.ground.kube.get(WORKLOADS[self.kind], self.kind, self.app, HOME))

    def pods(self) -> list[Object]:
        return self.ground.kube.list("v1", "Pod", HOME, labels=f"app={self.app}")

    def ready(self, count: int = 1) -> list[Object]:
        wait_until(lambda: sum(map(is_ready, self.pods())) >= count, 60, f"{count} pods of {self.app}", interval=0.2)
        return [found for found in self.pods() if is_ready(found)]


@pytest.fixture
def suspect(ground: Ground, request: pytest.FixtureRequest) -> Iterator[Suspect]:
    kind: str = request.param
    app = f"{kind.lower()}-{time.monotonic_ns() % 1_000_000}"
    made = Suspect(ground, kind, app)
    replicas = {"replicas": 2} if kind == "Deployment" else {}
    if kind == "Pod":
        ground.kube.create(
            pod(app, HOME, {"app": app, "tier": "web"}, tcp=str(WEB), ports=[{"name": "web", "containerPort": WEB}])
        )
    else:
        ground.kube.create(workload(kind, app, **replicas))
    ground.kube.create(service(app))
    try:
        first = made.ready(2 if kind == "Deployment" else 1)[0]
        made.name = first["metadata"]["name"]
        ground.addresses[made.key] = first["status"]["podIP"]
        status.wait_for_pod(ground.lab, first)
        yield made
    finally:
        ground.kube.delete("v1", "Service", app, HOME)
        if kind != "Pod":
            ground.kube.delete(WORKLOADS[kind], kind, app, HOME)
        for left in made.pods():
            ground.kube.delete("v1", "Pod", left["metadata"]["name"], HOME, grace_seconds=0)
        if made.name:
            ground.kube.delete("v1", "Pod", made.name, HOME, grace_seconds=0)


# --- a small loop around the actions --------------------------------------------------------------------------------


def settings(**more: Any) -> Settings:
    fence = os.urandom(8).hex()
    return Settings(fence, 0, delete_wait_seconds=60, rollout_wait_seconds=90, **more)


def carry_out(action: Action[Any], plan: Plan) -> list[ChangeRecord]:
    made = []
    for ordinal, change in enumerate(plan.changes):
        answer = action.apply(change, "")
        assert answer.outcome.kind in ("applied", "already"), (change.id, answer.outcome)
        made.append(
            ChangeRecord(
                incident="INC-1",
                step="1",
                action=action.name,
                ordinal=ordinal,
                change=change,
                audit_id="a",
                intended_at="2026-11-23T03:00:00Z",  # type: ignore[arg-type]
                outcome=answer.outcome,
                result_uid=answer.uid,
            )
        )
    return made


def take_back(action: Action[Any], made: list[ChangeRecord]) -> None:
    for record in reversed(made):
        change = action.undo(record)
        if isinstance(change, Refused) and record.change.id == "detach":
            continue
        assert isinstance(change, Change), (record.change.id, change)
        outcome = action.apply(change, "").outcome
        assert outcome.kind == "applied", (record.change.id, outcome)


def planned(action: Action[Any], target: ObjectRef, pool: ThreadPoolExecutor) -> Plan:
    plan = action.plan(target, action.look(CLUSTER, target, pool))
    assert isinstance(plan, Plan), plan
    return plan


def enforced(ground: Ground, name: str = "") -> None:
    status.wait_for_policies(ground.lab, HOME, ground.kube.list(NETWORKING, "NetworkPolicy", HOME))
    if name:
        status.wait_for_pod(ground.lab, ground.kube.get("v1", "Pod", name, HOME))


def snapshot(kube: Kube, *, pods: bool = True) -> dict[str, Object]:
    """Every object of HOME that an action touches or could touch, less what the server counts and reports."""
    kinds = [(NETWORKING, "NetworkPolicy"), ("v1", "Service"), *((v, k) for k, v in WORKLOADS.items())]
    kinds += [("v1", "Pod")] if pods else []
    return {
        f"{kind}/{obj['metadata']['name']}": {
            **{key: value for key, value in obj.items() if key != "status"},
            "metadata": {key: value for key, value in obj["metadata"].items() if key not in _COUNTED},
        }
        for version, kind in kinds
        for obj in kube.list(version, kind, HOME)
    }


def reached(ground: Ground, suspect: str) -> dict[str, bool]:
    """What gets through to and from the suspect, and between others; all at once."""
    ways = {
        "in from a peer": (CLIENT, "tcp", suspect, WEB),
        "in from another namespace": (FRIEND, "tcp", suspect, WEB),
        "out to a peer": (suspect, "tcp", CLIENT, WEB),
        "out to another namespace": (suspect, "tcp", FRIEND, WEB),
        "dns by udp": (suspect, "udp", FRIEND, DNS),
        "dns by tcp": (suspect, "tcp", FRIEND, DNS),
        "others": (CLIENT, "tcp", FRIEND, DNS),
    }

    def one(way: tuple[str, str, str, int]) -> bool:
        source, protocol, destination, port = way
        return bool(ground.order(source, protocol, host=ground.addresses[destination], port=port) == "open")

    with ThreadPoolExecutor(len(ways)) as threads:
        return dict(zip(ways, threads.map(one, ways.values()), strict=True))


ALL_OPEN = dict.fromkeys(
    (
        "in from a peer",
        "in from another namespace",
        "out to a peer",
        "out to another namespace",
        "dns by udp",
        "dns by tcp",
        "others",
    ),
    True,
)
ALL_SHUT = {**dict.fromkeys(ALL_OPEN, False), "others": True}


# --- the shapes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suspect", ["StatefulSet", "DaemonSet", "Job", "Pod"], indirect=True)
def test_a_pod_is_fenced_in_place_and_released_as_it_was(
    ground: Ground, cluster: Cluster, pool: ThreadPoolExecutor, suspect: Suspect
) -> None:
    assert reached(ground, suspect.key) == ALL_OPEN
    before = snapshot(ground.kube)
    action = Quarantine(cluster, settings())
    plan = planned(action, suspect.ref(), pool)
    assert [change.id for change in plan.changes] == ["deny-all", "exclude-allow-dns", "exclude-allow-web", "fence"]
    assert any(f"Service {suspect.app} goes on" in caveat for caveat in plan.caveats)
    made = carry_out(action, plan)
    enforced(ground, suspect.name)
    assert reached(ground, suspect.key) == ALL_SHUT
    assert action.verify(plan.target, made).level is Level.COMPUTED
    live = suspect.live()
    assert live["metadata"].get("ownerReferences") == before[f"Pod/{suspect.name}"]["metadata"].get("ownerReferences")
    assert is_ready(live), "its node still probes it"
    if suspect.kind != "Pod":
        time.sleep(1)
        assert [p["metadata"]["name"] for p in suspect.pods()] == [suspect.name], "nobody replaces it"

    take_back(action, made)
    enforced(ground, suspect.name)
    assert snapshot(ground.kube) == before
    assert reached(ground, suspect.key) == ALL_OPEN


@pytest.mark.parametrize("suspect", ["Deployment"], indirect=True)
def test_a_deployments_pod_is_detached_never_adopted_again_and_deleted_before_its_fence(
    ground: Ground, cluster: Cluster, pool: ThreadPoolExecutor, suspect: Suspect
) -> None:
    assert reached(ground, suspect.key) == ALL_OPEN
    before = snapshot(ground.kube)
    action = Quarantine(cluster, settings())
    plan = planned(action, suspect.ref(), pool)
    ids = [change.id for change in plan.changes]
    assert ids == ["deny-all", "exclude-allow-dns", "exclude-allow-strays", "detach"]
    assert any("allow-strays begins to select" in caveat for caveat in plan.caveats)
    made = carry_out(action, plan)
    enforced(ground, suspect.name)
    assert reached(ground, suspect.key) == ALL_SHUT
    serving = suspect.ready(2)
    assert suspect.name not in {found["metadata"]["name"] for found in serving}, "a replacement serves"
    sibling = serving[0]
    ground.addresses[f"{HOME}/{sibling['metadata']['name']}"] = sibling["status"]["podIP"]
    status.wait_for_pod(ground.lab, sibling)
    assert reached(ground, f"{HOME}/{sibling['metadata']['name']}") == ALL_OPEN

    # The controllers have had time, and something to do: the orphan stays an orphan.
    ground.kube.patch("apps/v1", "Deployment", suspect.app, HOME, body={"spec": {"replicas": 3}})
    suspect.ready(3)
    assert not suspect.live()["metadata"].get("ownerReferences")
    ground.kube.patch("apps/v1", "Deployment", suspect.app, HOME, body={"spec": {"replicas": 2}})
    wait_until(lambda: len(suspect.pods()) == 2, 30, "the Deployment to shrink again")
    assert suspect.live()["metadata"]["uid"] == plan.target.uid

    for record in made[:-1]:
        held = action.undo(record)
        assert isinstance(held, Refused), "the fence stays as long as it holds a pod"
    end = Delete(cluster, action.settings)
    ending = planned(end, plan.target, pool)
    assert [ref.name for ref in ending.destroys] == [suspect.name]
    carry_out(end, ending)
    assert end.verify(ending.target, ()).level is Level.OBSERVED
    take_back(action, made[:-1])
    enforced(ground)
    assert snapshot(ground.kube, pods=False) == {k: v for k, v in before.items() if not k.startswith("Pod/")}
    after = snapshot(ground.kube)
    for key in before.keys() & after.keys():
        assert after[key] == before[key], key


@pytest.mark.parametrize("suspect", ["Deployment"], indirect=True)
def test_a_deployments_pods_are_fenced_in_place_together_and_the_group_is_cut(
    ground: Ground, cluster: Cluster, pool: ThreadPoolExecutor, suspect: Suspect
) -> None:
    """All were planned on one reading of the namespace: what one has made, the other finds made."""
    before = snapshot(ground.kube)
    action = Quarantine(cluster, settings(shape="fence"))
    group = resolve(cluster, CLUSTER, f"deployment/{suspect.app}", HOME)
    assert len(group.pods) == 2
    namespace = read_namespace(cluster, HOME, pool)

    def plan(name: str) -> Plan:
        found, reading = read_pod(cluster, HOME, name)
        plan = action.plan(reference(CLUSTER, found), surroundings(cluster, CLUSTER, found, reading, namespace))
        assert isinstance(plan, Plan), plan
        return plan

    plans = [plan(one.ref.name) for one in group.pods]
    with ThreadPoolExecutor(len(plans)) as threads:
        made = list(threads.map(lambda one: carry_out(action, one), plans))
    for one in group.pods:
        key = f"{HOME}/{one.ref.name}"
        ground.addresses[key] = one.obj["status"]["podIP"]
        enforced(ground, one.ref.name)
        assert reached(ground, key) == ALL_SHUT

    everything = [record for records in made for record in records]
    for record in sorted(everything, key=lambda r: r.change.ref.kind != "Pod"):
        change = action.undo(record)
        assert not isinstance(change, Refused), change
        if not isinstance(change, Already):
            assert action.apply(change, "").outcome.kind == "applied"
    enforced(ground)
    assert snapshot(ground.kube) == before


@pytest.mark.parametrize("suspect", ["StatefulSet"], indirect=True)
def test_a_statefulset_pod_that_is_asked_to_be_detached_is_refused(
    cluster: Cluster, pool: ThreadPoolExecutor, suspect: Suspect
) -> None:
    action = Quarantine(cluster, settings(shape="detach"))
    target = suspect.ref()
    assert isinstance(action.plan(target, action.look(CLUSTER, target, pool)), Refused)


# --- stops, restarts, nodes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suspect", ["Deployment", "StatefulSet", "DaemonSet"], indirect=True)
def test_a_workload_is_stopped_and_comes_back_with_what_it_had(
    ground: Ground, cluster: Cluster, pool: ThreadPoolExecutor, suspect: Suspect
) -> None:
    before = snapshot(ground.kube, pods=False)
    count = len(suspect.pods())
    action = ScaleToZero(cluster, settings())
    plan = planned(action, suspect.workload(), pool)
    assert {ref.uid for ref in plan.destroys} == {found["metadata"]["uid"] for found in suspect.pods()}
    made = carry_out(action, plan)
    proof = action.verify(plan.target, made)
    assert proof.level is Level.OBSERVED, proof
    assert suspect.pods() == []
    again = action.plan(plan.target, action.look(CLUSTER, plan.target, pool))
    assert isinstance(again, Already)
    # A request whose answer was lost is asked for again: live state explains it.
    assert action.apply(plan.changes[0], "").outcome.kind == "already"
    take_back(action, made)
    after = snapshot(ground.kube, pods=False)
    for objects in (before, after):
        for obj in objects.values():
            obj["metadata"].get("annotations", {}).pop("deprecated.daemonset.template.generation", None)
    assert after == before
    suspect.ready(count)


@pytest.mark.parametrize("suspect", ["Deployment", "StatefulSet", "DaemonSet"], indirect=True)
def test_a_restart_replaces_every_pod(cluster: Cluster, pool: ThreadPoolExecutor, suspect: Suspect) -> None:
    old = {found["metadata"]["uid"] for found in suspect.pods()}
    target = suspect.workload()
    careful = RestartClean(cluster, settings())
    refused = careful.plan(target, careful.look(CLUSTER, target, pool))
    assert isinstance(refused, Refused)
    assert PYTHON in refused.reason
    action = RestartClean(cluster, settings(accept_same_image=True))
    plan = planned(action, target, pool)
    assert {ref.uid for ref in plan.destroys} == old
    made = carry_out(action, plan)
    proof = action.verify(target, made)
    assert proof.level is Level.OBSERVED, proof
    assert not old & {found["metadata"]["uid"] for found in suspect.pods()}


def test_a_cron_job_is_suspended_and_let_go_on(ground: Ground, cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    job = workload("Job", "nightly")["spec"]
    content = {"schedule": "0 3 1 1 *", "jobTemplate": {"spec": job}}
    made = ground.kube.create(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly", "namespace": HOME},
            "spec": content,
        }
    )
    action = ScaleToZero(cluster, settings())
    target = ObjectRef.of(CLUSTER, made)
    plan = planned(action, target, pool)
    records = carry_out(action, plan)
    assert ground.kube.get("batch/v1", "CronJob", "nightly", HOME)["spec"]["suspend"] is True
    assert action.verify(target, records).level is Level.COMPUTED
    take_back(action, records)
    assert ground.kube.get("batch/v1", "CronJob", "nightly", HOME)["spec"] == made["spec"]


@pytest.mark.parametrize("suspect", ["Job"], indirect=True)
def test_a_job_is_not_stopped_and_lives(cluster: Cluster, pool: ThreadPoolExecutor, suspect: Suspect) -> None:
    action = ScaleToZero(cluster, settings())
    target = suspect.workload()
    assert isinstance(action.plan(target, action.look(CLUSTER, target, pool)), Refused)
    assert is_ready(suspect.live())


def test_a_node_is_cordoned_for_a_moment(ground: Ground, cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    """The lab has one node, and others use it: it takes pods again at once."""
    node = ground.kube.get("v1", "Node", ground.lab.node)
    action = Cordon(cluster, settings())
    plan = planned(action, ObjectRef.of(CLUSTER, node), pool)
    assert any("only node" in caveat for caveat in plan.caveats)
    made: list[ChangeRecord] = []
    try:
        made = carry_out(action, plan)
        assert action.verify(plan.target, made).level is Level.COMPUTED
        assert isinstance(action.plan(plan.target, action.look(CLUSTER, plan.target, pool)), Already)
    finally:
        take_back(action, made)
    spec = ground.kube.get("v1", "Node", ground.lab.node)["spec"]
    assert {k: v for k, v in spec.items() if k != "taints"} == {k: v for k, v in node["spec"].items() if k != "taints"}


@pytest.mark.parametrize("suspect", ["Deployment"], indirect=True)
def test_a_pod_that_is_gone_is_what_its_deployment_runs_now(ground: Ground, cluster: Cluster, suspect: Suspect) -> None:
    ground.kube.delete("v1", "Pod", suspect.name, HOME, grace_seconds=0, wait=30)
    suspect.ready(2)
    found = resolve(cluster, CLUSTER, f"pod/{suspect.name}", HOME)
    assert set(found.became) == {one["metadata"]["name"] for one in suspect.pods()}
    assert FENCE_KEY not in suspect.pods()[0]["metadata"]["labels"]
