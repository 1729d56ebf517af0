"""The first gates: nothing suspect is left running, and the hole is closed or accepted by a named person."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.errors import PlatformError
from ringfence.model.access import AccessPath, PathState
from ringfence.model.catalogue import HoleParams
from ringfence.model.incident import Incident, State
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Applied, Failed, Outcome, Problem, Refused
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes.pods import image_names
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response.context import Context, now
from ringfence.response.recovery import admitted
from ringfence.response.recovery import scope as scopes
from ringfence.response.recovery.known import REPLACEMENT
from ringfence.response.recovery.scope import Restored, Scope
from ringfence.response.scene import Answer, Scene
from ringfence.response.stages.cut import finished
from ringfence.response.statement import Statement, retest
from ringfence.store import access, incidents

_LATER = (REPLACEMENT, "gitops.reversal", "keda.scaling")
"""Rows of gates of their own: the hole, and what recovery itself gives back to Argo CD."""
_SHOW = 5


def clean(scene: Scene) -> Answer:
    """``recovery.clean``: every suspect is gone, and every other way in is dead or accepted."""
    context, incident = scene.context, scene.incident
    outcome, proof = judge_clean(context, incident, retest(context, incident))
    if isinstance(outcome, Applied):
        with context.store.write() as session:
            if incidents.get(session, incident.id).state.may_become(State.RECOVERING):
                incidents.move(session, incident, State.RECOVERING, actor=context.actor, now=now())
    return finished(scene, scene.step.action, outcome, proof)


def judge_clean(context: Context, incident: Incident, statement: Statement) -> tuple[Outcome, Proof | None]:
    """Whether nothing suspect is left, by a statement of just now."""
    if statement.why:
        return _unread(statement.why), None
    alive = [str(ObjectRef.of(context.cluster_id, facts.live)) for facts in statement.facts if facts.live is not None]
    if alive:
        return Refused(
            reason=f"suspects are left running: {', '.join(alive[:_SHOW])}",
            next_step=f"ringfence eradicate {incident.id}; or, if it was a false positive, "
            f"ringfence release {incident.id}",
        ), None
    open_rows = [row for row in statement.rows if row.is_open and row.path not in _LATER]
    if open_rows:
        return _open(incident.id, open_rows), None
    accepted = [f"{row.path} (accepted by {row.acceptance.principal})" for row in statement.rows if row.acceptance]
    gone = len(statement.facts)
    proof = Proof(
        claim=f"each of the {gone} suspects is gone, and no other way in is open and unaccepted",
        level=Level.OBSERVED,
        by="the kubelets, which let a pod's object go only after its containers have ended, and the statement's rows",
        at=now(),
        why_not_higher="taken on by named people: " + "; ".join(accepted)
        if accepted
        else "what left no trace in the cluster cannot be seen from it",
    )
    return Applied(), proof


def hole(scene: Scene) -> Answer:
    """``recovery.hole``: one way to close it, tried; or the row ``workload.replacement`` is accepted.

    Where Argo CD delivers the workload, the template is only known after it was let go: then the approved revision is
    what stands for it here, and ``recovery.check`` looks at what came of it.
    """
    context, incident = scene.context, scene.incident
    assert isinstance(scene.params, HoleParams)
    try:
        found = scopes.read(context, incident)
        outcome, proof = judge(scene, found, scene.params.closed_by)
    except PlatformError as error:
        return finished(scene, scene.step.action, Failed(problem=Problem.of(error)))
    return finished(scene, scene.step.action, outcome, proof)


def judge(scene: Scene, found: Scope, closed_by: str, *, delivered: bool = False) -> tuple[Outcome, Proof | None]:
    """Whether the hole is closed or accepted now. ``delivered``: what Argo CD brings is there, no promise counts."""
    incident = scene.incident.id
    if accepted := acceptance_of(scene.context, incident):
        assert accepted.acceptance is not None
        who = accepted.acceptance
        proof = _proof(f"the hole is accepted by {who.principal}: {who.reason}", Level.NONE, who.principal, _ACCEPTED)
        return Applied(), proof
    if closed_by == "blocked-image":
        return admitted.blocked(scene.context, incident, found)
    if closed_by == "tightened-policy":
        return admitted.tightened(scene, found)
    # A template that names no image is not known: that is no other one.
    same = [one for one in found.restored if (asked := image_names(one.template)) & found.images or not asked]
    promised = [] if delivered else [one for one in same if is_promised(scene, one, found)]
    if len(promised) < len(same):
        left = [str(one.ref) for one in same if one not in promised]
        return (
            Refused(
                reason=f"{', '.join(left[:_SHOW])} would start the suspects' image again: "
                f"{', '.join(printable(name) for name in sorted(found.images)[:_SHOW])}",
                next_step="give it another image (where Argo CD delivers it: in Git, then ringfence recover "
                f"{incident} --revision COMMIT); or take it on: ringfence accept {incident} {REPLACEMENT} --reason …",
            ),
            None,
        )
    if promised:
        names = ", ".join(str(one.ref) for one in promised[:_SHOW])
        return Applied(), _proof(
            f"the approved revision closes it, says who approved it: {names} still has the suspects' image",
            Level.REQUESTED,
            scene.run.requested_by,
            "what Argo CD delivers is looked at once it is there",
        )
    return Applied(), _proof(
        "no template asks for an image of the suspects",
        Level.COMPUTED,
        "the workloads' own objects, read from the API server",
        "whether the hole was in the image, and only there, the API cannot tell",
    )


def is_promised(scene: Scene, one: Restored, found: Scope) -> bool:
    """Whether an approved revision is to bring the workload another template than that of the suspects."""
    bad = bool(image_names(one.template) & found.images)
    return bad and one.application is not None and bool(scene.run.order.revisions)


def acceptance_of(context: Context, incident: str) -> AccessPath | None:
    """The row about the template, when a named person has taken it on."""
    with context.store.read() as session:
        rows = access.rows(session, incident)
    return next((row for row in rows if row.path == REPLACEMENT and row.state is PathState.ACCEPTED), None)


_ACCEPTED = "nothing was closed: a person takes it on"


def _proof(claim: str, level: Level, by: str, why_not_higher: str) -> Proof:
    return Proof(claim=claim, level=level, by=by, at=now(), why_not_higher=why_not_higher)


def _unread(why: str) -> Failed:
    return Failed(problem=Problem(code="unread", what="the cluster could not be read", why=why))


def _open(incident: str, rows: Iterable[AccessPath]) -> Refused:
    found = list(rows)
    words = "; ".join(f"{row.path} is {row.state}: {row.why}" for row in found[:_SHOW])
    more = f"; and {len(found) - _SHOW} more" if len(found) > _SHOW else ""
    return Refused(
        reason=f"open, and accepted by nobody: {words}{more}",
        next_step=f"ringfence status {incident} -o wide; what cannot be closed: ringfence accept {incident} "
        f"{found[0].path} --reason …",
    )
