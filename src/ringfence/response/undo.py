"""``ringfence undo INC STEP``: one step taken back from what was saved before it, where that is safe."""

from __future__ import annotations

from typing import Any

from ringfence.actions.base import Action, Settings
from ringfence.actions.checkpoint import Checkpoint
from ringfence.actions.node_helper import NODE_ACTIONS
from ringfence.actions.registry import ACTIONS
from ringfence.errors import PlatformError, TargetError
from ringfence.model import step_names
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Already, Failed, Outcome, Problem, Refused, Unknown, is_done
from ringfence.response import attempts, node_helper, steps
from ringfence.response.context import Context, now
from ringfence.store import incidents, journal


def undo_step(context: Context, incident: Incident, step: str) -> tuple[tuple[str, Outcome], ...]:
    """What became of each change of the step, newest first. Raises TargetError when there is no such step.

    ``cut/1`` of a group is all of it, ``cut/1/3`` its third target alone.
    A change that a pod still depends on is refused by its action, and so is one that nothing brings back: the reason
    says what to use instead.
    """
    steps.reconcile(context, incident)
    with context.store.write() as session:
        incidents.remember(session, context.principal, now())
        records = journal.of_incident(session, incident.id)
    chosen = [record for record in records if record.step == step or record.step.startswith((f"{step}.", f"{step}/"))]
    if not chosen:
        known = ", ".join(dict.fromkeys(record.step for record in records)) or "none"
        raise TargetError(
            f"{incident.id} has no step {step!r} that changed anything",
            why=f"steps: {known}",
            next_step=f"ringfence timeline {incident.id}",
        )
    return tuple((str(record.change.ref), take_back(context, incident, record)) for record in reversed(chosen))


def take_back(context: Context, incident: Incident, record: ChangeRecord) -> Outcome:
    """What became of taking one change back, journalled as a change of its own. Raises StoreError."""
    if record.undone:
        return Already(reason="it was taken back before")
    if record.outcome is None or isinstance(record.outcome, Unknown):
        return Refused(reason="it is not known yet whether it took effect", next_step="the same again, in a minute")
    if not is_done(record.outcome):
        return Already(reason="it never took effect")
    if record.action in NODE_ACTIONS:
        outcome: Outcome = node_helper.take_back(context, incident, record)
        if is_done(outcome):
            with context.store.write() as session:
                journal.mark_undone(session, record)
        return outcome
    actions: dict[str, type[Action[Any]]] = {**ACTIONS, Checkpoint.name: Checkpoint}
    if record.action not in actions:
        return Refused(reason=f"{record.action} is no action that can be taken back")
    settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor)
    action = actions[record.action](context.cluster, settings)
    # Before anything else: a crash may have left the very same undo without a result.
    label = attempts.begin(context, incident, step_names.undoing(record.step))
    try:
        change = action.undo(record)
    except PlatformError as error:
        return Failed(problem=Problem.of(error))
    if isinstance(change, Refused | Already):
        outcome = change
    else:
        done = steps.apply_change(context, incident, label, action, record.ordinal, change)
        assert done.outcome is not None
        outcome = done.outcome
    if is_done(outcome):
        with context.store.write() as session:
            journal.mark_undone(session, record)
    return outcome
