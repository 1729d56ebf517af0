"""Putting back what may be put back: a quarantine policy that was deleted, a fence label that was taken off.

By the same action, planned anew on what is live, through the journal; under the same guardrails, and not without end:
who takes it off again and again is told of, and not fought.
"""

from __future__ import annotations

from datetime import timedelta

from ringfence.actions.base import Settings, Shape
from ringfence.actions.fence import FENCE_KEY
from ringfence.actions.network import DETACH, FENCE, Quarantine
from ringfence.errors import RingfenceError
from ringfence.model import step_names
from ringfence.model.base import Json
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Outcome, Refused, is_done
from ringfence.model.plan import Verb
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.platform.kubernetes.selectors import labels_of
from ringfence.response import guard, steps
from ringfence.response.context import Context, now
from ringfence.response.watching.held import Broken, Held
from ringfence.store import journal

_HOUR = timedelta(hours=1)


def may_be_put_back(one: Held, broken: Broken, live: Json | None, fence: str) -> bool:
    """Whether it is one of the two things that the law lets us put back (pure)."""
    record = one.record
    if record is None or record.action != Quarantine.name:
        return False
    if record.change.verb is Verb.CREATE and one.ref.kind == NETWORK_POLICY.kind:
        return live is None and broken.what == "was deleted"
    return (
        record.change.id in (DETACH, FENCE)
        and live is not None
        and live["metadata"]["uid"] == one.ref.uid
        and not live["metadata"].get("deletionTimestamp")
        and labels_of(live).get(FENCE_KEY) != fence
    )


def put_back(context: Context, incident: Incident, one: Held, *, hourly: int) -> Outcome:
    """Cut the pod again as it was cut before, or put the policy up again. Refused by every guardrail of a cut."""
    assert one.record is not None
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    target, shape = _target(one.record, records)
    step = steps.next_step(context, incident, step_names.PUT_BACK)
    refused = _not_allowed(context, records, target, hourly)
    if refused is not None or target is None:
        if refused is None:
            refused = Refused(reason="the journal knows no pod that the policy was for")
        steps.refuse(context, incident, step, Quarantine.name, step_names.PUT_BACK, refused.reason)
        return refused
    settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor, shape=shape)
    action = Quarantine(context.cluster, settings)
    try:
        around = action.look(context.cluster_id, target, context.pool)
        blocked = guard.protected(around.pod, context.policy)
        plan = action.plan(target, around) if blocked is None else blocked
    except RingfenceError as error:
        steps.record_failure(context, incident, step, action.name, error)
        return Refused(reason=str(error), next_step=error.next_step)
    if isinstance(plan, Refused):
        steps.refuse(context, incident, step, action.name, step_names.PUT_BACK, plan.reason)
        return plan
    falling = guard.below_floor(plan.impact)
    if falling:
        steps.refuse(context, incident, step, action.name, step_names.PUT_BACK, falling)
        return Refused(reason=falling, next_step=f"ringfence status {incident.id}")
    steps.record_plan(context, incident, step, plan)
    result = steps.carry_out(context, incident, step, action, plan)
    if is_done(result.outcome) and one.record.change.verb is Verb.CREATE:
        with context.store.write() as session:
            journal.mark_undone(session, one.record)  # the policy that stands now is another object
    return Already(reason="it was in place again") if isinstance(result.outcome, Already) else result.outcome


def _target(record: ChangeRecord, records: tuple[ChangeRecord, ...]) -> tuple[ObjectRef | None, Shape]:
    """The pod to cut, and in which shape it was."""
    for other in (record, *reversed(records)):
        if other.change.ref.kind == POD.kind and other.change.id in (DETACH, FENCE) and not other.undone:
            same = other.change.ref.namespace == record.change.ref.namespace
            if same and other.outcome is not None and is_done(other.outcome):
                return other.change.ref, "detach" if other.change.id == DETACH else "fence"
    return None, "auto"


def _not_allowed(
    context: Context, records: tuple[ChangeRecord, ...], target: ObjectRef | None, hourly: int
) -> Refused | None:
    if Quarantine.name in context.policy.disabled:
        return Refused(reason=f"the action {Quarantine.name} is not enabled", next_step="actions.enabled")
    lately = {
        record.step
        for record in records
        if record.step.startswith(f"{step_names.PUT_BACK}/") and now() - record.intended_at < _HOUR
    }
    if len(lately) >= hourly:
        return Refused(
            reason=f"{target or 'it'}: put back {len(lately)} times within the hour, and taken off again",
            next_step="find out who does it (the audit log), then ringfence contain again",
        )
    return None
