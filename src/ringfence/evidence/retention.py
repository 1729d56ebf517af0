"""How long evidence is kept, what keeps it longer, and its disposal.

Retention runs from the closing of the incident, or from its newest seal where that is later. A legal hold stands until
somebody lifts it. Both are read from the timeline and nowhere else: nobody can forget one by losing a file.

Disposal removes files and says so. It does not claim that bytes cannot be read from the medium, a snapshot or a backup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringfence.errors import Guarded, TargetError
from ringfence.evidence.sealing import append_custody
from ringfence.evidence.vault import Vault
from ringfence.model.base import isoformat
from ringfence.model.custody import DisposalOrdered, EvidenceDisposed, HoldLifted, HoldPlaced
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident, State
from ringfence.model.timeline import Event, Refusal, StateChanged
from ringfence.seal import custody
from ringfence.store import evidence as rows
from ringfence.store import incidents, timeline
from ringfence.store.database import Session, Store

_ACTION = "evidence.dispose"


@dataclass(frozen=True)
class Standing:
    """What the record says of an incident's evidence. ``retained_until`` is None while the incident is open."""

    seals: tuple[Seal, ...]
    hold: HoldPlaced | None
    retained_until: datetime | None
    disposed: frozenset[str]

    @property
    def kept(self) -> tuple[Seal, ...]:
        """The seals that were not disposed of."""
        return tuple(seal for seal in self.seals if seal.id not in self.disposed)


@dataclass(frozen=True)
class Disposal:
    """What was removed. ``files`` counts those of this time; ``left`` are the names of what is not ours and stays."""

    seals: tuple[Seal, ...]
    files: int
    left: tuple[str, ...]
    copies: tuple[str, ...]


def standing(incident: Incident, seals: Sequence[Seal], events: Iterable[Event], retention_days: int) -> Standing:
    """What holds the evidence now (pure). ``events`` in their order."""
    hold: HoldPlaced | None = None
    closed_at: datetime | None = None
    disposed: set[str] = set()
    for event in events:
        match event:
            case HoldPlaced():
                hold = event
            case HoldLifted():
                hold = None
            case EvidenceDisposed():
                disposed |= set(event.seals)
            case StateChanged(after=State.CLOSED):
                closed_at = event.occurred_at
    if incident.state is not State.CLOSED or closed_at is None:
        until = None
    else:
        newest = max([closed_at, *(seal.sealed_at for seal in seals)])
        until = newest + timedelta(days=retention_days)
    return Standing(tuple(seals), hold, until, frozenset(disposed))


def obstacles(found: Standing, now: datetime) -> tuple[str, ...]:
    """Why nothing may be disposed of, one sentence each; empty when it may (pure)."""
    why = []
    if found.hold is not None:
        why.append(f"a legal hold by {found.hold.actor} since {isoformat(found.hold.occurred_at)}: {found.hold.reason}")
    if found.retained_until is None:
        why.append("the incident is not closed")
    elif now < found.retained_until:
        why.append(f"it is retained until {isoformat(found.retained_until)}")
    return tuple(why)


def read(session: Session, incident: Incident, retention_days: int) -> Standing:
    """Raises ChainBroken."""
    events = [entry.event for entry in timeline.read(session, incident.id)]
    return standing(incident, rows.seals(session, incident.id), events, retention_days)


def place_hold(store: Store, incident: Incident, reason: str, *, actor: str, now: datetime) -> None:
    """Put all evidence of the incident under a legal hold. Raises TargetError when it is under one already."""
    with store.write() as session:
        rows.lock_custody(session, incident.id)
        found = read(session, incident, 0)
        if found.hold is not None:
            raise TargetError(
                f"{incident.id} is under a legal hold already",
                why=f"by {found.hold.actor} since {isoformat(found.hold.occurred_at)}: {found.hold.reason}",
                next_step=f"ringfence evidence unhold {incident.id}, when it has ended",
            )
        _hold_entry(session, incident, f"legal hold: {reason}", actor, now)
        timeline.append(session, incident.id, HoldPlaced(occurred_at=now, actor=actor, reason=reason), now)


def lift_hold(store: Store, incident: Incident, reason: str, *, actor: str, now: datetime) -> None:
    """Raises TargetError when there is no hold."""
    with store.write() as session:
        rows.lock_custody(session, incident.id)
        if read(session, incident, 0).hold is None:
            raise TargetError(f"{incident.id} is under no legal hold", next_step=f"ringfence timeline {incident.id}")
        _hold_entry(session, incident, f"legal hold lifted: {reason}", actor, now)
        timeline.append(session, incident.id, HoldLifted(occurred_at=now, actor=actor, reason=reason), now)


def dispose(
    store: Store,
    vault: Vault,
    incident_id: str,
    reason: str,
    *,
    retention_days: int,
    actor: str,
    now: datetime,
    copies: tuple[str, ...] = (),
) -> Disposal:
    """Remove every sealed bundle and blob of the incident from the vault's folder.

    The order is written down before the first file goes; a disposal that was broken off goes on when it is ordered
    again. Raises Guarded when retention, a hold or the incident's state forbid it (the refusal is recorded),
    TargetError when there is nothing to dispose of, VaultError, ChainBroken.
    """
    with store.write() as session:
        rows.lock_custody(session, incident_id)
        incident = incidents.get(session, incident_id)
        found = read(session, incident, retention_days)
        why = obstacles(found, now)
        if why:
            refused = Refusal(
                occurred_at=now, actor=actor, step="dispose", action=_ACTION, gate="retention", reason="; ".join(why)
            )
            timeline.append(session, incident.id, refused, now)
        elif found.kept:
            assert found.retained_until is not None
            _order(session, incident, found, reason, actor, now)
    if why:
        raise Guarded(
            f"the evidence of {incident.id} cannot be disposed of",
            why="; ".join(why),
            next_step=f"ringfence timeline {incident.id}; vault.retention_days says how long it is kept",
        )
    if not found.kept:
        raise TargetError(
            f"{incident.id} has no evidence to dispose of",
            why="every seal was disposed of" if found.seals else "nothing was sealed",
            next_step=f"ringfence timeline {incident.id}",
        )
    files, left = vault.remove(incident.id, [seal.path for seal in found.kept])
    done = EvidenceDisposed(
        occurred_at=now, actor=actor, seals=tuple(seal.id for seal in found.kept), files=files, copies=copies
    )
    with store.write() as session:
        timeline.append(session, incident.id, done, now)
    return Disposal(found.kept, files, left, copies)


def _order(session: Session, incident: Incident, found: Standing, reason: str, actor: str, now: datetime) -> None:
    assert found.retained_until is not None
    facts = [(custody.Action.DISPOSE, seal.id, reason, seal.bundle_sha256) for seal in found.kept]
    append_custody(session, incident.id, facts, actor=actor, now=now)
    ordered = DisposalOrdered(
        occurred_at=now,
        actor=actor,
        seals=tuple(seal.id for seal in found.kept),
        sha256=tuple(seal.bundle_sha256 for seal in found.kept),
        reason=reason,
        retained_until=found.retained_until,
    )
    timeline.append(session, incident.id, ordered, now)


def _hold_entry(session: Session, incident: Incident, purpose: str, actor: str, now: datetime) -> None:
    append_custody(session, incident.id, [(custody.Action.HOLD, incident.id, purpose, None)], actor=actor, now=now)
