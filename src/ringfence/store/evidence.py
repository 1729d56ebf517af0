"""Evidence items, seals and custody as rows. The bytes lie in the vault."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.errors import TargetError
from ringfence.model.base import Json
from ringfence.model.evidence import EvidenceItem, Seal
from ringfence.model.timeline import EvidenceAcquired, EvidenceSealed
from ringfence.store import tables
from ringfence.store.timeline import append, append_all

# Built once: each seal asks for these, and building a statement takes longer than sending it.
_ENTRIES = sa.select(sa.cast(tables.custody.c.body, sa.Text)).where(
    tables.custody.c.incident == sa.bindparam("of_incident")
)
_CUSTODY = _ENTRIES.where(tables.custody.c.seq > sa.bindparam("after")).order_by(tables.custody.c.seq)
_LAST_CUSTODY = _ENTRIES.order_by(tables.custody.c.seq.desc()).limit(1)
_NEWEST_CAPTURE = sa.select(sa.func.max(tables.capture.c.number)).where(
    tables.capture.c.incident == sa.bindparam("of_incident")
)
_CAPTURE = sa.select(tables.capture.c.number).where(
    tables.capture.c.incident == sa.bindparam("of_incident"), tables.capture.c.key == sa.bindparam("of_key")
)
_SEAL = sa.select(tables.seal.c.body).where(
    tables.seal.c.incident == sa.bindparam("of_incident"), tables.seal.c.capture == sa.bindparam("of_capture")
)
_ITEMS = (
    sa.select(tables.evidence_item.c.body)
    .where(
        tables.evidence_item.c.incident == sa.bindparam("of_incident"),
        tables.evidence_item.c.capture == sa.bindparam("of_capture"),
    )
    .order_by(tables.evidence_item.c.id)
)
_LOCK = (
    sa.update(tables.incident).where(tables.incident.c.id == sa.bindparam("which")).values(seq=tables.incident.c.seq)
)


def begin_capture(session: Session, incident: str, key: str) -> int:
    """The number of the capture that ``key`` asks for (1, 2, …); asked again it is the same. It becomes one seal."""
    lock_custody(session, incident)
    known = capture_for(session, incident, key)
    if known is not None:
        return known
    newest = session.execute(_NEWEST_CAPTURE, {"of_incident": incident}).scalar_one_or_none()
    number = (newest or 0) + 1
    session.execute(sa.insert(tables.capture), {"incident": incident, "number": number, "key": key})
    return number


def capture_for(session: Session, incident: str, key: str) -> int | None:
    """The number of the capture that ``key`` has begun; None when it has not."""
    number = session.execute(_CAPTURE, {"of_incident": incident, "of_key": key}).scalar_one_or_none()
    return int(number) if number is not None else None


def seal_of_capture(session: Session, incident: str, capture: int) -> Seal | None:
    """The seal that the capture became; None when it was begun and never sealed."""
    body = session.execute(_SEAL, {"of_incident": incident, "of_capture": capture}).scalar_one_or_none()
    return Seal.model_validate(body) if body is not None else None


def unsealed_captures(session: Session, incident: str) -> tuple[int, ...]:
    """The numbers of the captures that hold items and never became a seal."""
    item, seal = tables.evidence_item.c, tables.seal.c
    sealed = sa.select(seal.capture).where(seal.incident == incident)
    found = session.execute(
        sa.select(item.capture)
        .where(item.incident == incident, item.capture.not_in(sealed))
        .distinct()
        .order_by(item.capture)
    )
    return tuple(found.scalars())


def unsealed_keys(session: Session, incident: str) -> tuple[str, ...]:
    """What asked for the captures that hold items and never became a seal, the oldest first."""
    numbers = unsealed_captures(session, incident)
    capture = tables.capture.c
    found = session.execute(
        sa.select(capture.key).where(capture.incident == incident, capture.number.in_(numbers)).order_by(capture.number)
    )
    return tuple(found.scalars())


def add_items(
    session: Session, incident: str, capture: int, items: Sequence[EvidenceItem], *, actor: str, now: datetime
) -> None:
    """Record acquisitions, each with its event. A capture that was begun and never sealed is replaced."""
    session.execute(
        sa.delete(tables.evidence_item).where(
            tables.evidence_item.c.incident == incident, tables.evidence_item.c.capture == capture
        )
    )
    if not items:
        return
    session.execute(
        sa.insert(tables.evidence_item),
        [{"incident": incident, "capture": capture, "id": item.id, "body": item.to_json()} for item in items],
    )
    append_all(
        session,
        incident,
        [
            EvidenceAcquired(
                occurred_at=item.ended_at,
                actor=actor,
                item=item.id,
                result=item.result,
                reason=item.reason,
                raw_sha256=item.blob.raw_sha256 if item.blob else "",
                raw_size=item.blob.raw_size if item.blob else 0,
            )
            for item in items
        ],
        now,
    )


def items(session: Session, incident: str, capture: int) -> tuple[EvidenceItem, ...]:
    found = session.execute(_ITEMS, {"of_incident": incident, "of_capture": capture})
    return tuple(EvidenceItem.model_validate(body) for (body,) in found)


def add_seal(session: Session, seal: Seal, capture: int, *, actor: str, now: datetime) -> None:
    session.execute(
        sa.insert(tables.seal),
        {
            "id": seal.id,
            "incident": seal.incident,
            "capture": capture,
            "subject_uid": seal.subject_uid,
            "body": seal.to_json(),
        },
    )
    append(
        session,
        seal.incident,
        EvidenceSealed(
            occurred_at=seal.sealed_at,
            actor=actor,
            seal=seal.id,
            bundle_sha256=seal.bundle_sha256,
            key_id=seal.key_id,
            items=seal.items,
            collected=seal.collected,
            complete=seal.complete,
            why_incomplete=seal.why_incomplete,
        ),
        now,
    )


def seals(session: Session, incident: str) -> tuple[Seal, ...]:
    """The incident's seals, oldest first."""
    found = session.execute(
        sa.select(tables.seal.c.body).where(tables.seal.c.incident == incident).order_by(tables.seal.c.capture)
    )
    return tuple(Seal.model_validate(body) for (body,) in found)


def capture_of(session: Session, seal_id: str) -> int:
    found = session.execute(sa.select(tables.seal.c.capture).where(tables.seal.c.id == seal_id)).scalar_one_or_none()
    if found is None:
        raise TargetError(f"there is no seal {seal_id!r}", next_step="ringfence evidence list INC")
    return int(found)


def custody(session: Session, incident: str, *, after: int = 0) -> tuple[str, ...]:
    """The incident's custody entries behind that number, in order: the JSON of each, as it lies in the store."""
    return tuple(session.execute(_CUSTODY, {"of_incident": incident, "after": after}).scalars().all())


def last_custody(session: Session, incident: str) -> str | None:
    """The JSON of the entry that the next one follows."""
    return session.execute(_LAST_CUSTODY, {"of_incident": incident}).scalar_one_or_none()


def lock_custody(session: Session, incident: str) -> None:
    """Queue behind every other writer of this incident, before the chain's head is read."""
    session.execute(_LOCK, {"which": incident})


def add_custody(session: Session, incident: str, entries: Sequence[Json]) -> None:
    if entries:
        rows = [{"incident": incident, "seq": entry["seq"], "body": entry} for entry in entries]
        session.execute(sa.insert(tables.custody), rows)
