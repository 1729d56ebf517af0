"""The frozen playbook of a run."""

from __future__ import annotations

from ringfence.model.playbook import Playbook, Step
from ringfence.model.run import Run
from ringfence.playbooks import load
from ringfence.response.context import Context
from ringfence.store import runs
from ringfence.store.database import Session


def playbook_of(session: Session, run: Run) -> Playbook:
    """Raises StoreError when its bytes are not those that were frozen, PlaybookError."""
    return load(runs.playbook_bytes(session, run.id), f"{run.playbook} (frozen)")


def chosen(playbook: Playbook, run: Run) -> tuple[Step, ...]:
    """The steps of the phases that were ordered."""
    return tuple(step for step in playbook.steps if step.phase.value in run.order.phases)


def actions_after(context: Context, run: Run, step: Step) -> tuple[str, ...]:
    """The actions of the later steps of the same phase: what an approval there speaks of."""
    with context.store.read() as session:
        steps = chosen(playbook_of(session, run), run)
    place = [one.id for one in steps].index(step.id)
    return tuple(dict.fromkeys(one.action for one in steps[place + 1 :] if one.phase is step.phase))
