"""``ringfence close``: the review. Who closes an incident says how the attacker came in, and what is to be learnt."""

from __future__ import annotations

from ringfence.actions.checkpoint import Checkpoint
from ringfence.actions.node_helper import NODE_ACTIONS
from ringfence.errors import PlatformError
from ringfence.model.incident import Determination, Incident, State
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Applied, Unknown
from ringfence.model.recovery_events import Reviewed
from ringfence.model.timeline import NodeHelperReported
from ringfence.platform.kubernetes.resources import resource_of
from ringfence.response import node_events, record
from ringfence.response.context import Context, now
from ringfence.response.recovery.scope import standing
from ringfence.store import incidents, journal, targets, timeline


def still_in_force(context: Context, incident: Incident) -> tuple[str, ...]:
    """What of the response stays when the incident is closed: changes that nobody took back, on what is still there."""
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    actions = {one.action for one in records} - set(NODE_ACTIONS)
    kept = [one for one in standing(records, *actions) if one.change.inverse is not None]
    found = [f"{one.step}: {one.change.effect}" for one in kept if _is_there(context, one.change.ref)]
    # Nothing shows whether somebody has removed an archive: it is named until it is looked for.
    asked = [one for one in records if one.action == Checkpoint.name]
    found += [f"{one.step}: {one.change.effect}, {where}" for one in asked if (where := _archive(one))]
    return tuple(dict.fromkeys((*found, *held_on_nodes(context, incident))))


def held_on_nodes(context: Context, incident: Incident) -> tuple[str, ...]:
    """What the node helper did to pods of the incident: its own pod is gone, and what it did is in force for as long as
    the suspect's pod is there."""
    with context.store.read() as session:
        events = timeline.events_of(session, incident.id, NodeHelperReported)
        members = targets.of_incident(session, incident.id)
    held = [(ref, words) for ref in members if (words := node_events.in_force(events, ref))]
    return tuple(f"{ref}: {one}" for ref, words in held if _is_there(context, ref) for one in words)


def _archive(record: ChangeRecord) -> str:
    match record.outcome:
        case Applied():
            return "where its secrets lie"
        case Unknown() | None:
            return "where its secrets may lie: what came of it is not known"
        case _:
            return ""


def _is_there(context: Context, ref: ObjectRef) -> bool:
    """Also when it cannot be read: what is not known to be gone is in force."""
    try:
        live = context.cluster.find(resource_of(ref), ref.namespace, ref.name)
    except PlatformError:
        return True
    return live is not None and (not ref.uid or live["metadata"]["uid"] == ref.uid)


def close(
    context: Context,
    incident: Incident,
    *,
    root_cause: str,
    lessons: tuple[str, ...],
    determination: Determination | None,
    reason: str,
) -> tuple[Incident, tuple[str, ...]]:
    """Close with verdict, root cause and lessons; what of the response stays in force, in words.

    A determination that is given stands also when the incident may not be closed; nothing else is written then.

    Raises Guarded while a way in is open that nobody has accepted or a run has not ended, TargetError when it is closed
    already or was never contained.
    """
    if determination is not None and determination is not incident.determination:
        with context.store.write() as session:
            incidents.remember(session, context.principal, now())
            incidents.determine(session, incident, determination, reason=root_cause, actor=context.actor, now=now())
            incident = incidents.get(session, incident.id)
    stays = still_in_force(context, incident)
    event = Reviewed(occurred_at=now(), actor=context.actor, root_cause=root_cause, lessons=lessons, stays=stays)
    return record.move(context, incident, State.CLOSED, reason or "reviewed", beside=event), stays
