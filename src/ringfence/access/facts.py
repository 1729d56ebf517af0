"""Gathering what the statement is computed from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from ringfence.errors import PlatformError
from ringfence.model.base import Json
from ringfence.model.canary import CanaryReport
from ringfence.model.node_helper import NodeReport
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes import canaries, owners, serving
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.pods import service_account
from ringfence.platform.kubernetes.policies import Isolation, evaluate
from ringfence.platform.kubernetes.resources import (
    ENDPOINT_SLICE,
    NETWORK_POLICY,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
)
from ringfence.platform.kubernetes.surroundings import Siblings, read_siblings


@dataclass(frozen=True)
class Serving:
    """One Service that the suspect served: how many pods serve now, and how many are asked for (None: not known)."""

    service: str
    ready: int
    desired: int | None
    replacements: int


@dataclass(frozen=True)
class Facts:
    """Everything that the rows depend on. ``pod`` is the suspect as it was found, ``live`` as it is (None: gone).

    ``token_refused`` is True when a canary token, bound to the same pod, was refused after it had been accepted.
    ``network_canary`` is the last examination of the pod's fence (None: never tried); ``network_basis`` the fingerprint
    of what it would examine now (empty: the pod is gone). When the two differ, it says nothing about this fence.
    """

    pod: Json
    live: Json | None
    isolation: Isolation | None
    siblings: Siblings | None
    siblings_unread: str
    account: Json | None
    account_unread: str
    controller: str
    serving: tuple[Serving, ...]
    token_refused: bool
    at: datetime
    network_canary: CanaryReport | None = None
    network_basis: str = ""
    node_cut: NodeReport | None = None
    """The last report of the node helper about the pod's network (None: it never looked)."""


def gather(
    cluster: Cluster,
    pod: Json,
    target: ObjectRef,
    *,
    since: datetime,
    token_refused: bool,
    pool: ThreadPoolExecutor,
    network_canary: CanaryReport | None = None,
    node_cut: NodeReport | None = None,
) -> Facts:
    """Read live state. Pods behind its Services that were created after ``since`` count as replacements.

    ``network_canary`` is the last report of an examination of this pod's fence.

    Raises PlatformError when the pod, the policies or the Services cannot be read: then nothing can be said.
    """
    namespace = target.namespace
    live_future = pool.submit(cluster.find, POD, namespace, target.name)
    policies_future = pool.submit(cluster.list, NETWORK_POLICY, namespace)
    siblings_future = pool.submit(read_siblings, cluster, pod)
    account_future = pool.submit(cluster.find, SERVICE_ACCOUNT, namespace, service_account(pod))
    live = live_future.result()
    if live is not None and live["metadata"]["uid"] != target.uid:
        live = None
    serving_future = pool.submit(_serving, cluster, pod, live, since)
    policies = policies_future.result()
    isolation = evaluate(live, policies) if live is not None else None
    siblings, unread = None, ""
    try:
        siblings = siblings_future.result()
    except PlatformError as error:
        unread = str(error)
    account, account_unread = None, ""
    try:
        account = account_future.result()
    except PlatformError as error:
        account_unread = str(error)
    controller = owners.controller_of(pod)
    return Facts(
        pod=pod,
        live=live,
        isolation=isolation,
        siblings=siblings,
        siblings_unread=unread,
        account=account,
        account_unread=account_unread,
        controller=f"{controller['kind']} {controller['name']}" if controller else "",
        serving=serving_future.result(),
        token_refused=token_refused,
        at=datetime.now(UTC),
        network_canary=network_canary,
        node_cut=node_cut,
        network_basis=canaries.basis(live, policies) if live is not None else "",
    )


def _serving(cluster: Cluster, pod: Json, live: Json | None, since: datetime) -> tuple[Serving, ...]:
    """The Services that ``pod`` served as it was found; as ``live`` it may have left them, ahead of their endpoints."""
    namespace = pod["metadata"]["namespace"]
    slices = cluster.list(ENDPOINT_SLICE, namespace)
    newer = _created_after(cluster, namespace, since)
    desired = _desired(cluster, pod)
    found = []
    for service in serving.services_of(pod, cluster.list(SERVICE, namespace)):
        name = service["metadata"]["name"]
        ready = serving.ready_endpoints(name, slices)
        if live is None or not serving.services_of(live, (service,)):
            ready -= {pod["metadata"]["uid"]}
        found.append(Serving(name, len(ready), desired, len(ready & newer)))
    return tuple(found)


def _desired(cluster: Cluster, pod: Json) -> int | None:
    """How many pods are asked for at the top of the owner chain: a Deployment's number outlives its ReplicaSets'."""
    counts = [
        (owner.obj.get("spec") or {}).get("replicas") for owner in owners.owner_chain(cluster, "", pod) if owner.obj
    ]
    return int(counts[-1]) if counts and counts[-1] is not None else None


def _created_after(cluster: Cluster, namespace: str, since: datetime) -> frozenset[str]:
    # The server's clock writes whole seconds and may differ from ours by as much.
    earliest = since.timestamp() - 1 + (cluster.clock_offset_ms or 0) / 1000
    return frozenset(
        other["metadata"]["uid"]
        for other in cluster.list(POD, namespace)
        if datetime.fromisoformat(other["metadata"]["creationTimestamp"]).timestamp() >= earliest
    )
