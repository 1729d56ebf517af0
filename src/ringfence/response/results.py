"""What a verb's run came to: one outcome of its main steps, what is sealed, and the statement after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident
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
    is_done,
    next_step_of,
)
from ringfence.model.playbook import Playbook
from ringfence.model.proof import Proof
from ringfence.model.run import Run, RunState, StepRun
from ringfence.playbooks import load
from ringfence.response.context import Context
from ringfence.response.live import Live
from ringfence.response.statement import Statement, retest
from ringfence.store import evidence, incidents, runs

RELEASE = "release"
CUT_IDENTITY = "cut-identity"
RECREATE = "recreate-account"
RECOVER = "recover"
DELETE_TOKENS = "delete-tokens"
_WHEN_ASKED = ("network.canary", "identity.unbind")
"""Steps that are done only when the command asks for them, or when nobody else feels them."""
_STANDS_IN = {"network.quarantine": "node.cut"}
MAIN: dict[str, tuple[str, ...]] = {
    "contain": ("network.quarantine",),
    "eradicate": ("pod.delete",),
    "release": ("pod.release",),
    RECREATE: ("identity.recreate_account",),
    DELETE_TOKENS: ("identity.delete_tokens",),
    CUT_IDENTITY: ("identity.cut", "identity.unbind"),
    RECOVER: (
        *("recovery.clean", "recovery.hole", "recovery.source", "workload.restore", "recovery.check"),
        *("recovery.rebind", "argocd.resume_sync", "keda.resume", "recovery.watch", "incident.move"),
    ),
    "respond": (),
}
"""The actions that a verb answers for; none: all of its playbook."""


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


def result_of(context: Context, live: Live, verb: str, joined: bool, run: Run) -> Result:
    """What a verb's run came to; the statement is the one that its last step saw, if it saw one. Raises StoreError."""
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
    if verb == RECOVER:
        wanted = _of_gates(run, wanted)
    return Result(
        verb=verb,
        incident=incident,
        joined=joined,
        run=run,
        steps=steps,
        outcome=_as_one(run, wanted),
        proof=min(
            (step.proof for step in wanted if step.proof is not None), key=lambda proof: proof.level.rank, default=None
        ),
        evidence_problem="; ".join(
            _problem(step.outcome)
            for step in steps
            if step.action == "evidence.seal" and not is_done(step.outcome) and not _is_incomplete(step.outcome)
        ),
        statement=live.take_look(run.id) or retest(context, incident),
        seals=seals,
    )


def together(first: Result, more: Result) -> Result:
    """A command's two runs as one result: whichever was not done decides."""
    undone = [one for one in (first, more) if one.outcome is None or not is_done(one.outcome)]
    proofs = [one.proof for one in (first, more) if one.proof is not None]
    worst = undone[0] if undone else more
    return replace(
        more,
        run=first.run if first.run.state is RunState.WAITING else worst.run,
        joined=first.joined,
        steps=(*first.steps, *more.steps),
        outcome=worst.outcome,
        proof=min(proofs, key=lambda proof: proof.level.rank, default=None),
        evidence_problem="; ".join(filter(None, (first.evidence_problem, more.evidence_problem))),
        seals=(*first.seals, *(seal for seal in more.seals if seal not in first.seals)),
    )


def _of_gates(run: Run, wanted: list[StepRun]) -> list[StepRun]:
    """The steps of a recovery that say what became of it: the gate that was shut, or all that were passed.

    Gates stand behind each other: what ended the run is the last that was not done; in a run that went on, the first
    that was passed over counts. A workload that is held back, or that has no first pod, is no gate.
    """
    gates = [step for step in wanted if not (step.action == "workload.restore" and isinstance(step.outcome, Skipped))]
    shut = [step for step in gates if not is_done(step.outcome)]
    return (shut[-1:] if run.state is RunState.FAILED else shut[:1]) or gates


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


def _as_one(run: Run, steps: list[StepRun]) -> Outcome | None:
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
