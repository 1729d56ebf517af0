"""What every step of a response works with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from ringfence.evidence.acquire import Acquirer
from ringfence.evidence.sealing import Sealer
from ringfence.evidence.vault import Vault
from ringfence.model.incident import Incident
from ringfence.model.principal import Principal
from ringfence.platform.kubernetes.client import Cluster
from ringfence.store.database import Store


@dataclass(frozen=True)
class Policy:
    """What the configuration decides about a response."""

    serving_floor: int
    pre_cut_wait_ms: int
    seal_max_age_seconds: int
    delete_wait_seconds: int
    token_canary: bool
    protected_namespaces: tuple[str, ...]
    protected_label: str


@dataclass(frozen=True)
class Context:
    """One process's connection to cluster, store and vault, acting as ``principal``."""

    cluster: Cluster
    cluster_id: str
    principal: Principal
    store: Store
    vault: Vault
    sealer: Callable[[], Sealer]
    policy: Policy
    pool: ThreadPoolExecutor
    logs_pool: ThreadPoolExecutor

    @property
    def actor(self) -> str:
        return self.principal.id

    def acquirer(self, incident: Incident) -> Acquirer:
        return Acquirer(
            self.cluster, self.vault.blobs(incident.id), operator=self.actor, authority=f"incident {incident.id}"
        )


def now() -> datetime:
    return datetime.now(UTC)
