"""The wiring: the only place where configuration, cluster, store, vault and key meet."""

from __future__ import annotations

import contextlib
import functools
import getpass
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ringfence.config import Config
from ringfence.errors import TargetError, VaultError
from ringfence.evidence.sealing import Sealer
from ringfence.evidence.vault import Vault
from ringfence.model.incident import Incident
from ringfence.model.principal import Principal
from ringfence.response.context import Context, Policy
from ringfence.seal.signing import SigningKey, load_or_create
from ringfence.store import incidents
from ringfence.store.database import Store, open_store

_READERS = 16
_LOG_STREAMS = 16


def store(config: Config) -> Store:
    return open_store(config.store.url)


def vault(config: Config) -> Vault:
    return Vault(config.vault.path.expanduser())


def signing_key(config: Config) -> SigningKey:
    """The key that seals. Raises ConfigError, VaultError."""
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


@contextlib.contextmanager
def connected(config: Config) -> Iterator[Context]:
    """Everything that a response needs. Raises ConfigError, StoreError, NotSent, Denied."""
    from ringfence.platform.kubernetes.client import connect
    from ringfence.platform.kubernetes.identity import cluster_uid, whoami

    kubeconfig = config.cluster.kubeconfig
    cluster = connect(
        str(kubeconfig.expanduser()) if kubeconfig else None, config.cluster.context, config.cluster.timeout_seconds
    )
    opened = store(config)
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
    logs_pool = ThreadPoolExecutor(_LOG_STREAMS, thread_name_prefix="log")
    place = vault(config)
    try:
        cluster_id = cluster_uid(cluster)
        yield Context(
            cluster=cluster,
            cluster_id=cluster_id,
            principal=whoami(cluster, cluster_id),
            store=opened,
            vault=place,
            sealer=functools.cache(lambda: Sealer(opened, place, signing_key(config))),
            policy=Policy(
                serving_floor=config.containment.serving_floor,
                pre_cut_wait_ms=config.containment.pre_cut_wait_ms,
                seal_max_age_seconds=config.containment.seal_max_age_seconds,
                delete_wait_seconds=config.containment.delete_wait_seconds,
                token_canary=config.containment.token_canary,
                protected_namespaces=config.protected.namespaces,
                protected_label=config.protected.label,
            ),
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
