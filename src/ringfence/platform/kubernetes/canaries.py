"""The throw-away pods of a network canary and the policy that lets them through (pure): manifests, labels, orders.

The *canary* stands for the victim: its namespace, its node, and as many of its labels as nothing serves or adopts it
by. A *peer* listens and dials. While the canary has no fence label, one policy allows it and the peers everything; the
policy passes over the fence label like any other does, so that one patch of the canary puts it behind the fence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ringfence.model.base import Json
from ringfence.platform.kubernetes import fencing, pods
from ringfence.platform.kubernetes.selectors import labels_of
from ringfence.platform.kubernetes.surroundings import Surroundings

CANARY_KEY = "ringfence.dev/canary"
"""The label of everything that belongs to one examination. Its value is opaque."""

CANARY_OF_KEY = "ringfence.dev/canary-of"
"""The label that finds what an examination left behind; its value is a hash of the fence and the victim's uid."""

ORDERS_KEY = "ringfence.dev/canary-orders"
"""The annotation that tells a pod of ours what to try. The kubelet hands it on at once (downward API)."""

CONTAINER = "canary"
UID_IN_PODS = 65532
_ORDERS_FOLDER = "/orders"
_OWN_PREFIX = "ringfence.dev/"
_MANAGED_BY = {"app.kubernetes.io/managed-by": "ringfence"}
_NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
_NO_SIDECAR_ANNOTATION = {"linkerd.io/inject": "disabled"}
_GRACE_SECONDS = 1
"""Not 0: the object must not go before the kubelet has seen the container end."""
_PROGRAM = Path(__file__).with_name("canary_program.py")

_HOPELESS = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"),
    }
)
"""Reasons for which a container waits that do not pass by waiting."""

Protocol = Literal["tcp", "udp", "dns-udp", "dns-tcp"]
Phase = Literal["control", "fenced", "again"]


@dataclass(frozen=True)
class Ports:
    """Port numbers to listen on."""

    tcp: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()


@dataclass(frozen=True)
class PodOptions:
    """What the pods of one examination have in common. ``seconds``: how long they live at most; ``try_seconds``: how
    long each waits for an answer."""

    id: str
    of: str
    image: str
    pull_policy: str
    seconds: int
    try_seconds: float = 0.8

    @property
    def labels(self) -> dict[str, str]:
        return {CANARY_KEY: self.id, CANARY_OF_KEY: self.of, **_MANAGED_BY}


class Destination(NamedTuple):
    """One order. With ``expect``, the other side must say exactly that, or it is somebody else."""

    proto: Protocol
    host: str
    port: int
    expect: str = ""


class Standing(NamedTuple):
    """The labels that let the canary stand for the victim, without the fence; ``left_out`` are the victim's keys that
    something would serve or adopt it by. ``selected_by`` would do so all the same: then there must be no canary."""

    labels: dict[str, str]
    left_out: tuple[str, ...]
    selected_by: tuple[str, ...]


def of_target(fence: str, uid: str) -> str:
    """The value of CANARY_OF_KEY: it names neither the incident nor the pod to whoever reads it."""
    return hashlib.sha256(f"{fence}/{uid}".encode()).hexdigest()[:16]


def standing_for(around: Surroundings, shared: PodOptions, *, fence_key: str, fence_value: str) -> Standing:
    """Labels for the canary of ``around.pod``, that no controller, Service or disruption budget selects, with or
    without the fence. Raises SelectorError for an object that cannot be read."""
    victim = labels_of(around.pod)
    ours = {**shared.labels, **_NO_SIDECAR}
    labels: Mapping[str, str] = {
        **{key: value for key, value in victim.items() if not key.startswith(_OWN_PREFIX)},
        **ours,
    }
    selected_by: list[str] = []
    for key, value in ((CANARY_KEY, shared.id), (fence_key, fence_value)):
        change = fencing.detached_labels(
            around.pod["metadata"]["namespace"],
            labels,
            fence_key=key,
            fence_value=value,
            controllers=around.adopters,
            services=around.services,
            budgets=around.disruption_budgets,
            keep=ours.keys(),
        )
        labels = change.labels
        selected_by += [*change.controllers, *change.services]
    kept = {key: value for key, value in labels.items() if key != fence_key}
    left_out = tuple(sorted(key for key in victim if key not in kept and not key.startswith(_OWN_PREFIX)))
    return Standing(kept, left_out, tuple(dict.fromkeys(selected_by)))


def declared_ports(pod: Json, at_most: int) -> tuple[Ports, tuple[str, ...]]:
    """The ports that the victim's containers declare, and what of them cannot be stood in for."""
    found: dict[str, list[int]] = {"TCP": [], "UDP": []}
    others: list[str] = []
    for container in pods.containers(pod):
        if container.list != "containers":
            continue
        for port in container.spec.get("ports") or ():
            number, protocol = int(port["containerPort"]), str(port.get("protocol") or "TCP")
            if protocol not in found or len(found[protocol]) >= at_most:
                others.append(f"{protocol} {number}")
            elif number not in found[protocol]:
                found[protocol].append(number)
    return Ports(tuple(found["TCP"]), tuple(found["UDP"])), tuple(others)


def canary_pod(name: str, around: Surroundings, shared: PodOptions, labels: Mapping[str, str], ports: Ports) -> Json:
    """The canary: on the victim's node, past the scheduler, and past every taint of it."""
    spec = {"nodeName": around.pod["spec"]["nodeName"], "tolerations": [{"operator": "Exists"}]}
    return _pod(name, around.pod["metadata"]["namespace"], shared, labels, ports, spec)


def peer_pod(name: str, namespace: str, shared: PodOptions, ports: Ports, *, node: str, same_node: bool) -> Json:
    """A peer: on the victim's node as well, or on another one where that is possible."""
    if same_node:
        spec: Json = {"nodeName": node, "tolerations": [{"operator": "Exists"}]}
    else:
        elsewhere = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [node]}]}
        preferred = [{"weight": 100, "preference": elsewhere}]
        spec = {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}
    return _pod(name, namespace, shared, {**shared.labels, **_NO_SIDECAR}, ports, spec)


def allow_policy(name: str, namespace: str, shared: PodOptions, fence_key: str) -> Json:
    """Everything is allowed to the pods of this examination, as long as they do not have the fence label."""
    selector = {
        "matchLabels": {CANARY_KEY: shared.id},
        "matchExpressions": [{"key": fence_key, "operator": "DoesNotExist"}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": shared.labels},
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{}],
            "egress": [{}],
        },
    }


def told(
    pod: Json, phase: Phase, destinations: Sequence[Destination], *, fence: tuple[str, str | None] | None = None
) -> list[Json]:
    """The patch that gives a pod its orders and, in the same request, sets or takes off (None) the fence label.

    In one request, so that a try that the pod counts to a phase began after the label was what it is in that phase.
    """
    orders = {"phase": phase, "to": [one._asdict() for one in destinations]}
    operations: list[Json] = [{"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]}]
    if fence is not None:
        key, value = fence
        path = f"/metadata/labels/{_token(key)}"
        operations.append({"op": "remove", "path": path} if value is None else _add(path, value))
    return [*operations, _add(f"/metadata/annotations/{_token(ORDERS_KEY)}", json.dumps(orders, separators=(",", ":")))]


def hopeless(pod: Json) -> str:
    """Why the pod will not begin any more; empty as long as it may."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Failed", "Succeeded"):
        return f"it ended: {_short(status.get('reason'), status.get('message'))}"
    for one in status.get("containerStatuses") or ():
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _HOPELESS:
            return _short(waiting.get("reason"), waiting.get("message"))
    return ""


def _short(reason: object, message: object) -> str:
    words = ": ".join(str(part) for part in (reason, message) if part) or "without a reason"
    return "".join(char if char.isprintable() else " " for char in words)[:300]


def _pod(name: str, namespace: str, shared: PodOptions, labels: Mapping[str, str], ports: Ports, spec: Json) -> Json:
    settings = {
        "id": shared.id,
        "tcp": list(ports.tcp),
        "udp": list(ports.udp),
        "seconds": shared.seconds,
        "timeout": shared.try_seconds,
    }
    container = {
        "name": CONTAINER,
        "image": shared.image,
        "imagePullPolicy": shared.pull_policy,
        "command": ["python3", "-c", _PROGRAM.read_text(), json.dumps(settings), f"{_ORDERS_FOLDER}/orders"],
        "resources": {
            "requests": {"cpu": "10m", "memory": "24Mi"},
            "limits": {"cpu": "500m", "memory": "96Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "orders", "mountPath": _ORDERS_FOLDER, "readOnly": True}],
    }
    orders = {"path": "orders", "fieldRef": {"fieldPath": f"metadata.annotations['{ORDERS_KEY}']"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": dict(labels),
            "annotations": {ORDERS_KEY: "", **_NO_SIDECAR_ANNOTATION},
        },
        "spec": {
            **spec,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": shared.seconds,
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # Nobody ever sets this condition: no Service sends traffic to a pod that is never ready.
            "readinessGates": [{"conditionType": f"{_OWN_PREFIX}never-ready"}],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": UID_IN_PODS,
                "runAsGroup": UID_IN_PODS,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "orders", "downwardAPI": {"items": [orders]}}],
        },
    }


def _add(path: str, value: Any) -> Json:
    return {"op": "add", "path": path, "value": value}


def _token(key: str) -> str:
    """A key as a token of an RFC 6901 pointer."""
    return key.replace("~", "~0").replace("/", "~1")
