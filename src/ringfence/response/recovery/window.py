"""``recovery.watch``: for a while, everything that was restored is looked at again and again.

When a sign of the attacker returns, its pods are cut off by a run of their own, in the same incident, and the window is
over. A process that ends leaves the window to whoever carries the run on, with the same end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from ringfence.errors import PlatformError, RingfenceError
from ringfence.model.access import PathState
from ringfence.model.base import Json, isoformat
from ringfence.model.catalogue import WatchParams
from ringfence.model.incident import State
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Applied, Failed, Outcome, Problem, Refused, Skipped
from ringfence.model.playbook import Phase
from ringfence.model.proof import Level, Proof
from ringfence.model.recovery_events import IndicatorReturned, WatchOpened
from ringfence.model.run import Run, RunOrder
from ringfence.model.timeline import AccessTurned
from ringfence.playbooks import find
from ringfence.response import orders
from ringfence.response.context import now
from ringfence.response.orders import Found, Order
from ringfence.response.recovery import gates, pausing
from ringfence.response.recovery import scope as scopes
from ringfence.response.recovery.check import look_at_all
from ringfence.response.recovery.look import signs_of
from ringfence.response.recovery.scope import Scope
from ringfence.response.scene import Answer, Scene
from ringfence.response.stages.cut import finished
from ringfence.response.statement import Statement, retest
from ringfence.store import access, commands, incidents, runs, targets, timeline

_LOOK_SECONDS = 2.0
_RETEST_SECONDS = 15.0
_REFENCED_SECONDS = 120.0
_PLAYBOOK = "compromised-workload"
_INDICATORS = (
    "a pod of a restored workload runs an image of the suspects, unless that was accepted",
    "somebody puts a container into such a pod",
    "a way in that was dead or accepted is open again",
)


def watch(scene: Scene) -> Answer:
    """Until the window is over; sooner when something returns, or the run is cancelled."""
    context, name = scene.context, scene.step.action
    opened, seq = _opened(scene)
    retest_at = 0.0
    unread = "it was never looked at"
    while True:
        last = now() >= opened.until
        if _cancelled(scene):
            return finished(scene, name, Skipped(reason=f"the window was cancelled before {isoformat(opened.until)}"))
        try:
            found = scopes.read(context, scene.incident)
            if bad := _bad_pods(scene, found):
                return finished(scene, name, _returned(scene, bad))
            if last or time.monotonic() >= retest_at:
                retest_at = time.monotonic() + _RETEST_SECONDS
                statement = retest(context, scene.incident)
                unread = statement.why
                if turned := _turned(scene, seq):
                    # What runs meanwhile is cut off, too, where the row speaks of pods.
                    bad = _bad_pods(scene, scopes.read(context, scene.incident)) | _same_image(scene, statement, turned)
                    outcome = _returned(scene, bad) if bad else _reopened(scene, turned)
                    return finished(scene, name, outcome)
            if last and not unread:
                return _over(scene, opened, found)
        except PlatformError as error:
            scene.live.say(f"the watch window could not look: {error}")
            unread = str(error)
        if last:
            problem = Problem(code="unread", what="what was restored could not be looked at", why=unread)
            return finished(scene, name, Failed(problem=problem))
        pausing.pause(scene.live, min(_LOOK_SECONDS, max(0.05, (opened.until - now()).total_seconds())))


def _opened(scene: Scene) -> tuple[WatchOpened, int]:
    """The window of this run with its place on the timeline: opened now, unless an earlier process did."""
    context, incident = scene.context, scene.incident
    assert isinstance(scene.params, WatchParams)
    seconds = scene.run.order.watch_seconds or scene.params.minutes * 60
    restored = scopes.read(context, incident).restored
    with context.store.write() as session:
        for entry in timeline.read(session, incident.id):
            if isinstance(entry.event, WatchOpened) and entry.event.run == scene.run.id:
                return entry.event, entry.seq
        moment = now()
        event = WatchOpened(
            occurred_at=moment,
            actor=context.actor,
            run=scene.run.id,
            until=moment + timedelta(seconds=seconds),
            workloads=tuple(one.ref for one in restored),
            indicators=_INDICATORS,
        )
        seq = timeline.append(session, incident.id, event, moment).seq
    scene.live.say(
        f"watching until {isoformat(event.until)[:19]}Z; Ctrl-C leaves that to `ringfence watch`, or to "
        f"`ringfence resume {incident.id}`"
    )
    return event, seq


def _cancelled(scene: Scene) -> bool:
    with scene.context.store.read() as session:
        return bool(runs.get(session, scene.run.id).cancel_requested_by)


def _bad_pods(scene: Scene, found: Scope) -> dict[str, tuple[ObjectRef, Json, str]]:
    accepted = gates.acceptance_of(scene.context, scene.incident.id) is not None
    bad: dict[str, tuple[ObjectRef, Json, str]] = {}
    for pod in (pod for one in found.restored for pod in one.pods):
        for sign in signs_of(scene.context, pod, found, accepted=accepted):
            if sign.returned:
                bad.setdefault(sign.pod.uid, (sign.pod, pod, sign.what))
    return bad


def _same_image(
    scene: Scene, statement: Statement, turned: Sequence[AccessTurned]
) -> dict[str, tuple[ObjectRef, Json, str]]:
    """The pods that the row about the suspects' image speaks of, when it is among those that opened."""
    if statement.siblings is None or not any(event.path == "siblings.image" for event in turned):
        return {}
    pods = [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in statement.siblings.by_image]
    refs = [ObjectRef.of(scene.context.cluster_id, pod) for pod in pods]
    return {ref.uid: (ref, pod, "runs the suspects' image") for ref, pod in zip(refs, pods, strict=True)}


def _turned(scene: Scene, since: int) -> tuple[AccessTurned, ...]:
    """The rows that opened after the window did, and are open now."""
    with scene.context.store.read() as session:
        events = [entry.event for entry in timeline.read(session, scene.incident.id) if entry.seq > since]
        open_now = {row.path for row in access.rows(session, scene.incident.id) if row.is_open}
    return tuple(
        event
        for event in events
        if isinstance(event, AccessTurned)
        and event.before in (PathState.DEAD, PathState.ACCEPTED)
        and event.after in (PathState.ALIVE, PathState.UNSEEN)
        and event.path in open_now
    )


def _returned(scene: Scene, bad: dict[str, tuple[ObjectRef, Json, str]]) -> Outcome:
    """Cut the pods off, in this incident, and say so."""
    words = "; ".join(f"{ref}: {what}" for ref, _, what in bad.values())
    run, problem = _refence(scene, [(ref, pod, what) for ref, pod, what in bad.values()])
    event = IndicatorReturned(
        occurred_at=now(),
        actor="ringfence",
        what=words,
        pods=tuple(ref for ref, _, _ in bad.values()),
        run=run.id if run is not None else "",
    )
    with scene.context.store.write() as session:
        timeline.append(session, scene.incident.id, event, now())
    how = f"cut off again by {run.id}: {run.state}" if run is not None else f"it could not be cut off: {problem}"
    return Refused(reason=f"it came back: {words}; {how}", next_step=f"ringfence status {scene.incident.id}")


def _reopened(scene: Scene, turned: Sequence[AccessTurned]) -> Outcome:
    words = "; ".join(f"{event.path} is {event.after} again: {event.why}" for event in turned)
    event = IndicatorReturned(occurred_at=now(), actor="ringfence", what=words)
    with scene.context.store.write() as session:
        timeline.append(session, scene.incident.id, event, now())
        if incidents.get(session, scene.incident.id).state.may_become(State.CONTAINING):
            incidents.move(session, scene.incident, State.CONTAINING, actor="ringfence", now=now(), reason=words)
    return Refused(reason=f"it came back: {words}", next_step=f"ringfence status {scene.incident.id} -o wide")


def _refence(scene: Scene, pods: list[tuple[ObjectRef, Json, str]]) -> tuple[Run | None, str]:
    """The containing phase on these pods; its run at its end, or why there is none."""
    context, incident = scene.context, scene.incident
    content, source = find(_PLAYBOOK)
    moment = now()
    with context.store.write() as session:
        incidents.move(
            session, incident, State.CONTAINING, actor="ringfence", now=moment, reason="an indicator returned"
        )
        for ref, pod, what in pods:
            targets.join(session, incident.id, ref, found=pod, how=what, actor="ringfence", now=moment)
    order = Order(
        playbook=content,
        source=source,
        found=tuple(Found(ref, {"apiVersion": "v1", "kind": "Pod", **pod}, how=what) for ref, pod, what in pods),
        reason="an indicator returned in the watch window",
        how=RunOrder(phases=(Phase.CONTAINING.value,), command=scene.run.order.command),
    )
    try:
        run = orders.place(context, order).run
    except RingfenceError as error:
        return None, str(error)
    with context.store.write() as session:
        commands.send(session, "carry-on", {"run": run.id}, sent_by="ringfence", now=now())
    scene.live.say(f"an indicator returned: {run.id} cuts it off")
    return _await(scene, run), ""


def _await(scene: Scene, run: Run) -> Run:
    deadline = time.monotonic() + _REFENCED_SECONDS
    while not run.state.ended and time.monotonic() < deadline:
        pausing.pause(scene.live, 0.25)
        with scene.context.store.read() as session:
            run = runs.get(session, run.id)
    return run


def _over(scene: Scene, opened: WatchOpened, found: Scope) -> Answer:
    down = [one for one in look_at_all(scene, found, requests=False) if not one.is_up]
    if down:
        words = "; ".join(f"{one.ref}: {one.ready} of {one.wanted} pods are ready" for one in down)
        problem = Problem(code="not-up", what="what was restored does not serve at the end of the window", why=words)
        return finished(scene, scene.step.action, Failed(problem=problem))
    proof = Proof(
        claim=f"from {_clock(opened.occurred_at)} to {_clock(opened.until)} nothing of it came back",
        level=Level.OBSERVED,
        by=f"a look every {_LOOK_SECONDS:.0f} s at the pods, every {_RETEST_SECONDS:.0f} s at every way in",
        at=now(),
        why_not_higher="an attacker may wait longer than a window",
    )
    return finished(scene, scene.step.action, Applied(), proof)


def _clock(moment: datetime) -> str:
    return f"{isoformat(moment)[:19]}Z"
