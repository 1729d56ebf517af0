"""The current rows of the residual-access statement; every turn of a row is also an event on the timeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.model.access import Acceptance, AccessPath, PathState, verdict
from ringfence.model.page import of_verdict
from ringfence.model.timeline import AccessAccepted, AccessTurned
from ringfence.store import pages, tables
from ringfence.store.timeline import append, append_all


def rows(session: Session, incident: str) -> tuple[AccessPath, ...]:
    found = session.execute(
        sa.select(tables.access_path.c.body)
        .where(tables.access_path.c.incident == incident)
        .order_by(tables.access_path.c.ordinal)
    )
    return tuple(AccessPath.model_validate(body) for (body,) in found)


def save(
    session: Session, incident: str, computed: Sequence[AccessPath], *, actor: str, now: datetime
) -> tuple[AccessPath, ...]:
    """Replace the statement by a newly computed one and return what now stands.

    An acceptance holds while the row is open and not worse than what was accepted: it lapses when the row is dead
    (nothing to accept any more), and when a row that was unseen turns out to be alive. A row that the new statement
    does not speak of any more is kept as it was.
    """
    before = {row.path: row for row in rows(session, incident)}
    after, standing = _merged(before, computed)
    turned = [
        AccessTurned(
            occurred_at=now,
            actor=actor,
            path=row.path,
            before=old.state if old else None,
            after=row.state,
            level=row.level,
            why=row.why,
        )
        for row in after.values()
        if (old := before.get(row.path)) is None or (old.state, old.level) != (row.state, row.level)
    ]
    written = append_all(session, incident, turned, now)
    was, becomes = verdict(before.values()), verdict(standing.values())
    if before and written and was is not becomes:
        severity = session.execute(sa.select(tables.incident.c.severity).where(tables.incident.c.id == incident))
        pages.put(session, incident, severity.scalar_one(), of_verdict(incident, written[-1].seq, was, becomes), now)
    _replace(session, incident, standing.values())
    return tuple(standing.values())


def merged(before: Sequence[AccessPath], computed: Sequence[AccessPath]) -> tuple[AccessPath, ...]:
    """What would stand after ``save``; nothing is written (pure)."""
    return tuple(_merged({row.path: row for row in before}, computed)[1].values())


def _merged(
    before: Mapping[str, AccessPath], computed: Sequence[AccessPath]
) -> tuple[dict[str, AccessPath], dict[str, AccessPath]]:
    """The computed rows with the acceptances that hold, and all that stands, by path."""
    after = {row.path: _with_acceptance(row, before.get(row.path)) for row in computed}
    return after, {**{path: row for path, row in before.items() if path not in after}, **after}


def accept(session: Session, incident: str, row: AccessPath, acceptance: Acceptance) -> AccessPath:
    """A named person takes an open row on."""
    accepted = row.model_copy(update={"state": PathState.ACCEPTED, "acceptance": acceptance})
    AccessPath.model_validate(accepted.to_json())
    standing = [accepted if other.path == row.path else other for other in rows(session, incident)]
    event = AccessAccepted(
        occurred_at=acceptance.at, actor=acceptance.principal, path=row.path, reason=acceptance.reason
    )
    append(session, incident, event, acceptance.at)
    _replace(session, incident, standing)
    return accepted


def _with_acceptance(row: AccessPath, old: AccessPath | None) -> AccessPath:
    if old is None or old.acceptance is None or not old.acceptance.covers(row.state):
        return row
    return row.model_copy(update={"state": PathState.ACCEPTED, "acceptance": old.acceptance})


def _replace(session: Session, incident: str, statement: Iterable[AccessPath]) -> None:
    session.execute(sa.delete(tables.access_path).where(tables.access_path.c.incident == incident))
    rows = [
        {"incident": incident, "path": row.path, "ordinal": ordinal, "body": row.to_json()}
        for ordinal, row in enumerate(statement)
    ]
    if rows:
        session.execute(sa.insert(tables.access_path), rows)
