"""Approvals: what was asked, and what was decided. The row decides; messages only wake."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.errors import TargetError
from ringfence.model.run import Approval, Ceiling, Decision, Run
from ringfence.model.timeline import ApprovalDecided, ApprovalRequested
from ringfence.store import tables
from ringfence.store.timeline import append


def ask(
    session: Session,
    run: Run,
    step: str,
    *,
    reason: str,
    ceiling: Ceiling,
    second_person: bool,
    requested_by: str,
    expires_at: datetime,
    now: datetime,
) -> Approval:
    """Ask, once: a pending request of the same run and step with a ceiling that covers this one stands."""
    for known in of_run(session, run.id):
        if known.step == step and known.decision is Decision.PENDING and known.ceiling.covers(ceiling):
            return known
    session.execute(
        sa.update(tables.incident).where(tables.incident.c.id == run.incident).values(seq=tables.incident.c.seq)
    )
    count = session.execute(
        sa.select(sa.func.count()).select_from(tables.approval).where(tables.approval.c.incident == run.incident)
    ).scalar_one()
    asked = Approval(
        id=f"{run.incident}/approval/{count + 1}",
        incident=run.incident,
        run=run.id,
        step=step,
        reason=reason,
        ceiling=ceiling,
        second_person=second_person,
        requested_by=requested_by,
        requested_at=now,
        expires_at=expires_at,
        decision=Decision.PENDING,
    )
    session.execute(
        sa.insert(tables.approval).values(
            id=asked.id,
            incident=asked.incident,
            run=asked.run,
            step=asked.step,
            body=asked.to_json(),
            ceiling_sha256=ceiling.sha256(),
            decision=asked.decision.value,
            expires_at=expires_at,
        )
    )
    event = ApprovalRequested(
        occurred_at=now,
        actor=requested_by,
        approval=asked.id,
        run=run.id,
        step=step,
        reason=reason,
        ceiling=ceiling,
        ceiling_sha256=ceiling.sha256(),
        second_person=second_person,
        expires_at=expires_at,
    )
    append(session, run.incident, event, now)
    return asked


def decide(
    session: Session, approval: Approval, decision: Decision, *, actor: str, reason: str, now: datetime
) -> Approval:
    """Write the decision; the first one stands. Raises TargetError when there is one already."""
    current = get(session, approval.id)
    if current.decision is not Decision.PENDING:
        raise TargetError(
            f"{approval.id} is decided: {current.decision}",
            why=f"by {current.decided_by or 'nobody in time'}",
            next_step=f"ringfence status {approval.incident}",
        )
    decided = current.model_copy(
        update={"decision": decision, "decided_by": actor, "decided_at": now, "decision_reason": reason}
    )
    session.execute(
        sa.update(tables.approval)
        .where(tables.approval.c.id == approval.id)
        .values(body=decided.to_json(), decision=decision.value)
    )
    event = ApprovalDecided(
        occurred_at=now,
        actor=actor,
        approval=approval.id,
        decision=decision,
        ceiling_sha256=approval.ceiling.sha256(),
        reason=reason,
    )
    append(session, approval.incident, event, now)
    return decided


def get(session: Session, approval_id: str) -> Approval:
    """Raises TargetError."""
    body = session.execute(
        sa.select(tables.approval.c.body).where(tables.approval.c.id == approval_id)
    ).scalar_one_or_none()
    if body is None:
        raise TargetError(f"there is no approval {approval_id!r}", next_step="ringfence status INC")
    return Approval.model_validate(body)


def of_run(session: Session, run: str) -> tuple[Approval, ...]:
    return _select(session, tables.approval.c.run == run)


def of_incident(session: Session, incident: str) -> tuple[Approval, ...]:
    """Every approval of the incident, oldest first."""
    return _select(session, tables.approval.c.incident == incident)


def overdue(session: Session, now: datetime) -> tuple[Approval, ...]:
    """Requests that nobody answered in time: the default is no."""
    table = tables.approval
    return _select(session, sa.and_(table.c.decision == Decision.PENDING.value, table.c.expires_at <= now))


def _select(session: Session, where: sa.ColumnElement[bool]) -> tuple[Approval, ...]:
    found = session.execute(sa.select(tables.approval.c.body).where(where))
    approvals = (Approval.model_validate(body) for (body,) in found)
    return tuple(sorted(approvals, key=lambda one: (one.requested_at, one.id)))
