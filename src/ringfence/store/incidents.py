"""Incidents and the principals that act in them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ringfence.errors import TargetError
from ringfence.model.incident import Incident, Severity, State
from ringfence.model.objects import ObjectRef
from ringfence.model.principal import Principal
from ringfence.model.timeline import IncidentDeclared, StateChanged
from ringfence.store import tables
from ringfence.store.timeline import GENESIS, append


def declare(
    session: Session,
    *,
    target: ObjectRef,
    incident_type: str,
    severity: Severity,
    title: str,
    principal: Principal,
    fence: str,
    command: str,
    now: datetime,
) -> Incident:
    """A new incident with its first event. ``fence`` is an opaque label value, unique over all incidents."""
    remember(session, principal, now)
    number = session.execute(
        sa.insert(tables.incident)
        .values(
            id=fence,  # a unique stand-in until the number is known
            cluster=target.cluster,
            target=target.to_json(),
            target_uid=target.uid,
            type=incident_type,
            severity=severity.value,
            state=State.DECLARED.value,
            title=title,
            declared_at=now,
            declared_by=principal.id,
            fence=fence,
            seq=0,
            head_hash=GENESIS,
        )
        .returning(tables.incident.c.number)
    ).scalar_one()
    incident_id = f"INC-{number}"
    session.execute(sa.update(tables.incident).where(tables.incident.c.number == number).values(id=incident_id))
    append(
        session,
        incident_id,
        IncidentDeclared(
            occurred_at=now,
            actor=principal.id,
            incident_type=incident_type,
            severity=severity,
            title=title,
            target=target,
            command=command,
        ),
        now,
    )
    return get(session, incident_id)


def get(session: Session, incident_id: str) -> Incident:
    """The incident of that id (``INC-7``; ``inc-7`` and ``7`` are understood). Raises TargetError."""
    wanted = incident_id.strip().upper()
    wanted = wanted if wanted.startswith("INC-") else f"INC-{wanted}"
    row = session.execute(sa.select(tables.incident).where(tables.incident.c.id == wanted)).one_or_none()
    if row is None:
        raise TargetError(f"there is no incident {incident_id!r}", next_step="ringfence incidents")
    return _incident(row)


def newest_first(session: Session) -> tuple[Incident, ...]:
    rows = session.execute(sa.select(tables.incident).order_by(tables.incident.c.number.desc()))
    return tuple(_incident(row) for row in rows)


def open_on(session: Session, target_uid: str) -> Incident | None:
    """The newest incident on that object that is not over yet, so that a second command joins it."""
    row = session.execute(
        sa.select(tables.incident)
        .where(
            tables.incident.c.target_uid == target_uid,
            tables.incident.c.state.in_([State.DECLARED.value, State.CONTAINING.value]),
        )
        .order_by(tables.incident.c.number.desc())
        .limit(1)
    ).one_or_none()
    return _incident(row) if row is not None else None


def move(session: Session, incident: Incident, state: State, *, actor: str, now: datetime) -> None:
    """Put the incident into another state, with its event; nothing when it is there already."""
    before = State(
        session.execute(
            sa.select(tables.incident.c.state).where(tables.incident.c.id == incident.id).with_for_update()
        ).scalar_one()
    )
    if before is state:
        return
    session.execute(sa.update(tables.incident).where(tables.incident.c.id == incident.id).values(state=state.value))
    append(session, incident.id, StateChanged(occurred_at=now, actor=actor, before=before, after=state), now)


def remember(session: Session, principal: Principal, now: datetime) -> None:
    known = session.execute(sa.select(tables.principal.c.id).where(tables.principal.c.id == principal.id))
    if known.one_or_none() is None:
        session.execute(
            sa.insert(tables.principal).values(
                id=principal.id,
                issuer=principal.issuer,
                subject=principal.subject,
                kind=principal.kind,
                groups=list(principal.groups),
                first_seen_at=now,
            )
        )


def _incident(row: sa.Row[tuple[object, ...]]) -> Incident:
    return Incident(
        id=row.id,
        cluster=row.cluster,
        target=ObjectRef.model_validate(row.target),
        type=row.type,
        severity=row.severity,
        state=row.state,
        title=row.title,
        declared_at=row.declared_at,
        declared_by=row.declared_by,
        fence=row.fence,
        seq=row.seq,
        head_hash=row.head_hash,
    )
