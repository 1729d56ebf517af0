"""What the commands about keeping evidence do.

Who places or lifts a hold, or disposes, is whom the cluster vouches for; the user of this machine, where there is none.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ringfence import app as wiring
from ringfence.cli.acting import principal
from ringfence.config import Config
from ringfence.errors import ConfigError, Tampered
from ringfence.evidence import retention
from ringfence.evidence.copies import Copier, missing
from ringfence.evidence.handling import handled
from ringfence.evidence.stamping import was_stamped
from ringfence.model.custody import EvidenceCopied, SealStamped
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store


def push(config: Config, incident_id: str) -> list[EvidenceCopied]:
    """Send every seal that has no copy. Raises ConfigError when copies go nowhere, TargetError, StoreError."""
    store = wiring.store(config)
    sends = _copier(config, store)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
        seals = evidence.seals(session, incident.id)
        events = [entry.event for entry in timeline.read(session, incident.id)]
    actor = wiring.local_principal().id
    return [sends.send(seal, actor) for seal, _ in missing(events, seals, sends.place)]


def stamp(config: Config, incident_id: str) -> list[SealStamped]:
    """Have every seal stamped that has no stamp. Raises ConfigError when nobody is to be asked, TargetError."""
    store = wiring.store(config)
    asks = wiring.stamper(config, store)
    if asks is None:
        raise ConfigError(
            "nobody stamps seals",
            location="signing.timestamp_url",
            why="no time-stamping authority is configured",
            next_step="signing.timestamp_url and signing.timestamp_roots name one",
        )
    with store.read() as session:
        incident = incidents.get(session, incident_id)
        found = retention.read(session, incident, config.vault.retention_days)
        events = [entry.event for entry in timeline.read(session, incident.id)]
    actor = wiring.local_principal().id
    return [asks.ask(seal, actor) for seal in found.kept if not was_stamped(events, seal)]


def check_copy(config: Config, seal: Seal) -> str:
    """Read the copy of a seal to its end. Raises ConfigError, TargetError, Tampered, PlatformError."""
    store = wiring.store(config)
    actor = wiring.local_principal().id
    try:
        words = _copier(config, store).check(seal)
    except Tampered as error:
        handled(store, seal, "verify", str(error), actor=actor, now=datetime.now(UTC))
        raise
    handled(store, seal, "verify", f"copy verified: {words}", actor=actor, now=datetime.now(UTC))
    return words


def _copier(config: Config, store: Store) -> Copier:
    sends = wiring.copier(config, store)
    if sends is None:
        raise ConfigError(
            "copies of evidence go nowhere",
            location="vault.s3",
            why="no bucket is configured",
            next_step="vault.s3.bucket names one",
        )
    return sends


def hold(config: Config, incident_id: str, reason: str) -> tuple[Incident, tuple[str, ...]]:
    """The incident, and the copies that could not be held. Raises TargetError, StoreError."""
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
    retention.place_hold(store, incident, reason, actor=principal(config, store).id, now=datetime.now(UTC))
    sends = wiring.copier(config, store)
    return incident, sends.hold(incident.id, on=True) if sends is not None else ()


def unhold(config: Config, incident_id: str, reason: str) -> tuple[Incident, tuple[str, ...]]:
    """The incident, and the copies that stay held. Raises TargetError, StoreError."""
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
    retention.lift_hold(store, incident, reason, actor=principal(config, store).id, now=datetime.now(UTC))
    sends = wiring.copier(config, store)
    return incident, sends.hold(incident.id, on=False) if sends is not None else ()


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
        events = [entry.event for entry in timeline.read(session, incident.id)]
    sent = [one for one in events if isinstance(one, EvidenceCopied) and one.key]
    return retention.dispose(
        store,
        wiring.vault(config),
        incident.id,
        reason,
        retention_days=config.vault.retention_days,
        actor=principal(config, store).id,
        now=datetime.now(UTC),
        copies=tuple(dict.fromkeys(f"{one.place}/{one.key}" for one in sent)),
    )
