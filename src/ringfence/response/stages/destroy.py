"""Stages that end what cannot come back: the evidence gate, the blast radius, then the write.

Freeze, then seal, then destroy: no playbook gets around the gate. A named person can break the glass, with a reason
that heads the report; the order for that is in the run, not in the playbook.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ringfence.actions.base import Action
from ringfence.actions.pod import Delete
from ringfence.actions.registry import ACTIONS
from ringfence.errors import NotFound, RingfenceError, TargetError
from ringfence.model.incident import State
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Failed, Problem, Refused, is_done
from ringfence.model.plan import Plan
from ringfence.model.run import Ceiling
from ringfence.model.timeline import GlassBroken
from ringfence.platform.kubernetes.resources import POD
from ringfence.response import attempts, customers, gate, guard, steps, token_canary
from ringfence.response.capture import recapture, seal_object
from ringfence.response.context import Context, now
from ringfence.response.scene import Answer, Ended, Scene
from ringfence.response.stages.cut import finished, settings
from ringfence.store import evidence as evidence_rows
from ringfence.store import incidents, timeline

Held = TypeVar("Held")
_SEALERS = 4


def act(scene: Scene) -> Answer:
    """Any action of the registry on one target: plan, gates, apply, verify."""
    action = ACTIONS[scene.step.action](scene.context.cluster, settings(scene))
    return carry(scene, action, before=lambda _plan: None, after=lambda _held, _ended: None)


def delete(scene: Scene) -> Answer:
    """``pod.delete``: and a token bound to the pod, tried until the API server refuses it."""
    context, incident, target = scene.context, scene.incident, scene.object
    action = Delete(context.cluster, settings(scene))

    def mint(_plan: Plan) -> token_canary.Minted | None:
        return token_canary.mint(context, incident, target) if context.policy.token_canary else None

    def try_it(minted: token_canary.Minted | None, ended: Ended) -> None:
        if minted is not None and is_done(ended.outcome) and token_canary.is_gone(context, target):
            scene.live.say("trying a token of the deleted pod until the API server refuses it")
            token_canary.await_refusal(context, incident, minted)

    return carry(scene, action, before=mint, after=try_it)


def carry(
    scene: Scene,
    action: Action[Any],
    *,
    before: Callable[[Plan], Held],
    after: Callable[[Held, Ended], None],
) -> Answer:
    """Plan, ask the gates, apply, verify. ``before`` runs once the gates are open, just before the write."""
    context, incident, target = scene.context, scene.incident, scene.object
    label, records = attempts.take_up(context, incident, scene.label)
    if records:
        result = steps.conclude(context, incident, label, action, target, records)
        return Ended(result.outcome, result.proof)
    try:
        plan = action.plan(target, action.look(context.cluster_id, target, context.pool))
    except (NotFound, TargetError) as error:
        if action.name == Delete.name:
            return finished(scene, action.name, Already(reason="the pod is gone"))
        steps.record_failure(context, incident, label, action.name, error)
        return Ended(Failed(problem=Problem.of(error)))
    except RingfenceError as error:
        steps.record_failure(context, incident, label, action.name, error)
        return Ended(Failed(problem=Problem.of(error)))
    match plan:
        case Refused():
            return _refused(scene, action, "plan", plan)
        case Already():
            return finished(scene, action.name, plan)
        case Plan():
            pass
    if (refusal := _protected(scene, plan)) is not None:
        return _refused(scene, action, "protected", refusal)
    steps.record_plan(context, incident, label, plan)
    if plan.destroys and action.destructive:
        _seal_the_doomed(scene, plan)
        stopped = _gates(scene, action, plan)
        if stopped is not None:
            return stopped
        with context.store.write() as session:
            if incidents.get(session, incident.id).state.may_become(State.ERADICATING):
                incidents.move(session, incident, State.ERADICATING, actor=context.actor, now=now())
    held = before(plan)
    # The gate is asked last of all, just before the write: a seal may have aged while somebody made up their mind.
    if plan.destroys and action.destructive and (shut := _glass(scene, action, plan)) is not None:
        return shut
    scene.live.say(f"{action.name}: {target}")
    result = steps.carry_out(context, incident, label, action, plan)
    ended = Ended(result.outcome, result.proof)
    after(held, ended)
    return ended


def _protected(scene: Scene, plan: Plan) -> Refused | None:
    """Whether something that will die is protected: a workload may have a pod that nobody may touch."""
    for ref in plan.destroys:
        if ref.kind == POD.kind and ref.uid != scene.object.uid:
            pod = scene.context.cluster.find(POD, ref.namespace, ref.name)
            refusal = guard.protected({**pod, "kind": POD.kind}, scene.context.policy) if pod is not None else None
            if refusal is not None:
                return refusal
    return None


def _seal_the_doomed(scene: Scene, plan: Plan) -> None:
    """Seal what else ends by the plan: pods of a workload that were none of the run's targets, and what is no pod.

    One that cannot be sealed keeps the gate shut, which says why.
    """
    context, incident = scene.context, scene.incident
    with context.store.read() as session:
        sealed = {seal.subject_uid for seal in evidence_rows.seals(session, incident.id) if seal.complete}
    known = {target.uid for target in scene.run.targets}
    doomed = [ref for ref in plan.destroys if ref.kind != POD.kind or ref.uid not in sealed | known]

    def seal(ref: ObjectRef) -> None:
        try:
            if ref.kind == POD.kind:
                recapture(context, incident, ref, key=f"{scene.label}/{ref.uid}")
            else:
                seal_object(context, incident, ref, key=f"{scene.label}/{ref.uid}")
        except RingfenceError as error:
            scene.live.say(f"{ref} could not be sealed: {error}")

    with ThreadPoolExecutor(_SEALERS, thread_name_prefix="seal") as pool:
        list(pool.map(seal, doomed))


def shut_because(context: Context, incident_id: str, plan: Plan) -> tuple[str, ...]:
    """Why the evidence gate is shut for this plan now; empty when it is open."""
    with context.store.read() as session:
        seals = evidence_rows.seals(session, incident_id)
    return gate.shut_because(plan.destroys, seals, now=now(), max_age_seconds=context.policy.seal_max_age_seconds)


def _gates(scene: Scene, action: Action[Any], plan: Plan) -> Answer | None:
    """The evidence, then the blast radius: None when both let it pass."""
    context, run = scene.context, scene.run
    shut = shut_because(context, scene.incident.id, plan)
    if shut and not run.order.break_glass:
        return _evidence_missing(scene, action, shut)
    # A fenced pod serves nobody any more: ending it takes nothing from customers that its cut had not taken.
    pods = 0 if action.name == Delete.name else plan.impact.pods
    why = customers.too_many(context, scene.incident.severity, pods) if pods else ""
    if not why:
        return None
    ceiling = Ceiling(actions=(action.name,), targets=(str(scene.object),), pods=pods)
    answer = customers.second_person(scene, ceiling, why)
    return _refused(scene, action, "approval", answer) if isinstance(answer, Refused) else answer


def _glass(scene: Scene, action: Action[Any], plan: Plan) -> Answer | None:
    """None when the gate is open, or broken by a named person: that is written down before the write."""
    context, incident = scene.context, scene.incident
    shut = shut_because(context, incident.id, plan)
    if not shut:
        return None
    if not scene.run.order.break_glass:
        return _evidence_missing(scene, action, shut)
    event = GlassBroken(
        occurred_at=now(),
        actor=scene.run.requested_by,
        step=scene.label,
        action=action.name,
        reason=scene.run.order.break_glass,
        missing="; ".join(shut),
    )
    with context.store.write() as session:
        timeline.append(session, incident.id, event, now())
    return None


def _evidence_missing(scene: Scene, action: Action[Any], shut: tuple[str, ...]) -> Ended:
    next_step = f"ringfence evidence collect {scene.incident.id}"
    return _refused(scene, action, "evidence", Refused(reason="; ".join(shut), next_step=next_step))


def _refused(scene: Scene, action: Action[Any], which: str, refused: Refused) -> Ended:
    steps.refuse(scene.context, scene.incident, scene.label, action.name, which, refused.reason)
    return finished(scene, action.name, refused)
