"""Beginning a step that may have been begun before: what the journal left open is looked up, never guessed.

A step that a crash interrupted goes on under its own name while everything that it had sent took effect. When
something did not, the fresh plan gets a journal of its own (``cut/1.2``): prior states are written once.
"""

from __future__ import annotations

from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Unknown, is_done
from ringfence.model.timeline import PlanMade
from ringfence.response.context import Context
from ringfence.response.steps import look_up
from ringfence.store import journal, timeline


def begin(context: Context, incident: Incident, label: str) -> str:
    """The name under which the step's next plan is journalled. Raises StoreError."""
    return _begin(context, incident, label)[0]


def take_up(context: Context, incident: Incident, label: str) -> tuple[str, tuple[ChangeRecord, ...]]:
    """``begin``, and the journal of the plan of that name if it took effect as a whole before a crash.

    Such a step is not planned again: what it was about may be gone by now, and a plan for what took its place is
    another step's. The journal is empty when there is none, or a part is missing. Raises StoreError.
    """
    name, known = _begin(context, incident, label)
    records = tuple(record for record in known if record.step == name)
    if not records or not all(record.outcome is not None and is_done(record.outcome) for record in records):
        return name, ()
    with context.store.read() as session:
        plans = timeline.events_of(session, incident.id, PlanMade)
    planned = [len(event.changes) for event in plans if isinstance(event, PlanMade) and event.step == name]
    return name, records if planned and len(records) >= max(planned) else ()


def _begin(context: Context, incident: Incident, label: str) -> tuple[str, tuple[ChangeRecord, ...]]:
    with context.store.read() as session:
        records = journal.of_step(session, incident.id, label)
    if left := [record for record in records if record.outcome is None or isinstance(record.outcome, Unknown)]:
        for record in left:
            look_up(context, record)
        with context.store.read() as session:
            records = journal.of_step(session, incident.id, label)
    latest = max((_attempt(record.step) for record in records), default=1)
    name = label if latest == 1 else f"{label}.{latest}"
    undone = any(
        record.outcome is not None and not is_done(record.outcome) for record in records if record.step == name
    )
    return (f"{label}.{latest + 1}" if undone else name), records


def _attempt(step: str) -> int:
    _, dot, number = step.rpartition(".")
    return int(number) if dot and number.isdigit() else 1
