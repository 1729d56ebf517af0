"""A workload with everything that its controller runs, and who else would change its size."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from ringfence.errors import TargetError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.client import Cluster, parse
from ringfence.platform.kubernetes.keda import pointing_at
from ringfence.platform.kubernetes.owners import controller_of
from ringfence.platform.kubernetes.pods import is_finished
from ringfence.platform.kubernetes.resources import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HORIZONTAL_POD_AUTOSCALER,
    JOB,
    NODE,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    SCALED_OBJECT,
    SERVICE,
    STATEFUL_SET,
    Resource,
    resource_of,
)
from ringfence.platform.kubernetes.surroundings import Reading, read_collection

WORKLOADS = (DEPLOYMENT, STATEFUL_SET, DAEMON_SET, REPLICA_SET, JOB, CRON_JOB)
WORKLOAD_KINDS = frozenset(resource.kind for resource in WORKLOADS)
_BETWEEN = {DEPLOYMENT.kind: REPLICA_SET, CRON_JOB.kind: JOB}
"""What stands between these and their pods."""
_TOLERATED = (HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT, POD_DISRUPTION_BUDGET)
"""Without these the forecast is less sharp; the first of them a cluster may not even have."""


@dataclass(frozen=True)
class Workload:
    """A workload as of one moment.

    ``pods`` are those that its controllers own and that have not ended, ``between`` the ReplicaSets or Jobs that stand
    between, ``neighbours`` every other pod of the namespace. ``autoscalers`` and ``scaled_objects`` point at it.
    ``missing`` names what could not be read.
    """

    ref: ObjectRef
    obj: Json
    reading: Reading
    pods: tuple[Json, ...]
    between: tuple[Json, ...] = ()
    neighbours: tuple[Json, ...] = ()
    autoscalers: tuple[Json, ...] = ()
    scaled_objects: tuple[Json, ...] = ()
    services: tuple[Json, ...] = ()
    endpoint_slices: tuple[Json, ...] = ()
    disruption_budgets: tuple[Json, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeView:
    """A node, and all of them."""

    ref: ObjectRef
    obj: Json
    reading: Reading
    nodes: tuple[Json, ...]


def read_object(cluster: Cluster, ref: ObjectRef) -> tuple[Json, Reading]:
    """The object of that name and uid with its bytes. Raises TargetError when it is another one by now, NotFound."""
    resource, started = resource_of(ref), datetime.now(UTC)
    raw = cluster.get_bytes(resource, ref.namespace, ref.name)
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, **parse(raw, "get", ref.name)}
    if ref.uid and obj["metadata"]["uid"] != ref.uid:
        raise TargetError(
            f"{ref} is gone: another object has its name now",
            why=f"its uid was {ref.uid}, this one's is {obj['metadata']['uid']}",
            next_step="name it again, if it is the one that is meant",
        )
    return obj, Reading(resource.path(ref.namespace, ref.name), (raw,), started, datetime.now(UTC))


def read_workload(cluster: Cluster, target: ObjectRef, pool: ThreadPoolExecutor) -> Workload:
    """Read a workload and what is around it, in parallel. Raises TargetError, NotFound, Denied, Unanswered."""
    between = _BETWEEN.get(target.kind)
    needed = [POD, SERVICE, ENDPOINT_SLICE, *([between] if between else [])]
    futures = {
        resource: pool.submit(read_collection, cluster, resource, target.namespace, tolerate=resource in _TOLERATED)
        for resource in (*needed, *_TOLERATED)
    }
    obj, reading = read_object(cluster, target)
    found: dict[Resource, tuple[Json, ...]] = {}
    missing: list[str] = []
    for resource, future in futures.items():
        found[resource], one = future.result()
        if one.why:
            missing.append(f"{resource.plural}: {one.why}")
    middle, pods = owned(target.kind, obj["metadata"]["uid"], found.get(between, ()) if between else (), found[POD])
    uids = {pod["metadata"]["uid"] for pod in pods}
    return Workload(
        ref=ObjectRef.of(target.cluster, obj),
        obj=obj,
        reading=reading,
        pods=pods,
        between=middle,
        neighbours=tuple(pod for pod in found[POD] if pod["metadata"]["uid"] not in uids),
        autoscalers=pointing_at(obj, found[HORIZONTAL_POD_AUTOSCALER]),
        scaled_objects=pointing_at(obj, found[SCALED_OBJECT]),
        services=found[SERVICE],
        endpoint_slices=found[ENDPOINT_SLICE],
        disruption_budgets=found[POD_DISRUPTION_BUDGET],
        missing=tuple(missing),
    )


def read_pods_of(cluster: Cluster, target: ObjectRef) -> tuple[Json, ...]:
    """The pods of a workload that have not ended, read anew. Raises PlatformError."""
    between = _BETWEEN.get(target.kind)
    middle = cluster.list(between, target.namespace) if between else ()
    return owned(target.kind, target.uid, middle, cluster.list(POD, target.namespace))[1]


def owned(
    kind: str, uid: str, middle: Iterable[Json], pods: Iterable[Json]
) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """What stands between a workload and its pods, and the pods (pure): by the uids of controllers, not by labels."""
    between = tuple(obj for obj in middle if _controller_uid(obj) == uid)
    owners = {obj["metadata"]["uid"] for obj in between} if kind in _BETWEEN else {uid}
    return between, tuple(pod for pod in pods if _controller_uid(pod) in owners and not is_finished(pod))


def template_of(obj: Json) -> Json:
    """A workload's pod template as a pod has it, ``metadata`` and ``spec``, wherever its kind keeps it (pure)."""
    spec = obj.get("spec") or {}
    of_job = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template")
    of_scaled_job = (spec.get("jobTargetRef") or {}).get("template")
    found: Json = of_job or of_scaled_job or spec.get("template") or {}
    meta = {"name": obj["metadata"]["name"], "namespace": obj["metadata"].get("namespace", "")}
    return {"metadata": {**(found.get("metadata") or {}), **meta}, "spec": found.get("spec") or {}}


def read_node(cluster: Cluster, target: ObjectRef) -> NodeView:
    """The node and all others. Raises TargetError, NotFound, Denied, Unanswered."""
    obj, reading = read_object(cluster, target)
    return NodeView(ObjectRef.of(target.cluster, obj), obj, reading, cluster.list(NODE))


def _controller_uid(obj: Json) -> str:
    return str((controller_of(obj) or {}).get("uid", ""))
