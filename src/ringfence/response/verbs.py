"""What a person orders: ``contain``, ``respond``, ``eradicate``, ``release``, ``resume``. Each is a run of a playbook.

``contain`` is the short form for the cut and the seal: the containing phase of ``compromised-workload``. ``eradicate``
is the eradicating phase of the playbook that the incident froze; typing it is the decision that a full run waits for.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.errors import TargetError
from ringfence.model.evidence import Seal
from ringfence.model.incident import Determination, Incident
from ringfence.model.outcome import (
    Already,
    Applied,
    Failed,
    Outcome,
    Problem,
    Refused,
    Skipped,
    Unknown,
    describe,
    next_step_of,
)
from ringfence.model.playbook import Phase, Playbook
from ringfence.model.proof import Proof
from ringfence.model.run import Run, RunOrder, RunState, StepRun
from ringfence.playbooks import find, load
from ringfence.response import orders
from ringfence.response.conduct import Conductor
from ringfence.response.context import Context, now
from ringfence.response.orders import Found, Order
from ringfence.response.statement import Statement, retest
from ringfence.response.steps import is_done
from ringfence.store import evidence, incidents, runs

COMPROMISED = "compromised-workload"
RELEASE = "release"
CUT_IDENTITY = "cut-identity"
RECREATE = "recreate-account"
RECOVER = "recover"
DELETE_TOKENS = "delete-tokens"
_WHEN_ASKED = ("network.canary", "identity.unbind")
"""Steps that are done only when the command asks for them, or when nobody else feels them."""
_STANDS_IN = {"network.quarantine": "node.cut"}
ALL = tuple(phase.value for phase in Phase)


@dataclass(frozen=True)
class Result:
    """A run at its end, or where it waits. ``outcome`` is that of the verb's main step over all targets; None when the
    run did not come to it. ``evidence_problem`` says why there is no complete seal."""

    verb: str
    incident: Incident
    joined: bool
    run: Run
    steps: tuple[StepRun, ...]
    outcome: Outcome | None
    proof: Proof | None
    evidence_problem: str
    statement: Statement
    seals: tuple[Seal, ...] = ()
    """What the run sealed, oldest first."""

    def done(self, action: str) -> bool:
        """Whether every step of that action was done; False when there was none."""
        outcomes = [step.outcome for step in self.steps if step.action == action]
        return bool(outcomes) and all(map(is_done, outcomes))


@dataclass(frozen=True)
class Wish:
    """What the person said beside verb and targets."""

    reason: str = ""
    command: str = ""
    accept_outage: bool = False
    break_glass: str = ""
    canary: bool = False
    shape: str = "auto"
    accept_same_image: bool = False
    bindings: bool = False
    revisions: tuple[str, ...] = ()
    probe: str = ""
    accept_findings: str = ""
    watch_seconds: int = 0
    lease_minutes: int | None = None


def contain(context: Context, conductor: Conductor, found: tuple[Found, ...], wish: Wish) -> Result:
    """Cut and seal. Raises Guarded, TargetError, PlaybookError, EngineError, StoreError."""
    return respond(context, conductor, COMPROMISED, found, wish, phases=(Phase.CONTAINING.value,), verb="contain")


def respond(
    context: Context,
    conductor: Conductor,
    playbook: str,
    found: tuple[Found, ...],
    wish: Wish,
    *,
    phases: tuple[str, ...] = ALL,
    verb: str = "respond",
) -> Result:
    """Run a playbook of the library, or of a file. Raises as ``contain``."""
    content, source = find(playbook)
    order = Order(
        playbook=content,
        source=source,
        found=found,
        reason=wish.reason,
        how=_how(wish, phases, decided=False),
        lease_minutes=wish.lease_minutes,
    )
    ordered = orders.place(context, order)
    conductor.live.say(f"{ordered.incident.id}: {ordered.run.id}")
    return _result(context, verb, ordered.joined, conductor.conduct(ordered.run.id))


def eradicate(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """End the incident's pods, sealed; take the fence down. Raises TargetError, EngineError, StoreError."""
    phase = Phase.ERADICATING.value
    content, source = orders.frozen_playbook(context, incident, find(COMPROMISED), phase)
    how = _how(wish, (phase,), decided=True)
    run = orders.follow_up(context, incident, content, source, how)
    return _result(context, "eradicate", True, conductor.conduct(run.id))


def release(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """A false positive: each pod by the way in which it was cut, then the fence. Raises as ``eradicate``."""
    content, source = find(RELEASE)
    how = _how(wish, ALL, decided=True)
    if incident.determination is not Determination.FALSE_POSITIVE:
        with context.store.write() as session:
            incidents.remember(session, context.principal, now())
            incidents.determine(
                session,
                incident,
                Determination.FALSE_POSITIVE,
                reason=wish.reason or "released",
                actor=context.actor,
                now=now(),
            )
    run = orders.follow_up(context, incident, content, source, how)
    return _result(context, "release", True, conductor.conduct(run.id))


def cut_identity(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """Cut the Kubernetes identity of the incident's pods, the mildest way first. Raises as ``eradicate``."""
    content, source = find(CUT_IDENTITY)
    run = orders.follow_up(context, incident, content, source, _how(wish, ALL, decided=True))
    return _result(context, CUT_IDENTITY, True, conductor.conduct(run.id))


def recover(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """The way back, gate after gate. Each gate that is not passed ends it there. Raises as ``eradicate``."""
    content, source = find(RECOVER)
    run = orders.follow_up(context, incident, content, source, _how(wish, ALL, decided=True))
    return _result(context, RECOVER, True, conductor.conduct(run.id))


def recreate_account(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """Recreate the accounts of the incident's pods: the person who types it has decided. Raises as ``eradicate``."""
    return _destroy_identity(context, conductor, incident, wish, RECREATE)


def delete_tokens(context: Context, conductor: Conductor, incident: Incident, wish: Wish) -> Result:
    """Delete the tokens in Secrets of the accounts of the incident's pods. Raises as ``eradicate``."""
    return _destroy_identity(context, conductor, incident, wish, DELETE_TOKENS)


def _destroy_identity(context: Context, conductor: Conductor, incident: Incident, wish: Wish, playbook: str) -> Result:
    content, source = find(playbook)
    run = orders.follow_up(context, incident, content, source, _how(wish, (Phase.ERADICATING.value,), decided=True))
    return _result(context, playbook, True, conductor.conduct(run.id))


def resume(context: Context, conductor: Conductor, incident: Incident) -> tuple[Result, ...]:
    """See every run of the incident that is not over to its next end. Raises TargetError when there is none."""
    left = orders.resumable(context, incident)
    if not left:
        raise TargetError(
            f"{incident.id} has no run to resume", why="each is over", next_step=f"ringfence status {incident.id}"
        )
    results = []
    for run in left:
        orders.requeue(context, run)
        results.append(_result(context, _verb_of(run), True, conductor.conduct(run.id)))
    return tuple(results)


def carry_on(context: Context, conductor: Conductor, run_id: str) -> Result:
    """After a decision: the run goes on. Raises EngineError, StoreError."""
    with context.store.read() as session:
        run = runs.get(session, run_id)
    orders.requeue(context, run)
    return _result(context, _verb_of(run), True, conductor.conduct(run_id))


def _how(wish: Wish, phases: tuple[str, ...], *, decided: bool) -> RunOrder:
    return RunOrder(
        phases=phases,
        decided=decided,
        accept_outage=wish.accept_outage,
        break_glass=wish.break_glass.strip(),
        canary=wish.canary,
        shape=wish.shape,
        accept_same_image=wish.accept_same_image,
        bindings=wish.bindings,
        revisions=wish.revisions,
        probe=wish.probe,
        accept_findings=wish.accept_findings,
        watch_seconds=wish.watch_seconds,
        command=wish.command,
    )


MAIN: dict[str, tuple[str, ...]] = {
    "contain": ("network.quarantine",),
    "eradicate": ("pod.delete",),
    "release": ("pod.release",),
    RECREATE: ("identity.recreate_account",),
    DELETE_TOKENS: ("identity.delete_tokens",),
    CUT_IDENTITY: ("identity.cut", "identity.unbind"),
    RECOVER: (
        *("recovery.clean", "recovery.hole", "recovery.source", "recovery.check"),
        *("argocd.resume_sync", "keda.resume", "recovery.watch", "incident.move"),
    ),
    "respond": (),
}
"""The actions that a verb answers for; none: all of its playbook."""


def _verb_of(run: Run) -> str:
    if run.playbook in (RELEASE, CUT_IDENTITY, RECREATE, DELETE_TOKENS, RECOVER):
        return run.playbook
    if run.order.phases == (Phase.CONTAINING.value,):
        return "contain"
    if run.order.phases == (Phase.ERADICATING.value,):
        return "eradicate"
    return "respond"


def _result(context: Context, verb: str, joined: bool, run: Run) -> Result:
    with context.store.read() as session:
        incident = incidents.get(session, run.incident)
        steps = runs.steps(session, run.id)
        playbook = load(runs.playbook_bytes(session, run.id), run.playbook)
        seals = tuple(seal for seal in evidence.seals(session, run.incident) if seal.sealed_at >= run.created_at)
    known = {step.action for step in playbook.steps}
    # A playbook without the verb's main action (`eradicate` after `stop-workload`) answers for all that it did.
    main = known & set(MAIN[verb]) or known
    wanted = [step for step in steps if step.action in main and not _left_out(step, playbook)]
    wanted = [_instead(step, steps) for step in wanted]
    if verb == RECOVER:  # gates stand behind each other: the first that is shut is what became of it
        wanted = [step for step in wanted if not is_done(step.outcome)][:1] or wanted
    return Result(
        verb=verb,
        incident=incident,
        joined=joined,
        run=run,
        steps=steps,
        outcome=_together(run, wanted),
        proof=min(
            (step.proof for step in wanted if step.proof is not None), key=lambda proof: proof.level.rank, default=None
        ),
        evidence_problem="; ".join(
            _problem(step.outcome)
            for step in steps
            if step.action == "evidence.seal" and not is_done(step.outcome) and not _is_incomplete(step.outcome)
        ),
        statement=retest(context, incident),
        seals=seals,
    )


def _instead(step: StepRun, steps: tuple[StepRun, ...]) -> StepRun:
    """What stood in for a step that was not done: a pod that is cut on its node is cut."""
    if is_done(step.outcome):
        return step
    found = (
        one
        for one in steps
        if (one.action, one.target_uid) == (_STANDS_IN.get(step.action), step.target_uid) and is_done(one.outcome)
    )
    return next(found, step)


def _together(run: Run, steps: list[StepRun]) -> Outcome | None:
    """One outcome for a step on several targets: the first that is not done decides; others are counted."""
    if run.state in (RunState.FAILED, RunState.CANCELLED) and not steps:
        return Refused(reason=run.why) if run.state is RunState.CANCELLED else _failed(run.why)
    undone = [step for step in steps if not is_done(step.outcome)]
    if not steps:
        return None
    if not undone:
        applied = [step for step in steps if isinstance(step.outcome, Applied)]
        return applied[0].outcome if applied else steps[-1].outcome
    if len(steps) == 1 or len(undone) == len(steps):
        return undone[0].outcome
    words = "; ".join(dict.fromkeys(describe(step.outcome) for step in undone))
    hints = (next_step_of(step.outcome) for step in undone)
    problem = Problem(
        code="partly",
        what=f"{len(undone)} of {len(steps)} were not done",
        why=words,
        next_step=next((hint for hint in hints if hint), ""),
    )
    return Failed(problem=problem)


def _failed(why: str) -> Failed:
    return Failed(problem=Problem(code="run", what="the run did not come to it", why=why))


def _problem(outcome: Outcome) -> str:
    match outcome:
        case Failed(problem=problem) | Unknown(problem=problem):
            return f"{problem} ({problem.next_step})" if problem.next_step else str(problem)
        case Refused() | Skipped() | Applied() | Already():
            return describe(outcome)


def _left_out(step: StepRun, playbook: Playbook) -> bool:
    """Whether a step was left out on purpose: by its own condition, or because nobody asked for it.

    Any other skip (a pod that is gone cannot be cut) is part of the verb's outcome, and never a success.
    """
    on_purpose = step.action in _WHEN_ASKED or playbook.step(step.step).when is not None
    return on_purpose and isinstance(step.outcome, Skipped)


def _is_incomplete(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.problem.code == "incomplete"
