"""What a step is called in the journal and on the timeline: ``NAME/NUMBER``.

A step of a playbook has its id and its run's number. What a command or the watcher does outside of any run has one of
the names here, and counts by itself. One name for both would put two plans into one journal, under the same Audit-IDs:
the linter keeps a playbook from taking one.
"""

from __future__ import annotations

from ringfence.model.node_helper import NodeOrder

CHECKPOINT = "node-checkpoint"
SWEEP = "node-sweep"
"""What is left behind of the node helper is deleted."""
GUARD = "guard"
PUT_BACK = "put-back"
OF_ORDER = {order: f"node-{order}" for order in NodeOrder}
"""The orders of ``ringfence node``."""
OUTSIDE_OF_RUNS = frozenset({CHECKPOINT, SWEEP, GUARD, PUT_BACK, *OF_ORDER.values()})
"""Every name that ``steps.next_step`` takes."""

_UNDO = "undo-"


def undoing(step: str) -> str:
    """What taking a step back is called."""
    return f"{_UNDO}{step}"


def is_undoing(name: str) -> bool:
    return name.startswith(_UNDO)


def is_taken(step_id: str) -> bool:
    """Whether a playbook's step of that id would be called like a step of a command."""
    return step_id in OUTSIDE_OF_RUNS or is_undoing(step_id)
