"""The append-only, hash-chained timeline of an incident.

The chain: ``hash`` = SHA-256 over the canonical JSON (RFC 8785) of {incident, seq, body_sha256, prev_hash}; the first
``prev_hash`` is 64 zeros. It hashes ``body_sha256`` and not the body, so that a body can be erased by law without
breaking the chain. The body is the event's canonical JSON with the time at which it was recorded.
An event that somebody is to be paged about puts the page into the outbox with itself.
``ringfence.seal.timeline`` verifies the same formula from a bundle.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import rfc8785
import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.errors import ChainBroken, StoreError, TargetError
from ringfence.model.base import canonical, isoformat
from ringfence.model.entry import TimelineEntry, parse_event
from ringfence.model.page import of_event
from ringfence.model.timeline import Event
from ringfence.store import pages, tables

GENESIS = "0" * 64
_RECORDED_AT = "recorded_at"

# Built once: they are sent for every event, and building a statement takes longer than sending it.
_INCIDENT = tables.incident.c.id == sa.bindparam("which")
_TAKE = (
    sa.update(tables.incident)
    .where(_INCIDENT)
    .values(seq=tables.incident.c.seq + sa.bindparam("more"))
    .returning(tables.incident.c.seq, tables.incident.c.head_hash, tables.incident.c.severity)
)
_INSERT = sa.insert(tables.event)
_MOVE_HEAD = sa.update(tables.incident).where(_INCIDENT).values(head_hash=sa.bindparam("head"))


class Row(NamedTuple):
    """An event as it lies in the table; ``body`` is None once erased by law."""

    incident: str
    seq: int
    recorded_at: datetime
    body: bytes | None
    body_sha256: str
    prev_hash: str
    hash: str


_HEAD = sa.select(tables.incident.c.seq, tables.incident.c.head_hash).where(_INCIDENT)
_OF_INCIDENT = tables.event.c.incident == sa.bindparam("which")
_EVENTS = (
    sa.select(*(tables.event.c[name] for name in Row._fields))
    .where(_OF_INCIDENT, tables.event.c.seq > sa.bindparam("after"))
    .order_by(tables.event.c.seq)
)
_ERASED = sa.select(sa.func.count()).where(
    _OF_INCIDENT, tables.event.c.seq <= sa.bindparam("upto"), tables.event.c.body.is_(None)
)


def append(session: Session, incident: str, event: Event, now: datetime) -> TimelineEntry:
    """Append one event. Raises TargetError when there is no such incident."""
    return append_all(session, incident, (event,), now)[0]


def append_all(session: Session, incident: str, events: Sequence[Event], now: datetime) -> tuple[TimelineEntry, ...]:
    """Append events in their order. The first statement takes the incident's row, so concurrent appends queue and
    cannot fork. Raises TargetError when there is no such incident."""
    if not events:
        return ()
    row = session.execute(_TAKE, {"which": incident, "more": len(events)}).one_or_none()
    if row is None:
        raise TargetError(f"there is no incident {incident}", next_step="ringfence incidents")
    entries: list[TimelineEntry] = []
    rows: list[dict[str, object]] = []
    previous = row.head_hash
    for seq, event in enumerate(events, start=row.seq - len(events) + 1):
        body = canonical({**event.to_json(), _RECORDED_AT: isoformat(now)})
        body_sha256 = hashlib.sha256(body).hexdigest()
        entry = TimelineEntry(
            incident=incident,
            seq=seq,
            recorded_at=now,
            event=event,
            body_sha256=body_sha256,
            prev_hash=previous,
            hash=chain_hash(incident, seq, body_sha256, previous),
        )
        entries.append(entry)
        previous = entry.hash
        rows.append(
            {
                "incident": incident,
                "seq": seq,
                "type": event.type,
                "recorded_at": now,
                "body": body,
                "body_sha256": body_sha256,
                "prev_hash": entry.prev_hash,
                "hash": entry.hash,
            }
        )
    session.execute(_INSERT, rows)
    session.execute(_MOVE_HEAD, {"which": incident, "head": previous})
    for entry in entries:
        if (draft := of_event(incident, entry.seq, entry.event)) is not None:
            pages.put(session, incident, row.severity, draft, now)
    return tuple(entries)


@functools.lru_cache(8192)  # the same links are verified for every bundle and screen
def chain_hash(incident: str, seq: int, body_sha256: str, prev_hash: str) -> str:
    """SHA-256 of the link's canonical JSON (RFC 8785), which is written out here: it is asked for often."""
    name = rfc8785.dumps(incident).decode()
    link = f'{{"body_sha256":"{body_sha256}","incident":{name},"prev_hash":"{prev_hash}","seq":{seq}}}'
    return hashlib.sha256(link.encode()).hexdigest()


def read(session: Session, incident: str) -> tuple[TimelineEntry, ...]:
    """The timeline in order, verified while it is read. Raises ChainBroken at the first event that does not fit."""
    found = []
    for row in _verified(session, incident):
        if row.body is not None:
            recorded_at, event = parse(row.body)
            found.append(
                TimelineEntry(
                    incident=incident,
                    seq=row.seq,
                    recorded_at=recorded_at,
                    event=event,
                    body_sha256=row.body_sha256,
                    prev_hash=row.prev_hash,
                    hash=row.hash,
                )
            )
    return tuple(found)


def events_of(session: Session, incident: str, *kinds: type[Event]) -> tuple[Event, ...]:
    """The events of some kinds, in order. The whole chain is verified; what is of no such kind is not read further.
    Raises ChainBroken."""
    names = [json.dumps(kind.model_fields["type"].default).encode() for kind in kinds]
    marks = [b'"type":' + name for name in names]  # as the canonical form spells it, wherever it stands
    likely = (
        row.body
        for row in _verified(session, incident)
        if row.body is not None and any(mark in row.body for mark in marks)
    )
    events = (parse(body)[1] for body in likely)
    return tuple(event for event in events if isinstance(event, kinds))


def parse(body: bytes) -> tuple[datetime, Event]:
    """When an event was recorded, and the event, of a stored body. Raises StoreError for one that is none of ours."""
    try:
        fields = json.loads(body)
        recorded_at = datetime.fromisoformat(fields.pop(_RECORDED_AT))
        return recorded_at, parse_event(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            "an event of the timeline is not one that this version knows",
            why=str(error),
            next_step="read it with the version of Ringfence that wrote it",
        ) from error


def raw(session: Session, incident: str, *, after: int = 0, hash: str = GENESIS) -> tuple[Row, ...]:  # noqa: A002
    """The rows as they lie (seq, body bytes, hashes), verified: what a bundle seals. Those behind entry number
    ``after``, whose hash the caller knows. Raises ChainBroken, also when the timeline ends before that entry."""
    return tuple(_verified(session, incident, after, hash))


def erased(session: Session, incident: str, upto: int) -> int:
    """How many of the first ``upto`` events have lost their text."""
    return int(session.execute(_ERASED, {"which": incident, "upto": upto}).scalar_one())


def _verified(session: Session, incident: str, after: int = 0, previous: str = GENESIS) -> Iterator[Row]:
    head = session.execute(_HEAD, {"which": incident}).one_or_none()
    if head is None:
        raise TargetError(f"there is no incident {incident}", next_step="ringfence incidents")
    found = session.execute(_EVENTS, {"which": incident, "after": after})
    rows = [Row(*row) for row in found.all()]  # all at once: one by one takes several times as long
    for expected, row in enumerate(rows, start=after + 1):
        if row.seq != expected:
            raise ChainBroken(incident, expected, f"event {expected} is missing, the next one is {row.seq}")
        if row.body is not None and hashlib.sha256(row.body).hexdigest() != row.body_sha256:
            raise ChainBroken(incident, row.seq, "its text is not the one that was hashed")
        if row.prev_hash != previous or row.hash != chain_hash(incident, row.seq, row.body_sha256, previous):
            raise ChainBroken(incident, row.seq, "its hash does not follow from the event before it")
        previous = row.hash
        yield row
    last = after + len(rows)
    if (last, previous) != (head.seq, head.head_hash):
        raise ChainBroken(incident, head.seq, f"the incident's head is at {head.seq}, the events end at {last}")
