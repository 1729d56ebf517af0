"""The stages that give back what was taken for this incident, newest first: ``argocd.resume_sync``, ``keda.resume``,
``recovery.rebind``.

Only after everything that Argo CD or KEDA would put back is as it was, or is meant to be put back: the playbook says
when.
"""

from __future__ import annotations

from ringfence.actions.argocd import SuspendSync
from ringfence.actions.keda import PauseScaling
from ringfence.actions.unbind import Unbind
from ringfence.model import step_names
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Already, Applied, Failed, Problem, Refused, describe, is_done, next_step_of
from ringfence.response.context import Context
from ringfence.response.scene import Answer, Scene
from ringfence.response.stages.cut import finished
from ringfence.response.undo import take_back
from ringfence.store import journal

_TAKEN_BY = {
    "argocd.resume_sync": (SuspendSync.name, "part of Argo CD stays frozen", "nothing of Argo CD is frozen"),
    "keda.resume": (PauseScaling.name, "part of KEDA stays frozen", "nothing of KEDA is frozen"),
    "recovery.rebind": (Unbind.name, "part of an account's rights is not back", "no account's rights are taken"),
}
"""The action that took it; what is said when part of it stays, and when there is nothing."""


def taken(context: Context, incident: Incident, stage: str) -> tuple[ChangeRecord, ...]:
    """The changes that the stage takes back, in its order."""
    action = _TAKEN_BY[stage][0]
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    return tuple(
        record
        for record in reversed(records)
        if record.action == action and not record.undone and not step_names.is_undoing(record.step)
    )


def nothing_taken(stage: str) -> str:
    """What is said when the stage finds nothing to give back."""
    return f"{_TAKEN_BY[stage][2]} for this incident"


def resume(scene: Scene) -> Answer:
    """Each change of the incident that took something and stands. Refused when somebody has set one otherwise since:
    theirs is not overwritten."""
    context, incident, name = scene.context, scene.incident, scene.step.action
    part = _TAKEN_BY[name][1]
    outcomes = []
    for record in taken(context, incident, name):
        outcome = take_back(context, incident, record)
        scene.live.say(f"{record.change.ref}: {describe(outcome)}")
        outcomes.append((str(record.change.ref), outcome))
    left = [(ref, outcome) for ref, outcome in outcomes if not is_done(outcome)]
    if left and all(isinstance(outcome, Refused) for _, outcome in left):
        words = "; ".join(describe(outcome) for _, outcome in left)
        hints = (next_step_of(outcome) for _, outcome in left)
        hint = next((hint for hint in hints if hint), "look at what it names, and set it by hand")
        return finished(scene, name, Refused(reason=words, next_step=hint))
    if left:
        words = "; ".join(f"{ref}: {describe(outcome)}" for ref, outcome in left)
        problem = Problem(code="frozen", what=part, why=words, next_step="the same again")
        return finished(scene, name, Failed(problem=problem))
    if any(isinstance(outcome, Applied) for _, outcome in outcomes):
        return finished(scene, name, Applied())
    return finished(scene, name, Already(reason=nothing_taken(name)))
