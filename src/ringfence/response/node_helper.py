"""``ringfence node``: the node helper switched on and off for an incident, and its orders carried out.

Off by default. To switch it on is a fact of the timeline, needs rights of its own (``ringfence rbac --node-helper``),
and each order after it is a step of its own: planned, journalled, reported. What a crash left behind is looked for and
deleted before anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never

from ringfence.actions.base import Settings
from ringfence.actions.node_helper import PERMISSIONS, NodeAction, NodeCut, NodeFreeze, Options, Reader, order_of
from ringfence.actions.node_proof import proof_of
from ringfence.errors import Guarded, PlatformError, RingfenceError, TargetError
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.node_helper import NodeOrder, NodeReport
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Refused
from ringfence.model.plan import Change, Verb
from ringfence.model.proof import Proof
from ringfence.model.timeline import Event, NodeHelperReported, NodeHelperSwitched, StepFinished
from ringfence.platform.kubernetes.identity import may
from ringfence.platform.kubernetes.node_helpers import HELPER_UID_KEY
from ringfence.response import guard, node_record, steps
from ringfence.response.context import Context, now
from ringfence.store import incidents, targets, timeline

MANIFEST = "ringfence rbac --node-helper"


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


def switch_on(context: Context, incident: Incident, reason: str) -> None:
    """Allow the helper for this incident. Raises Guarded when it is not configured or may not be used."""
    options = _configured(context)
    if missing := missing_rights(context, options):
        raise Guarded(
            f"the node helper may not be used by {context.principal}",
            why=f"in namespace {options.namespace} it lacks: {', '.join(missing)}",
            next_step=f"{MANIFEST} --service-account NS/NAME | kubectl apply -f -, for the length of the incident",
        )
    _switch(context, incident, on=True, reason=reason)


def switch_off(context: Context, incident: Incident, reason: str) -> tuple[str, ...]:
    """Allow it no longer; delete what was left behind. What stays: cuts and freezes in force, and rights not yet
    taken away, in words. Raises PlatformError, StoreError."""
    options = _configured(context)
    found: list[str] = []
    with context.store.read() as session:
        events = [entry.event for entry in timeline.read(session, incident.id)]
    for target in pods_of(context, incident):
        for action in (NodeCut, NodeFreeze):
            if why := standing(events, target, action.order):
                found.append(f"{target}: {why}; ringfence node {incident.id} {action.back}, when it is on")
    found += sweep(context, incident)
    _switch(context, incident, on=False, reason=reason)
    if len(missing_rights(context, options)) < len(_rights()):
        found.append(f"its rights in namespace {options.namespace} are still there: {MANIFEST} | kubectl delete -f -")
    return tuple(found)


def standing(events: Iterable[Event], target: ObjectRef, order: NodeOrder) -> str:
    """What of ``cut`` or ``freeze`` is still in force on a pod, as far as was reported (pure); empty: nothing."""
    for event in reversed([*events]):
        if not isinstance(event, NodeHelperReported) or event.report.target.uid != target.uid:
            continue
        report = event.report
        if order is NodeOrder.CUT and report.network is not None:
            return "the cut on its node stays in force" if report.network.in_force else ""
        if order is NodeOrder.FREEZE and report.frozen is not None:
            return "its processes stay frozen" if report.frozen else ""
    return ""


def sweep(context: Context, incident: Incident) -> tuple[str, ...]:
    """Delete what runs of this incident left behind; what could not be deleted, in words. Raises StoreError."""
    said: list[str] = []
    for target in pods_of(context, incident):
        action = _action(context, incident, NodeOrder.STATUS, Wish())
        try:
            left = action.leftovers(target)
        except PlatformError as error:
            return (f"what a helper may have left behind could not be looked for: {error}",)
        label = steps.next_step(context, incident, "node-sweep") if left else ""
        for number, change in enumerate(left):
            record = steps.apply_change(context, incident, label, action, number, change)
            if record.outcome is not None and not steps.is_done(record.outcome):
                said.append(f"{change.ref} was left behind, and is not deleted")
    return tuple(said)


def pods_of(context: Context, incident: Incident) -> tuple[ObjectRef, ...]:
    with context.store.read() as session:
        return tuple(ref for ref in targets.of_incident(session, incident.id) if ref.kind == "Pod")


def order_all(
    context: Context, incident: Incident, order: NodeOrder, wish: Wish, *, only: str = "", say: Callable[[str], None]
) -> tuple[Done, ...]:
    """The order on every pod of the incident, or the one that is named. Raises Guarded, TargetError, StoreError."""
    require_on(context, incident)
    found = [ref for ref in pods_of(context, incident) if only in ("", ref.name)]
    if not found:
        raise TargetError(f"{incident.id} is about no pod {only}".rstrip(), next_step=f"ringfence status {incident.id}")
    steps.reconcile(context, incident)
    done = []
    for target in found:
        say(f"{order}: {target}")
        done.append(carry_out(context, incident, target, order, wish))
    return tuple(done)


def require_on(context: Context, incident: Incident) -> None:
    """Raises Guarded unless the helper is configured and on for this incident."""
    _configured(context)
    with context.store.read() as session:
        on = node_record.is_on(entry.event for entry in timeline.read(session, incident.id))
    if not on:
        raise Guarded(
            f"the node helper is off for {incident.id}",
            why="it is switched on per incident, as it is root on a node",
            next_step=f"ringfence node {incident.id} on --reason WHY",
        )


def carry_out(
    context: Context,
    incident: Incident,
    target: ObjectRef,
    order: NodeOrder,
    wish: Wish,
    *,
    read: Reader | None = None,
) -> Done:
    """One order on one pod, as a step of its own. Raises StoreError."""
    action = _action(context, incident, order, wish)
    with context.store.write() as session:
        incidents.remember(session, context.principal, now())
    label = steps.next_step(context, incident, f"node-{order}")
    try:
        around = action.look(context.cluster_id, target, context.pool)
        refused = guard.protected(around.pod, context.policy)
        plan = refused or action.plan(target, around, order)
        falling = "" if isinstance(plan, Refused) or wish.accept_outage else guard.below_floor(plan.impact)
        if falling:
            plan = Refused(reason=falling, next_step="the same command with --accept-outage")
    except RingfenceError as error:
        steps.record_failure(context, incident, label, action.name, error)
        return Done(target, label, Failed(problem=Problem.of(error)))
    if isinstance(plan, Refused):
        steps.refuse(context, incident, label, action.name, "plan", plan.reason)
        return _ended(context, incident, Done(target, label, plan), action.name)
    steps.record_plan(context, incident, label, plan)
    sent: list[Change] = []

    def send(change: Change) -> Outcome:
        sent.append(change)
        record = steps.apply_change(context, incident, label, action, len(sent), change)
        assert record.outcome is not None
        return record.outcome

    report = action.run(plan, around, send, read)
    with context.store.write() as session:
        event = NodeHelperReported(occurred_at=report.ended_at, actor=context.actor, report=report)
        timeline.append(session, incident.id, event, now())
    return _ended(context, incident, Done(target, label, _outcome(report), proof_of(report), report), action.name)


def take_back(context: Context, incident: Incident, record: ChangeRecord) -> Outcome:
    """``ringfence undo`` of a cut or a freeze: the run that takes it back. Raises Guarded, StoreError."""
    if record.change.verb is not Verb.CREATE:
        return Already(reason="the helper's pod is deleted at the end of each run")
    order = order_of(record.change)
    back = {action.order: action.back for action in (NodeCut, NodeFreeze)}.get(order)
    if back is None:
        return Already(reason=f"{order} left nothing to take back")
    require_on(context, incident)
    uid = record.change.body["metadata"]["annotations"][HELPER_UID_KEY]
    target = next((ref for ref in pods_of(context, incident) if ref.uid == uid), None)
    if target is None:
        return Refused(reason="the pod that it was about is not the incident's")
    return carry_out(context, incident, target, back, Wish()).outcome


def missing_rights(context: Context, options: Options) -> tuple[str, ...]:
    """What the principal may not do in the helper's namespace. Raises PlatformError."""
    found = []
    for plural, verb in _rights():
        resource, _, subresource = plural.partition("/")
        if not may(context.cluster, verb, resource, namespace=options.namespace, subresource=subresource):
            found.append(f"{verb} {plural}")
    return tuple(found)


def _rights() -> tuple[tuple[str, str], ...]:
    return tuple((one.plural, verb) for one in PERMISSIONS for verb in sorted(one.verbs))


def _configured(context: Context) -> Options:
    options = context.policy.node_helper
    if options is None:
        raise Guarded(
            "the node helper is off in the configuration",
            next_step="node_helper.enabled and node_helper.image (docs/tasks/cut-on-the-node.md)",
        )
    return options


def _switch(context: Context, incident: Incident, *, on: bool, reason: str) -> None:
    event = NodeHelperSwitched(occurred_at=now(), actor=context.actor, on=on, reason=reason)
    with context.store.write() as session:
        incidents.remember(session, context.principal, now())
        timeline.append(session, incident.id, event, now())


def _action(context: Context, incident: Incident, order: NodeOrder, wish: Wish) -> NodeAction:
    settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor)
    options = context.policy.node_helper
    match order:
        case NodeOrder.CUT | NodeOrder.UNCUT | NodeOrder.STATUS | NodeOrder.COLLECT:
            return NodeCut(context.cluster, settings, options)
        case NodeOrder.FREEZE | NodeOrder.THAW:
            return NodeFreeze(context.cluster, settings, options, despite_liveness=wish.despite_liveness)
        case _:
            assert_never(order)


def _outcome(report: NodeReport) -> Outcome:
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
    return Applied()


def _ended(context: Context, incident: Incident, done: Done, action: str) -> Done:
    event = StepFinished(
        occurred_at=now(),
        actor=context.actor,
        step=done.step,
        action=action,
        outcome=done.outcome,
        proof=done.proof,
        target=done.target,
    )
    with context.store.write() as session:
        timeline.append(session, incident.id, event, now())
    return done
