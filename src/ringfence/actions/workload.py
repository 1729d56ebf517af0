"""What the actions on workloads share (pure but for the dry run): what dies, who puts it back, which words say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ringfence.actions.perform import dry_run
from ringfence.errors import Invalid
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change
from ringfence.platform.kubernetes import keda
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.owners import controller_of
from ringfence.platform.kubernetes.selectors import TRACKING_LABELS, labels_of, matches, printable
from ringfence.platform.kubernetes.surroundings import reference
from ringfence.platform.kubernetes.workloads import Workload

READS = (
    Permission("pods", frozenset({"list"}), "which pods belong to the workload, and whether they are gone"),
    Permission("replicasets.apps", frozenset({"list"}), "which ReplicaSets stand between a Deployment and its pods"),
    Permission("services", frozenset({"list"}), "what customers feel"),
    Permission("endpointslices.discovery.k8s.io", frozenset({"list"}), "how many pods still serve"),
    Permission("poddisruptionbudgets.policy", frozenset({"list"}), "what the pods count for"),
    Permission("horizontalpodautoscalers.autoscaling", frozenset({"list"}), "who else sets the number of pods"),
    Permission("scaledobjects.keda.sh", frozenset({"list"}), "whether KEDA would scale the workload up again"),
)
"""What every plan for a workload reads."""

_TRACKING_ANNOTATION = "argocd.argoproj.io/tracking-id"
_FLUX = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name")


def same_spec(obj: Json) -> list[Json]:
    """Preconditions of a patch of the object's spec: this very object, and nobody has changed its spec since.

    The generation counts changes of the spec alone, where the resourceVersion moves with every status.
    """
    meta = obj["metadata"]
    return [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": meta["generation"]},
    ]


def dying(around: Workload) -> tuple[Json, ...]:
    """The pods that end by it. One that is terminating ends without us."""
    return tuple(pod for pod in around.pods if not pod["metadata"].get("deletionTimestamp"))


def references(cluster_id: str, pods: Iterable[Json]) -> tuple[ObjectRef, ...]:
    return tuple(reference(cluster_id, pod) for pod in pods)


def put_back_by(around: Workload) -> tuple[str, ...]:
    """Who may set the workload back to what it was, each in one sentence."""
    found = []
    if (owner := controller_of(around.obj)) is not None:
        words = f"{printable(str(owner['kind']))} {printable(str(owner['name']))}"
        found.append(f"its controller, {words}, may put it back")
    found += put_back(around.obj)
    for scaled in around.scaled_objects:
        if not keda.pause_of(scaled).holds_still:
            name = printable(scaled["metadata"]["name"])
            found.append(f"KEDA's ScaledObject {name} scales it up again: it is not paused")
    return tuple(found)


def put_back(obj: Json) -> tuple[str, ...]:
    """Which GitOps tools would put an object back, by the marks that they leave on it, each in one sentence."""
    found = []
    if _TRACKING_ANNOTATION in (obj["metadata"].get("annotations") or {}) or TRACKING_LABELS & labels_of(obj).keys():
        found.append("Argo CD may put it back, if it tracks it by what it carries and syncs by itself")
    if any(key in labels_of(obj) for key in _FLUX):
        found.append("Flux applies it from Git and puts it back, unless it is suspended")
    return tuple(found)


def unprotected(around: Workload, pods: Sequence[Json]) -> tuple[str, ...]:
    """The PodDisruptionBudgets that select the pods: they guard against evictions, and this is none."""
    return tuple(
        f"PodDisruptionBudget {printable(budget['metadata']['name'])} does not hold this back: it guards evictions only"
        for budget in around.disruption_budgets
        if any(matches((budget.get("spec") or {}).get("selector"), labels_of(pod)) for pod in pods)
    )


def leftovers(around: Workload) -> tuple[str, ...]:
    """Caveats that every plan for a workload has: pods that end by themselves, and what was not read."""
    going = [printable(p["metadata"]["name"]) for p in around.pods if p["metadata"].get("deletionTimestamp")]
    found = [f"terminating already, and not waited for: {', '.join(going)}"] if going else []
    return (*found, *(f"not known, as it could not be read: {missing}" for missing in around.missing))


def tried(cluster: Cluster, change: Change) -> Refused | None:
    """The server's dry run of a change: what admission or validation says against it. Raises Denied, Unanswered."""
    try:
        dry_run(cluster, change)
    except Invalid as error:
        return Refused(
            reason=f"{error.what}: {error.why}",
            next_step=f"ask for an exemption from what it names, for {change.ref}",
        )
    return None
