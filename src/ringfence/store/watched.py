"""What the watcher last saw of each thing that it holds: told once, also after it was started anew."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.model.base import Json
from ringfence.store import tables


def of_incident(session: Session, incident: str) -> dict[str, Json]:
    """By key."""
    table = tables.watched
    rows = session.execute(sa.select(table.c.key, table.c.state).where(table.c.incident == incident))
    return {row.key: row.state for row in rows}


def put(session: Session, incident: str, key: str, state: Json, now: datetime) -> None:
    table = tables.watched
    changed = session.execute(
        sa.update(table).where(table.c.incident == incident, table.c.key == key).values(state=state, since=now)
    )
    if changed.rowcount == 0:
        session.execute(sa.insert(table).values(incident=incident, key=key, state=state, since=now))


def heads(session: Session, cluster: str) -> dict[str, int]:
    """Open incidents of the cluster with the number of their last event: what tells that one of them moved on."""
    table = tables.incident
    rows = session.execute(
        sa.select(table.c.id, table.c.seq).where(table.c.cluster == cluster, table.c.state != "closed")
    )
    return {row.id: row.seq for row in rows}
