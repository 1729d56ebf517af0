"""Carrying a plan out through the journal: intent committed, request sent, result committed, one change at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ringfence.actions.base import Action
from ringfence.actions.perform import NOT_APPLIED, Answer, resolve
from ringfence.errors import PlatformError, RingfenceError
from ringfence.model import step_names
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import (
    Already,
    Applied,
    Failed,
    Outcome,
    Problem,
    Unknown,
    describe,
    is_done,
)
from ringfence.model.plan import Change, Plan
from ringfence.model.proof import Level, Proof
from ringfence.model.timeline import PlanMade, Refusal, StepFinished
from ringfence.platform.kubernetes.audit import audit_says
from ringfence.response.context import Context, now
from ringfence.store import journal, timeline

_UNDER_WAY = timedelta(seconds=75)
"""How long a request can be under way after it was sent: kube-apiserver gives each 60 s by default."""


class StepResult(NamedTuple):
    """What became of a step, how well it is shown, and its journal."""

    outcome: Outcome
    proof: Proof
    records: tuple[ChangeRecord, ...]


def plan_made(context: Context, step: str, plan: Plan) -> PlanMade:
    return PlanMade(
        occurred_at=now(),
        actor=context.actor,
        step=step,
        action=plan.action,
        plan_sha256=plan.sha256(),
        rationale=plan.rationale,
        changes=tuple(change.effect for change in plan.changes),
        destroys=plan.destroys,
        impact=plan.impact,
        caveats=plan.caveats,
    )


def record_plan(context: Context, incident: Incident, step: str, plan: Plan) -> None:
    with context.store.write() as session:
        timeline.append(session, incident.id, plan_made(context, step, plan), now())


def refuse(context: Context, incident: Incident, step: str, action: str, gate: str, reason: str) -> None:
    """Put a refusal on the timeline."""
    event = Refusal(occurred_at=now(), actor=context.actor, step=step, action=action, gate=gate, reason=reason)
    with context.store.write() as session:
        timeline.append(session, incident.id, event, now())


def record_failure(context: Context, incident: Incident, step: str, action: str, error: RingfenceError) -> None:
    """Put on the timeline that a step ended before it changed anything."""
    failed = Failed(problem=Problem.of(error))
    event = StepFinished(occurred_at=now(), actor=context.actor, step=step, action=action, outcome=failed)
    with context.store.write() as session:
        timeline.append(session, incident.id, event, now())


def carry_out(context: Context, incident: Incident, step: str, action: Action[Any], plan: Plan) -> StepResult:
    """Apply every change of the plan and verify. A change that is needed and fails ends the step there."""
    records: list[ChangeRecord] = []
    for ordinal, change in enumerate(plan.changes):
        record = apply_change(context, incident, step, action, ordinal, change)
        records.append(record)
        if change.needed and not is_done(_outcome(record)):
            break
    return conclude(context, incident, step, action, plan.target, records)


def conclude(
    context: Context,
    incident: Incident,
    step: str,
    action: Action[Any],
    target: ObjectRef,
    records: Sequence[ChangeRecord],
) -> StepResult:
    """End a step on what the journal says of its changes, and verify what they did."""
    outcome = _together(records)
    proof = _verify(action, target, records)
    finished = StepFinished(
        occurred_at=now(), actor=context.actor, step=step, action=action.name, outcome=outcome, proof=proof
    )
    with context.store.write() as session:
        timeline.append(session, incident.id, finished, now())
    return StepResult(outcome, proof, tuple(records))


def apply_change(
    context: Context, incident: Incident, step: str, action: Action[Any], ordinal: int, change: Change
) -> ChangeRecord:
    """One change through the journal, sent at most once in the life of its step.

    One that a former attempt left without a result is looked up; one that has its result keeps it. To try again is a
    new step, planned on what is live then, with an intent and an Audit-ID of its own.
    """
    with context.store.write() as session:
        left = journal.find(session, incident.id, step, change.id)
        record = journal.intend(
            session,
            incident=incident.id,
            step=step,
            action=action.name,
            ordinal=ordinal,
            change=change,
            actor=context.actor,
            now=now(),
        )
    if record.outcome is not None and not isinstance(record.outcome, Unknown):
        return record
    sent = None
    if left is not None:
        answer = _resolve(context, record)
    else:
        sent = now()
        answer = action.apply(record.change, record.audit_id)
        if isinstance(answer.outcome, Unknown):
            answer = _resolve(context, record, lost=answer.outcome.problem)
    return _finish(context, record, answer, sent_at=sent)


def reconcile(context: Context, incident: Incident) -> None:
    """Find out what became of requests whose result was never written (we died in between), or was not known then.

    Live state decides, and the audit log where one is configured. A change that was not to be seen when its answer was
    lost may have been under way still (a gateway gives up before the API server does): it is looked for once more,
    until ``_UNDER_WAY`` has passed.
    """
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    for record in records:
        if record.outcome is None or isinstance(record.outcome, Unknown):
            answer = _resolve(context, record)
            if record.outcome is None or not isinstance(answer.outcome, Unknown):  # else there is no news
                _finish(context, record, answer, sent_at=None)
        elif _may_show_late(record) and not _done_again(record, records):
            answer = _resolve(context, record)
            if is_done(answer.outcome) or now() - record.intended_at > _UNDER_WAY:
                _finish(context, record, answer, sent_at=None)


def look_up(context: Context, record: ChangeRecord) -> ChangeRecord:
    """Find out what became of one request, and write it down."""
    return _finish(context, record, _resolve(context, record), sent_at=None)


def _resolve(context: Context, record: ChangeRecord, lost: Problem | None = None) -> Answer:
    def witness(change: Change, audit_id: str) -> bool | None:
        path, user = context.policy.audit_log, context.principal.subject
        return audit_says(path, audit_id, verb=change.verb, ref=change.ref, user=user) if path else None

    return resolve(context.cluster, record.change, audit_id=record.audit_id, witness=witness, lost=lost)


def _finish(context: Context, record: ChangeRecord, answer: Answer, *, sent_at: datetime | None) -> ChangeRecord:
    with context.store.write() as session:
        return journal.finish(
            session, record, answer.outcome, result_uid=answer.uid, actor=context.actor, sent_at=sent_at, now=now()
        )


def _may_show_late(record: ChangeRecord) -> bool:
    """Whether the change was missing when it was last looked for, at a time when its request could be under way."""
    return (
        isinstance(record.outcome, Failed)
        and record.outcome.problem.code == NOT_APPLIED
        and record.answered_at is not None
        and record.answered_at - record.intended_at <= _UNDER_WAY
    )


def _done_again(record: ChangeRecord, records: Sequence[ChangeRecord]) -> bool:
    """Whether a later step did the same to the same object: what live state shows is then that step's."""
    ref = record.change.ref
    return any(
        other.intended_at > record.intended_at
        and (other.change.verb, other.change.ref.kind, other.change.ref.namespace, other.change.ref.name)
        == (record.change.verb, ref.kind, ref.namespace, ref.name)
        and other.outcome is not None
        and is_done(other.outcome)
        for other in records
    )


def next_step(context: Context, incident: Incident, verb: str) -> str:
    """The name of a new step outside of any run: node-cut/1, node-cut/2, … A fresh plan needs a journal of its own.

    ``verb`` is one of ``step_names.OUTSIDE_OF_RUNS``, whose names no step of a playbook may have."""
    assert verb in step_names.OUTSIDE_OF_RUNS, verb
    with context.store.read() as session:
        events = [entry.event for entry in timeline.read(session, incident.id)]
    steps = {str(step) for event in events if (step := getattr(event, "step", None))}
    return f"{verb}/{1 + sum(1 for step in steps if step.split('/')[0] == verb)}"


def _outcome(record: ChangeRecord) -> Outcome:
    assert record.outcome is not None
    return record.outcome


def _together(records: Sequence[ChangeRecord]) -> Outcome:
    """The step's outcome: the first needed change that is not done decides; others make the step partly done."""
    for record in records:
        if record.change.needed and not is_done(_outcome(record)):
            return _outcome(record)
    partly = [describe(_outcome(record)) for record in records if not is_done(_outcome(record))]
    if partly:
        problem = Problem(code="partly", what="part of the step was not done", why="; ".join(partly))
        return Failed(problem=problem)
    if records and all(isinstance(record.outcome, Already) for record in records):
        return Already(reason="every change was in place")
    return Applied()


def _verify(action: Action[Any], target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:
    try:
        return action.verify(target, records)
    except PlatformError as error:
        return Proof(
            claim="the result could not be read back",
            level=Level.REQUESTED if records and is_done(_outcome(records[-1])) else Level.NONE,
            by="nobody",
            at=now(),
            why_not_higher=str(error),
        )
