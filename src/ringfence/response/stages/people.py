"""Stages that ask people, move the incident, and look again."""

from __future__ import annotations

from ringfence.model.catalogue import ApproveParams, MoveParams
from ringfence.model.incident import Determination, State
from ringfence.model.outcome import Already, Applied, Failed, Problem, Refused
from ringfence.model.run import Ceiling
from ringfence.response import closing, consent, guard, node_events, playbook_of
from ringfence.response.context import now
from ringfence.response.scene import Answer, Ended, Paused, Scene
from ringfence.response.statement import retest
from ringfence.store import incidents


def approve(scene: Scene) -> Answer:
    """``human.approve``: what the later steps of this phase do, on the run's targets, may go on.

    A command that orders just this phase (``ringfence eradicate``) is the decision: whoever typed it decided.
    """
    context, run = scene.context, scene.run
    assert isinstance(scene.params, ApproveParams)
    pods = sum(1 for target in run.targets if target.kind == "Pod")
    second = guard.needs_second_person(pods, context.policy)
    if run.order.phases[0] == scene.step.phase.value and not second and run.order.decided:
        return Ended(Already(reason=f"ordered by the command of {run.requested_by}"))
    ceiling = Ceiling(
        actions=playbook_of.actions_after(scene.context, run, scene.step),
        targets=tuple(str(target) for target in run.targets),
        pods=pods,
    )
    answer = consent.consent(
        context,
        run,
        scene.step.id,
        ceiling,
        reason="; ".join(filter(None, (scene.params.reason, second))),
        second_person=bool(second),
        minutes=min(scene.params.expires_minutes, context.policy.approval_minutes),
    )
    match answer:
        case consent.Granted(approval=approval):
            return Ended(Already(reason=f"{approval.id} was approved by {approval.decided_by}"))
        case consent.Waiting(approval=approval):
            return Paused(approval)
        case Refused():
            return Ended(answer)


def look_again(scene: Scene) -> Answer:
    """``access.retest``: the statement computed anew from live state."""
    statement = retest(scene.context, scene.incident)
    if statement.why:
        return Ended(Failed(problem=Problem(code="unread", what="the cluster could not be read", why=statement.why)))
    scene.live.looked = (scene.run.id, statement)
    return Ended(Applied())


def move(scene: Scene) -> Answer:
    """``incident.move``: a legal transition.

    To ``closed`` only when no way in is open and unaccepted (law 1), or a person said that there was no attacker.
    """
    assert isinstance(scene.params, MoveParams)
    context, after = scene.context, scene.params.to
    if after is State.CLOSED and scene.incident.determination is not Determination.FALSE_POSITIVE:
        open_rows = [row.path for row in retest(context, scene.incident).rows if row.is_open]
        if open_rows:
            return Ended(
                Refused(
                    reason=f"open and accepted by nobody: {', '.join(open_rows)}",
                    next_step=f"ringfence status {scene.incident.id} -o wide",
                )
            )
    held = closing.held_on_nodes(context, scene.incident) if after is State.CLOSED else ()
    if held:  # nobody looks after them when it is closed
        return Ended(Refused(reason="; ".join(held), next_step=node_events.way_back(scene.incident.id)))
    with context.store.write() as session:
        current = incidents.get(session, scene.incident.id)
        if current.state is after:
            return Ended(Already(reason=f"the incident is {after}"))
        if not current.state.may_become(after):
            return Ended(Refused(reason=f"{current.state} cannot become {after}"))
        incidents.move(session, current, after, actor=context.actor, now=now())
    return Ended(Applied())
