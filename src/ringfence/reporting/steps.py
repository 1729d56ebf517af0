"""From the timeline and the journal to the attempts of each step (pure).

A step that was refused is tried again under the same name, and taking a fence down is journalled under the step that
ended the pod. So events are gathered by attempt: a plan or a finish separates one from the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ringfence.errors import StoreError
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Outcome
from ringfence.model.proof import Proof
from ringfence.model.timeline import ChangeIntended, Event, GlassBroken, PlanMade, Refusal, StepFinished
from ringfence.reporting.view import BreakGlass, ChangeView, StepView


@dataclass
class _Attempt:
    step: str
    action: str
    at: datetime
    actor: str
    plan: PlanMade | None = None
    finished: StepFinished | None = None
    changes: list[ChangeView] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    glass: list[GlassBroken] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome | None:
        return self.finished.outcome if self.finished else None

    @property
    def proof(self) -> Proof | None:
        return self.finished.proof if self.finished else None

    def view(self) -> StepView:
        return StepView(
            step=self.step,
            action=self.action,
            at=self.at,
            actor=self.actor,
            plan=self.plan,
            outcome=self.outcome,
            finished_at=self.finished.occurred_at if self.finished else None,
            proof=self.proof,
            changes=tuple(self.changes),
            refusals=tuple(self.refusals),
        )


def gather(
    events: Iterable[Event], records: Sequence[ChangeRecord]
) -> tuple[tuple[StepView, ...], tuple[BreakGlass, ...]]:
    """The attempts in order, and every break-glass with the outcome of its attempt.

    Every change of the journal is in exactly one attempt. Raises StoreError for an intent that the journal lacks.
    """
    journal = {(record.step, record.change.id): record for record in records}
    attempts: list[_Attempt] = []
    for event in events:
        match event:
            case PlanMade(step=step, action=action):
                attempts.append(_Attempt(step, action, event.occurred_at, event.actor, plan=event))
            case Refusal(step=step, action=action):
                _current(attempts, step, action, event).refusals.append(event)
            case GlassBroken(step=step, action=action):
                _current(attempts, step, action, event).glass.append(event)
            case ChangeIntended(step=step, change=change):
                record = journal.pop((step, change), None)
                if record is None:
                    raise StoreError(
                        f"the journal has no change {change} of step {step}, which the timeline says was intended",
                        next_step="compare the database with the sealed copies of the timeline",
                    )
                _current(attempts, step, record.action, event).changes.append(_change(record))
            case StepFinished(step=step, action=action):
                _current(attempts, step, action, event).finished = event
            case _:
                pass
    # What is left has no intent on the timeline any more: its event was erased by law.
    for record in journal.values():
        lost = _Attempt(record.step, record.action, record.intended_at, "")
        same = [one for one in attempts if (one.step, one.action) == (record.step, record.action)]
        if not same:
            attempts.append(lost)
        (same[-1] if same else lost).changes.append(_change(record))
    return tuple(attempt.view() for attempt in attempts), tuple(_glass(attempts))


def _current(
    attempts: list[_Attempt],
    step: str,
    action: str,
    event: Refusal | GlassBroken | ChangeIntended | StepFinished,
) -> _Attempt:
    """The unfinished attempt that the event belongs to, or a new one.

    A refusal's finish names only the verb of its step (contain), its plan the attempt as well (contain/1).
    """
    unfinished = [one for one in attempts if one.finished is None and one.action == action]
    for one in reversed(unfinished):
        if one.step == step or ("/" not in step and one.step.partition("/")[0] == step):
            return one
    attempts.append(_Attempt(step, action, event.occurred_at, event.actor))
    return attempts[-1]


def _change(record: ChangeRecord) -> ChangeView:
    return ChangeView(
        id=record.change.id,
        action=record.action,
        audit_id=record.audit_id,
        verb=record.change.verb.value,
        ref=record.change.ref,
        effect=record.change.effect,
        intended_at=record.intended_at,
        answered_at=record.answered_at,
        outcome=record.outcome,
        undone=record.undone,
    )


def _glass(attempts: Iterable[_Attempt]) -> Iterable[BreakGlass]:
    for attempt in attempts:
        for broken in attempt.glass:
            yield BreakGlass(
                at=broken.occurred_at,
                person=broken.actor,
                step=broken.step,
                action=broken.action,
                reason=broken.reason,
                missing=broken.missing,
                outcome=attempt.outcome,
            )
