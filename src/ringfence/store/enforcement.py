"""What packets have shown of each cluster's NetworkPolicies: the newest alone."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.model.enforcement import Enforcement
from ringfence.store import tables


def keep(session: Session, seen: Enforcement) -> None:
    """It replaces what was known of its cluster."""
    table = tables.enforcement
    session.execute(sa.delete(table).where(table.c.cluster == seen.cluster))
    session.execute(sa.insert(table).values(cluster=seen.cluster, body=seen.to_json()))


def newest(session: Session, cluster: str) -> Enforcement | None:
    table = tables.enforcement
    body = session.execute(sa.select(table.c.body).where(table.c.cluster == cluster)).scalar_one_or_none()
    return Enforcement.model_validate(body) if body is not None else None
