"""What a watcher that died left open: requests of its own without a result, looked up in live state.

Of the watcher's own steps alone: a run's are settled by whoever carries it on.
"""

from __future__ import annotations

from ringfence.model import step_names
from ringfence.model.outcome import Unknown
from ringfence.response import steps
from ringfence.response.context import Context
from ringfence.store import journal

_OWN = (f"{step_names.PUT_BACK}/", f"{step_names.GUARD}/")


def settle(context: Context, incident: str) -> None:
    """Raises StoreError. What cannot be read stays unknown, and is looked up by the next one."""
    with context.store.read() as session:
        records = journal.of_incident(session, incident)
    for record in records:
        if record.step.startswith(_OWN) and (record.outcome is None or isinstance(record.outcome, Unknown)):
            steps.look_up(context, record)
