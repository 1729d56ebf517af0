"""Everything around a pod that a plan and the evidence need, read at once and kept as the server sent it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ringfence.errors import Denied, PlatformError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.client import Cluster, parse
from ringfence.platform.kubernetes.owners import Owner, owner_chain
from ringfence.platform.kubernetes.pods import is_finished, same_image, service_account
from ringfence.platform.kubernetes.resources import (
    DAEMON_SET,
    ENDPOINT_SLICE,
    JOB,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    RESOURCE_QUOTA,
    SERVICE,
    STATEFUL_SET,
    Resource,
)

_ADOPTERS = (REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB, REPLICATION_CONTROLLER)
"""Every kind that adopts an orphan pod which its selector matches."""
_COLLECTIONS = (NETWORK_POLICY, SERVICE, ENDPOINT_SLICE, POD_DISRUPTION_BUDGET, RESOURCE_QUOTA, *_ADOPTERS)
_FORECAST_ONLY = frozenset({POD_DISRUPTION_BUDGET, RESOURCE_QUOTA})
"""Without these the forecast is less sharp; without any other nothing honest can be planned."""


@dataclass(frozen=True)
class Reading:
    """One read: its bytes as sent (a collection's pages in order), or why it could not be had."""

    source: str
    raw: tuple[bytes, ...]
    started_at: datetime
    ended_at: datetime
    why: str = ""


@dataclass(frozen=True)
class Surroundings:
    """A pod and what acts on it in its namespace, as of one moment. ``missing`` names what could not be read."""

    pod: Json
    pod_reading: Reading
    owners: tuple[Owner, ...]
    collections: dict[str, tuple[Json, ...]]
    readings: dict[str, Reading]
    missing: tuple[str, ...] = field(default=())

    @property
    def policies(self) -> tuple[Json, ...]:
        return self.collections[NETWORK_POLICY.plural]

    @property
    def services(self) -> tuple[Json, ...]:
        return self.collections[SERVICE.plural]

    @property
    def endpoint_slices(self) -> tuple[Json, ...]:
        return self.collections[ENDPOINT_SLICE.plural]

    @property
    def disruption_budgets(self) -> tuple[Json, ...]:
        return self.collections.get(POD_DISRUPTION_BUDGET.plural, ())

    @property
    def quotas(self) -> tuple[Json, ...]:
        return self.collections.get(RESOURCE_QUOTA.plural, ())

    @property
    def adopters(self) -> tuple[Json, ...]:
        """Every controller object of the namespace that could adopt a pod."""
        return tuple(obj for resource in _ADOPTERS for obj in self.collections[resource.plural])

    @property
    def controller(self) -> Owner | None:
        return self.owners[0] if self.owners else None


def read_pod(cluster: Cluster, namespace: str, name: str) -> tuple[Json, Reading]:
    """The pod and the reading that it came from. Raises NotFound, Denied, NotSent, Unanswered."""
    started = datetime.now(UTC)
    raw = cluster.get_bytes(POD, namespace, name)
    return parse(raw, "get", name), Reading(POD.path(namespace, name), (raw,), started, datetime.now(UTC))


def read_surroundings(
    cluster: Cluster, cluster_id: str, pod: Json, pod_reading: Reading, pool: ThreadPoolExecutor
) -> Surroundings:
    """Read what is around the pod, in parallel. Raises when what a plan needs cannot be read."""
    namespace = pod["metadata"]["namespace"]
    chain = pool.submit(owner_chain, cluster, cluster_id, pod)
    futures = {resource: pool.submit(_collection, cluster, resource, namespace) for resource in _COLLECTIONS}
    collections: dict[str, tuple[Json, ...]] = {}
    readings: dict[str, Reading] = {}
    missing: list[str] = []
    for resource, future in futures.items():
        items, reading = future.result()
        readings[resource.plural] = reading
        if reading.why:
            missing.append(f"{resource.plural}: {reading.why}")
        collections[resource.plural] = items
    return Surroundings(pod, pod_reading, chain.result(), collections, readings, tuple(missing))


def _collection(cluster: Cluster, resource: Resource, namespace: str) -> tuple[tuple[Json, ...], Reading]:
    started = datetime.now(UTC)
    source = resource.path(namespace)
    try:
        pages = tuple(cluster.pages(resource, namespace))
    except Denied as error:
        if resource not in _FORECAST_ONLY:
            raise
        return (), Reading(source, (), started, datetime.now(UTC), why=str(error))
    items = tuple(
        {**item, "apiVersion": resource.api_version, "kind": resource.kind}
        for page in pages
        for item in parse(page, "list", resource.plural).get("items") or ()
    )
    return items, Reading(source, pages, started, datetime.now(UTC))


@dataclass(frozen=True)
class Siblings:
    """Other pods that share the suspect's image digest or its service account. ``scope`` says where we could look."""

    by_image: tuple[Json, ...]
    by_account: tuple[Json, ...]
    scope: str
    why_narrow: str = ""


def read_siblings(cluster: Cluster, pod: Json) -> Siblings:
    """Look for siblings in every namespace, or in the pod's own where we may not list all."""
    namespace = pod["metadata"]["namespace"]
    scope, why = "all namespaces", ""
    try:
        pods = cluster.list(POD)
    except PlatformError as error:
        scope, why = f"namespace {namespace} only", str(error)
        pods = cluster.list(POD, namespace)
    others = [other for other in pods if other["metadata"]["uid"] != pod["metadata"]["uid"] and not is_finished(other)]
    return Siblings(
        by_image=tuple(other for other in others if same_image(pod, other)),
        by_account=tuple(
            other
            for other in others
            if other["metadata"]["namespace"] == namespace and service_account(other) == service_account(pod)
        ),
        scope=scope,
        why_narrow=why,
    )


def reference(cluster_id: str, pod: Json) -> ObjectRef:
    return ObjectRef.of(cluster_id, {"apiVersion": POD.api_version, "kind": POD.kind, **pod})
