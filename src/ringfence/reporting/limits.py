"""What the report does not show, from the facts it was made of (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from ringfence.model.access import AccessPath, PathState, Verdict
from ringfence.model.outcome import Unknown
from ringfence.model.proof import Level
from ringfence.reporting.measures import lacking
from ringfence.reporting.text import LONGEST, counted, duration, listed, moment
from ringfence.reporting.view import Capture, StepView


def limits(
    *,
    rows: Sequence[AccessPath],
    verdict: Verdict,
    steps: Sequence[StepView],
    evidence: Sequence[Capture],
    erased: int,
    generated_at: datetime,
) -> tuple[str, ...]:
    """One sentence or two for each limit."""
    return (
        *_of_rows(rows, generated_at),
        *_of_steps(steps),
        *_of_evidence(evidence),
        *_of_record(erased),
        *_of_display(verdict),
    )


def _of_rows(rows: Sequence[AccessPath], generated_at: datetime) -> Iterator[str]:
    if not rows:
        yield "No statement of residual access was computed: which ways are open is not known."
        return
    oldest = min(row.as_of for row in rows)
    age = duration(generated_at - oldest) if generated_at - oldest > timedelta(0) else "0 s"
    yield (
        f"Residual access is as of {moment(oldest)}, {age} before this report. What turned later is not in it, "
        "and neither is a way that Ringfence does not look for."
    )
    weak = [row.title for row in rows if row.level.rank <= Level.COMPUTED.rank]
    if weak:
        yield (
            f"Not proven, {len(weak)} of {len(rows)} ways: {listed(weak)}. Computed means that Ringfence read the "
            "server's state back and judged it by itself; nobody else vouches for it."
        )
    accepted = [row.title for row in rows if row.state is PathState.ACCEPTED]
    if accepted:
        yield f"Accepted is a decision and shuts nothing: {listed(accepted)}."


def _of_steps(steps: Sequence[StepView]) -> Iterator[str]:
    weak = [step.step for step in steps if step.proof and step.proof.level.rank <= Level.COMPUTED.rank]
    if weak:
        yield f"The effect of these steps was not seen by anybody but Ringfence: {listed(weak)}."
    changes = [change for step in steps for change in step.changes]
    unknown = [change.id for change in changes if change.outcome is None or isinstance(change.outcome, Unknown)]
    if unknown:
        yield f"It is not known whether these requests took effect: {listed(unknown)}."
    if changes:
        yield (
            "Every request carries an Audit-ID of Ringfence's own making. Here they are listed, not compared with the "
            "cluster's audit log, which is the witness: `ringfence evidence verify --audit-log` does that."
        )


def _of_evidence(evidence: Sequence[Capture]) -> Iterator[str]:
    items = [item for capture in evidence for item in capture.items]
    if not any(capture.seal for capture in evidence):
        yield "No evidence is sealed."
    if missing := lacking(evidence):
        yield f"Evidence that Ringfence does not have: {listed(missing)}. Each one's reason is under Evidence."
    yield "What the attacker did and reached is not known: logs were sealed as they are and not examined."
    offsets = [item.clock_offset_ms for item in items if item.clock_offset_ms is not None]
    low, high = min(offsets, default=0), max(offsets, default=0)
    span = f"{low} ms" if low == high else f"{low} to {high} ms"
    measured = f" The API server's clock was measured to differ by {span}." if offsets else ""
    yield f"Times are those of the machine that Ringfence ran on; no third party's time stamp confirms them.{measured}"


def _of_record(erased: int) -> Iterator[str]:
    yield (
        "Whether the incident must be reported to an authority, and by when, is not judged here. The severity is the "
        "one given when it was declared."
    )
    yield (
        "The timeline's chain shows that no event was changed, added or taken out by itself. Who can write the whole "
        "database can write another chain: compare the head with a copy that was kept elsewhere, such as a sealed "
        "bundle."
    )
    if erased:
        yield f"The text of {counted(erased, 'event')} is missing: it was erased by law."


def _of_display(verdict: Verdict) -> Iterator[str]:
    yield (
        "Names, reasons and messages are foreign text: control characters and what cannot be seen are shown as escapes "
        f"(\\n, \\x1b, \\u202e), and after {LONGEST} characters the rest is counted. timeline.json has them in full."
    )
    if verdict is not Verdict.CONTAINED:
        yield "Where a foreign text says contain[ed], the brackets are ours: only the verdict may say that word."
