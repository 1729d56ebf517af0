"""The stages ``argocd.resume_sync`` and ``keda.resume``: what was frozen for this incident is let go, newest first.

Only after everything that Argo CD or KEDA would put back is as it was, or is meant to be put back: the playbook says
when.
"""

from __future__ import annotations

from ringfence.actions.argocd import SuspendSync
from ringfence.actions.keda import PauseScaling
from ringfence.model.outcome import Already, Applied, Failed, Problem, Refused, describe
from ringfence.response import steps
from ringfence.response.scene import Answer, Scene
from ringfence.response.stages.cut import finished
from ringfence.response.undo import take_back
from ringfence.store import journal

_FROZEN_BY = {"argocd.resume_sync": (SuspendSync.name, "Argo CD"), "keda.resume": (PauseScaling.name, "KEDA")}


def resume(scene: Scene) -> Answer:
    """Each change of the incident that froze something and stands. Refused when somebody has set one otherwise since:
    theirs is not overwritten."""
    context, incident, name = scene.context, scene.incident, scene.step.action
    action, whose = _FROZEN_BY[name]
    with context.store.read() as session:
        records = [
            record
            for record in journal.of_incident(session, incident.id)
            if record.action == action and not record.undone and not record.step.startswith("undo-")
        ]
    outcomes = []
    for record in reversed(records):
        outcome = take_back(context, incident, record)
        scene.live.say(f"{record.change.ref}: {describe(outcome)}")
        outcomes.append((str(record.change.ref), outcome))
    left = [(ref, outcome) for ref, outcome in outcomes if not steps.is_done(outcome)]
    if left and all(isinstance(outcome, Refused) for _, outcome in left):
        words = "; ".join(describe(outcome) for _, outcome in left)
        return finished(scene, name, Refused(reason=words, next_step="look at what it names, and set it by hand"))
    if left:
        words = "; ".join(f"{ref}: {describe(outcome)}" for ref, outcome in left)
        problem = Problem(code="frozen", what=f"part of {whose} stays frozen", why=words, next_step="the same again")
        return finished(scene, name, Failed(problem=problem))
    if any(isinstance(outcome, Applied) for _, outcome in outcomes):
        return finished(scene, name, Applied())
    return finished(scene, name, Already(reason=f"nothing of {whose} is frozen for this incident"))
