"""The outbox of pages: written in the transaction of the event that asks for one, sent by whoever runs the engine.

A page is sent at least once to each of its receivers: which of them took it is written down after each try, and a crash
between a receiver's answer and that line repeats it. It is never written twice: ``key`` is unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.model.page import Draft, Page, PageKind
from ringfence.store import tables

MOST_AN_HOUR = 20
"""Pages of one kind and incident in an hour. The last of them says that there are more on the timeline."""
SENT = "sent"
_HOUR = timedelta(hours=1)
_FLOODED = frozenset({PageKind.ROW_TURNED, PageKind.FENCE_CHANGED})
"""Kinds that whoever works on the cluster can cause at will."""


def put(session: Session, incident: str, severity: str, draft: Draft, now: datetime, *, level: int = 0) -> bool:
    """Write the page down; False when it is there already, or when there were too many of its kind in the last hour."""
    table = tables.page
    known = session.execute(sa.select(table.c.number).where(table.c.key == draft.key)).one_or_none()
    if known is not None:
        return False
    body = draft.body
    if draft.kind in _FLOODED:
        lately = session.execute(
            sa.select(sa.func.count())
            .select_from(table)
            .where(table.c.incident == incident, table.c.kind == draft.kind.value, table.c.created_at > now - _HOUR)
        ).scalar_one()
        if lately >= MOST_AN_HOUR:
            return False
        if lately == MOST_AN_HOUR - 1:
            body = f"{body} More of this kind is not paged within the hour: ringfence timeline {incident}"
    session.execute(
        sa.insert(table).values(
            incident=incident,
            kind=draft.kind.value,
            severity=severity,
            key=draft.key,
            subject=draft.subject,
            title=draft.title,
            body=body,
            level=level,
            created_at=now,
            due_at=now,
            delivered=[],
        )
    )
    return True


def is_due(session: Session, now: datetime) -> bool:
    """Whether there is a page to be tried now."""
    table = tables.page
    first = sa.select(table.c.number).where(table.c.closed == "", table.c.due_at <= now).limit(1)
    return session.execute(first).one_or_none() is not None


def take_due(session: Session, now: datetime, *, held_for: timedelta, most: int) -> tuple[Page, ...]:
    """Pages to be tried now, oldest first: this caller's until ``held_for`` has passed, then anybody's again."""
    table = tables.page
    # Claimed by writing: of two processes on one database the second finds ``due_at`` moved on.
    due = (
        sa.select(table.c.number)
        .where(table.c.closed == "", table.c.due_at <= now)
        .order_by(table.c.number)
        .limit(most)
    )
    rows = session.execute(
        sa.update(table)
        .where(table.c.number.in_(due.scalar_subquery()), table.c.due_at <= now)
        .values(due_at=now + held_for, tries=table.c.tries + 1)
        .returning(*table.c)
    ).all()
    return tuple(sorted((_page(row) for row in rows), key=lambda page: page.number))


def tried(
    session: Session, page: Page, *, delivered: Sequence[str], closed: str, problem: str, due_at: datetime
) -> None:
    """Write down what came of a try."""
    session.execute(
        sa.update(tables.page)
        .where(tables.page.c.number == page.number)
        .values(delivered=list(delivered), closed=closed, problem=problem, due_at=due_at)
    )


def undelivered(session: Session, incident: str = "") -> tuple[Page, ...]:
    """Pages that nobody has taken, or not everybody who should: tried without success, or given up. Oldest first."""
    table = tables.page
    wanted = sa.and_(table.c.problem != "", table.c.closed != SENT)
    rows = session.execute(
        sa.select(table).where(wanted & (table.c.incident == incident) if incident else wanted).order_by(table.c.number)
    )
    return tuple(_page(row) for row in rows)


def of_incident(session: Session, incident: str) -> tuple[Page, ...]:
    table = tables.page
    rows = session.execute(sa.select(table).where(table.c.incident == incident).order_by(table.c.number))
    return tuple(_page(row) for row in rows)


def unanswered(session: Session, kind: PageKind) -> tuple[Page, ...]:
    """Of each thing that pages of an escalating kind are about, the page that went furthest, while it still stands: a
    lease that nobody has renewed, an approval that nobody has decided."""
    table = tables.page
    query = sa.select(table).where(table.c.kind == kind.value)
    match kind:
        case PageKind.LEASE_OVERDUE:
            query = query.join(tables.lease, tables.lease.c.incident == table.c.incident).where(
                tables.lease.c.expired.is_(True), table.c.created_at >= tables.lease.c.until
            )
        case PageKind.APPROVAL_WAITS:
            query = query.join(tables.approval, tables.approval.c.id == table.c.subject).where(
                tables.approval.c.decision == "pending"
            )
        case _:
            return ()
    query = query.join(tables.incident, tables.incident.c.id == table.c.incident).where(
        tables.incident.c.state != "closed"
    )
    furthest: dict[tuple[str, str], Page] = {}
    for row in session.execute(query.order_by(table.c.level)):
        page = _page(row)
        furthest[page.incident, page.subject] = page
    return tuple(furthest.values())


def _page(row: sa.Row[tuple[object, ...]]) -> Page:
    return Page.model_validate({name: row._mapping[name] for name in Page.model_fields})
