"""The wiring: the only place where configuration, cluster, store, vault and key meet."""

from __future__ import annotations

import contextlib
import functools
import getpass
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.app.paging import rota as rota
from ringfence.config import Config
from ringfence.errors import ConfigError, TargetError, VaultError
from ringfence.model.incident import Incident
from ringfence.model.node_helper import NODE_STEPS
from ringfence.model.permission import Permission
from ringfence.model.principal import Principal
from ringfence.response.context import Context, Policy
from ringfence.store import incidents
from ringfence.store.database import Store, open_store, sqlite_file

if TYPE_CHECKING:  # the commands that only look are there at once: what acts and seals is imported where it is used
    from ringfence.actions.canary import Options as CanaryOptions
    from ringfence.actions.node_helper import Options as NodeHelperOptions
    from ringfence.durable.port import Engine
    from ringfence.evidence.copies import Copier
    from ringfence.evidence.sealing import Sealer
    from ringfence.evidence.stamping import Stamper
    from ringfence.evidence.vault import Vault
    from ringfence.model.evidence import Seal
    from ringfence.platform.kubernetes.client import Cluster
    from ringfence.response.readiness import Site
    from ringfence.response.watching.watcher import Options
    from ringfence.seal.signing import SigningKey

_LISTS_SECRETS = "identity.delete_tokens"  # the one action that is not enabled unless its own key says so
_READERS = 16
_LOG_STREAMS = 16


def store(config: Config) -> Store:
    return open_store(config.store.url)


def _canary(config: Config) -> CanaryOptions | None:
    section = config.canary
    if section.image is None:
        return None
    from ringfence.actions.canary import Options

    return Options(
        image=section.image,
        namespace=section.namespace or "",
        pull_policy=section.image_pull_policy,
        seconds=section.seconds,
        destinations=section.destinations,
    )


def allows_node_helper(config: Config) -> bool:
    return config.node_helper.enabled and config.node_helper.image is not None


def _node_helper(config: Config) -> NodeHelperOptions | None:
    section = config.node_helper
    if not section.enabled or section.image is None:
        return None
    from ringfence.actions.node_helper import Options as NodeHelperOptions

    return NodeHelperOptions(
        image=section.image,
        namespace=section.namespace,
        pull_policy=section.image_pull_policy,
        seconds=section.seconds,
        collect_bytes=section.collect_mebibytes << 20,
    )


def engine(config: Config, notice: Callable[[str], None]) -> Engine:
    """The engine of the store: on SQLite in a file beside it, on Postgres in a schema beside its tables."""
    from ringfence.durable.engine import engine_beside

    return engine_beside(config.store.url, notice=notice)


def engine_lock(config: Config) -> Path | None:
    """The file that the process which runs the engine holds; None on Postgres, where each has its own."""
    file = sqlite_file(config.store.url)
    return Path(f"{file.with_suffix('')}.engine.lock") if file is not None else None


def engine_is_exclusive(config: Config) -> bool:
    """Whether one process at a time carries runs on: so on SQLite, where the engine has a lock."""
    return sqlite_file(config.store.url) is not None


def vault(config: Config) -> Vault:
    """Raises ConfigError for an encryption key that cannot be used."""
    from ringfence.evidence.vault import Vault

    key = config.vault.encryption_key
    if key is None:
        return Vault(config.vault.path.expanduser())
    from ringfence.seal.atrest import load_key

    return Vault(config.vault.path.expanduser(), load_key(key.expanduser()))


def signing_key(config: Config) -> SigningKey:
    """The key that seals. Raises ConfigError, VaultError."""
    from ringfence.seal.signing import load_or_create

    path = config.signing.key.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise VaultError(
            f"the signing key {path} cannot be made",
            why=error.strerror or str(error),
            next_step="signing.key in the configuration names its place",
        ) from error
    return load_or_create(path)


def public_key_path(config: Config) -> Path:
    path = config.signing.key.expanduser()
    return path.with_name(path.name + ".pub")


def local_principal() -> Principal:
    """The operating-system user: enough to read and verify, never to approve or accept."""
    return Principal(issuer="local", subject=getpass.getuser(), kind="local")


def policy(config: Config) -> Policy:
    """What the configuration decides about a response. Raises ConfigError."""
    return Policy(
        disabled=_disabled(config),
        serving_floor=config.containment.serving_floor,
        pre_cut_wait_ms=config.containment.pre_cut_wait_ms,
        seal_max_age_seconds=config.containment.seal_max_age_seconds,
        delete_wait_seconds=config.containment.delete_wait_seconds,
        token_canary=config.containment.token_canary,
        protected_namespaces=config.protected.namespaces,
        protected_label=config.protected.label,
        blast_radius_pods=config.guardrails.blast_radius_pods,
        hourly_pods=config.guardrails.hourly_pods,
        critical_reserve=config.guardrails.critical_reserve,
        approval_minutes=config.guardrails.approval_minutes,
        lease_minutes=config.guardrails.lease_minutes,
        canary=_canary(config),
        canary_always=config.canary.enabled,
        copy_place=copy_place(config),
        stamps=config.signing.timestamp_url is not None,
        anchor_places=config.anchor.places,
        audit_log=config.audit.log.expanduser() if config.audit.log else None,
        legacy_tokens=config.identity.legacy_tokens,
        node_helper=_node_helper(config),
        checkpoint_seconds=config.checkpoint.seconds if config.checkpoint.enabled else None,
        real_requests=config.recovery.real_requests,
        stream_bytes=config.evidence.stream_mebibytes << 20,
        stream_seconds=config.evidence.stream_seconds,
    )


def _disabled(config: Config) -> frozenset[str]:
    """The actions that may not be used here. Raises ConfigError for a name that is none."""
    if config.actions.enabled is None:
        # Without importing what acts: a command that only looks asks this too.
        return frozenset() if config.identity.legacy_tokens else frozenset({_LISTS_SECRETS})
    from ringfence.actions.registry import ACTIONS

    return frozenset(ACTIONS) - frozenset(enabled_actions(config))


def watching(config: Config) -> Options:
    """How the watcher goes about it."""
    from ringfence.response.watching.watcher import Options

    section = config.watch
    return Options(
        put_back=section.put_back,
        put_back_hourly=section.put_back_hourly,
        poll_seconds=section.poll_seconds,
        guard=section.guard,
        call=tuple(f"{contact.role}: {contact.name}, {contact.reach}" for contact in config.contacts),
    )


def reach(config: Config) -> Cluster:
    """The cluster of the configuration; nothing is sent yet. Raises ConfigError."""
    from ringfence.platform.kubernetes.client import connect

    kubeconfig = config.cluster.kubeconfig
    return connect(
        str(kubeconfig.expanduser()) if kubeconfig else None,
        config.cluster.context,
        config.cluster.timeout_seconds,
        max_answer_bytes=config.evidence.answer_mebibytes << 20,
    )


def _sealer(config: Config, store: Store, vault: Vault) -> Sealer:
    from ringfence.evidence.sealing import Sealer

    after = [one.after_seal for one in (stamper(config, store), copier(config, store)) if one is not None]

    def after_seal(seal: Seal, actor: str) -> None:
        for call in after:
            call(seal, actor)

    return Sealer(store, vault, signing_key(config), after_seal=after_seal)


def stamper(config: Config, store: Store) -> Stamper | None:
    """What has seals stamped; None when no authority is configured. Nothing is sent yet."""
    section = config.signing
    if section.timestamp_url is None or section.timestamp_roots is None:
        return None
    from ringfence.evidence.stamping import Stamper

    return Stamper(store, vault(config), section.timestamp_url, section.timestamp_roots.expanduser())


def copy_place(config: Config) -> str:
    """Where copies of bundles go; empty when nowhere."""
    return config.vault.s3.place if config.vault.s3 is not None else ""


def copier(config: Config, store: Store) -> Copier | None:
    """What sends copies of bundles to S3; None when that is not configured. Nothing is sent yet."""
    section = config.vault.s3
    if section is None:
        return None
    from ringfence.evidence.copies import Copier
    from ringfence.platform.s3 import Bucket

    prefix = section.prefix.strip("/")
    return Copier(
        store=store,
        vault=vault(config),
        connect=functools.cache(
            lambda: Bucket(section.bucket, region=section.region, endpoint_url=section.endpoint_url)
        ),
        place=section.place,
        prefix=f"{prefix}/" if prefix else "",
        mode="" if section.object_lock == "none" else section.object_lock.upper(),
        retain_days=section.retain_days,
        legal_hold=section.legal_hold,
    )


@contextlib.contextmanager
def connected(config: Config, *, beside: Callable[[], None] = lambda: None) -> Iterator[Context]:
    """Everything that a response needs. Raises ConfigError, StoreError, NotSent, Denied.

    ``beside`` is called once everything is imported and the store is open, just before the first request: to begin
    something that goes on while the API server answers.
    """
    from ringfence.platform.kubernetes.identity import cluster_uid, whoami

    cluster = reach(config)
    opened = store(config)
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
    logs_pool = ThreadPoolExecutor(_LOG_STREAMS, thread_name_prefix="log")
    place = vault(config)
    try:
        beside()
        cluster_id = cluster_uid(cluster)
        yield Context(
            cluster=cluster,
            cluster_id=cluster_id,
            principal=whoami(cluster, cluster_id),
            store=opened,
            vault=place,
            sealer=functools.cache(lambda: _sealer(config, opened, place)),
            policy=policy(config),
            pool=pool,
            logs_pool=logs_pool,
        )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        logs_pool.shutdown(wait=False, cancel_futures=True)
        cluster.close()
        opened.close()


def incident_here(context: Context, incident_id: str) -> Incident:
    """The incident, if it is of the cluster that we are connected to. Raises TargetError."""
    with context.store.read() as session:
        incident = incidents.get(session, incident_id)
    if incident.cluster != context.cluster_id:
        raise TargetError(
            f"{incident.id} is an incident of another cluster",
            why=f"its cluster is {incident.cluster}, this one is {context.cluster_id}",
            next_step="choose its cluster: --context",
        )
    return incident


def enabled_actions(config: Config) -> tuple[str, ...]:
    """The actions that may be used here. Raises ConfigError for a name that is none.

    The one that lists Secrets only where the configuration opts in to that as well.
    """
    from ringfence.actions.registry import ACTIONS

    chosen = config.actions.enabled
    unknown = [name for name in chosen or () if name not in ACTIONS]
    if unknown:
        raise ConfigError(
            f"there is no action {', '.join(map(repr, unknown))}",
            location="actions.enabled",
            why=f"there are {', '.join(ACTIONS)}",
            next_step="ringfence actions list",
        )
    listed = tuple(ACTIONS) if chosen is None else tuple(dict.fromkeys(chosen))
    return tuple(name for name in listed if name != _LISTS_SECRETS or config.identity.legacy_tokens)


def enabled_steps(config: Config) -> tuple[str, ...]:
    """The same, and the orders of the node helper where that is configured: it has a switch and rights of its own."""
    return (*enabled_actions(config), *(NODE_STEPS if allows_node_helper(config) else ()))


def permissions(config: Config, enabled: Sequence[str]) -> tuple[Permission, ...]:
    """Every right that these actions, the evidence and what surrounds them need, each with its reason.

    Those of the network canary only where there is an image for it, those of the guard only where it is switched on,
    and to bind roles and to list Secrets only where that is asked for.
    """
    from ringfence.actions.canary import Canary
    from ringfence.actions.guarding import FencedGuard
    from ringfence.actions.rbac import permissions_of
    from ringfence.actions.registry import ACTIONS
    from ringfence.actions.tokens import DeleteTokens
    from ringfence.actions.unbind import Unbind
    from ringfence.evidence.permissions import PERMISSIONS
    from ringfence.response.permissions import READING, REAL_REQUESTS, RECOVERY, REHEARSAL

    canary = Canary.permissions if _canary(config) is not None else ()
    guard = FencedGuard.permissions if config.watch.guard else ()
    bind = Unbind.binding_rights if Unbind.name in enabled and config.identity.restore_bindings else ()
    secrets = DeleteTokens.secret_rights if DeleteTokens.name in enabled and config.identity.legacy_tokens else ()
    recovery = (*RECOVERY, *(REAL_REQUESTS if config.recovery.real_requests else ()))
    return permissions_of(
        [ACTIONS[name] for name in enabled],
        (*canary, *guard, *bind, *secrets, *recovery, *READING, *PERMISSIONS, *REHEARSAL),
    )


def site(config: Config, namespaces: tuple[str, ...], *, probe: bool) -> Site:
    """What ``doctor`` examines. Raises ConfigError for an unknown action."""
    from ringfence.response.readiness import Site

    return Site(
        open_store=lambda: store(config),
        engine_lock=lambda: engine_lock(config),
        vault=vault(config),
        load_key=lambda: signing_key(config),
        key=str(config.signing.key),
        contacts=tuple(contact.role for contact in config.contacts),
        rota=rota(config),
        connect=lambda: reach(config),
        policy=policy(config),
        actions=enabled_actions(config),
        audit_log=config.audit.log.expanduser() if config.audit.log else None,
        monitoring={
            "prometheus": config.observability.prometheus_url,
            "alertmanager": config.observability.alertmanager_url,
            "grafana": config.observability.grafana_url,
        },
        copier=lambda opened: copier(config, opened),
        namespaces=namespaces,
        canary=_canary(config),
        probe=probe,
    )
