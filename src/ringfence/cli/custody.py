"""What the commands about keeping evidence do. The actor is the user of the machine whose files these are."""

from __future__ import annotations

from datetime import UTC, datetime

from ringfence import app as wiring
from ringfence.config import Config
from ringfence.evidence import retention
from ringfence.model.incident import Incident
from ringfence.store import incidents


def hold(config: Config, incident_id: str, reason: str) -> Incident:
    """Raises TargetError, StoreError."""
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
    retention.place_hold(store, incident, reason, actor=wiring.local_principal().id, now=datetime.now(UTC))
    return incident


def unhold(config: Config, incident_id: str, reason: str) -> Incident:
    """Raises TargetError, StoreError."""
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
    retention.lift_hold(store, incident, reason, actor=wiring.local_principal().id, now=datetime.now(UTC))
    return incident


def doomed(config: Config, incident_id: str) -> list[str]:
    """What a disposal would remove, one line each; nothing when it would be refused."""
    with wiring.store(config).read() as session:
        incident = incidents.get(session, incident_id)
        found = retention.read(session, incident, config.vault.retention_days)
    if retention.obstacles(found, datetime.now(UTC)):
        return []
    return [f"{seal.id}: {seal.path}, sha256 {seal.bundle_sha256}" for seal in found.kept]


def dispose(config: Config, incident_id: str, reason: str) -> retention.Disposal:
    """Raises Guarded, TargetError, VaultError, StoreError."""
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
    return retention.dispose(
        store,
        wiring.vault(config),
        incident.id,
        reason,
        retention_days=config.vault.retention_days,
        actor=wiring.local_principal().id,
        now=datetime.now(UTC),
    )
