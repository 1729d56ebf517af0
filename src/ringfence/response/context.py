"""What every step of a response works with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.model.incident import Incident
from ringfence.model.principal import Principal

if TYPE_CHECKING:  # a command that only looks imports neither what seals nor what acts
    from ringfence.actions.canary import Options
    from ringfence.actions.node_helper import Options as NodeHelperOptions
    from ringfence.evidence.acquire import Acquirer
    from ringfence.evidence.sealing import Sealer
    from ringfence.evidence.vault import Vault
    from ringfence.platform.kubernetes.client import Cluster
    from ringfence.store.database import Store


@dataclass(frozen=True)
class Policy:
    """What the configuration decides about a response. ``disabled`` are actions that may not be used here.

    ``blast_radius_pods``: pods of a run that may end, or whose cut breaks a Service's floor, before a second person is
    asked. ``hourly_pods``: the same over all incidents of an hour, of which ``critical_reserve`` (0..1) is kept for
    critical ones.
    ``lease_minutes``: how long a cut stands before somebody is asked to look again. ``audit_log``: the API server's
    audit log, where it can be read: the second witness of requests whose answer was lost. ``legacy_tokens``: Secrets
    may be listed, their metadata alone, to find an account's tokens in them. ``real_requests``: a recovery asks what it
    restored over HTTP.
    """

    serving_floor: int
    pre_cut_wait_ms: int
    seal_max_age_seconds: int
    delete_wait_seconds: int
    token_canary: bool
    protected_namespaces: tuple[str, ...]
    protected_label: str
    blast_radius_pods: int = 10
    hourly_pods: int = 60
    critical_reserve: float = 0.5
    lease_minutes: int = 480
    approval_minutes: int = 60
    disabled: frozenset[str] = frozenset()
    canary: Options | None = None
    canary_always: bool = False
    audit_log: Path | None = None
    legacy_tokens: bool = False
    copy_place: str = ""
    stamps: bool = False
    """Whether seals are to have a time stamp."""
    anchor_places: tuple[str, ...] = ()
    """Where copies of sealed bundles go; empty: nowhere."""
    node_helper: NodeHelperOptions | None = None
    checkpoint_seconds: float | None = None
    """How long a container's checkpoint may take; None: they are off."""
    real_requests: bool = True
    stream_bytes: int = 2 << 30
    stream_seconds: float = 900.0
    """Of one stream of evidence, at most; what is cut is said, and keeps the evidence gate shut."""


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
        from ringfence.evidence.acquire import Acquirer, StreamLimits

        return Acquirer(
            self.cluster,
            self.vault.blobs(incident.id),
            operator=self.actor,
            authority=f"incident {incident.id}",
            limits=StreamLimits(self.policy.stream_bytes, self.policy.stream_seconds),
        )


def now() -> datetime:
    return datetime.now(UTC)
