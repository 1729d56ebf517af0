"""Ending a canary that is no good: it may be the attacker's by now, so it is sealed first, or stays."""

from __future__ import annotations

from ringfence.actions.base import Settings
from ringfence.actions.restore import CANARY, Restore
from ringfence.errors import PlatformError, RingfenceError
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, describe, is_done
from ringfence.platform.kubernetes.surroundings import reference
from ringfence.response import attempts, gate, steps
from ringfence.response.capture import recapture
from ringfence.response.context import now
from ringfence.response.recovery import scope as scopes
from ringfence.response.scene import Scene
from ringfence.store import evidence, journal


def end_canaries(scene: Scene) -> None:
    """Of each workload that is stopped but for its canary. One whose saved number is back has none any more."""
    context, incident = scene.context, scene.incident
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    for record in reversed(scopes.standing(records, Restore.name)):
        ref = record.change.ref
        if record.change.id != CANARY or scopes.stop_of(context, incident, ref) is None:
            continue
        try:
            said = _end(scene, record)
        except PlatformError as error:
            said = f"it could not be ended: {error}"
        scene.live.say(f"the canary of {ref}: {said}")


def _end(scene: Scene, record: ChangeRecord) -> str:
    context, incident, ref = scene.context, scene.incident, record.change.ref
    settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor)
    action = Restore(context.cluster, settings)
    label = attempts.begin(context, incident, f"{scene.label}-{ref.kind.lower()}-{ref.name}")
    change = action.end_canary(record)
    if isinstance(change, Already):
        return describe(change)
    if shut := _unsealed(scene, ref):
        steps.refuse(context, incident, label, action.name, "evidence", "; ".join(shut))
        return f"it stays, as it is not sealed: {'; '.join(shut)}"
    done = steps.apply_change(context, incident, label, action, 0, change)
    assert done.outcome is not None
    if is_done(done.outcome):
        with context.store.write() as session:
            journal.mark_undone(session, record)
    return describe(done.outcome)


def _unsealed(scene: Scene, ref: ObjectRef) -> tuple[str, ...]:
    """Seal the workload's pods; why the evidence gate is shut all the same, empty when it is open."""
    context, incident = scene.context, scene.incident
    found = scopes.read(context, incident)
    pods = [reference(ref.cluster, pod) for one in found.restored if one.ref.uid == ref.uid for pod in one.pods]
    if not pods:
        return ()  # none has started: none dies
    for pod in pods:
        try:
            recapture(context, incident, pod, key=f"{scene.label}/{pod.uid}")
        except RingfenceError as error:
            scene.live.say(f"{pod} could not be sealed: {error}")
    with context.store.read() as session:
        seals = evidence.seals(session, incident.id)
    return gate.shut_because(pods, seals, now=now(), max_age_seconds=context.policy.seal_max_age_seconds)
