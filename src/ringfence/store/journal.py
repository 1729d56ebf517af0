"""The journal of changes: the intent, with the prior state, is committed before the request; the result after it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.errors import StoreError
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Already, Applied, Outcome
from ringfence.model.plan import Change
from ringfence.model.timeline import ChangeIntended, ChangeResult, NodeHelperReported, PlanMade
from ringfence.store import tables
from ringfence.store.timeline import append, parse

# Built once: every step of every target asks for these.
_OF_STEP = (
    sa.select(tables.change)
    .where(
        tables.change.c.incident == sa.bindparam("of_incident"),
        sa.or_(
            tables.change.c.step == sa.bindparam("label"),
            tables.change.c.step.like(sa.bindparam("attempts"), escape="/"),
        ),
    )
    .order_by(tables.change.c.intended_at, tables.change.c.ordinal)
)
_FENCE = sa.select(tables.incident.c.fence).where(tables.incident.c.id == sa.bindparam("of_incident"))
_CHANGE = sa.select(tables.change).where(
    tables.change.c.incident == sa.bindparam("of_incident"),
    tables.change.c.step == sa.bindparam("of_step"),
    tables.change.c.id == sa.bindparam("which"),
)


def intend(
    session: Session, *, incident: str, step: str, action: str, ordinal: int, change: Change, actor: str, now: datetime
) -> ChangeRecord:
    """Write the intent, once: asked again for the same change it returns the first record, prior state untouched."""
    existing = find(session, incident, step, change.id)
    if existing is not None:
        return existing
    fence = session.execute(_FENCE, {"of_incident": incident}).scalar_one()
    record = ChangeRecord(
        incident=incident,
        step=step,
        action=action,
        ordinal=ordinal,
        change=change,
        audit_id=change.audit_id(incident, fence, step),
        intended_at=now,
    )
    session.execute(
        sa.insert(tables.change),
        {
            "incident": incident,
            "step": step,
            "id": change.id,
            "action": action,
            "ordinal": ordinal,
            "body": change.to_json(),
            "audit_id": record.audit_id,
            "intended_at": now,
        },
    )
    append(
        session,
        incident,
        ChangeIntended(
            occurred_at=now,
            actor=actor,
            step=step,
            change=change.id,
            verb=change.verb,
            ref=change.ref,
            audit_id=record.audit_id,
            effect=change.effect,
        ),
        now,
    )
    return record


def finish(
    session: Session,
    record: ChangeRecord,
    outcome: Outcome,
    *,
    result_uid: str,
    actor: str,
    sent_at: datetime | None,
    now: datetime,
) -> ChangeRecord:
    """Write the result of a change."""
    where = _key(record.incident, record.step, record.change.id)
    session.execute(
        sa.update(tables.change).where(*where).values(outcome=outcome.to_json(), answered_at=now, result_uid=result_uid)
    )
    append(
        session,
        record.incident,
        ChangeResult(
            occurred_at=now,
            actor=actor,
            step=record.step,
            change=record.change.id,
            audit_id=record.audit_id,
            outcome=outcome,
            sent_at=sent_at,
            answered_at=now,
        ),
        now,
    )
    return record.model_copy(update={"outcome": outcome, "answered_at": now, "result_uid": result_uid})


def mark_undone(session: Session, record: ChangeRecord) -> None:
    """The inverse of this change has been applied (and journalled as a change of its own)."""
    session.execute(
        sa.update(tables.change).where(*_key(record.incident, record.step, record.change.id)).values(undone=True)
    )


def find(session: Session, incident: str, step: str, change_id: str) -> ChangeRecord | None:
    row = session.execute(_CHANGE, {"of_incident": incident, "of_step": step, "which": change_id}).one_or_none()
    return _record(row) if row is not None else None


def of_incident(session: Session, incident: str) -> tuple[ChangeRecord, ...]:
    """Every change of the incident in the order of its intents."""
    rows = session.execute(
        sa.select(tables.change)
        .where(tables.change.c.incident == incident)
        .order_by(tables.change.c.intended_at, tables.change.c.ordinal)
    )
    return tuple(_record(row) for row in rows)


def of_step(session: Session, incident: str, label: str) -> tuple[ChangeRecord, ...]:
    """The changes of a step and of its later attempts (``label`` and ``label.2``, …), in the order of their intents."""
    literal = label.replace("/", "//").replace("%", "/%").replace("_", "/_")
    rows = session.execute(_OF_STEP, {"of_incident": incident, "label": label, "attempts": f"{literal}.%"})
    records = (_record(row) for row in rows)
    return tuple(record for record in records if record.step == label or record.step[len(label) + 1 :].isdigit())


def standing(session: Session, *, cluster: str, kind: str, namespace: str) -> tuple[ChangeRecord, ...]:
    """Changes to such objects, of any incident, that were made and not taken back; newest first."""
    rows = session.execute(
        sa.select(tables.change)
        .join(tables.incident, tables.incident.c.id == tables.change.c.incident)
        .where(tables.incident.c.cluster == cluster, tables.change.c.undone.is_(False))
        .order_by(tables.change.c.intended_at.desc(), tables.change.c.ordinal.desc())
    )
    records = (_record(row) for row in rows)
    return tuple(
        record
        for record in records
        if (record.change.ref.kind, record.change.ref.namespace) == (kind, namespace)
        and isinstance(record.outcome, Applied | Already)
        and record.change.inverse is not None
    )


_PLAN_MADE = PlanMade.model_fields["type"].default
_HELPER_REPORTED = NodeHelperReported.model_fields["type"].default
_TAKING = ("network.quarantine", "pod.delete")
"""Actions that take a pod away from its customers one by one: their changes name it. Others end pods by a change to a
workload: the plan of that step names them."""


def pods_taken(session: Session, *, since_seconds: int, now: datetime) -> int:
    """How many pods were cut, or ended, in the last ``since_seconds``, over all incidents: what the breaker counts.

    Those that a stopped or restarted workload took with it count like those that were deleted by name, and so do those
    that were cut or frozen on their node, by a step or by a command; each once.
    """
    table = tables.change
    rows = session.execute(
        sa.select(table.c.incident, table.c.step, table.c.action, table.c.body).where(
            table.c.intended_at >= now - timedelta(seconds=since_seconds), table.c.outcome.is_not(None)
        )
    )
    pods: set[str] = set()
    steps: dict[str, set[str]] = {}
    for incident, step, action, body in rows:
        if action not in _TAKING:
            steps.setdefault(incident, set()).add(step)
        elif body["ref"]["kind"] == "Pod" and body["verb"] in ("patch", "delete") and body["ref"]["uid"]:
            pods.add(body["ref"]["uid"])
    for incident, sent in steps.items():
        pods |= _ended_by(session, incident, sent)
    return len(pods | _taken_on_nodes(session, steps, now - timedelta(seconds=since_seconds)))


def _taken_on_nodes(session: Session, incidents: Collection[str], since: datetime) -> set[str]:
    """The uids of the pods for which a node helper ran to cut or freeze them: what it was about is in its report."""
    event = tables.event
    rows = session.execute(
        sa.select(event.c.body).where(
            event.c.incident.in_(incidents),
            event.c.type == _HELPER_REPORTED,
            event.c.recorded_at >= since,
            event.c.body.is_not(None),
        )
    )
    reported = (parse(body)[1] for (body,) in rows)
    return {one.report.target.uid for one in reported if isinstance(one, NodeHelperReported) and one.report.order.takes}


def _ended_by(session: Session, incident: str, sent: Collection[str]) -> set[str]:
    """The uids of the pods that end by the last plans of these steps."""
    rows = session.execute(
        sa.select(tables.event.c.body)
        .where(
            tables.event.c.incident == incident,
            tables.event.c.type == _PLAN_MADE,
            tables.event.c.body.is_not(None),
        )
        .order_by(tables.event.c.seq)
    )
    events = (parse(body)[1] for (body,) in rows)
    plans = {event.step: event for event in events if isinstance(event, PlanMade) and event.step in sent}
    return {ref.uid for plan in plans.values() for ref in plan.destroys if ref.kind == "Pod" and ref.uid}


def _key(incident: str, step: str, change_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (tables.change.c.incident == incident, tables.change.c.step == step, tables.change.c.id == change_id)


def _record(row: sa.Row[tuple[object, ...]]) -> ChangeRecord:
    try:
        return ChangeRecord.model_validate(
            {
                "incident": row.incident,
                "step": row.step,
                "action": row.action,
                "ordinal": row.ordinal,
                "change": row.body,
                "audit_id": row.audit_id,
                "intended_at": row.intended_at,
                "outcome": row.outcome,
                "answered_at": row.answered_at,
                "result_uid": row.result_uid,
                "undone": row.undone,
            }
        )
    except ValueError as error:
        raise StoreError(f"the journal's change {row.id} of {row.incident} cannot be read", why=str(error)) from error
