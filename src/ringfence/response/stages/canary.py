"""The stage ``network.canary``: the fence tried on packets, when the command or the configuration asks for it."""

from __future__ import annotations

from ringfence.actions.canary import Canary, proof_of
from ringfence.errors import RingfenceError
from ringfence.model.canary import CanaryReport
from ringfence.model.outcome import Applied, Failed, Outcome, Problem, Refused, Skipped
from ringfence.model.plan import Change
from ringfence.model.proof import Proof
from ringfence.model.timeline import CanaryReported, StepFinished
from ringfence.response import attempts, steps
from ringfence.response.context import now
from ringfence.response.scene import Answer, Ended, Scene
from ringfence.response.stages.cut import finished, settings
from ringfence.store import timeline


def try_fence(scene: Scene) -> Answer:
    """Examine one pod's fence. A report that says that the fence is open is a finding, not a failure of the step."""
    context, target = scene.context, scene.object
    if not (scene.run.order.canary or context.policy.canary_always):
        return Ended(Skipped(reason="a canary was not asked for (--canary)"))
    action = Canary(context.cluster, settings(scene), context.policy.canary)
    label = attempts.begin(context, scene.incident, scene.label)
    try:
        around = action.look(context.cluster_id, target, context.pool)
        plan = action.plan(target, around)
    except RingfenceError as error:
        steps.record_failure(context, scene.incident, label, action.name, error)
        return Ended(Failed(problem=Problem.of(error)))
    if isinstance(plan, Refused):
        steps.refuse(context, scene.incident, label, action.name, "plan", plan.reason)
        return finished(scene, action.name, plan)
    steps.record_plan(context, scene.incident, label, plan)
    scene.live.say(f"trying the fence of {target} on packets")
    sent: list[Change] = []

    def send(change: Change) -> Outcome:
        sent.append(change)
        record = steps.apply_change(context, scene.incident, label, action, len(sent), change)
        assert record.outcome is not None
        return record.outcome

    report = action.examine(plan, around, send, now=now)
    return _reported(scene, label, report)


def _reported(scene: Scene, label: str, report: CanaryReport) -> Ended:
    outcome: Outcome = Applied()
    proof: Proof | None = proof_of(report)
    if report.why:
        outcome = Failed(problem=Problem(code="canary", what="the fence could not be tried", why=report.why))
    elif report.left_behind:
        left = ", ".join(report.left_behind)
        outcome = Failed(problem=Problem(code="canary", what="something of the canary was not seen to go", why=left))
    actor, at = scene.context.actor, now()
    with scene.context.store.write() as session:
        timeline.append(
            session, scene.incident.id, CanaryReported(occurred_at=report.ended_at, actor=actor, report=report), at
        )
        ended = StepFinished(
            occurred_at=at,
            actor=actor,
            step=label,
            action=Canary.name,
            outcome=outcome,
            proof=proof,
            target=scene.target,
        )
        timeline.append(session, scene.incident.id, ended, at)
    return Ended(outcome, proof)
