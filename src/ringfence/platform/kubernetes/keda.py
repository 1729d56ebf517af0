"""KEDA's scalers: which of them sets the size of a workload, and whether it is paused.

Rule sources: KEDA 2.18, ``apis/keda/v1alpha1/scaledobject_types.go`` (what pauses, and that ``paused-replicas`` goes
before ``paused``), ``controllers/keda`` (a paused ScaledObject's HorizontalPodAutoscaler is deleted, and one that is
held at a number is set to it again). Pure but for :func:`read`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ringfence.errors import NotFound
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.owners import controller_of
from ringfence.platform.kubernetes.resources import (
    DEPLOYMENT,
    JOB,
    REPLICA_SET,
    SCALED_JOB,
    SCALED_OBJECT,
    STATEFUL_SET,
)

PAUSED = "autoscaling.keda.sh/paused"
PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
ANNOTATIONS = (PAUSED, PAUSED_REPLICAS)
SCALED_KINDS = frozenset({DEPLOYMENT.kind, STATEFUL_SET.kind, REPLICA_SET.kind})
"""What a ScaledObject can point at, of the kinds that Ringfence stops."""

_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
"""Every other word pauses: KEDA takes what is no truth value for a yes."""


class Pause(NamedTuple):
    """The two annotations as they are; None: not there."""

    paused: str | None
    replicas: str | None

    @property
    def holds_still(self) -> bool:
        """Whether by them KEDA leaves the number of pods alone, whatever it is: what is held at a number is set to it
        again, which for 0 is what a stopped workload has."""
        if self.replicas is not None:
            return self.replicas.strip() == "0"
        return self.paused is not None and self.paused not in _FALSE


def pause_of(scaler: Json) -> Pause:
    found = scaler["metadata"].get("annotations") or {}
    return Pause(found.get(PAUSED), found.get(PAUSED_REPLICAS))


def reports_paused(scaler: Json) -> bool:
    """Whether KEDA itself says that it has paused it."""
    conditions = (scaler.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Paused" and one.get("status") == "True" for one in conditions)


def pointing_at(obj: Json, scalers: Iterable[Json]) -> tuple[Json, ...]:
    """The autoscalers, KEDA's or the cluster's own, whose ``scaleTargetRef`` is the workload. KEDA's may leave the kind
    out: then it means a Deployment."""
    kind, name = obj["kind"], obj["metadata"]["name"]
    references = ((scaler, (scaler.get("spec") or {}).get("scaleTargetRef") or {}) for scaler in scalers)
    return tuple(
        scaler for scaler, ref in references if (ref.get("kind") or DEPLOYMENT.kind, ref.get("name")) == (kind, name)
    )


def read(cluster: Cluster, obj: Json) -> tuple[Json, ...]:
    """The scalers that set the size of a workload, or that start Jobs like this one; none where KEDA is not installed.

    Raises PlatformError.
    """
    namespace = obj["metadata"].get("namespace", "")
    if obj["kind"] in SCALED_KINDS:
        try:
            listed = cluster.list(SCALED_OBJECT, namespace)
        except NotFound:
            return ()
        head = {"apiVersion": SCALED_OBJECT.api_version, "kind": SCALED_OBJECT.kind}
        return tuple({**one, **head} for one in pointing_at(obj, listed))
    owner = controller_of(obj) or {}
    if obj["kind"] != JOB.kind or (owner.get("apiVersion"), owner.get("kind")) != SCALED_JOB[:2]:
        return ()
    found = cluster.find(SCALED_JOB, namespace, str(owner["name"]))
    return () if found is None or found["metadata"]["uid"] != owner.get("uid") else (found,)
