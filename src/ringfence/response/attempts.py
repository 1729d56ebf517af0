"""Beginning a step that may have been begun before: what the journal left open is looked up, never guessed.

A step that a crash interrupted goes on under its own name while everything that it had sent took effect. When
something did not, the fresh plan gets a journal of its own (``cut/1.2``): prior states are written once.
"""

from __future__ import annotations

from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Unknown
from ringfence.model.timeline import PlanMade
from ringfence.response.context import Context
from ringfence.response.steps import is_done, look_up
from ringfence.store import journal, timeline


def begin(context: Context, incident: Incident, label: str) -> str:
    """The name under which the step's next plan is journalled. Raises StoreError."""
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
    return f"{label}.{latest + 1}" if undone else name


def carried_out(context: Context, incident: Incident, step: str) -> tuple[ChangeRecord, ...]:
    """The journal of a plan of this name that took effect as a whole; empty when there is none, or part is missing.

    Such a step is not planned again: what it was about may be gone by now, and a plan for what took its place is
    another step's. Raises StoreError.
    """
    with context.store.read() as session:
        records = tuple(record for record in journal.of_step(session, incident.id, step) if record.step == step)
        if not records or not all(record.outcome is not None and is_done(record.outcome) for record in records):
            return ()
        events = [entry.event for entry in timeline.read(session, incident.id)]
    planned = [len(event.changes) for event in events if isinstance(event, PlanMade) and event.step == step]
    return records if planned and len(records) >= max(planned) else ()


def _attempt(step: str) -> int:
    _, dot, number = step.rpartition(".")
    return int(number) if dot and number.isdigit() else 1
