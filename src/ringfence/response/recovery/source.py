"""``recovery.source``: what Argo CD would deliver, once nothing is frozen any more, is what somebody has approved.

Where Argo CD delivers nothing of it, the desired state is the workload's own object and the number that was saved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime

from ringfence.actions.base import Settings
from ringfence.actions.refresh import Refresh
from ringfence.errors import PlatformError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Refused
from ringfence.model.proof import Level, Proof
from ringfence.platform.argocd import revisions
from ringfence.platform.kubernetes.resources import APPLICATION
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response import attempts, steps
from ringfence.response.context import now
from ringfence.response.recovery import pausing
from ringfence.response.recovery import scope as scopes
from ringfence.response.scene import Answer, Scene
from ringfence.response.stages.cut import finished

_COMPARED_SECONDS = 90.0
_POLL_SECONDS = 0.5


def source(scene: Scene) -> Answer:
    """Each Application is compared with Git now; the commit that this gives has to be approved."""
    context, incident = scene.context, scene.incident
    try:
        compared, asked = compare(scene, scopes.read(context, incident).delivering)
    except PlatformError as error:
        return finished(scene, scene.step.action, Failed(problem=Problem.of(error)))
    outcome = _judge(scene, compared, asked)
    if not isinstance(outcome, Applied):
        return finished(scene, scene.step.action, outcome)
    proof = Proof(
        claim=approval(scene, compared),
        level=Level.OBSERVED,
        by="Argo CD's own comparison with Git, made just now",
        at=now(),
        why_not_higher="nobody here has read what is in it, and a branch may move on: it is looked at again once it "
        "is delivered",
    )
    return finished(scene, scene.step.action, outcome, proof)


def approval(scene: Scene, compared: Iterable[Json]) -> str:
    """Who has approved what, as a claim."""
    said = "; ".join(f"Application {name_of(app)}: {_revisions(app)}" for app in compared)
    return f"what Argo CD would deliver is approved by {scene.run.requested_by}: {said}"


def compare(scene: Scene, wanted: Iterable[Json]) -> tuple[tuple[Json, ...], datetime]:
    """The Applications after a comparison with Git that was asked for now, or as they are when none has ended in time;
    and when it was asked for. Raises PlatformError."""
    applications, asked = tuple(wanted), now()
    for application in applications:
        _refresh(scene, application)
    return tuple(
        wait_for(scene, application, lambda live: revisions.compared_since(live, asked)) for application in applications
    ), asked


def wait_for(
    scene: Scene, application: Json, is_so: Callable[[Json], bool], seconds: float = _COMPARED_SECONDS
) -> Json:
    """The Application once that holds, or as it is when the time is up. Raises PlatformError."""
    meta = application["metadata"]
    deadline = time.monotonic() + seconds
    while True:
        live = scene.context.cluster.get(APPLICATION, meta["namespace"], meta["name"])
        if is_so(live) or time.monotonic() >= deadline:
            return live
        pausing.pause(scene.live, _POLL_SECONDS)


def unapproved(scene: Scene, applications: Iterable[Json]) -> str:
    """Which revision nobody has approved, in words; empty when each is."""
    return "; ".join(
        f"Application {name_of(app)} would deliver {_revisions(app) or 'nothing that is known'}"
        for app in applications
        if not revisions.approved(app["metadata"]["name"], revisions.compared(app), scene.run.order.revisions)
    )


def name_of(application: Json) -> str:
    return printable(application["metadata"]["name"])


def _judge(scene: Scene, compared: tuple[Json, ...], asked: datetime) -> Outcome:
    if not compared:
        return Already(reason="Argo CD delivers nothing of it: the workloads' own templates and saved numbers stand")
    for application in compared:
        problems = revisions.problems(application)
        if problems or not revisions.compared_since(application, asked):
            why = "; ".join(problems) or f"no comparison has ended in {_COMPARED_SECONDS:.0f} s"
            return Failed(
                problem=Problem(
                    code="not-compared",
                    what=f"which commit Application {name_of(application)} would deliver is not known",
                    why=why,
                    next_step="see to Argo CD and its repository, then the same again",
                )
            )
    return judge_approval(scene, compared)


def judge_approval(scene: Scene, compared: tuple[Json, ...]) -> Applied | Refused:
    """Whether each revision that the last comparison gave is approved."""
    left = unapproved(scene, compared)
    if not left:
        return Applied()
    given = ", ".join(scene.run.order.revisions)
    first = next(
        app
        for app in compared
        if not revisions.approved(app["metadata"]["name"], revisions.compared(app), scene.run.order.revisions)
    )
    wanted = (revisions.compared(first) or ("COMMIT",))[0]
    only = wanted if len(compared) == 1 else f"{name_of(first)}={wanted}"
    return Refused(
        reason=f"{left}; approved is {printable(given)}" if given else f"{left}, and nobody has approved that",
        next_step=f"read that commit; if it is good: ringfence recover {scene.incident.id} --revision {printable(only)}"
        "; if not: put what is good in Git, then the same again",
    )


def _refresh(scene: Scene, application: Json) -> None:
    """Ask for a comparison, in the journal like any other change."""
    context, incident = scene.context, scene.incident
    target = ObjectRef.of(context.cluster_id, application)
    action = Refresh(context.cluster, Settings(fence=incident.fence, serving_floor=context.policy.serving_floor))
    label = attempts.begin(context, incident, f"{scene.label}-{target.namespace}-{target.name}")
    plan = action.plan(target, action.look(context.cluster_id, target, context.pool))
    if isinstance(plan, Already | Refused):
        return
    steps.record_plan(context, incident, label, plan)
    steps.carry_out(context, incident, label, action, plan)


def _revisions(application: Json) -> str:
    return ", ".join(printable(one) for one in revisions.compared(application))
