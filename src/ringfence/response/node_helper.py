"""``ringfence node``: the node helper switched on and off for an incident, and its orders carried out.

Off by default. To switch it on is a fact of the timeline, needs rights of its own (``ringfence rbac --node-helper``),
and each order after it is a step of its own: planned, journalled, reported. What a crash left behind is looked for and
deleted before anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ringfence.actions.node_helper import PERMISSIONS, NodeCut, NodeFreeze, Options, Reader, order_of
from ringfence.errors import Guarded, PlatformError, TargetError
from ringfence.model import step_names
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.node_helper import NodeOrder
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Outcome, Refused
from ringfence.model.plan import Verb
from ringfence.model.timeline import NodeHelperSwitched
from ringfence.platform.kubernetes.identity import may
from ringfence.platform.kubernetes.node_helpers import HELPER_UID_KEY
from ringfence.platform.kubernetes.surroundings import read_namespace
from ringfence.response import customers, node_events, node_order, steps
from ringfence.response.context import Context, now
from ringfence.response.customers import Held
from ringfence.response.node_order import Done, Wish
from ringfence.store import incidents, targets, timeline

MANIFEST = "ringfence rbac --node-helper"


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
            if why := node_events.standing(events, target, action.order):
                found.append(f"{target}: {why}; ringfence node {incident.id} {action.back}, when it is on")
    found += sweep(context, incident)
    _switch(context, incident, on=False, reason=reason)
    if len(missing_rights(context, options)) < len(_rights()):
        found.append(f"its rights in namespace {options.namespace} are still there: {MANIFEST} | kubectl delete -f -")
    return tuple(found)


def sweep(context: Context, incident: Incident) -> tuple[str, ...]:
    """Delete what runs of this incident left behind; what could not be deleted, in words. Raises StoreError."""
    label = steps.next_step(context, incident, step_names.SWEEP)
    said: list[str] = []
    for target in pods_of(context, incident):
        try:
            said += node_order.take_away(context, incident, target, label)
        except PlatformError as error:
            return (*said, f"what a helper may have left behind could not be looked for: {error}")
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
    held = _held(context, incident, found) if order.takes and len(found) > 1 else {}
    done = []
    for target in found:
        say(f"{order}: {target}")
        label = steps.next_step(context, incident, step_names.OF_ORDER[order])
        ready = node_order.prepare(context, incident, target, order, wish, label)
        if isinstance(ready, Done):
            done.append(ready)
            continue
        falling = ready.falling or held.get(target.uid, "")
        if falling and (shut := _shut(context, incident, falling, wish, len(found))) is not None:
            done.append(node_order.refuse(context, incident, target, label, order, shut.gate, shut.refused))
            continue
        done.append(node_order.carry_out(context, incident, ready))
    return tuple(done)


def _held(context: Context, incident: Incident, found: Sequence[ObjectRef]) -> Mapping[str, str]:
    """Pod uid → why it is not taken with the others without consent."""
    try:
        return customers.survey(
            context, incident.id, found, lambda name: read_namespace(context.cluster, name, context.pool)
        ).held
    except PlatformError as error:
        return {ref.uid: f"what customers would feel is not known: {error}" for ref in found}


def _shut(context: Context, incident: Incident, falling: str, wish: Wish, pods: int) -> Held | None:
    """None when the person who gave the order takes the outage on, and needs nobody beside them for it."""
    if not wish.accept_outage:
        return Held("serving-floor", Refused(reason=falling, next_step=customers.ACCEPT))
    why = customers.too_many(context, incident.severity, pods)
    if not why:
        return None
    return Held(
        "approval",
        Refused(
            reason=f"{falling}; {why}",
            next_step="ringfence contain on the same targets, with --accept-outage: there a second person can approve",
        ),
    )


def order_one(
    context: Context, incident: Incident, target: ObjectRef, order: NodeOrder, *, read: Reader | None = None
) -> Done:
    """An order that takes nothing from customers, on one pod, as a step of its own. Raises StoreError."""
    label = steps.next_step(context, incident, step_names.OF_ORDER[order])
    ready = node_order.prepare(context, incident, target, order, Wish(), label)
    return ready if isinstance(ready, Done) else node_order.carry_out(context, incident, ready, read=read)


def require_on(context: Context, incident: Incident) -> None:
    """Raises Guarded unless the helper is configured and on for this incident."""
    _configured(context)
    with context.store.read() as session:
        on = node_events.is_on(timeline.events_of(session, incident.id, NodeHelperSwitched))
    if not on:
        raise Guarded(
            f"the node helper is off for {incident.id}",
            why="it is switched on per incident, as it is root on a node",
            next_step=f"ringfence node {incident.id} on --reason WHY",
        )


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
    return order_one(context, incident, target, back).outcome


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
