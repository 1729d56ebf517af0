"""The stage ``network.quarantine``: open the capture, plan, cut. The cut comes first and waits for nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from ringfence.actions.base import Settings, Shape
from ringfence.actions.network import Quarantine
from ringfence.errors import EvidenceError, NotFound, PlatformError, RingfenceError
from ringfence.evidence.logs import LogCapture
from ringfence.model.base import Json
from ringfence.model.incident import State
from ringfence.model.outcome import Failed, Outcome, Problem, Refused, Skipped, is_done
from ringfence.model.plan import Plan
from ringfence.model.proof import Proof
from ringfence.model.run import Run
from ringfence.model.timeline import CaptureOpened, Event, StepFinished
from ringfence.platform.kubernetes.surroundings import (
    NamespaceReading,
    Reading,
    Surroundings,
    read_namespace,
    read_pod,
    read_surroundings,
    surroundings,
)
from ringfence.response import attempts, consent, customers, enforcement, guard, steps
from ringfence.response.context import Context, now
from ringfence.response.guard import Survey
from ringfence.response.live import Capture, Live
from ringfence.response.scene import Answer, Ended, Scene
from ringfence.store import incidents, targets, timeline


def settings(scene: Scene) -> Settings:
    """What the actions of this incident are made with."""
    policy = scene.context.policy
    shape: Shape = getattr(scene.params, "shape", "auto")
    if scene.run.order.shape != "auto":
        shape = scene.run.order.shape  # type: ignore[assignment]
    return Settings(
        fence=scene.incident.fence,
        serving_floor=policy.serving_floor,
        delete_wait_seconds=policy.delete_wait_seconds,
        shape=shape,
        accept_same_image=scene.run.order.accept_same_image,
        share_account=scene.run.order.bindings,
    )


def cut(scene: Scene) -> Answer:
    """Cut one pod off. Its evidence is opened first, and taken also when the cut is refused."""
    context, incident, target = scene.context, scene.incident, scene.object
    action = Quarantine(context.cluster, replace(settings(scene), enforcement=_enforcement(scene)))
    label, records = attempts.take_up(context, incident, scene.label)
    if records:
        # Cut before a crash: what is around the pod now is not what was around it then, and no capture to keep.
        return _ended(scene, steps.conclude(context, incident, label, action, target, records))
    try:
        pod, reading = read_pod(context.cluster, target.namespace, target.name)
    except NotFound:
        return _gone(scene)
    if pod["metadata"]["uid"] != target.uid:
        return _gone(scene)
    refusal = guard.protected(pod, context.policy)
    if refusal is not None:
        return _refused(scene, "protected", refusal)
    said_no = consent.denied(context, scene.run, scene.step.id)
    if said_no is not None:
        return _refused(scene, "approval", said_no)
    logs = open_logs(scene, pod)
    plan: Plan | Refused | RingfenceError
    try:
        around = _around(scene, pod, reading)
        scene.live.keep(scene.run.id, target.uid, Capture(around, logs))
        plan = action.plan(target, around)
    except RingfenceError as error:
        plan = error
    events: list[Event] = []
    if isinstance(plan, Plan):
        events.append(steps.plan_made(context, label, plan))
        events += _await_capture(scene, logs)
    # All that is known before the first request is one commit: a hundred pods at once wait for each other's.
    with context.store.write() as session:
        targets.join(session, incident.id, target, found=pod, how="", actor=context.actor, now=now())
        timeline.append_all(session, incident.id, events, now())
    match plan:
        case RingfenceError():
            steps.record_failure(context, incident, label, action.name, plan)
            return Ended(Failed(problem=Problem.of(plan)))
        case Refused():
            return _refused(scene, "plan", plan)
        case Plan():
            pass
    falling = scene.held or ("" if len(scene.run.targets) > 1 else guard.below_floor(plan.impact))
    if falling:
        held = customers.allowed(scene, falling)
        if isinstance(held, customers.Held):
            return _refused(scene, held.gate, held.refused)
        if held is not None:
            return held
    result = steps.carry_out(context, incident, label, action, plan)
    if is_done(result.outcome):
        scene.live.on_cut(incident)
    return _ended(scene, result)


def _ended(scene: Scene, result: steps.StepResult) -> Ended:
    context, incident = scene.context, scene.incident
    if incident.state is State.DECLARED:  # it never is so again
        with context.store.write() as session:
            if incidents.get(session, incident.id).state is State.DECLARED:
                incidents.move(session, incident, State.CONTAINING, actor=context.actor, now=now())
    return Ended(result.outcome, result.proof)


def _enforcement(scene: Scene) -> str:
    live, run = scene.live, scene.run.id
    with live.lock:
        if run not in live.enforcement:
            live.enforcement[run] = enforcement.words(scene.context)
        return live.enforcement[run]


def survey(context: Context, live: Live, run: Run) -> Survey:
    """What cutting the run's pods together means for customers. Raises PlatformError when that cannot be read."""
    return customers.survey(context, run.incident, run.targets, lambda name: _namespace(context, live, run, name))


def refresh(live: Live, run: Run) -> None:
    """The first pod of a group has put up what all of them share: the others plan on what is there then."""
    with live.lock:
        live.namespaces = {key: value for key, value in live.namespaces.items() if key[0] != run.id}


def open_logs(scene: Scene, pod: Json) -> LogCapture | EvidenceError:
    """The log streams, or why they cannot be kept: a broken vault does not stop the cut."""
    try:
        return LogCapture(scene.context.acquirer(scene.incident), pod, scene.context.logs_pool)
    except EvidenceError as error:
        return error


def _around(scene: Scene, pod: Json, reading: Reading) -> Surroundings:
    context = scene.context
    if len(scene.run.targets) == 1:
        return read_surroundings(context.cluster, context.cluster_id, pod, reading, context.pool)
    shared = _namespace(context, scene.live, scene.run, pod["metadata"]["namespace"])
    return surroundings(context.cluster, context.cluster_id, pod, reading, shared)


def _namespace(context: Context, live: Live, run: Run, namespace: str) -> NamespaceReading:
    """The namespace, read once for a whole group."""
    with live.lock:
        known = live.namespaces.get((run.id, namespace))
        if known is None:
            try:
                known = read_namespace(context.cluster, namespace, context.pool)
            except PlatformError as error:
                known = error
            live.namespaces[run.id, namespace] = known
    if isinstance(known, PlatformError):
        raise known
    return known


def _await_capture(scene: Scene, logs: LogCapture | EvidenceError) -> Iterator[Event]:
    """What is captured from before the cut, which waits a moment for it and no longer."""
    if isinstance(logs, EvidenceError):
        return
    began = time.monotonic()
    opened = logs.wait_opened(scene.context.policy.pre_cut_wait_ms / 1000)
    yield CaptureOpened(
        occurred_at=now(),
        actor=scene.context.actor,
        streams=logs.streams,
        opened=opened,
        waited_ms=int((time.monotonic() - began) * 1000),
    )


def _gone(scene: Scene) -> Ended:
    return finished(scene, Quarantine.name, Skipped(reason=f"{scene.object} is gone: there is nothing to cut"))


def _refused(scene: Scene, gate: str, refused: Refused) -> Ended:
    steps.refuse(scene.context, scene.incident, scene.label, Quarantine.name, gate, refused.reason)
    return finished(scene, Quarantine.name, refused)


def finished(scene: Scene, action: str, outcome: Outcome, proof: Proof | None = None) -> Ended:
    """End a step that sent nothing, with its event."""
    event = StepFinished(
        occurred_at=now(),
        actor=scene.context.actor,
        step=scene.label,
        action=action,
        outcome=outcome,
        proof=proof,
        target=scene.target,
    )
    with scene.context.store.write() as session:
        timeline.append(session, scene.incident.id, event, now())
    return Ended(outcome, proof)
