"""Throw-away objects for each registered action, in a namespace of the test's own: something to act on, no packets.

Nothing of it runs: the pods ask for a node that is not there. An action that has no scene here fails a test.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab.kube import Kube
from ringfence.actions.base import Action, Settings
from ringfence.actions.checkpoint import Checkpoint
from ringfence.actions.node_helper import NodeCut, Options
from ringfence.actions.registry import ACTIONS
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.plan import Impact, Plan
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.node_helpers import HELPER_KEY, HELPER_OF_KEY, of_target

Json = dict[str, Any]
FENCE_KEY = "ringfence.dev/fence"
NOWHERE = {"ringfence.dev/nowhere": "true"}
NETWORKING = "networking.k8s.io/v1"
ADMISSION = "admissionregistration.k8s.io/v1"
RBAC = "rbac.authorization.k8s.io/v1"
ARGOCD = "argoproj.io/v1alpha1"
KEDA = "keda.sh/v1alpha1"
KUBELET_SECONDS = 5.0


@dataclass
class Stage:
    """Where one case plays: ``made`` are the objects to take away again. ``tag`` is unique. ``kubelet``: address and
    port of one that makes checkpoints."""

    kube: Kube
    namespace: str
    tag: str
    fence: str
    kubelet: tuple[str, int]
    made: list[Json] = field(default_factory=list)

    def make(self, api_version: str, kind: str, spec: Json, *, namespaced: bool = True, **meta: Any) -> Json:
        place = {"namespace": self.namespace} if namespaced else {}
        manifest: Json = {"apiVersion": api_version, "kind": kind, "metadata": {"name": self.tag, **place, **meta}}
        made = self.kube.create({**manifest, "spec": spec})
        self.made.append(made)
        return made

    def bind(self, name: str, *accounts: str) -> None:
        """A RoleBinding to a role of no rights, which everybody may bind again."""
        subjects = [{"kind": "ServiceAccount", "name": account, "namespace": self.namespace} for account in accounts]
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.tag}
        meta = {"name": name, "namespace": self.namespace}
        self.made.append(
            self.kube.create(
                {"apiVersion": RBAC, "kind": "RoleBinding", "metadata": meta, "roleRef": role, "subjects": subjects}
            )
        )

    def pod_spec(self) -> Json:
        return {
            "nodeSelector": NOWHERE,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "ringfence.test/pause:1", "imagePullPolicy": "Never"}],
        }

    def template(self) -> Json:
        return {"metadata": {"labels": {"app": self.tag}}, "spec": self.pod_spec()}

    def clear(self) -> None:
        for obj in reversed(self.made):
            meta = obj["metadata"]
            self.kube.delete(obj["apiVersion"], obj["kind"], meta["name"], meta.get("namespace", ""), grace_seconds=0)
        for pod in self.kube.list("v1", "Pod", self.namespace, labels=HELPER_KEY):
            # No kubelet would end it: its node is not there.
            self.kube.delete("v1", "Pod", pod["metadata"]["name"], self.namespace, grace_seconds=0)
        self.kube.delete(NETWORKING, "NetworkPolicy", f"ringfence-{self.fence}", self.namespace)
        for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
            for obj in self.kube.list(ADMISSION, kind, labels=f"{FENCE_KEY}={self.fence}"):
                self.kube.delete(ADMISSION, kind, obj["metadata"]["name"])


@dataclass(frozen=True)
class Scene:
    """``changes`` are the ids of the plan's mutating requests in order, ``{tag}``, ``{namespace}`` and ``{run}`` for
    what is of the case alone. ``shared`` of them, the first ones, are the very requests of another scene. ``planned``
    makes the plan, where it is another than the action's first. ``of_node``: they go through the API server to a
    kubelet, and no object shows what became of them."""

    name: str
    action: str
    build: Callable[[Stage], Json]
    changes: tuple[str, ...]
    settings: Json = field(default_factory=dict)
    shared: int = 0
    of_node: bool = False
    planned: Callable[[Action[Any], ObjectRef, Any], Plan | Already | Refused] = lambda action, target, around: (
        action.plan(target, around)
    )

    def act(self, cluster: Cluster, settings: Settings, namespace: str) -> Action[Any]:
        """The action, as it is made there. The node helper's pods are made in the scene's own namespace."""
        if self.action == NodeCut.name:
            return NodeCut(cluster, settings, Options(image="ringfence.test/pause:1", namespace=namespace))
        if self.action == Checkpoint.name:
            return Checkpoint(cluster, settings, seconds=KUBELET_SECONDS)
        return ACTIONS[self.action](cluster, settings)


def _open_policy(stage: Stage) -> None:
    """A policy that opens every pod of the namespace, whatever its labels: it must be told to pass over fenced ones."""
    stage.make(NETWORKING, "NetworkPolicy", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]})


def _owned_pod(stage: Stage) -> Json:
    """The pod of a ReplicaSet."""
    selector = {"matchLabels": {"app": stage.tag}}
    stage.make("apps/v1", "ReplicaSet", {"replicas": 1, "selector": selector, "template": stage.template()})
    _open_policy(stage)
    deadline = time.monotonic() + 20
    while not (found := stage.kube.list("v1", "Pod", stage.namespace, labels=f"app={stage.tag}")):
        assert time.monotonic() < deadline, "the ReplicaSet starts no pod: is the controller-manager up?"
        time.sleep(0.02)
    stage.made.append(found[0])
    return found[0]


def _bare_pod(stage: Stage) -> Json:
    _open_policy(stage)
    return stage.make("v1", "Pod", stage.pod_spec(), labels={"app": stage.tag})


def _fenced_pod(stage: Stage) -> Json:
    return stage.make("v1", "Pod", stage.pod_spec(), labels={FENCE_KEY: stage.fence})


def _workload(kind: str, **more: Any) -> Callable[[Stage], Json]:
    def build(stage: Stage) -> Json:
        selector = {"matchLabels": {"app": stage.tag}}
        return stage.make("apps/v1", kind, {"selector": selector, "template": stage.template(), **more})

    return build


def _cron_job(stage: Stage) -> Json:
    template = {"spec": {**stage.pod_spec(), "restartPolicy": "Never"}}
    return stage.make("batch/v1", "CronJob", {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}})


def _bound_pod(stage: Stage) -> Json:
    """A pod of an account of its own that two bindings name, one of them beside another account."""
    for account in (stage.tag, f"{stage.tag}-other"):
        meta = {"name": account, "namespace": stage.namespace}
        stage.made.append(stage.kube.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}))
    role = {"name": stage.tag, "namespace": stage.namespace}
    stage.made.append(stage.kube.create({"apiVersion": RBAC, "kind": "Role", "metadata": role, "rules": []}))
    stage.bind(f"{stage.tag}-alone", stage.tag)
    stage.bind(f"{stage.tag}-both", stage.tag, f"{stage.tag}-other")
    return stage.make("v1", "Pod", {**stage.pod_spec(), "serviceAccountName": stage.tag}, labels={"app": stage.tag})


def _pod_with_tokens(stage: Stage) -> Json:
    """A pod of an account that has two long-lived tokens in Secrets."""
    meta = {"name": stage.tag, "namespace": stage.namespace}
    stage.made.append(stage.kube.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}))
    for name in ("a", "b"):
        annotations = {"kubernetes.io/service-account.name": stage.tag}
        held = {"name": f"{stage.tag}-{name}", "namespace": stage.namespace, "annotations": annotations}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": held, "type": "kubernetes.io/service-account-token"}
        stage.made.append(stage.kube.create(secret))
    return stage.make("v1", "Pod", {**stage.pod_spec(), "serviceAccountName": stage.tag}, labels={"app": stage.tag})


def _placed_pod(stage: Stage) -> Json:
    """A pod on a node that is not there: nothing runs of it, nor of the helper that is sent after it."""
    spec = {name: value for name, value in stage.pod_spec().items() if name != "nodeSelector"}
    return stage.make("v1", "Pod", {**spec, "nodeName": "nowhere"}, labels={"app": stage.tag})


def _left_helper(stage: Stage) -> Json:
    """A pod, and a helper's that a crash left behind."""
    victim = _placed_pod(stage)
    labels = {HELPER_OF_KEY: of_target(stage.fence, victim["metadata"]["uid"])}
    stage.make("v1", "Pod", stage.pod_spec(), name=f"{stage.tag}-helper", labels=labels)
    return victim


def _taken_away(action: Action[Any], target: ObjectRef, _around: Any) -> Plan:
    """What a node helper's next run deletes first."""
    assert isinstance(action, NodeCut)
    return Plan(
        action=action.name,
        target=target,
        changes=action.leftovers(target),
        impact=Impact(pods=0, replacement="nobody", replacement_expected=False),
        rationale="left behind",
    )


def _node(stage: Stage) -> Json:
    return stage.make("v1", "Node", {}, namespaced=False)


def _remembering_pod(stage: Stage) -> Json:
    """A pod whose container runs, as far as its status says, on a node whose kubelet makes checkpoints."""
    address, port = stage.kubelet
    stage.make("v1", "Node", {}, namespaced=False)
    reached = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    stage.kube.patch("v1", "Node", stage.tag, body={"status": reached}, subresource="status")
    spec = {name: value for name, value in stage.pod_spec().items() if name != "nodeSelector"}
    pod = stage.make("v1", "Pod", {**spec, "nodeName": stage.tag}, labels={"app": stage.tag})
    seen = {"name": "app", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {}}}
    status = {"phase": "Running", "containerStatuses": [seen]}
    stage.kube.patch("v1", "Pod", stage.tag, stage.namespace, body={"status": status}, subresource="status")
    return pod


def _delivered(stage: Stage) -> Json:
    """A Deployment of an Application that syncs by itself. Argo CD does not look into this namespace for any."""
    mark = f"{stage.namespace}_{stage.tag}:apps/Deployment:{stage.namespace}/{stage.tag}"
    selector = {"matchLabels": {"app": stage.tag}}
    source = {"repoURL": "https://git.example/bank.git", "path": "."}
    spec = {"project": "default", "source": source, "destination": {"namespace": stage.namespace}}
    stage.make(ARGOCD, "Application", {**spec, "syncPolicy": {"automated": {"selfHeal": True}}})
    body = {"replicas": 0, "selector": selector, "template": stage.template()}
    return stage.make("apps/v1", "Deployment", body, annotations={"argocd.argoproj.io/tracking-id": mark})


def _scaled(stage: Stage) -> Json:
    """A Deployment that a ScaledObject points at, which has an annotation of somebody else's."""
    reference = {"scaleTargetRef": {"name": stage.tag}, "triggers": []}
    stage.make(KEDA, "ScaledObject", reference, annotations={"team": "bank"})
    return _workload("Deployment", replicas=0)(stage)


def _saved(replicas: int, **more: Any) -> Json:
    """Settings of a workload that had this many pods before it was stopped."""
    return {"saved": {"kind": "Deployment", "spec": {"replicas": replicas}}, **more}


_ONE = _saved(2, only_one=True)
_REPLICAS = {"replicas": 1}
_UNBIND = "unbind-RoleBinding-{namespace}-{tag}"
_SAME = {"accept_same_image": True}
SCENES: tuple[Scene, ...] = (
    Scene("quarantine-detach", "network.quarantine", _owned_pod, ("deny-all", "exclude-{tag}", "detach")),
    Scene("quarantine-fence", "network.quarantine", _bare_pod, ("deny-all", "exclude-{tag}", "fence"), shared=2),
    Scene("delete", "pod.delete", _fenced_pod, ("delete",)),
    Scene("stop-deployment", "workload.scale_to_zero", _workload("Deployment", **_REPLICAS), ("stop",)),
    Scene(
        "stop-statefulset", "workload.scale_to_zero", _workload("StatefulSet", serviceName="x", **_REPLICAS), ("stop",)
    ),
    Scene("stop-replicaset", "workload.scale_to_zero", _workload("ReplicaSet", **_REPLICAS), ("stop",)),
    Scene("stop-daemonset", "workload.scale_to_zero", _workload("DaemonSet"), ("stop",)),
    Scene("stop-cronjob", "workload.scale_to_zero", _cron_job, ("stop",)),
    Scene("restore-deployment", "workload.restore", _workload("Deployment", replicas=0), ("restore",), _saved(1)),
    Scene("restore-one", "workload.restore", _workload("Deployment", replicas=0), ("restore-one",), _ONE),
    Scene("restart-deployment", "workload.restart_clean", _workload("Deployment", **_REPLICAS), ("restart",), _SAME),
    Scene(
        "restart-statefulset",
        "workload.restart_clean",
        _workload("StatefulSet", serviceName="x", **_REPLICAS),
        ("restart",),
        _SAME,
    ),
    Scene("restart-daemonset", "workload.restart_clean", _workload("DaemonSet"), ("restart",), _SAME),
    Scene("suspend-sync", "argocd.suspend_sync", _delivered, ("suspend-{tag}",)),
    Scene("pause-scaling", "keda.pause", _scaled, ("pause-{tag}",)),
    Scene("cordon", "node.cordon", _node, ("cordon",)),
    Scene("cut-identity", "identity.cut", _bare_pod, ("policy", "binding")),
    Scene("recreate-account", "identity.recreate_account", _bound_pod, ("delete-account", "create-account")),
    Scene("delete-tokens", "identity.delete_tokens", _pod_with_tokens, ("delete-{tag}-a", "delete-{tag}-b")),
    Scene("node-helper", "node.cut", _placed_pod, ("cut-{run}",)),
    Scene("left-helper", "node.cut", _left_helper, ("remove-{tag}-helper-left-{run}",), planned=_taken_away),
    Scene("checkpoint", "node.checkpoint", _remembering_pod, ("checkpoint-app",), of_node=True),
    Scene("unbind", "identity.unbind", _bound_pod, (f"{_UNBIND}-alone", f"{_UNBIND}-both")),
)
