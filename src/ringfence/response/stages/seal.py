"""The stage ``evidence.seal``: what was opened before the cut is read to its end and sealed; after a crash anew."""

from __future__ import annotations

from ringfence.errors import EvidenceError, NotFound, RingfenceError, StoreError
from ringfence.model.outcome import Already, Applied, Failed, Problem
from ringfence.response.capture import collect_and_seal, recapture
from ringfence.response.live import Capture
from ringfence.response.scene import Answer, Ended, Scene
from ringfence.store import evidence


def seal(scene: Scene) -> Answer:
    """Seal one pod. Done only when the seal is complete: the evidence gate opens on nothing less."""
    context, incident, target, key = scene.context, scene.incident, scene.object, scene.label
    with context.store.read() as session:
        begun = evidence.capture_for(session, incident.id, key)
        known = evidence.seal_of_capture(session, incident.id, begun) if begun is not None else None
    if known is not None:
        return Ended(Already(reason=f"{known.id} was made by this step"))
    view = scene.live.view(scene.run.id, context.cluster)
    captured = scene.live.take(scene.run.id, target.uid)
    try:
        if isinstance(captured, Capture):
            if isinstance(captured.logs, EvidenceError):
                raise captured.logs
            made = collect_and_seal(context, incident, target, captured.around, captured.logs, key=key, view=view)
        else:
            made = recapture(context, incident, target, key=key)
    except NotFound as error:
        gone = Problem(code="gone", what=f"{target} is gone: its evidence cannot be had any more", why=error.why)
        return Ended(Failed(problem=gone))
    except StoreError:
        raise  # not even that it failed can be written down: the run stops here, and is resumed
    except RingfenceError as error:
        return Ended(Failed(problem=Problem.of(error)))
    if not made.complete:
        lacking = Problem(
            code="incomplete",
            what=f"{made.id} is not complete",
            why=made.why_incomplete,
            next_step=f"ringfence evidence collect {incident.id}",
        )
        return Ended(Failed(problem=lacking))
    return Ended(Applied())
