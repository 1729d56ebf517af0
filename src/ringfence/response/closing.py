"""``ringfence close``: the review. Who closes an incident says how the attacker came in, and what is to be learnt."""

from __future__ import annotations

from ringfence.model.incident import Determination, Incident, State
from ringfence.model.recovery_events import Reviewed
from ringfence.response import record
from ringfence.response.context import Context, now
from ringfence.response.recovery.scope import standing
from ringfence.store import incidents, journal


def still_in_force(context: Context, incident: Incident) -> tuple[str, ...]:
    """What of the response stays when the incident is closed: changes that nobody took back, apart from deletions."""
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    actions = {one.action for one in records}
    kept = [one for one in standing(records, *actions) if one.change.inverse is not None]
    return tuple(dict.fromkeys(f"{one.step}: {one.change.effect}" for one in kept))


def close(
    context: Context,
    incident: Incident,
    *,
    root_cause: str,
    lessons: tuple[str, ...],
    determination: Determination | None,
    reason: str,
) -> Incident:
    """Close with verdict, root cause and lessons. Nothing is written when the incident may not be closed.

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
    return record.move(context, incident, State.CLOSED, reason or "reviewed", beside=event)
