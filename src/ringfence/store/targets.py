"""The objects that an incident is about, each as it was found."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.timeline import TargetJoined
from ringfence.store import tables
from ringfence.store.timeline import append

# Built once: they are asked for each pod of a group.
_TARGET = tables.incident_target.c
_WHICH = (_TARGET.incident == sa.bindparam("of_incident"), _TARGET.object_uid == sa.bindparam("of_uid"))
_KNOWN = sa.select(sa.cast(_TARGET.found, sa.Text).label("found")).where(*_WHICH)
"""As text: it is asked whether there is one, and a pod takes long to read."""
_FOUND = sa.select(_TARGET.found).where(*_WHICH)
_NEWEST = sa.select(sa.func.max(_TARGET.ordinal)).where(_TARGET.incident == sa.bindparam("of_incident"))


def join(
    session: Session, incident: str, ref: ObjectRef, *, found: Json | None, how: str, actor: str, now: datetime
) -> bool:
    """Add an object, with its event; False when it belongs to the incident already. What was found first is kept."""
    table = tables.incident_target
    known = session.execute(_KNOWN, {"of_incident": incident, "of_uid": ref.uid}).one_or_none()
    if known is not None:
        if known.found in (None, "null") and found is not None:
            session.execute(
                sa.update(table).where(table.c.incident == incident, table.c.object_uid == ref.uid).values(found=found)
            )
        return False
    newest = session.execute(_NEWEST, {"of_incident": incident}).scalar_one_or_none()
    session.execute(
        sa.insert(table),
        {
            "incident": incident,
            "object_uid": ref.uid,
            "ordinal": (newest or 0) + 1,
            "ref": ref.to_json(),
            "found": found,
            "joined_at": now,
        },
    )
    if how:
        append(session, incident, TargetJoined(occurred_at=now, actor=actor, target=ref, how=how), now)
    return True


def of_incident(session: Session, incident: str) -> tuple[ObjectRef, ...]:
    """The incident's objects in the order in which they joined."""
    table = tables.incident_target
    found = session.execute(sa.select(table.c.ref).where(table.c.incident == incident).order_by(table.c.ordinal))
    return tuple(ObjectRef.model_validate(ref) for (ref,) in found)


def as_found(session: Session, incident: str, uid: str) -> Json | None:
    """The object as the server sent it when it joined; None when that is not known."""
    return session.execute(_FOUND, {"of_incident": incident, "of_uid": uid}).scalar_one_or_none()


def named(session: Session, cluster: str, kind: str, namespace: str, name: str) -> tuple[tuple[str, ObjectRef], ...]:
    """Incident and reference of every target that had this name, newest first: what a vanished name once was."""
    table = tables.incident_target
    found = session.execute(
        sa.select(table.c.incident, table.c.ref)
        .where(table.c.ref["name"].as_string() == name, table.c.ref["kind"].as_string() == kind)
        .order_by(table.c.joined_at.desc(), table.c.ordinal.desc())
    )
    refs = ((incident, ObjectRef.model_validate(ref)) for incident, ref in found)
    return tuple(
        (incident, ref)
        for incident, ref in refs
        if (ref.cluster, ref.kind, ref.namespace, ref.name) == (cluster, kind, namespace, name)
    )
