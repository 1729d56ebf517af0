"""The stage ``workload.restore``: what was stopped gets its pods back, one first."""

from __future__ import annotations

import time
from dataclasses import replace

from ringfence.actions.restore import Restore
from ringfence.actions.scale import SCALED
from ringfence.errors import PlatformError
from ringfence.model.catalogue import RestoreParams
from ringfence.model.outcome import Already, Failed, Outcome, Problem, Refused, Skipped, is_done
from ringfence.platform.argocd import applications
from ringfence.platform.kubernetes.pods import image_names
from ringfence.response.recovery import gates, pausing
from ringfence.response.recovery import scope as scopes
from ringfence.response.recovery.scope import Restored, Scope
from ringfence.response.scene import Answer, Ended, Scene
from ringfence.response.stages import destroy
from ringfence.response.stages.cut import finished, settings
from ringfence.store import journal

_DELIVERED_SECONDS = 180.0
_POLL_SECONDS = 0.5


def restore(scene: Scene) -> Answer:
    """One stopped workload. Not while its template has the suspects' image and nobody took that on."""
    context, incident, target = scene.context, scene.incident, scene.object
    assert isinstance(scene.params, RestoreParams)
    record = scopes.stop_of(context, incident, target)
    if record is None:
        return finished(scene, Restore.name, Already(reason=f"{target} is not stopped by this incident"))
    one = scene.params.replicas == "one"
    if one and target.kind not in SCALED:
        return finished(
            scene, Restore.name, Skipped(reason=f"a {target.kind} comes back as a whole: there is no first")
        )
    try:
        held = _once_delivered(scene)
    except PlatformError as error:
        return finished(scene, Restore.name, Failed(problem=Problem.of(error)))
    if held is not None:
        return finished(scene, Restore.name, held)
    how = replace(settings(scene), saved=record.change.prior, only_one=one)
    action = Restore(context.cluster, how)
    answer = destroy.carry(scene, action, before=lambda _plan: None, after=lambda _held, _ended: None)
    if isinstance(answer, Ended) and is_done(answer.outcome) and not one:
        with context.store.write() as session:
            journal.mark_undone(session, record)
    return answer


def _once_delivered(scene: Scene) -> Outcome | None:
    """Why the workload must not start. Argo CD, once it syncs by itself again, gets the time to bring a template."""
    deadline = time.monotonic() + _DELIVERED_SECONDS
    while True:
        found = scopes.read(scene.context, scene.incident)
        mine = next((one for one in found.restored if one.ref.uid == scene.object.uid), None)
        held = held_back(scene, mine, found) if mine is not None else None
        awaited = mine is not None and _syncs(mine)
        if not isinstance(held, Skipped) or not awaited or time.monotonic() >= deadline:
            return held
        pausing.pause(scene.live, _POLL_SECONDS)


def _syncs(mine: Restored) -> bool:
    """Whether an Application that syncs by itself delivers it."""
    return mine.application is not None and applications.automated(mine.application) is not None


def held_back(scene: Scene, mine: Restored, found: Scope) -> Outcome | None:
    """Why the workload must not start now: it would start the suspects' image."""
    if not image_names(mine.template) & found.images:
        return None
    if gates.acceptance_of(scene.context, scene.incident.id) is not None:
        return None
    if mine.application is not None:
        name = mine.application["metadata"]["name"]
        return Skipped(reason=f"its template has the suspects' image: Application {name} brings another one")
    return Refused(
        reason=f"{scene.object} would start the suspects' image again",
        next_step=f"give it another image, or: ringfence accept {scene.incident.id} workload.replacement --reason …",
    )
