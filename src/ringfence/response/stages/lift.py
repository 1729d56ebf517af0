"""Taking the fence down: ``fence.lift`` once the suspects are gone, ``pod.release`` for a false positive.

A detached pod is a suspect and is never adopted again: also after a false positive it is sealed and deleted, before its
fence. A pod fenced in place is unfenced, and goes on.
"""

from __future__ import annotations

import time

from ringfence.actions.base import Settings
from ringfence.actions.canary import Canary
from ringfence.actions.identity import CutIdentity
from ringfence.actions.network import DETACH, FENCE, FENCE_KEY, Quarantine
from ringfence.actions.pod import Delete
from ringfence.actions.unbind import Unbind
from ringfence.errors import PlatformError
from ringfence.model.base import Json
from ringfence.model.incident import Determination, Incident, State
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Refused, describe, is_done
from ringfence.model.timeline import NodeHelperReported
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.response import attempts, node_events, steps, undo
from ringfence.response.context import Context, now
from ringfence.response.scene import Answer, Ended, Scene
from ringfence.response.stages import destroy
from ringfence.response.stages.cut import finished, settings
from ringfence.response.watching.guarding import take_down
from ringfence.store import incidents, journal, targets, timeline

_POLL_SECONDS = 0.25


def lift(scene: Scene) -> Answer:
    """Take back, newest first, what this incident changed on policies, and exclusions that ended incidents left."""
    context, incident = scene.context, scene.incident
    with context.store.read() as session:
        pods = [ref for ref in targets.of_incident(session, incident.id) if ref.kind == POD.kind]
    try:
        live = _once_they_are_gone(context, pods)
    except PlatformError as error:
        return Ended(Failed(problem=Problem.of(error)))
    held = [str(ref) for ref in pods if (pod := live[ref.uid]) is not None and _is_fenced(pod, incident)]
    if held:
        refused = Refused(
            reason=f"the fence still holds {', '.join(held[:5])}", next_step=f"ringfence eradicate {incident.id}"
        )
        return finished(scene, Quarantine.name, refused)
    for ref in pods:
        _clear_canary(scene, ref)
    standing: list[str] = []
    taken = False
    guard = take_down(context, incident)
    if guard is not None and not is_done(guard):
        standing.append(f"the guard: {describe(guard)}")
    label = attempts.begin(context, incident, scene.label)
    for namespace in dict.fromkeys(ref.namespace for ref in pods):
        for name, outcome, own in _lift_in(scene, label, namespace):
            scene.live.say(f"{name}: {describe(outcome)}")
            taken = taken or isinstance(outcome, Applied)
            if own and not is_done(outcome):
                standing.append(f"{name}: {describe(outcome)}")
    for name, outcome in _give_back(context, incident):
        scene.live.say(f"{name}: {describe(outcome)}")
        taken = taken or isinstance(outcome, Applied)
        if not is_done(outcome):
            standing.append(f"{name}: {describe(outcome)}")
    with context.store.write() as session:
        current = incidents.get(session, incident.id)
        # A suspect that lives, cut or not, is not eradicated; after a false positive there was none.
        over = not any(live.values()) or current.determination is Determination.FALSE_POSITIVE
        if over and current.state is not State.DECLARED and current.state.may_become(State.RECOVERING):
            incidents.move(session, incident, State.RECOVERING, actor=context.actor, now=now())
    if standing:
        return Ended(Failed(problem=Problem(code="standing", what="part of the fence stands", why="; ".join(standing))))
    return Ended(Applied() if taken else Already(reason="nothing of the fence is left"))


def _give_back(context: Context, incident: Incident) -> list[tuple[str, Outcome]]:
    """Take back what was cut of the pods' identities: policies that no pod needs any more, and, after a false positive,
    the account's rights. After an attack these are somebody's decision: ``ringfence undo``."""
    with context.store.read() as session:
        mistaken = incidents.get(session, incident.id).determination is Determination.FALSE_POSITIVE
        records = journal.of_incident(session, incident.id)
    wanted = {CutIdentity.name, Unbind.name} if mistaken else {CutIdentity.name}
    return [
        (str(record.change.ref), undo.take_back(context, incident, record))
        for record in reversed(records)
        if record.action in wanted
        and not record.undone
        and not record.change.id.startswith("undo-")
        and record.outcome is not None
        and is_done(record.outcome)
    ]


def release(scene: Scene) -> Answer:
    """``pod.release``: one pod of a false positive, by the way in which it was cut."""
    context, incident, target = scene.context, scene.incident, scene.object
    record = cut_of(context, incident, target)
    live = find(context, target)
    if live is None:
        attempts.begin(context, incident, scene.label)  # a crash may have left its delete without a result
        return finished(scene, "pod.release", Already(reason=f"{target} is gone"))
    lives_on = record is None or record.change.id == FENCE
    held = _held_on_its_node(context, incident, target) if lives_on else None
    if held is not None:
        return finished(scene, "pod.release", held)
    if record is None and not _is_fenced(live, incident):
        # A pod that was never cut serves customers still: releasing it must not kill it.
        return finished(scene, "pod.release", Already(reason="the pod was never cut: it stays as it is"))
    if record is not None and record.change.id == FENCE:
        return _unfence(scene, record)
    return destroy.carry(
        scene,
        Delete(context.cluster, settings(scene)),
        before=lambda _plan: None,
        after=lambda _held, _ended: None,
    )


def _held_on_its_node(context: Context, incident: Incident, target: ObjectRef) -> Refused | None:
    """Why a pod that lives on is not free: what was done on its node is taken back by orders there alone."""
    with context.store.read() as session:
        events = timeline.events_of(session, incident.id, NodeHelperReported)
    said = " and ".join(node_events.in_force(events, target))
    return Refused(reason=f"{target}: {said}", next_step=node_events.way_back(incident.id)) if said else None


def _unfence(scene: Scene, record: ChangeRecord) -> Ended:
    """Take the fence label off a pod that was fenced in place; the policies follow with ``fence.lift``."""
    context, incident = scene.context, scene.incident
    action = Quarantine(context.cluster, settings(scene))
    label = attempts.begin(context, incident, scene.label)
    try:
        change = action.undo(record)
    except PlatformError as error:
        return Ended(Failed(problem=Problem.of(error)))
    if isinstance(change, Refused | Already):
        outcome: Outcome = change
    else:
        done = steps.apply_change(context, incident, label, action, 0, change)
        assert done.outcome is not None
        outcome = done.outcome
    if is_done(outcome):
        with context.store.write() as session:
            journal.mark_undone(session, record)
    return finished(scene, "pod.release", outcome)


def cut_of(context: Context, incident: Incident, target: ObjectRef) -> ChangeRecord | None:
    """The change that cut the pod and was not taken back; None when the journal has none that took effect."""
    with context.store.read() as session:
        for record in reversed(journal.of_incident(session, incident.id)):
            if (
                record.change.ref.uid == target.uid
                and record.change.id in (DETACH, FENCE)
                and not record.undone
                and record.outcome is not None
                and is_done(record.outcome)
            ):
                return record
    return None


def find(context: Context, target: ObjectRef) -> Json | None:
    """The pod of that uid, None when it is gone. Raises PlatformError."""
    live = context.cluster.find(POD, target.namespace, target.name)
    return live if live is not None and live["metadata"]["uid"] == target.uid else None


def _is_fenced(pod: Json, incident: Incident) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get(FENCE_KEY) == incident.fence)


def _once_they_are_gone(context: Context, pods: list[ObjectRef]) -> dict[str, Json | None]:
    """The pods that live, by uid. Those that are ending are waited for, as long as for a deletion."""
    deadline = time.monotonic() + context.policy.delete_wait_seconds
    while True:
        live = {ref.uid: find(context, ref) for ref in pods}
        ending = any(pod is not None and pod["metadata"].get("deletionTimestamp") for pod in live.values())
        if not ending or time.monotonic() >= deadline:
            return live
        time.sleep(_POLL_SECONDS)


def _clear_canary(scene: Scene, target: ObjectRef) -> None:
    """What an interrupted canary of this pod left behind. Its pods end by themselves; their objects go now."""
    action = Canary(scene.context.cluster, settings(scene), scene.context.policy.canary)
    try:
        leftovers = action.leftovers(target)
    except PlatformError as error:
        scene.live.say(f"leftovers of a canary could not be looked for: {error}")
        return
    for ordinal, change in enumerate(leftovers):
        steps.apply_change(scene.context, scene.incident, scene.label, action, ordinal, change)


def _lift_in(scene: Scene, label: str, namespace: str) -> list[tuple[str, Outcome, bool]]:
    """What became of each change to a policy of the namespace; the last says whether it was this incident's own.

    An exclusion serves every fenced pod of the namespace: it goes with the last of them.
    """
    context, incident = scene.context, scene.incident
    with context.store.read() as session:
        ended = {
            other.id: other for other in incidents.newest_first(session) if other.id == incident.id or other.state.over
        }
        records = journal.standing(session, cluster=incident.cluster, kind=NETWORK_POLICY.kind, namespace=namespace)
    found: list[tuple[str, Outcome, bool]] = []
    for ordinal, record in enumerate(record for record in records if record.incident in ended):
        owner = ended[record.incident]
        action = Quarantine(context.cluster, Settings(fence=owner.fence, serving_floor=context.policy.serving_floor))
        outcome: Outcome
        try:
            change = action.undo(record)
        except PlatformError as error:
            change = Refused(reason=str(error))
        if isinstance(change, Refused | Already):
            outcome = change
        else:
            # Two incidents, or two attempts, have changes of the same id: each is journalled as its own.
            own = change.model_copy(update={"id": f"{change.id}-{record.incident}-{record.step}"})
            done = steps.apply_change(context, incident, label, action, ordinal, own)
            assert done.outcome is not None
            outcome = done.outcome
        if is_done(outcome):
            with context.store.write() as session:
                journal.mark_undone(session, record)
        found.append((str(record.change.ref), outcome, record.incident == incident.id))
    return found
