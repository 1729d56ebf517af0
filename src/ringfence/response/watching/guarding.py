"""The guard on what is fenced: put up, kept to what is fenced now, and taken down with the last fenced pod."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.actions.base import Settings
from ringfence.actions.guarding import FencedGuard, Wanted
from ringfence.actions.network import DETACH, FENCE, Quarantine
from ringfence.errors import PlatformError
from ringfence.model import step_names
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Failed, Outcome, Problem, Refused, is_done
from ringfence.model.plan import Verb
from ringfence.platform.kubernetes.resources import POD
from ringfence.response import attempts, steps
from ringfence.response.context import Context
from ringfence.store import incidents, journal


def tend(context: Context, incident: Incident, call: Sequence[str]) -> Outcome | None:
    """Bring the incident's guard to what is fenced now; what became of it, None when nothing was to be done.

    Raises PlatformError, StoreError.
    """
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
        responders = incidents.subjects(session, context.principal.issuer)
    pods = _fenced(records)
    if incident.state.over or not pods:
        return take_down(context, incident)
    wanted = Wanted(
        incident.id,
        tuple(sorted({(ref.namespace, ref.name) for ref in pods})),
        tuple(sorted({*responders, context.principal.subject})),
        tuple(call),
    )
    action = _action(context, incident)
    plan = action.plan(pods[0], wanted)
    if isinstance(plan, Already):
        return None
    step = steps.next_step(context, incident, step_names.GUARD)
    if isinstance(plan, Refused):
        steps.refuse(context, incident, step, action.name, "plan", plan.reason)
        return plan
    steps.record_plan(context, incident, step, plan)
    return steps.carry_out(context, incident, step, action, plan).outcome


def take_down(context: Context, incident: Incident) -> Outcome | None:
    """Delete what guards the incident, by the journal; None when nothing does. Raises StoreError."""
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    standing = [
        record
        for record in records
        if record.action == FencedGuard.name
        and record.change.verb is Verb.CREATE
        and not record.undone
        and record.outcome is not None
        and is_done(record.outcome)
    ]
    if not standing:
        return None
    action = _action(context, incident)
    label = attempts.begin(context, incident, step_names.undoing(step_names.GUARD))
    last: Outcome = Already(reason="no guard stands")
    for record in reversed(standing):
        try:
            change = action.undo(record)
        except PlatformError as error:
            return Failed(problem=Problem.of(error))
        if isinstance(change, Refused | Already):
            last = change
        else:
            own = change.model_copy(update={"id": f"{change.id}-{record.step}"})
            done = steps.apply_change(context, incident, label, action, record.ordinal, own)
            assert done.outcome is not None
            last = done.outcome
        if not is_done(last):
            return last
        with context.store.write() as session:
            journal.mark_undone(session, record)
    return last


def _action(context: Context, incident: Incident) -> FencedGuard:
    return FencedGuard(context.cluster, Settings(fence=incident.fence, serving_floor=context.policy.serving_floor))


def _fenced(records: Sequence[ChangeRecord]) -> list[ObjectRef]:
    """The pods that stand behind the fence, as far as the journal knows."""
    ended = {
        record.change.ref.uid
        for record in records
        if record.change.verb is Verb.DELETE and record.outcome is not None and is_done(record.outcome)
    }
    return [
        record.change.ref
        for record in records
        if record.action == Quarantine.name
        and record.change.ref.kind == POD.kind
        and record.change.id in (DETACH, FENCE)
        and not record.undone
        and record.outcome is not None
        and is_done(record.outcome)
        and record.change.ref.uid not in ended
    ]
