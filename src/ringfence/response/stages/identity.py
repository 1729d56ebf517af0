"""Stages that cut a suspect's identity: ``identity.cut``, ``identity.unbind``; each with a canary where there can be
one."""

from __future__ import annotations

import time

from ringfence.actions.identity import CutIdentity
from ringfence.actions.recreate import RecreateAccount
from ringfence.actions.tokens import DeleteTokens
from ringfence.actions.unbind import Unbind
from ringfence.errors import PlatformError, TargetError
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Already, Refused, Skipped, is_done
from ringfence.model.plan import Plan, Verb
from ringfence.platform.kubernetes import token_policy
from ringfence.platform.kubernetes.pods import service_account
from ringfence.platform.kubernetes.resources import SERVICE_ACCOUNT
from ringfence.response import attempts, guard, policy_canary, steps, token_canary
from ringfence.response.canary_record import READ, WRITE
from ringfence.response.policy_canary import Armed
from ringfence.response.scene import Answer, Ended, Scene
from ringfence.response.stages import destroy
from ringfence.response.stages.cut import finished, settings
from ringfence.response.stages.lift import find
from ringfence.store import journal

_TRIES = 4
_PAUSE_SECONDS = 1.0


def cut(scene: Scene) -> Answer:
    """The admission policy, proven by a write that it refuses."""
    context, incident, target = scene.context, scene.incident, scene.object
    over = _over(scene, CutIdentity.name)
    if over is not None:
        return over
    action = CutIdentity(context.cluster, settings(scene))
    name = token_policy.policy_name(incident.fence, target.uid)
    armed = Armed(None, None, "no canary: the process that cut was interrupted")
    action.canary = lambda ref: policy_canary.fire(context, incident, ref, WRITE, armed, policy=name)

    def arm(_plan: Plan) -> None:
        nonlocal armed
        armed = policy_canary.arm(context, incident, target, WRITE)

    return destroy.carry(scene, action, before=arm, after=lambda _held, _ended: None)


def unbind(scene: Scene) -> Answer:
    """The bindings, proven by a read that was allowed before. Left out while others use the account, unless wanted."""
    context, incident, target = scene.context, scene.incident, scene.object
    over = _over(scene, Unbind.name)
    if over is not None:
        return over
    action = Unbind(context.cluster, settings(scene))
    armed = Armed(None, None, "no canary: the process that cut was interrupted")
    action.canary = lambda ref: policy_canary.fire(context, incident, ref, READ, armed)
    if not scene.run.order.bindings:
        try:
            around = action.look(context.cluster_id, target, context.pool)
        except TargetError as error:
            return finished(scene, Unbind.name, Skipped(reason=str(error)))
        if others := around.unfenced(incident.fence):
            why = f"{len(others)} other pods use {around.words}: --bindings takes their rights as well"
            return finished(scene, Unbind.name, Skipped(reason=why))

    def arm(plan: Plan) -> None:
        nonlocal armed
        namespaces = dict.fromkeys(change.ref.namespace for change in plan.changes if change.ref.namespace)
        armed = policy_canary.arm(context, incident, target, READ, namespaces)

    return destroy.carry(scene, action, before=arm, after=lambda _held, _ended: None)


def recreate(scene: Scene) -> Answer:
    """The account anew; a token that was accepted before is tried until the API server refuses it."""
    context, incident, target = scene.context, scene.incident, scene.object
    over = _over(scene, RecreateAccount.name)
    if over is not None:
        return over
    action = RecreateAccount(context.cluster, settings(scene))

    attempts.begin(context, incident, scene.label)  # what a crash left open is looked up first
    for record in _deletions(scene):
        action.deleted = record.change.prior  # of use only when the account is not there
        step = record.step.partition(".")[0]
        if step != scene.label and step.startswith(f"{scene.step.id}/{scene.run.number}/"):
            return finished(scene, RecreateAccount.name, Already(reason=f"{record.change.ref} was recreated before"))

    minted: token_canary.Minted | None = None

    def mint(plan: Plan) -> None:
        nonlocal minted
        if plan.destroys and context.policy.token_canary:  # else there is no account to mint one of
            minted = token_canary.mint(context, incident, target)

    def try_it(_held: None, ended: Ended) -> None:
        if minted is not None and is_done(ended.outcome):
            scene.live.say("trying a token of the old account until the API server refuses it")
            token_canary.await_refusal(context, incident, minted)

    for _ in range(_TRIES):
        answer = destroy.carry(scene, action, before=mint, after=try_it)
        if not isinstance(answer, Ended) or is_done(answer.outcome) or not _is_missing(scene):
            break
        # Deleted and not there again: its pods are shut out until it is. A fresh plan makes what is missing.
        action.deleted = next((record.change.prior for record in reversed(_deletions(scene))), None)
        time.sleep(_PAUSE_SECONDS)
    return answer


def delete_tokens(scene: Scene) -> Answer:
    """The account's tokens in Secrets; each Secret's metadata is sealed first, and nothing else of it."""
    over = _over(scene, DeleteTokens.name)
    return over if over is not None else destroy.act(scene)


def _is_missing(scene: Scene) -> bool:
    """Whether the pod's account is certainly not there."""
    try:
        pod = find(scene.context, scene.object)
        namespace = scene.object.namespace
        return pod is not None and scene.context.cluster.find(SERVICE_ACCOUNT, namespace, service_account(pod)) is None
    except PlatformError:
        return False


def _deletions(scene: Scene) -> tuple[ChangeRecord, ...]:
    """The deletions of this pod's account by this incident, oldest first.

    One for another pod of the same run must not be done again: it would kill the good tokens of the new account.
    """
    context, target = scene.context, scene.object
    pod = find(context, target)
    with context.store.read() as session:
        records = journal.of_incident(session, scene.incident.id)
    return tuple(
        record
        for record in records
        if pod is not None
        and (record.action, record.change.verb) == (RecreateAccount.name, Verb.DELETE)
        and (record.change.ref.namespace, record.change.ref.name) == (target.namespace, service_account(pod))
        and record.outcome is not None
        and is_done(record.outcome)
    )


def _over(scene: Scene, action: str) -> Ended | None:
    """How the step ends before it began: the pod is gone, or its account is one that nobody may touch."""
    context, target = scene.context, scene.object
    pod = find(context, target)
    if pod is None:
        return finished(scene, action, Skipped(reason=f"{target} is gone, and the tokens that are bound to it with it"))
    account = context.cluster.find(SERVICE_ACCOUNT, target.namespace, service_account(pod))
    refusal = guard.protected({**account, "kind": SERVICE_ACCOUNT.kind}, context.policy) if account else None
    if refusal is None:
        return None
    steps.refuse(context, scene.incident, scene.label, action, "protected", refusal.reason)
    return finished(scene, action, Refused(reason=refusal.reason, next_step=refusal.next_step))
