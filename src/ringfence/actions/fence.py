"""How a pod is put behind its fence, and how it comes out again (pure): the shape, the pod's patch, its inverse.

*detach* takes the pod out of its controller and its Services; *fence* (in place) adds one label and removes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from ringfence.actions.base import Shape
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Refused
from ringfence.model.permission import Permission
from ringfence.platform.kubernetes import fencing, pods, policies, serving
from ringfence.platform.kubernetes.selectors import labels_of, printable
from ringfence.platform.kubernetes.surroundings import Surroundings

FENCE_KEY = "ringfence.dev/fence"
"""The label that the deny-all selects. Its value is opaque: the victim may read its own labels."""

SHAPE_KEY = "ringfence.dev/shape"
"""The annotation that tells a pod that was detached from one that was fenced in place and has no controller."""

DETACH = "detach"
"""The id of the change that takes the pod out of its controller and puts it behind the fence."""

FENCE = "fence"
"""The id of the change that puts the pod behind the fence where it is."""

POD_READS = (
    Permission("pods", frozenset({"get"}), "the pod itself"),
    Permission("networkpolicies.networking.k8s.io", frozenset({"list"}), "which policies isolate and open the pod"),
    Permission("services", frozenset({"list"}), "which Services send it traffic, and what customers feel"),
    Permission("endpointslices.discovery.k8s.io", frozenset({"list"}), "how many pods still serve"),
    Permission("replicasets.apps", frozenset({"get", "list"}), "who owns the pod, and who could adopt it again"),
    Permission("deployments.apps", frozenset({"get"}), "the owner chain"),
    Permission("statefulsets.apps", frozenset({"get", "list"}), "who owns the pod, and who could adopt it"),
    Permission("daemonsets.apps", frozenset({"get", "list"}), "who owns the pod, and who could adopt it"),
    Permission("jobs.batch", frozenset({"get", "list"}), "who owns the pod, and who could adopt it"),
    Permission("cronjobs.batch", frozenset({"get"}), "the owner chain"),
    Permission("replicationcontrollers", frozenset({"get", "list"}), "who owns the pod, and who could adopt it"),
    Permission("poddisruptionbudgets.policy", frozenset({"list"}), "what the pod counts for"),
    Permission("resourcequotas", frozenset({"list"}), "whether a replacement can start beside it"),
)
"""What every plan for a pod reads."""

_KEEP_ALIVE = {
    # A pod must not be moved or removed by an autoscaler while it is evidence.
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
_DETACHABLE = frozenset({"ReplicaSet", "ReplicationController"})
_WHY_IN_PLACE = {
    "StatefulSet": "cannot start another pod of its name beside it: with the pod taken out, the set stands still",
    "DaemonSet": "would start another on the same node, beside it and with the same host ports and folders",
    "Job": "would count a pod that is taken out as lost, and do its work a second time",
}


class Choice(NamedTuple):
    """The shape and why. ``firm`` says that another one is no way out when the cluster refuses this one."""

    shape: str
    why: str
    firm: bool


def is_detached(pod: Json) -> bool:
    """Whether the pod was taken out of its controller by a fence: nothing may bring it back.

    A pod with the label and without a controller that does not say that it was fenced in place counts as detached.
    """
    meta = pod["metadata"]
    owned = any(reference.get("controller") for reference in meta.get("ownerReferences") or ())
    return FENCE_KEY in labels_of(pod) and not owned and (meta.get("annotations") or {}).get(SHAPE_KEY) != FENCE


def is_fenced_in_place(pod: Json) -> bool:
    """Whether the pod carries a fence label, put there without taking any other off."""
    annotations = pod["metadata"].get("annotations") or {}
    return FENCE_KEY in labels_of(pod) and annotations.get(SHAPE_KEY) == FENCE


def unfit(pod: Json) -> Refused | None:
    """Refused where policies cannot hold the pod, whatever the shape."""
    if policies.is_host_network(pod):
        return Refused(
            reason="the pod uses its node's network, which no NetworkPolicy governs",
            next_step="cut it on its node, or stop the workload",
        )
    if pods.is_finished(pod):
        return Refused(reason="the pod has ended already: there is nothing to cut", next_step="collect its evidence")
    return None


def choose(around: Surroundings, wanted: Shape) -> Choice | Refused:
    """The shape for what owns the pod. Refused when a detach is asked for that would break what owns it."""
    if is_detached(around.pod):
        return Choice(DETACH, "detach: it was taken out of its controller before, and never goes back", firm=True)
    controller = around.controller
    if wanted == FENCE:
        return Choice(FENCE, "fence in place: as asked for", firm=True)
    if wanted == "auto" and is_fenced_in_place(around.pod):
        return Choice(FENCE, "fence in place: it was fenced so before", firm=True)
    if controller is None:
        if wanted == DETACH:
            return Choice(DETACH, "detach, as asked for: no controller replaces the pod or takes it back", firm=True)
        why = "the pod has no controller: taken out of its Services, it could only be deleted, and nobody replaces it"
        return Choice(FENCE, f"fence in place: {why}", firm=True)
    kind, name = printable(controller.ref.kind), printable(controller.ref.name)
    if kind in _DETACHABLE:
        why = f"detach: {kind} {name} lets go of a pod without its labels and starts another"
        return Choice(DETACH, why, firm=wanted == DETACH)
    why = _WHY_IN_PLACE.get(kind, "is of a kind whose answer to a pod without its labels is not known")
    if wanted == DETACH:
        return Refused(
            reason=f"the pod is not to be detached: its controller, {kind} {name}, {why}",
            next_step="the same with --shape fence, or without --shape",
        )
    return Choice(FENCE, f"fence in place: its controller, {kind} {name}, {why}", firm=True)


def pod_patch(pod: Json, relabel: fencing.LabelChange, shape: str) -> list[Json]:
    """The operations that put the pod behind the fence; at least a test of its uid."""
    same_pod = {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]}
    operations = fencing.relabel(pod, relabel.labels)
    if shape == FENCE and operations and pod["metadata"].get("labels") is not None:
        # One label is added, whatever others come beside it later: it shows on the pod as long as that one is there.
        added = {"op": "add", "path": f"/metadata/labels/{_token(FENCE_KEY)}", "value": relabel.labels[FENCE_KEY]}
        operations = (*operations[:-1], added)
    return [*(operations or (same_pod,)), *_annotate(pod, {**_KEEP_ALIVE, SHAPE_KEY: shape})]


def fenced_copy(pod: Json, relabel: fencing.LabelChange) -> Json:
    """The pod as the patch of a fence in place leaves it."""
    meta = pod["metadata"]
    annotations = {**(meta.get("annotations") or {}), **_KEEP_ALIVE, SHAPE_KEY: FENCE}
    return {**pod, "metadata": {**meta, "labels": dict(relabel.labels), "annotations": annotations}}


def unfence(live: Json, prior: Json, value: str) -> list[Json]:
    """The operations that take the label and our annotations off again; empty when nothing of them is left.

    ``prior`` is the pod as it was before; a fence of this very value in it is of an attempt that was cut short. What
    somebody gave another value since is theirs and stays.
    """
    ours = {**_KEEP_ALIVE, SHAPE_KEY: FENCE}
    operations = _put_back("labels", live, prior, {FENCE_KEY: value})
    operations += _put_back("annotations", live, prior, ours)
    if not operations:
        return []
    return [{"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]}, *operations]


def caveats(around: Surroundings, relabel: fencing.LabelChange, shape: str) -> tuple[str, ...]:
    """What the cut cannot do, foreseen from what was read."""
    found = ["connections that are open now may go on: the network plugin decides"]
    if shape == DETACH:
        found.append("a replacement starts from the same image and template, and may be attacked in the same way")
    else:
        found += [
            f"Service {printable(name)} goes on sending it requests, which will hang: 1 of {ready} ready endpoints"
            for name, ready in serving.still_sent_to(around)
        ]
        if around.controller is not None:
            kind, name = printable(around.controller.ref.kind), printable(around.controller.ref.name)
            found.append(f"if the pod ends or fails, {kind} {name} may start another, which is not fenced")
    found.append("the pod still reaches its own node, and its node reaches it")
    found += [f"liveness, which may restart it after the cut: {probe}" for probe in pods.liveness_probes(around.pod)]
    found += [
        f"NetworkPolicy {printable(policy['metadata']['name'])} begins to select the pod by the change"
        for policy in relabel.newly_selecting
    ]
    found += [f"{budget} selects the pod still" for budget in relabel.budgets]
    found += [f"not known, as it could not be read: {missing}" for missing in around.missing]
    return tuple(found)


NODE_CUT = "ringfence node INC cut"
"""The third shape of the cut. It needs no patch of the pod, so admission that refuses one has no say in it."""


def refused_by_cluster(target: ObjectRef, pod: Json, words: str) -> Refused:
    """What admission said, and what is left to do when no patch of the pod is let through."""
    placed = bool((pod.get("spec") or {}).get("nodeName"))
    meanwhile = (
        f"; meanwhile: {NODE_CUT}, where the node helper is configured, and "
        f"ringfence respond cordon-node pod/{target.name} -n {target.namespace}"
        if placed
        else ""
    )
    return Refused(
        reason=words,
        next_step=f"ask for an exemption from what it names, for the label {FENCE_KEY} in namespace "
        f"{target.namespace}, then contain again{meanwhile}",
    )


def _annotate(pod: Json, wanted: dict[str, str]) -> list[Json]:
    if pod["metadata"].get("annotations") is None:
        return [{"op": "add", "path": "/metadata/annotations", "value": wanted}]
    return [
        {"op": "add", "path": f"/metadata/annotations/{_token(key)}", "value": value} for key, value in wanted.items()
    ]


def _put_back(member: str, live: Json, prior: Json, ours: dict[str, str]) -> list[Json]:
    now, before = live["metadata"].get(member) or {}, prior["metadata"].get(member) or {}
    operations: list[Json] = []
    for key, value in ours.items():
        unfinished = key in (FENCE_KEY, SHAPE_KEY) and before.get(key) == value
        if now.get(key) != value or (before.get(key) == value and not unfinished):
            continue
        path = f"/metadata/{member}/{_token(key)}"
        operations.append({"op": "test", "path": path, "value": value})
        if key in before and not unfinished:
            operations.append({"op": "replace", "path": path, "value": before[key]})
        else:
            operations.append({"op": "remove", "path": path})
    return operations


def _token(key: str) -> str:
    """A key as a token of an RFC 6901 pointer."""
    return key.replace("~", "~0").replace("/", "~1")
