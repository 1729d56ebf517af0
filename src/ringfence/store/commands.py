"""Words from one process to the one that runs the engine, who runs it, and leases."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.model.base import Json
from ringfence.model.run import Command, Lease
from ringfence.model.timeline import LeaseExpired, LeaseGranted
from ringfence.store import tables
from ringfence.store.timeline import append


def send(session: Session, kind: str, body: Json, *, sent_by: str, now: datetime) -> int:
    """Leave a command for the engine; its number."""
    sent = sa.insert(tables.command).values(kind=kind, body=body, sent_by=sent_by, created_at=now)
    return int(session.execute(sent.returning(tables.command.c.number)).scalar_one())


def waiting(session: Session) -> tuple[Command, ...]:
    """Commands that no engine has carried out yet, oldest first."""
    table = tables.command
    rows = session.execute(
        sa.select(table.c.number, table.c.kind, table.c.body, table.c.sent_by, table.c.created_at)
        .where(table.c.done_at.is_(None))
        .order_by(table.c.number)
    )
    return tuple(Command.model_validate(dict(row._mapping)) for row in rows)


def done(session: Session, number: int, now: datetime) -> None:
    session.execute(sa.update(tables.command).where(tables.command.c.number == number).values(done_at=now))


# --- executors -------------------------------------------------------------------------
def beat(session: Session, executor: str, *, host: str, pid: int, now: datetime) -> None:
    """This executor lives."""
    table = tables.executor
    known = session.execute(sa.update(table).where(table.c.id == executor).values(heartbeat_at=now))
    if known.rowcount == 0:
        session.execute(sa.insert(table).values(id=executor, host=host, pid=pid, started_at=now, heartbeat_at=now))


def last_beat(session: Session, executor: str) -> datetime | None:
    return session.execute(
        sa.select(tables.executor.c.heartbeat_at).where(tables.executor.c.id == executor)
    ).scalar_one_or_none()


def gone(session: Session, executor: str) -> None:
    session.execute(sa.delete(tables.executor).where(tables.executor.c.id == executor))


# --- leases ----------------------------------------------------------------------------
def grant(session: Session, incident: str, until: datetime, *, actor: str, now: datetime) -> Lease:
    """A new lease for the incident's cuts; it replaces the one before."""
    table = tables.lease
    session.execute(sa.delete(table).where(table.c.incident == incident))
    session.execute(
        sa.insert(table).values(incident=incident, until=until, granted_by=actor, granted_at=now, expired=False)
    )
    append(session, incident, LeaseGranted(occurred_at=now, actor=actor, until=until), now)
    return Lease(incident=incident, until=until, granted_by=actor, granted_at=now)


def lease_of(session: Session, incident: str) -> Lease | None:
    row = session.execute(sa.select(tables.lease).where(tables.lease.c.incident == incident)).one_or_none()
    return Lease.model_validate(dict(row._mapping)) if row is not None else None


def expire_leases(session: Session, now: datetime) -> tuple[Lease, ...]:
    """Mark the leases that ran out, each with its event; those that were marked now."""
    table = tables.lease
    rows = session.execute(sa.select(table).where(table.c.expired.is_(False), table.c.until <= now)).all()
    ran_out = tuple(Lease.model_validate(dict(row._mapping)) for row in rows)
    for lease in ran_out:
        session.execute(sa.update(table).where(table.c.incident == lease.incident).values(expired=True))
        append(session, lease.incident, LeaseExpired(occurred_at=now, actor="ringfence", until=lease.until), now)
    return ran_out
