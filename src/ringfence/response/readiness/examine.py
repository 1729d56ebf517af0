"""All checks, in the order in which they are told: this machine, the cluster, our rights, what is tried, the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ringfence.actions.canary import Canary, Options
from ringfence.actions.registry import ACTIONS
from ringfence.actions.tokens import DeleteTokens
from ringfence.errors import RingfenceError
from ringfence.evidence.anchoring import Anchorer
from ringfence.evidence.copies import Copier
from ringfence.evidence.permissions import PERMISSIONS as EVIDENCE
from ringfence.evidence.vault import Vault
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.identity import cluster_uid, whoami
from ringfence.response.context import Policy
from ringfence.response.paging import Rota
from ringfence.response.permissions import READING, REHEARSAL
from ringfence.response.readiness import local
from ringfence.response.readiness.cloud import check_cloud
from ringfence.response.readiness.cluster import check_audit, check_clock, check_events, check_identity
from ringfence.response.readiness.copies import check_copies
from ringfence.response.readiness.findings import Finding, failed
from ringfence.response.readiness.monitoring import check_monitoring
from ringfence.response.readiness.network import check_network
from ringfence.response.readiness.outside import check_anchors, check_stamps
from ringfence.response.readiness.rehearsal import Stage, rehearse
from ringfence.response.readiness.rights import rights
from ringfence.seal.signing import SigningKey
from ringfence.store.database import Store

_READERS = 16
_OPTIONAL = frozenset({"evidence", "doctor"})


@dataclass(frozen=True)
class Site:
    """What is examined, and how it is opened. ``namespaces`` empty: the context's own. ``probe``: try the network."""

    open_store: Callable[[], Store]
    engine_lock: Callable[[], Path | None]
    vault: Vault
    load_key: Callable[[], SigningKey]
    key: str
    contacts: tuple[str, ...]
    rota: Rota
    connect: Callable[[], Cluster]
    policy: Policy
    actions: tuple[str, ...]
    audit_log: Path | None
    monitoring: Mapping[str, str | None]
    copier: Callable[[Store], Copier | None]
    namespaces: tuple[str, ...]
    canary: Options | None
    probe: bool
    anchorer: Callable[[Store], Anchorer | None] = lambda _store: None


def examine(site: Site) -> Iterator[Finding]:
    """Every finding, as soon as it is there."""
    yield from local.check_store(site.open_store, site.engine_lock)
    yield local.check_vault(site.vault)
    yield from check_copies(site.open_store, site.copier)
    yield from check_stamps(site.open_store, site.policy.stamps)
    yield from check_anchors(site.open_store, site.anchorer)
    yield local.check_key(site.load_key, site.key)
    yield local.check_contacts(site.contacts)
    yield from local.check_pages(site.rota, site.open_store)
    yield from check_monitoring(site.monitoring)
    try:
        cluster = site.connect()
    except RingfenceError as error:
        yield failed("cluster", error)
        return
    with ThreadPoolExecutor(_READERS, thread_name_prefix="doctor") as pool:
        try:
            yield from _cluster(site, cluster, pool)
        finally:
            cluster.close()


def _cluster(site: Site, cluster: Cluster, pool: ThreadPoolExecutor) -> Iterator[Finding]:
    try:
        cluster_id = cluster_uid(cluster)
        principal = whoami(cluster, cluster_id)
    except RingfenceError as error:
        yield failed("cluster", error)
        return
    namespaces = site.namespaces or (cluster.namespace,)
    yield from check_identity(cluster, cluster_id, principal)
    yield check_clock(cluster)
    yield from check_audit(cluster, principal.subject, site.audit_log)
    yield check_events(cluster)
    wanted = {
        "reading": READING,
        **{name: ACTIONS[name].permissions for name in site.actions},
        **({DeleteTokens.name: DeleteTokens.secret_rights} if DeleteTokens.name in site.actions else {}),
        **({Canary.name: Canary.permissions} if site.canary is not None else {}),
        "evidence": EVIDENCE,
        "doctor": REHEARSAL,
    }
    try:
        yield from rights(cluster, wanted, namespaces, pool, optional=_OPTIONAL)
    except RingfenceError as error:
        yield failed("rights", error)
    stage = Stage(cluster, cluster_id, principal.subject, site.policy, pool)
    yield from rehearse(stage, site.actions, namespaces)
    yield from check_network(stage, namespaces[0], site.canary, site.open_store, probe=site.probe)
    yield check_cloud(cluster, namespaces)
