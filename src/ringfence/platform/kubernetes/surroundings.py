"""Everything around a pod that a plan and the evidence need, read at once and kept as the server sent it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import filterfalse

from ringfence.errors import Denied, NotFound, PlatformError, TargetError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.client import Cluster, parse
from ringfence.platform.kubernetes.owners import Owner, owner_chain
from ringfence.platform.kubernetes.pods import (
    images_of,
    is_finished,
    service_account,
    sharing_image,
    words_of_images,
)
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

    @cached_property
    def items(self) -> tuple[Json, ...]:
        """The objects of a collection, as they were sent."""
        return tuple(item for page in self.raw for item in json.loads(page).get("items") or ())


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


@dataclass(frozen=True)
class NamespaceReading:
    """What acts on the pods of a namespace, as of one moment: read once, it serves for every pod of a group.

    ``owners`` remembers controllers by uid while the pods of the group are looked at, one after the other or at once.
    """

    collections: dict[str, tuple[Json, ...]]
    readings: dict[str, Reading]
    missing: tuple[str, ...] = ()
    owners: dict[str, Owner] = field(default_factory=dict)


def read_namespace(cluster: Cluster, namespace: str, pool: ThreadPoolExecutor) -> NamespaceReading:
    """Read what a plan needs of a namespace, in parallel. Raises PlatformError when that cannot be read.

    Not to be called from a thread of ``pool``.
    """
    futures = {resource: pool.submit(read_collection, cluster, resource, namespace) for resource in _COLLECTIONS}
    collections: dict[str, tuple[Json, ...]] = {}
    readings: dict[str, Reading] = {}
    missing: list[str] = []
    for resource, future in futures.items():
        items, reading = future.result()
        readings[resource.plural] = reading
        if reading.why:
            missing.append(f"{resource.plural}: {reading.why}")
        collections[resource.plural] = items
    return NamespaceReading(collections, readings, tuple(missing))


def surroundings(
    cluster: Cluster, cluster_id: str, pod: Json, pod_reading: Reading, namespace: NamespaceReading
) -> Surroundings:
    """A pod within a namespace that is read already: only its owners are looked up. Raises PlatformError."""
    owners = owner_chain(cluster, cluster_id, pod, known=namespace.owners)
    return _put_together(pod, pod_reading, owners, namespace)


def read_surroundings(
    cluster: Cluster, cluster_id: str, pod: Json, pod_reading: Reading, pool: ThreadPoolExecutor
) -> Surroundings:
    """Read what is around one pod, in parallel. Raises when what a plan needs cannot be read."""
    chain = pool.submit(owner_chain, cluster, cluster_id, pod)
    namespace = read_namespace(cluster, pod["metadata"]["namespace"], pool)
    return _put_together(pod, pod_reading, chain.result(), namespace)


def _put_together(
    pod: Json, pod_reading: Reading, owners: tuple[Owner, ...], namespace: NamespaceReading
) -> Surroundings:
    return Surroundings(pod, pod_reading, owners, namespace.collections, namespace.readings, namespace.missing)


def look_around(cluster: Cluster, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Surroundings:
    """The pod ``target`` and what is around it. Raises TargetError when its name is another pod's by now."""
    pod, reading = read_pod(cluster, target.namespace, target.name)
    if pod["metadata"]["uid"] != target.uid:
        raise TargetError(
            f"{target} is gone: another pod has its name now",
            why=f"its uid was {target.uid}, this one's is {pod['metadata']['uid']}",
            next_step=f"kubectl get pod {target.name} -n {target.namespace} -o yaml",
        )
    return read_surroundings(cluster, cluster_id, pod, reading, pool)


def read_collection(
    cluster: Cluster, resource: Resource, namespace: str, *, tolerate: bool = False
) -> tuple[tuple[Json, ...], Reading]:
    """A collection with its bytes. What only sharpens a forecast may be denied: the reading then says why.

    With ``tolerate`` that holds for any, and a kind that the cluster does not have counts as empty. Raises
    PlatformError otherwise.
    """
    started = datetime.now(UTC)
    source = resource.path(namespace)
    try:
        pages = tuple(cluster.parsed_pages(resource, namespace))
    except NotFound:
        if not tolerate:
            raise
        return (), Reading(source, (), started, datetime.now(UTC))
    except Denied as error:
        if not tolerate and resource not in _FORECAST_ONLY:
            raise
        return (), Reading(source, (), started, datetime.now(UTC), why=str(error))
    items = tuple(
        {**item, "apiVersion": resource.api_version, "kind": resource.kind}
        for _, page in pages
        for item in page.get("items") or ()
    )
    return items, Reading(source, tuple(raw for raw, _ in pages), started, datetime.now(UTC))


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
        pods = cluster.unread(POD)
    except PlatformError as error:
        scope, why = f"namespace {namespace} only", str(error)
        pods = cluster.unread(POD, namespace)
    account = service_account(pod)

    def same_image() -> Iterable[Json]:
        return filter(sharing_image(pod), filterfalse(is_finished, pods.with_any(words_of_images(pod))))

    def same_account() -> Iterator[Json]:
        for other in filterfalse(is_finished, pods.with_any((namespace,))):
            if other["metadata"]["namespace"] == namespace and service_account(other) == account:
                yield other

    def others(found: Iterable[Json]) -> tuple[Json, ...]:
        return tuple(other for other in found if other["metadata"]["uid"] != pod["metadata"]["uid"])

    return Siblings(
        by_image=others(pods.chosen(images_of(pod), same_image)),
        by_account=others(pods.chosen((namespace, account), same_account)),
        scope=scope,
        why_narrow=why,
    )


def reference(cluster_id: str, pod: Json) -> ObjectRef:
    return ObjectRef.of(cluster_id, {"apiVersion": POD.api_version, "kind": POD.kind, **pod})
