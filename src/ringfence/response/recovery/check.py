"""``recovery.check``: readiness, real requests, a fresh look; and after Argo CD was let go, what it has delivered.

When it is not good, the canary ends, sealed, or Argo CD is frozen again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from ringfence.actions.argocd import SuspendSync
from ringfence.actions.base import Settings
from ringfence.errors import PlatformError, RingfenceError
from ringfence.model.base import Json
from ringfence.model.catalogue import CheckParams
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Refused, describe, is_done
from ringfence.model.plan import Plan
from ringfence.model.proof import Level, Proof
from ringfence.platform.argocd import revisions
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response import attempts, steps
from ringfence.response.context import now
from ringfence.response.recovery import gates, pausing
from ringfence.response.recovery import scope as scopes
from ringfence.response.recovery.canary import end_canaries
from ringfence.response.recovery.look import Looked, look
from ringfence.response.recovery.scope import Scope
from ringfence.response.recovery.source import compare, name_of, unapproved, wait_for
from ringfence.response.scene import Answer, Scene
from ringfence.response.stages.cut import finished

_READY_SECONDS = 180.0
_DELIVERED_SECONDS = 180.0
_POLL_SECONDS = 1.0
_SHOW = 5


def check(scene: Scene) -> Answer:
    """Every restored workload, until it is up or the time is; then the verdict."""
    assert isinstance(scene.params, CheckParams)
    try:
        outcome, proof = _verdict(scene, delivered=scene.params.delivered)
    except PlatformError as error:
        outcome, proof = Failed(problem=Problem.of(error)), None
    if not is_done(outcome):
        if scene.params.delivered:
            _freeze_again(scene)
        else:
            end_canaries(scene)
    return finished(scene, scene.step.action, outcome, proof)


def look_at_all(scene: Scene, found: Scope, *, delivered: bool = True, requests: bool = True) -> tuple[Looked, ...]:
    """One look at each restored workload; before Argo CD has ``delivered``, not at those that still wait for it."""
    accepted = gates.acceptance_of(scene.context, scene.incident.id) is not None
    return tuple(
        look(scene.context, one, found, accepted=accepted, probe=scene.run.order.probe, requests=requests)
        for one in found.restored
        if delivered or accepted or not gates.is_promised(scene, one, found)
    )


def _verdict(scene: Scene, *, delivered: bool) -> tuple[Outcome, Proof | None]:
    if delivered and (wrong := _not_delivered(scene)) is not None:
        return wrong, None
    found = scopes.read(scene.context, scene.incident)
    if delivered:
        outcome, _ = gates.judge(scene, found, "other-image", delivered=True)
        if not isinstance(outcome, Applied):
            return outcome, None
    looked = look_at_all(scene, found, delivered=delivered)
    deadline = time.monotonic() + _READY_SECONDS
    while not _settled(looked, delivered=delivered) and time.monotonic() < deadline:
        pausing.pause(scene.live, _POLL_SECONDS)
        found = scopes.read(scene.context, scene.incident)
        looked = look_at_all(scene, found, delivered=delivered)
    return _judged(scene, looked)


def _settled(looked: Iterable[Looked], *, delivered: bool) -> bool:
    """Whether waiting changes nothing any more: something speaks against it, or all is up and answers.

    Once a new template was delivered, pods of the old one are on their way out.
    """
    known = tuple(looked)
    if any(sign.returned for one in known for sign in one.signs):
        return not delivered
    return all(one.is_up and all(said.is_good for said in one.said) for one in known)


def _judged(scene: Scene, looked: tuple[Looked, ...]) -> tuple[Outcome, Proof | None]:
    refused, taste = speaks_against(scene, looked)
    if refused is not None:
        return refused, None
    down = [f"{one.ref}: {one.ready} of {one.wanted} pods are ready" for one in looked if not one.is_up]
    bad = [
        f"{one.ref}: {said.way} answered {said.status or said.why}"
        for one in looked
        for said in one.said
        if not said.is_good
    ]
    if down or bad:
        problem = Problem(
            code="not-up",
            what="what was restored does not serve",
            why="; ".join([*down, *bad][:_SHOW]),
            next_step=f"when it is mended: ringfence recover {scene.incident.id}",
        )
        return Failed(problem=problem), None
    if not any(one.ready for one in looked):
        return Already(reason="nothing of it runs yet: there is nothing to try"), None
    return Applied(), _proof(scene, looked, taste)


def speaks_against(scene: Scene, looked: Iterable[Looked]) -> tuple[Refused | None, list[str]]:
    """What a fresh look finds that must not be; and what of it was taken on."""
    signs = [sign for one in looked for sign in one.signs]
    returned = [f"{sign.pod}: {sign.what}" for sign in signs if sign.returned]
    if returned:
        return Refused(
            reason="; ".join(returned[:_SHOW]),
            next_step=f"ringfence contain on it; then ringfence recover {scene.incident.id} again",
        ), []
    taste = [f"{sign.pod}: {sign.what}" for sign in signs]
    if taste and not scene.run.order.accept_findings:
        return Refused(
            reason="; ".join(taste[:_SHOW]) + (f"; and {len(taste) - _SHOW} more" if len(taste) > _SHOW else ""),
            next_step=f"mend it; or take it on: ringfence recover {scene.incident.id} --accept-findings REASON",
        ), []
    return None, taste


def _proof(scene: Scene, looked: tuple[Looked, ...], taste: list[str]) -> Proof:
    ready = ", ".join(f"{one.ref.kind} {printable(one.ref.name)} {one.ready}/{one.wanted}" for one in looked)
    asked = [f"{said.way} {said.status}" for one in looked for said in one.said]
    unseen = [words for one in looked for words in one.unseen]
    if taste:
        unseen.append(
            f"taken on by {scene.run.requested_by} ({scene.run.order.accept_findings}): {'; '.join(taste[:_SHOW])}"
        )
    return Proof(
        claim=f"ready: {ready}; real requests: {', '.join(dict.fromkeys(asked)) or 'none'}; "
        "no suspect image, no added container"
        + ("" if taste else ", nothing that reaches into a node, no broken policy"),
        level=Level.OBSERVED,
        by="the kubelets, the pods' own answers, and their objects read from the API server",
        at=now(),
        why_not_higher="; ".join(dict.fromkeys(unseen)) or "a program that answers well is not thereby a clean one",
    )


def _not_delivered(scene: Scene) -> Outcome | None:
    """Why what Argo CD has delivered is not what was approved; None when it is, or delivers nothing of it."""
    found = scopes.read(scene.context, scene.incident)
    # Compared anew: what Argo CD said before it was let go may not be what the branch gives by now.
    for application in compare(scene, found.delivering)[0]:
        if wrong := unapproved(scene, (application,)):
            return _other_revision(scene, wrong)
        live = wait_for(
            scene,
            application,
            lambda app: revisions.is_synced(app) and bool(revisions.compared(app)),
            _DELIVERED_SECONDS,
        )
        if wrong := unapproved(scene, (live,)):
            return _other_revision(scene, wrong)
        if not revisions.is_synced(live):
            why = "; ".join(revisions.problems(live)) or _last_sync(live)
            problem = Problem(
                code="not-delivered",
                what=f"Application {name_of(live)} has not delivered the approved revision",
                why=why,
                next_step=f"see to it in Argo CD; then ringfence recover {scene.incident.id}",
            )
            return Failed(problem=problem)
    return None


def _other_revision(scene: Scene, wrong: str) -> Refused:
    return Refused(
        reason=f"{wrong}: that is not what was approved",
        next_step=f"Argo CD is frozen again; put what is good in Git, then ringfence recover {scene.incident.id}",
    )


def _last_sync(application: Json) -> str:
    state = (application.get("status") or {}).get("operationState") or {}
    said = f"its last sync: {state.get('phase')}: {state.get('message', '')}" if state else "it has not synced yet"
    return said[:500]


def _freeze_again(scene: Scene) -> None:
    context, incident = scene.context, scene.incident
    settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor)
    action = SuspendSync(context.cluster, settings)
    try:
        restored = scopes.read(context, incident).restored
    except PlatformError as error:
        scene.live.say(f"Argo CD could not be frozen again: {error}")
        return
    for one in restored:
        if one.application is None:
            continue
        label = attempts.begin(context, incident, f"{scene.label}-freeze-{one.ref.kind.lower()}-{one.ref.name}")
        try:
            plan = action.plan(one.ref, action.look(context.cluster_id, one.ref, context.pool))
        except RingfenceError as error:
            steps.record_failure(context, incident, label, action.name, error)
            scene.live.say(f"{one.ref}: Argo CD could not be frozen again: {error}")
            continue
        if isinstance(plan, Plan):
            steps.record_plan(context, incident, label, plan)
            result = steps.carry_out(context, incident, label, action, plan)
            scene.live.say(f"{one.ref}: Argo CD is frozen again: {describe(result.outcome)}")
        elif isinstance(plan, Refused):
            steps.refuse(context, incident, label, action.name, "plan", plan.reason)
