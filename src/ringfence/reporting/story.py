"""The timeline in sentences, who acted in it, and its milestones (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from ringfence.model.canary import CanaryReport, CanaryResult
from ringfence.model.custody import CustodyFact
from ringfence.model.evidence import Collected
from ringfence.model.fence_events import FencedChanged, FenceRestored
from ringfence.model.node_helper import NodeOrder
from ringfence.model.outcome import Already, Applied, describe
from ringfence.model.proof import Level
from ringfence.model.recovery_events import IndicatorReturned, Reviewed, WatchOpened
from ringfence.model.timeline import (
    AccessAccepted,
    AccessTurned,
    ApprovalDecided,
    ApprovalRequested,
    AwarenessRecorded,
    CanaryReported,
    CanaryTried,
    CancelRequested,
    CaptureOpened,
    ChangeIntended,
    ChangeResult,
    Classified,
    DeterminationMade,
    Event,
    EvidenceAcquired,
    EvidenceHandled,
    EvidenceSealed,
    GlassBroken,
    HandedOver,
    IncidentDeclared,
    LeaseExpired,
    LeaseGranted,
    NodeHelperReported,
    NodeHelperSwitched,
    NoteAdded,
    PlanMade,
    Refusal,
    ReportWritten,
    RunEnded,
    RunStarted,
    RunTaken,
    StateChanged,
    StepFinished,
    TargetJoined,
)
from ringfence.reporting import custody
from ringfence.reporting.text import counted, moment
from ringfence.reporting.view import Milestone, Person, StepView, TimelineLine

CUT = "network."
"""Actions of this family cut the network."""
DELETE = "pod.delete"

_PROGRAM = "ringfence"


@dataclass(frozen=True)
class Entry:
    """An event with its number; ``event`` is None when its text was erased by law."""

    seq: int
    event: Event | None


def persons(actors: Iterable[str], cluster: str) -> tuple[Person, ...]:
    """The actors in the order of their first act. Only a subject of the incident's own cluster goes by its short name:
    the same subject of another issuer is somebody else."""
    return tuple(_person(actor, cluster) for actor in dict.fromkeys(actors))


def _person(actor: str, cluster: str) -> Person:
    if actor == _PROGRAM:
        return Person(actor, "Ringfence", "the program itself, on behalf of whoever ran it")
    issuer, _, subject = actor.partition("/")
    if issuer == f"kubernetes:{cluster}" and subject:
        return Person(actor, subject, f"the API server of cluster {cluster}")
    if issuer.startswith("kubernetes:") and subject:
        return Person(actor, actor, f"the API server of another cluster, {issuer.removeprefix('kubernetes:')}")
    if issuer == "local" and subject:
        return Person(actor, actor, "nobody: a user of the machine that Ringfence ran on")
    return Person(actor, actor, "nobody that Ringfence knows")


def lines(entries: Sequence[Entry], declared_at: datetime) -> Iterator[TimelineLine]:
    """One line per event; acquisitions that follow each other share one, as the evidence's own table lists them."""
    run: list[tuple[int, EvidenceAcquired]] = []
    for entry in entries:
        event = entry.event
        if isinstance(event, EvidenceAcquired):
            if run and run[-1][1].actor != event.actor:
                yield _acquired(run, declared_at)
                run = []
            run.append((entry.seq, event))
            continue
        if run:
            yield _acquired(run, declared_at)
            run = []
        if event is None:
            yield TimelineLine(entry.seq, entry.seq, None, None, "", "Erased by law; the hash of its text remains.")
        else:
            after = event.occurred_at - declared_at
            yield TimelineLine(entry.seq, entry.seq, event.occurred_at, after, event.actor, sentence(event))
    if run:
        yield _acquired(run, declared_at)


def sentence(event: Event) -> str:
    """One event in one sentence."""
    match event:
        case IncidentDeclared():
            return (
                f"Incident declared: {event.title} ({event.incident_type}, {event.severity}), about {event.target}. "
                f"Command: {event.command}"
            )
        case StateChanged():
            why = f" {event.reason}" if event.reason else ""
            return f"The incident goes from {event.before} to {event.after}.{why}"
        case CaptureOpened():
            return (
                f"Capture opened: {event.opened} of {event.streams} log streams, waited {event.waited_ms} ms for them."
            )
        case PlanMade():
            return f"{event.step}: {event.action} planned, {counted(len(event.changes), 'change')}. {event.rationale}"
        case ChangeIntended():
            return f"{event.step}: intent to {event.verb} {event.ref}: {event.effect}. Audit-ID {event.audit_id}"
        case ChangeResult():
            return f"{event.step}: {event.change}: {describe(event.outcome)}"
        case StepFinished():
            shown = f"; {event.proof.level}: {event.proof.claim}" if event.proof else ""
            return f"{event.step}: {event.action}: {describe(event.outcome)}{shown}"
        case Refusal():
            return f"{event.step}: {event.action} was refused by the gate {event.gate}: {event.reason}"
        case GlassBroken():
            return f"{event.step}: BREAK-GLASS for {event.action}: {event.reason}. Missing: {event.missing}"
        case EvidenceAcquired():
            return f"Evidence {event.item}: {event.result}" + (f", {event.reason}" if event.reason else "")
        case EvidenceSealed():
            whole = "complete" if event.complete else f"not complete: {event.why_incomplete}"
            return f"Evidence sealed as {event.seal}: {event.collected} of {event.items} items collected; {whole}"
        case EvidenceHandled():
            return f"Evidence {event.seal}: {event.action}: {event.result}"
        case CustodyFact():
            return custody.sentence(event)
        case AccessTurned():
            before = event.before or "first look"
            return f"Residual access, {event.path}: {before} → {event.after} ({event.level}): {event.why}"
        case AccessAccepted():
            return f"Residual access, {event.path}: accepted: {event.reason}"
        case CanaryTried():
            why = f", {event.why}" if event.why else ""
            return f"Canary for {event.path} ({event.canary}): {event.result}{why}"
        case CanaryReported(report=report):
            return f"Canary {report.canary} for the fence of {report.target}: {_found_by(report)}"
        case NodeHelperSwitched():
            return f"Node helper switched {'on' if event.on else 'off'}: {event.reason or 'no reason given'}"
        case NodeHelperReported(report=report):
            how = "done" if report.done else f"not done: {report.why}"
            holes = "; ".join(report.holes) if report.order is NodeOrder.CUT and report.done else ""
            return f"Node helper on {report.node}, {report.order} {report.target}: {how}" + (
                f"; {holes}" if holes else ""
            )
        case ReportWritten():
            return f"Report written: {', '.join(event.files) or 'no file'}"
        case TargetJoined():
            return f"{event.target} belongs to the incident: {event.how}"
        case AwarenessRecorded():
            return f"Aware since {moment(event.aware_at)}: {event.reason}"
        case DeterminationMade():
            return f"Determined to be: {event.determination}: {event.reason}"
        case Classified():
            scheme = f", {event.scheme}: {event.value}" if event.scheme else ""
            return f"Classified: severity {event.severity}{scheme}: {event.reason}"
        case NoteAdded():
            return f"Note: {event.text}"
        case HandedOver():
            left = f"open: {', '.join(event.open_rows) or 'no row'}; waiting: {', '.join(event.waiting) or 'nothing'}"
            return f"Command handed over to {event.to}; {left}" + (f". {event.note}" if event.note else "")
        case RunStarted():
            phases = ", ".join(event.phases)
            return (
                f"{event.run}: playbook {event.playbook} started, {phases}, on {counted(len(event.targets), 'target')}"
            )
        case RunTaken():
            return f"{event.run}: taken over by process {event.executor}, segment {event.segment}, epoch {event.epoch}"
        case RunEnded():
            return f"{event.run}: {event.state}" + (f": {event.why}" if event.why else "")
        case CancelRequested():
            return f"{event.run}: to be cancelled: {event.reason}. What is in force stays in force."
        case ApprovalRequested():
            second = " by a second person" if event.second_person else ""
            until = f"until {moment(event.expires_at)}"
            return f"{event.step}: {event.approval} asked for{second}, {until}: {event.reason}"
        case ApprovalDecided():
            return f"{event.approval}: {event.decision}" + (f": {event.reason}" if event.reason else "")
        case LeaseGranted():
            return f"The cut stands until {moment(event.until)}; then somebody is asked to look again."
        case LeaseExpired():
            return f"Nobody looked again by {moment(event.until)}. Nothing was reverted."
        case FencedChanged():
            return event.words
        case FenceRestored():
            return f"{event.ref} is as the incident holds it again: {event.why}"
        case WatchOpened():
            return f"{event.run}: {counted(len(event.workloads), 'workload')} watched until {moment(event.until)}"
        case IndicatorReturned():
            return f"It came back: {event.what}" + (f"; cut off by {event.run}" if event.run else "")
        case Reviewed():
            lessons = "; ".join(event.lessons) or "none"
            stays = f". Still in force: {'; '.join(event.stays)}" if event.stays else ""
            return f"Reviewed. Root cause: {event.root_cause}. Lessons: {lessons}{stays}"
        case _:
            assert_never(event)


def _found_by(report: CanaryReport) -> str:
    if report.why:
        return f"not tried: {report.why}"
    counts = Counter(path.result for path in report.paths)
    return ", ".join(f"{counts[result]} paths {result}" for result in CanaryResult if counts[result])


def milestones(entries: Sequence[Entry], steps: Sequence[StepView], declared_at: datetime) -> tuple[Milestone, ...]:
    """Declared, cut applied, sealed, deleted: each from its events, or why it was not reached."""

    def reached(name: str, at: datetime, note: str) -> Milestone:
        return Milestone(name, at, at - declared_at, note)

    def missed(name: str, note: str) -> Milestone:
        return Milestone(name, None, None, note)

    def cut() -> Milestone:
        name, tried = "Cut applied", [one for one in steps if one.action.startswith(CUT) and _was_step(one)]
        for one in tried:
            if isinstance(one.outcome, Applied | Already) and one.finished_at:
                answered = [change.answered_at for change in one.changes if change.answered_at]
                return reached(name, max(answered, default=one.finished_at), f"{one.step}: {_shown(one)}")
        return missed(name, _how_far(tried))

    def sealed() -> Milestone:
        seals = [entry.event for entry in entries if isinstance(entry.event, EvidenceSealed)]
        whole = [seal for seal in seals if seal.complete]
        if whole:
            return reached("Evidence sealed", whole[0].occurred_at, f"{whole[0].seal}, complete")
        if seals:
            note = f"{seals[0].seal}, not complete: {seals[0].why_incomplete}"
            return reached("Evidence sealed in part", seals[0].occurred_at, note)
        return missed("Evidence sealed", "no seal was recorded")

    def deleted() -> Milestone:
        name, tried = "Pod deleted", [one for one in steps if one.action == DELETE]
        for one in tried:
            if isinstance(one.outcome, Already) and one.finished_at:
                return reached("Pod found gone", one.finished_at, f"{one.step}: {describe(one.outcome)}")
            if isinstance(one.outcome, Applied) and one.proof and one.proof.level.rank >= Level.OBSERVED.rank:
                return reached(name, one.proof.at, f"{one.step}: {_shown(one)}")
        return missed(name, _how_far(tried))

    return (reached("Declared", declared_at, "also the moment of awareness"), cut(), sealed(), deleted())


def _was_step(step: StepView) -> bool:
    return step.plan is not None or step.outcome is not None


def _shown(step: StepView) -> str:
    return f"{step.proof.level}: {step.proof.claim}" if step.proof else "not shown by anything"


def _how_far(tried: Sequence[StepView]) -> str:
    if not tried:
        return "no such step was recorded"
    last = tried[-1]
    if last.outcome is None:
        return f"{last.step}: no result was recorded"
    shown = f"; {_shown(last)}" if last.proof else ""
    return f"{last.step}: {describe(last.outcome)}{shown}"


def _acquired(run: Sequence[tuple[int, EvidenceAcquired]], declared_at: datetime) -> TimelineLine:
    (first, event), (last, _) = run[0], run[-1]
    if len(run) == 1:
        return TimelineLine(
            first, last, event.occurred_at, event.occurred_at - declared_at, event.actor, sentence(event)
        )
    counts = Counter(acquired.result for _, acquired in run)
    results = ", ".join(f"{counts[result]} {result}" for result in Collected if counts[result])
    begin = min(acquired.occurred_at for _, acquired in run)
    end = max(acquired.occurred_at for _, acquired in run)
    until = f", until {moment(end)}" if moment(begin) != moment(end) else ""
    text = f"Evidence acquired, {len(run)} items{until}: {results}. Each is listed under Evidence."
    return TimelineLine(first, last, begin, begin - declared_at, event.actor, text)
