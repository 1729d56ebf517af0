"""Incidents and the principals that act in them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.errors import TargetError
from ringfence.model.base import Json
from ringfence.model.incident import Determination, Incident, Severity, State
from ringfence.model.objects import ObjectRef
from ringfence.model.principal import Principal
from ringfence.model.timeline import Classified, DeterminationMade, IncidentDeclared, StateChanged
from ringfence.store import tables, targets
from ringfence.store.timeline import GENESIS, append

_INCIDENT = sa.select(tables.incident).where(tables.incident.c.id == sa.bindparam("which"))  # built once: asked often


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
    found: Json | None = None,
) -> Incident:
    """A new incident with its first event. ``fence`` is an opaque label value, unique over all incidents.

    ``found`` is the target as the server sent it.
    """
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
    targets.join(session, incident_id, target, found=found, how="", actor=principal.id, now=now)
    return get(session, incident_id)


def get(session: Session, incident_id: str) -> Incident:
    """The incident of that id (``INC-7``; ``inc-7`` and ``7`` are understood). Raises TargetError."""
    wanted = incident_id.strip().upper()
    wanted = wanted if wanted.startswith("INC-") else f"INC-{wanted}"
    row = session.execute(_INCIDENT, {"which": wanted}).one_or_none()
    if row is None:
        raise TargetError(f"there is no incident {incident_id!r}", next_step="ringfence incidents")
    return _incident(row)


def newest_first(session: Session) -> tuple[Incident, ...]:
    rows = session.execute(sa.select(tables.incident).order_by(tables.incident.c.number.desc()))
    return tuple(_incident(row) for row in rows)


def last_events(session: Session) -> dict[str, int]:
    """The number of the last event of each incident."""
    return {row.id: row.seq for row in session.execute(sa.select(tables.incident.c.id, tables.incident.c.seq))}


def open_on(session: Session, target_uid: str) -> Incident | None:
    """The newest incident about that object in which the attacker may still be in: a second command joins it."""
    being_fought = [state.value for state in State if not state.over]
    row = session.execute(
        sa.select(tables.incident)
        .join(tables.incident_target, tables.incident_target.c.incident == tables.incident.c.id)
        .where(tables.incident_target.c.object_uid == target_uid, tables.incident.c.state.in_(being_fought))
        .order_by(tables.incident.c.number.desc())
        .limit(1)
    ).one_or_none()
    return _incident(row) if row is not None else None


def move(session: Session, incident: Incident, state: State, *, actor: str, now: datetime, reason: str = "") -> None:
    """Put the incident into another state, with its event; nothing when it is there already.

    Raises TargetError for a transition that is not legal.
    """
    before = State(
        session.execute(
            sa.select(tables.incident.c.state).where(tables.incident.c.id == incident.id).with_for_update()
        ).scalar_one()
    )
    if before is state:
        return
    if not before.may_become(state):
        legal = ", ".join(after.value for after in State if before.may_become(after))
        raise TargetError(
            f"{incident.id} cannot go from {before} to {state}",
            why=f"from {before} it may go to {legal}" if legal else f"{before} is the end: what comes back is new",
            next_step=f"ringfence status {incident.id}",
        )
    session.execute(sa.update(tables.incident).where(tables.incident.c.id == incident.id).values(state=state.value))
    event = StateChanged(occurred_at=now, actor=actor, before=before, after=state, reason=reason)
    append(session, incident.id, event, now)


def determine(
    session: Session, incident: Incident, determination: Determination, *, reason: str, actor: str, now: datetime
) -> None:
    """Write down what a person says that it turned out to be."""
    session.execute(
        sa.update(tables.incident).where(tables.incident.c.id == incident.id).values(determination=determination.value)
    )
    event = DeterminationMade(occurred_at=now, actor=actor, determination=determination, reason=reason)
    append(session, incident.id, event, now)


def classify(
    session: Session,
    incident: Incident,
    severity: Severity,
    *,
    scheme: str,
    value: str,
    reason: str,
    actor: str,
    now: datetime,
) -> None:
    """Write down how grave a person says that it is."""
    session.execute(
        sa.update(tables.incident).where(tables.incident.c.id == incident.id).values(severity=severity.value)
    )
    event = Classified(occurred_at=now, actor=actor, severity=severity, scheme=scheme, value=value, reason=reason)
    append(session, incident.id, event, now)


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


def subjects(session: Session, issuer: str) -> tuple[str, ...]:
    """User names of everybody who has acted and is vouched for by ``issuer``, a cluster for example."""
    table = tables.principal
    rows = session.execute(sa.select(table.c.subject).where(table.c.issuer == issuer).order_by(table.c.subject))
    return tuple(row.subject for row in rows)


def _incident(row: sa.Row[tuple[object, ...]]) -> Incident:
    return Incident(
        id=row.id,
        cluster=row.cluster,
        target=ObjectRef.model_validate(row.target),
        type=row.type,
        severity=row.severity,
        state=row.state,
        determination=row.determination,
        title=row.title,
        declared_at=row.declared_at,
        declared_by=row.declared_by,
        fence=row.fence,
        seq=row.seq,
        head_hash=row.head_hash,
    )
