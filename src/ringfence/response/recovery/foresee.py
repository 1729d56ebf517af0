"""``ringfence recover INC --dry-run``: each gate as it stands now, and what each step would change.

Reads alone, and server-side dry runs: nothing is written, neither to the cluster nor to the store. So a gate that asks
Argo CD to compare anew is judged by its last comparison, no real request is sent, and what runs later is not known yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from ringfence.actions.registry import ACTIONS
from ringfence.actions.restore import Restore
from ringfence.actions.scale import SCALED
from ringfence.errors import PlatformError, RingfenceError, StoreError
from ringfence.model.access import AccessPath
from ringfence.model.catalogue import CheckParams, HoleParams, MoveParams, RestoreParams, WatchParams, parse_params
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Refused, Skipped, describe, is_done
from ringfence.model.plan import Change, Plan
from ringfence.model.playbook import Reaction, Step
from ringfence.model.proof import Level, Proof
from ringfence.model.run import Run, RunOrder, RunState
from ringfence.platform.argocd import revisions
from ringfence.playbooks import find, load
from ringfence.response import statement as statements
from ringfence.response.context import Context, now
from ringfence.response.live import Live
from ringfence.response.recovery import check, gates
from ringfence.response.recovery import restore as restoring
from ringfence.response.recovery import scope as scopes
from ringfence.response.recovery import source as sources
from ringfence.response.recovery.known import REPLACEMENT
from ringfence.response.recovery.scope import Scope
from ringfence.response.scene import Scene
from ringfence.response.stages import resume
from ringfence.response.stages.cut import settings
from ringfence.store import journal, targets

_PLAYBOOK = "recover"


class Stand(StrEnum):
    """How a step stands before it was begun."""

    PASSES = "passes"
    """A gate that would open now."""
    SHUT = "shut"
    """A gate, or a change, that would be refused now."""
    CHANGES = "changes"
    NOTHING = "nothing"
    """Nothing is to be done."""
    LATER = "later"
    """It depends on what the steps before bring."""
    UNKNOWN = "unknown"
    """It could not be read."""


@dataclass(frozen=True)
class Foreseen:
    """One step on one object (None: the incident as a whole). ``words`` say it; ``ends``: a recovery would end here."""

    step: str
    action: str
    title: str
    stand: Stand
    words: str = ""
    target: ObjectRef | None = None
    outcome: Outcome | None = None
    proof: Proof | None = None
    changes: tuple[Change, ...] = ()
    caveats: tuple[str, ...] = ()
    ends: bool = False


@dataclass
class _View:
    """What was read once for all steps, and what earlier ones were found to do. ``restored`` are uids of workloads that
    a step before gives its pods back."""

    scene: Scene
    scope: Scope
    rows: Sequence[AccessPath]
    statement: statements.Statement
    members: Sequence[ObjectRef]
    restored: set[str]
    awaited: set[str]


_Look = Callable[[_View, Step], Iterator[Foreseen]]


def foresee(context: Context, incident: Incident, order: RunOrder) -> tuple[Foreseen, ...]:
    """Every step of the library's playbook, in its order. Raises PlatformError, StoreError."""
    content, origin = find(_PLAYBOOK)
    playbook = load(content, origin)
    with context.store.read() as session:
        members = targets.of_incident(session, incident.id)
    statement = statements.look(context, incident)
    scope = scopes.read(context, incident)
    found: list[Foreseen] = []
    view: _View | None = None
    for step in playbook.steps:
        scene = _scene(context, incident, members, order, step)
        view = _View(scene, scope, statement.rows, statement, members, set(), set()) if view is None else view
        view.scene = scene
        found += _of_step(view, step)
    return tuple(found)


def open_questions(context: Context, incident: Incident) -> int:
    """How many requests of the incident have no known result: a recovery looks for them first."""
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    return sum(1 for one in records if one.outcome is None or one.outcome.kind == "unknown")


def _scene(context: Context, incident: Incident, members: Sequence[ObjectRef], order: RunOrder, step: Step) -> Scene:
    """A step of a run that is in no store."""
    run = Run(
        id=f"{incident.id}/run/0",
        incident=incident.id,
        number=0,
        playbook=_PLAYBOOK,
        playbook_sha256="",
        targets=tuple(members),
        order=order,
        state=RunState.QUEUED,
        segment=0,
        owner="",
        epoch=0,
        requested_by=context.actor,
        cancel_requested_by="",
        created_at=now(),
        ended_at=None,
        why="",
    )
    return Scene(context, Live(), incident, run, step, parse_params(step.action, step.params))


def _of_step(view: _View, step: Step) -> Iterator[Foreseen]:
    if step.action in view.scene.context.policy.disabled:
        yield _made(step, Refused(reason=f"the action {step.action} is not enabled", next_step="actions.enabled"))
        return
    look = _LOOKS.get(step.action)
    if look is None:
        yield _said(step, Stand.LATER, "what it would do cannot be told before")
        return
    try:
        yield from look(view, step)
    except StoreError:
        raise
    except RingfenceError as error:
        yield _made(step, Failed(problem=Problem.of(error)))


# --- the gates ----------------------------------------------------------------------------------------------------
def _clean(view: _View, step: Step) -> Iterator[Foreseen]:
    scene = view.scene
    outcome, proof = gates.judge_clean(scene.context, scene.incident, view.statement)
    yield _made(step, outcome, proof)


def _hole(view: _View, step: Step) -> Iterator[Foreseen]:
    scene = view.scene
    assert isinstance(scene.params, HoleParams)
    stored = gates.acceptance_of(scene.context, scene.incident.id)
    current = next((row for row in view.rows if row.path == REPLACEMENT), None)
    if stored is not None and current is not None and current.acceptance is None and current.is_open:
        # The first gate of a recovery writes the new rows down, and with them the acceptance lapses.
        was = stored.acceptance.state if stored.acceptance else "open"
        yield _made(
            step,
            Refused(
                reason=f"the hole was accepted as {was}, and the row is {current.state} by now: {current.why}",
                next_step=f"ringfence accept {scene.incident.id} {REPLACEMENT} --reason …",
            ),
        )
        return
    outcome, proof = gates.judge(scene, view.scope, scene.params.closed_by)
    yield _made(step, outcome, proof)


def _source(view: _View, step: Step) -> Iterator[Foreseen]:
    applications = view.scope.delivering
    if not applications:
        words = "Argo CD delivers nothing of it: the workloads' own templates and saved numbers stand"
        yield _made(step, Already(reason=words))
        return
    for application in applications:
        if problems := revisions.problems(application):
            what = f"which commit Application {sources.name_of(application)} would deliver is not known"
            next_step = "see to Argo CD and its repository"
            problem = Problem(code="not-compared", what=what, why="; ".join(problems), next_step=next_step)
            yield _made(step, Failed(problem=problem))
            return
    outcome = sources.judge_approval(view.scene, applications)
    proof = None
    if isinstance(outcome, Applied):
        proof = Proof(
            claim=sources.approval(view.scene, applications),
            level=Level.COMPUTED,
            by="Argo CD's last comparison with Git",
            at=now(),
            why_not_higher="a recovery has it compare anew, and the branch may have moved on",
        )
    yield _made(step, outcome, proof)


def _check(view: _View, step: Step) -> Iterator[Foreseen]:
    scene = view.scene
    assert isinstance(scene.params, CheckParams)
    if scene.params.delivered:
        yield _said(
            step, Stand.LATER, "all pods are ready, and Argo CD has delivered what was approved: seen once it has"
        )
        return
    looked = check.look_at_all(scene, view.scope, delivered=False, requests=False)
    refused, taste = check.speaks_against(scene, looked)
    if refused is not None:
        yield _made(step, refused)
        return
    ready = "; ".join(f"{one.ref}: {one.ready} of {one.wanted} pods are ready now" for one in looked)
    taken_on = f"; taken on: {'; '.join(taste)}" if taste else ""
    words = f"{ready or 'nothing of it runs now'}{taken_on}; looked at again, with real requests, once it is up"
    yield _said(step, Stand.LATER, words)


# --- the changes --------------------------------------------------------------------------------------------------
def _restore(view: _View, step: Step) -> Iterator[Foreseen]:
    assert isinstance(view.scene.params, RestoreParams)
    one = view.scene.params.replicas == "one"
    workloads = [ref for ref in view.members if ref.kind not in ("Pod", "Node")]
    if not workloads:
        yield _said(step, Stand.NOTHING, "the incident is about no workload: none was stopped")
    for ref in workloads:
        try:
            yield _restored(view, step, ref, one=one)
        except PlatformError as error:
            yield replace(_made(step, Failed(problem=Problem.of(error))), target=ref)


def _restored(view: _View, step: Step, ref: ObjectRef, *, one: bool) -> Foreseen:
    scene = replace(view.scene, target=ref)
    record = scopes.stop_of(scene.context, scene.incident, ref)
    if record is None:
        return _said(step, Stand.NOTHING, f"{ref} is not stopped by this incident", ref)
    if one and ref.kind not in SCALED:
        return _said(step, Stand.NOTHING, f"a {ref.kind} comes back as a whole: there is no first", ref)
    if ref.uid in view.restored:
        return _said(step, Stand.NOTHING, f"{ref} has its pods back by then", ref)
    mine = next((found for found in view.scope.restored if found.ref.uid == ref.uid), None)
    held = restoring.held_back(scene, mine, view.scope) if mine is not None else None
    if isinstance(held, Skipped) and (one or ref.uid not in view.awaited):
        if not one:
            view.awaited.add(ref.uid)
        return _said(step, Stand.LATER, held.reason, ref)
    if held is not None and not isinstance(held, Skipped):
        return replace(_made(step, held), target=ref)
    action = Restore(scene.context.cluster, replace(settings(scene), saved=record.change.prior, only_one=one))
    plan = action.plan(ref, action.look(scene.context.cluster_id, ref, scene.context.pool))
    if not one:
        view.restored.add(ref.uid)
    if not isinstance(plan, Plan):
        return replace(_made(step, plan), target=ref)
    words = f"once its template came: {held.reason}" if isinstance(held, Skipped) else ""
    return replace(_changing(step, plan.changes, words), target=ref, caveats=plan.caveats)


def _give_back(view: _View, step: Step) -> Iterator[Foreseen]:
    scene = view.scene
    records = resume.taken(scene.context, scene.incident, step.action)
    if not records:
        yield _said(step, Stand.NOTHING, resume.nothing_taken(step.action))
    for record in records:
        ref = record.change.ref
        if record.outcome is None or record.outcome.kind == "unknown":
            problem = Problem(
                code="unknown", what=f"it is not known whether {ref} was changed", next_step="the same again"
            )
            yield replace(_made(step, Failed(problem=problem)), target=ref)
            continue
        if not is_done(record.outcome):
            yield _said(step, Stand.NOTHING, f"{ref}: it never took effect", ref)
            continue
        try:
            back = ACTIONS[record.action](scene.context.cluster, settings(scene)).undo(record)
        except PlatformError as error:
            yield replace(_made(step, Failed(problem=Problem.of(error))), target=ref)
            continue
        made = _changing(step, (back,)) if isinstance(back, Change) else _made(step, back)
        yield replace(made, target=ref)


# --- what comes after ---------------------------------------------------------------------------------------------
def _watch(view: _View, step: Step) -> Iterator[Foreseen]:
    assert isinstance(view.scene.params, WatchParams)
    seconds = view.scene.run.order.watch_seconds or 60 * view.scene.params.minutes
    long = f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
    yield _said(step, Stand.LATER, f"for {long} what was restored is looked at; what comes back is cut off again")


def _look_again(view: _View, step: Step) -> Iterator[Foreseen]:  # noqa: ARG001
    yield _said(step, Stand.LATER, "the rows are computed anew, and kept")


def _move(view: _View, step: Step) -> Iterator[Foreseen]:
    assert isinstance(view.scene.params, MoveParams)
    left = [row.path for row in view.rows if row.is_open]
    words = f"the incident becomes {view.scene.params.state}, if no way in is open by then that nobody has accepted"
    yield _said(step, Stand.LATER, words + (f" (open now: {', '.join(left)})" if left else ""))


_LOOKS: Mapping[str, _Look] = MappingProxyType(
    {
        "recovery.clean": _clean,
        "recovery.hole": _hole,
        "recovery.source": _source,
        "recovery.check": _check,
        "recovery.rebind": _give_back,
        "argocd.resume_sync": _give_back,
        "keda.resume": _give_back,
        "workload.restore": _restore,
        "recovery.watch": _watch,
        "access.retest": _look_again,
        "incident.move": _move,
    }
)


def _said(step: Step, stand: Stand, words: str, target: ObjectRef | None = None) -> Foreseen:
    return Foreseen(step.id, step.action, step.title, stand, words, target)


def _changing(step: Step, changes: Iterable[Change], words: str = "") -> Foreseen:
    return Foreseen(step.id, step.action, step.title, Stand.CHANGES, words, changes=tuple(changes))


def _made(step: Step, outcome: Outcome, proof: Proof | None = None) -> Foreseen:
    """What the step would come to if it were begun now."""
    stands = {"applied": Stand.PASSES, "already": Stand.NOTHING, "skipped": Stand.NOTHING, "refused": Stand.SHUT}
    return Foreseen(
        step=step.id,
        action=step.action,
        title=step.title,
        stand=stands.get(outcome.kind, Stand.UNKNOWN),
        words=proof.claim if proof is not None else describe(outcome),
        outcome=outcome,
        proof=proof,
        ends=step.reaction(outcome.kind) is Reaction.STOP,
    )
