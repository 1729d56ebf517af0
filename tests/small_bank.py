"""One namespace of a bank for the simulator: two cards pods behind a Service, allow-dns for all, a default deny."""

from __future__ import annotations

from typing import Any

from ringfence.platform.kubernetes.resources import (
    DEPLOYMENT,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    POD,
    REPLICA_SET,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
)
from tests.simulator import Simulator, owner_reference

Json = dict[str, Any]
IMAGE = "registry.test/cards@sha256:" + "a" * 64
CARDS = {"app": "cards", "pod-template-hash": "6b7f"}


def pod_body(*, container: str = "cards", image: str = IMAGE, token: bool = True) -> Json:
    """Spec and status of a running, ready pod."""
    sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}] if token else []
    return {
        "spec": {
            "containers": [{"name": container, "image": "registry.test/cards:1.4"}],
            "volumes": [{"name": "kube-api-access", "projected": {"sources": sources}}],
            "serviceAccountName": "cards",
            "nodeName": "node-1",
            "terminationGracePeriodSeconds": 30,
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": container, "imageID": image, "state": {"running": {}}}],
        },
    }


def furnish(api: Simulator, *, replicas: int = 2) -> None:
    """kube-system (its uid is the cluster's), the namespace ``bank`` and everything in it."""
    api.add(NAMESPACE, "", "kube-system", uid="cluster-1")
    api.add(NAMESPACE, "", "bank")
    api.add(NODE, "", "node-1")
    api.add(SERVICE_ACCOUNT, "bank", "cards")
    named = {"kubernetes.io/service-account.name": "cards"}
    kept = {"type": "kubernetes.io/service-account-token", "data": {"token": "c2VjcmV0"}}
    api.add(SECRET, "bank", "cards-token", kept, annotations=named)
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create"]}]
    api.add(ROLE, "bank", "cards", {"rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "cards"}
    account = {"kind": "ServiceAccount", "name": "cards", "namespace": "bank"}
    api.add(ROLE_BINDING, "bank", "cards", {"roleRef": role, "subjects": [account]})
    for name, spec in POLICIES.items():
        api.add(NETWORK_POLICY, "bank", name, {"spec": spec})
    api.add(SERVICE, "bank", "cards", {"spec": {"selector": {"app": "cards"}}})
    deployment = api.add(DEPLOYMENT, "bank", "cards", {"spec": {"replicas": replicas}})
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "cards-6b7f", "uid": "uid-cards-6b7f"}}
    for number in range(1, replicas + 1):
        add_pod(api, f"cards-{number}", ownerReferences=[owner_reference(owner)])
    # After its pods, or it would start some of its own.
    api.add(
        REPLICA_SET,
        "bank",
        "cards-6b7f",
        {"spec": {"replicas": replicas, "selector": {"matchLabels": CARDS}}},
        uid="uid-cards-6b7f",
        ownerReferences=[owner_reference(deployment)],
    )


def add_pod(api: Simulator, name: str, body: Json | None = None, **meta: Any) -> Json:
    """A cards pod with one log; ``meta`` goes over its labels and owner."""
    pod = api.add(POD, "bank", name, body or pod_body(), **{"labels": dict(CARDS), **meta})
    for container in pod["spec"]["containers"]:
        api.logs[name, container["name"], False] = f"{name} says hello\n".encode()
    return pod


POLICIES: dict[str, Json] = {
    "allow-cards": {
        "podSelector": {"matchLabels": {"app": "cards"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": 8080}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
    "allow-dns": {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
    },
    "default-deny": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}
