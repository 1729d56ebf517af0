"""One order of the node helper on one pod, as a step: planned, sent, heard, written down.

A command and a step of a playbook do the same: ``prepare``, then their own question about customers, then
``carry_out``. Live state decides: the helper leaves as it is what it finds done, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.actions.base import Settings
from ringfence.actions.node_helper import NodeAction, NodeCut, NodeFreeze, Reader
from ringfence.actions.node_proof import proof_of
from ringfence.errors import NotFound, RingfenceError, TargetError
from ringfence.model.incident import Incident, State
from ringfence.model.node_helper import NodeOrder, NodeReport
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Refused, Skipped, is_done
from ringfence.model.plan import Change, Plan
from ringfence.model.proof import Proof
from ringfence.model.timeline import NodeHelperReported, StepFinished
from ringfence.platform.kubernetes.surroundings import Surroundings
from ringfence.response import guard, steps
from ringfence.response.context import Context, now
from ringfence.store import incidents, timeline


@dataclass(frozen=True)
class Wish:
    """What the person said beside the order."""

    accept_outage: bool = False
    despite_liveness: bool = False


@dataclass(frozen=True)
class Done:
    """What an order came to on one pod."""

    target: ObjectRef
    step: str
    outcome: Outcome
    proof: Proof | None = None
    report: NodeReport | None = None
    seal: str = ""


@dataclass(frozen=True)
class Ready:
    """An order with its plan, which is on the timeline under ``label``. Nothing was sent yet."""

    action: NodeAction
    order: NodeOrder
    target: ObjectRef
    around: Surroundings
    plan: Plan
    label: str

    @property
    def falling(self) -> str:
        """Which Services would fall below their floor by it; empty when none does."""
        return guard.below_floor(self.plan.impact)


def action_for(context: Context, incident: Incident, order: NodeOrder, wish: Wish) -> NodeAction:
    """The action whose order it is, or whose way back."""
    settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor)
    options = context.policy.node_helper
    if order in (NodeOrder.FREEZE, NodeOrder.THAW):
        return NodeFreeze(context.cluster, settings, options, despite_liveness=wish.despite_liveness)
    return NodeCut(context.cluster, settings, options)


def prepare(
    context: Context, incident: Incident, target: ObjectRef, order: NodeOrder, wish: Wish, label: str
) -> Ready | Done:
    """Look, and plan. Done when that ends it: the pod is gone, protected, or unfit. Raises StoreError."""
    action = action_for(context, incident, order, wish)
    with context.store.write() as session:
        incidents.remember(session, context.principal, now())
    try:
        around = action.look(context.cluster_id, target, context.pool)
        refused = guard.protected(around.pod, context.policy)
        plan = refused if refused is not None else action.plan(target, around, order)
    except (NotFound, TargetError):
        gone = Skipped(reason=f"{target} is gone, and its interfaces and processes with it")
        return ended(context, incident, Done(target, label, gone), order)
    except RingfenceError as error:
        steps.record_failure(context, incident, label, name_of(order), error)
        return Done(target, label, Failed(problem=Problem.of(error)))
    if isinstance(plan, Refused):
        return refuse(context, incident, target, label, order, "plan", plan)
    steps.record_plan(context, incident, label, plan)
    return Ready(action, order, target, around, plan, label)


def carry_out(context: Context, incident: Incident, ready: Ready, *, read: Reader | None = None) -> Done:
    """Start the helper, hear it, take it away; each of its requests is journalled. Raises StoreError."""
    sent: list[Change] = []

    def send(change: Change) -> Outcome:
        sent.append(change)
        record = steps.apply_change(context, incident, ready.label, ready.action, len(sent), change)
        assert record.outcome is not None
        return record.outcome

    report = ready.action.run(ready.plan, ready.around, send, read)
    outcome = outcome_of(report)
    if ready.order.takes and is_done(outcome):
        with context.store.write() as session:
            if incidents.get(session, incident.id).state is State.DECLARED:
                incidents.move(session, incident, State.CONTAINING, actor=context.actor, now=now())
    done = Done(ready.target, ready.label, outcome, proof_of(report), report)
    return ended(context, incident, done, ready.order)


def take_away(context: Context, incident: Incident, target: ObjectRef, label: str) -> tuple[str, ...]:
    """Delete what former runs for this pod left behind, journalled under ``label``; what is left then, in words.

    Raises PlatformError when it cannot be looked for, StoreError.
    """
    action = action_for(context, incident, NodeOrder.STATUS, Wish())
    said = []
    for number, change in enumerate(action.leftovers(target)):
        record = steps.apply_change(context, incident, label, action, number, change)
        if record.outcome is None or not is_done(record.outcome):
            said.append(f"{change.ref} was left behind, and is not deleted")
    return tuple(said)


def outcome_of(report: NodeReport) -> Outcome:
    """What a run came to, as the outcome of its step (pure)."""
    if not report.done:
        problem = Problem(code="node-helper", what=f"{report.order} was not done", why=report.why)
        return Failed(problem=problem)
    if report.left_behind:
        left = ", ".join(report.left_behind)
        problem = Problem(
            code="node-helper",
            what=f"{report.order} was done, and the helper was not seen to go",
            why=left,
            next_step="ringfence node INC off, which looks for it again",
        )
        return Failed(problem=problem)
    if report.already:
        return Already(reason=f"the node helper found it so: {report.order} changed nothing")
    return Applied()


def refuse(
    context: Context, incident: Incident, target: ObjectRef, label: str, order: NodeOrder, gate: str, refused: Refused
) -> Done:
    """End the order by a refusal, which is put on the timeline."""
    steps.refuse(context, incident, label, name_of(order), gate, refused.reason)
    return ended(context, incident, Done(target, label, refused), order)


def name_of(order: NodeOrder) -> str:
    """What the timeline calls it. The journal has the action, which is that of the order and of its way back."""
    return f"node.{order}"


def ended(context: Context, incident: Incident, done: Done, order: NodeOrder) -> Done:
    """Write the order's end down, in one transaction with the helper's report."""
    moment = now()
    with context.store.write() as session:
        if done.report is not None:
            event = NodeHelperReported(
                occurred_at=done.report.ended_at, actor=context.actor, report=done.report, step=done.step
            )
            timeline.append(session, incident.id, event, moment)
        finished = StepFinished(
            occurred_at=moment,
            actor=context.actor,
            step=done.step,
            action=name_of(order),
            outcome=done.outcome,
            proof=done.proof,
            target=done.target,
        )
        timeline.append(session, incident.id, finished, moment)
    return done
