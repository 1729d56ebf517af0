"""Gathering what the statement is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ringfence.access.gitops import NOTHING_DELIVERED, Deliveries, deliveries_of
from ringfence.access.scaling import NOTHING_SCALED, Scaling, scaling_of
from ringfence.errors import PlatformError
from ringfence.model.base import Json
from ringfence.model.canary import CanaryReport
from ringfence.model.node_helper import NodeReport
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes import owners, serving, token_policy
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.pods import service_account
from ringfence.platform.kubernetes.policies import Isolation, basis, evaluate
from ringfence.platform.kubernetes.resources import (
    ENDPOINT_SLICE,
    NETWORK_POLICY,
    POD,
    SCALED_JOB,
    SERVICE,
    SERVICE_ACCOUNT,
)
from ringfence.platform.kubernetes.rights import Rights, read_rights
from ringfence.platform.kubernetes.surroundings import Siblings, read_siblings
from ringfence.platform.kubernetes.tokens import legacy_tokens
from ringfence.platform.kubernetes.workloads import WORKLOAD_KINDS, template_of

if TYPE_CHECKING:
    from ringfence.platform.kubernetes.audit_doings import Doings

_STARTING = WORKLOAD_KINDS | {SCALED_JOB.kind}
"""What has a template from which pods are started."""


@dataclass(frozen=True)
class Serving:
    """One Service that the suspect served: how many pods serve now, and how many are asked for (None: not known)."""

    service: str
    ready: int
    desired: int | None
    replacements: int


@dataclass(frozen=True)
class TokenCut:
    """What this incident did to the pod's identity, and what canaries made of it.

    ``policy`` is the admission policy's name where one was put up, ``policy_fault`` why it does not hold now (empty: it
    reads back as it was made). ``writes_refused``: it refused a canary's write. ``unbound``: bindings were taken from
    the account; ``reads_refused``: a canary's read that was allowed before was refused after.
    """

    policy: str = ""
    policy_fault: str = ""
    writes_refused: bool = False
    unbound: bool = False
    reads_refused: bool = False


@dataclass(frozen=True)
class Facts:
    """Everything that the rows depend on. ``pod`` is the suspect as it was found, ``live`` as it is (None: gone).

    ``token_refused`` is True when a canary token, bound to the same pod, was refused after it had been accepted.
    ``legacy`` is the metadata of the Secrets that hold tokens of the account (None: not looked for or not readable).
    ``doings`` is what the account did since the pod started, by the audit log (None: there is none, or it could not be
    read, and ``doings_unread`` says why). ``rights`` is what the bindings give the pod's account now (None: not read).
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
    rights: Rights | None = None
    rights_unread: str = ""
    token_cut: TokenCut = TokenCut()
    doings: Doings | None = None
    doings_unread: str = ""
    legacy: tuple[Json, ...] | None = None
    legacy_unread: str = ""
    deliveries: Deliveries = NOTHING_DELIVERED
    scaling: Scaling = NOTHING_SCALED
    node_cut: NodeReport | None = None
    """The last report of the node helper about the pod's network (None: it never looked)."""
    template: Json | None = None
    """What a replacement would be started from now, as a pod has it (None: nobody starts one, or it is not known)."""


def gather(
    cluster: Cluster,
    pod: Json,
    target: ObjectRef,
    *,
    since: datetime,
    token_refused: bool,
    pool: ThreadPoolExecutor,
    network_canary: CanaryReport | None = None,
    fence: str = "",
    token_cut: TokenCut = TokenCut(),
    doings: Doings | None = None,
    doings_unread: str = "",
    look_for_legacy: bool = False,
    node_cut: NodeReport | None = None,
) -> Facts:
    """Read live state. Pods behind its Services that were created after ``since`` count as replacements.

    ``network_canary`` is the last report of an examination of this pod's fence. ``fence`` is the incident's value;
    ``token_cut`` what it did to the pod's identity, whose policy is read back here; ``doings`` what the audit log has.

    Raises PlatformError when the pod, the policies or the Services cannot be read: then nothing can be said.
    """
    namespace = target.namespace
    live_future = pool.submit(cluster.find, POD, namespace, target.name)
    policies_future = pool.submit(cluster.list, NETWORK_POLICY, namespace)
    siblings_future = pool.submit(read_siblings, cluster, pod)
    chain_future = pool.submit(owners.owner_chain, cluster, "", pod)
    account_future = pool.submit(cluster.find, SERVICE_ACCOUNT, namespace, service_account(pod))
    rights_future = pool.submit(read_rights, cluster, namespace, service_account(pod))
    legacy_future = pool.submit(legacy_tokens, cluster, namespace, service_account(pod)) if look_for_legacy else None
    policy_future = pool.submit(token_policy.not_in_force, cluster, fence, target.uid) if token_cut.policy else None
    live = live_future.result()
    if live is not None and live["metadata"]["uid"] != target.uid:
        live = None
    above = [owner.obj for owner in chain_future.result() if owner.obj is not None]
    serving_future = pool.submit(_serving, cluster, pod, live, since, above)
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
    rights, rights_unread = None, ""
    try:
        rights = rights_future.result()
    except PlatformError as error:
        rights_unread = str(error)
    if policy_future is not None:
        try:
            token_cut = replace(token_cut, policy_fault=policy_future.result())
        except PlatformError as error:
            token_cut = replace(token_cut, policy_fault=f"it cannot be read: {error}")
    legacy, legacy_unread = None, ""
    if legacy_future is not None:
        try:
            legacy = legacy_future.result()
        except PlatformError as error:
            legacy_unread = str(error)
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
        network_basis=basis(live, policies) if live is not None else "",
        rights=rights,
        rights_unread=rights_unread,
        token_cut=token_cut,
        doings=doings,
        doings_unread=doings_unread,
        legacy=legacy,
        legacy_unread=legacy_unread,
        deliveries=deliveries_of(cluster, policies, above),
        scaling=scaling_of(cluster, above),
        template=template_of(above[-1]) if above and above[-1]["kind"] in _STARTING else None,
    )


def _serving(
    cluster: Cluster, pod: Json, live: Json | None, since: datetime, above: Sequence[Json]
) -> tuple[Serving, ...]:
    """The Services that ``pod`` served as it was found; as ``live`` it may have left them, ahead of their endpoints."""
    namespace = pod["metadata"]["namespace"]
    slices = cluster.list(ENDPOINT_SLICE, namespace)
    services = serving.services_of(pod, cluster.list(SERVICE, namespace))
    newer = _created_after(cluster, namespace, since) if services else frozenset()
    desired = _desired(above)
    found = []
    for service in services:
        name = service["metadata"]["name"]
        ready = serving.ready_endpoints(name, slices)
        if live is None or not serving.services_of(live, (service,)):
            ready -= {pod["metadata"]["uid"]}
        found.append(Serving(name, len(ready), desired, len(ready & newer)))
    return tuple(found)


def _desired(above: Sequence[Json]) -> int | None:
    """How many pods are asked for at the top of the owner chain: a Deployment's number outlives its ReplicaSets'."""
    counts = [(owner.get("spec") or {}).get("replicas") for owner in above]
    return int(counts[-1]) if counts and counts[-1] is not None else None


def _created_after(cluster: Cluster, namespace: str, since: datetime) -> frozenset[str]:
    # The server's clock writes whole seconds and may differ from ours by as much.
    earliest = since.timestamp() - 1 + (cluster.clock_offset_ms or 0) / 1000
    return frozenset(
        other["metadata"]["uid"]
        for other in cluster.list(POD, namespace)
        if datetime.fromisoformat(other["metadata"]["creationTimestamp"]).timestamp() >= earliest
    )
