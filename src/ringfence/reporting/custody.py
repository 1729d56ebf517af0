"""What happened to sealed evidence, in sentences (pure)."""

from __future__ import annotations

from typing import assert_never

from ringfence.model.custody import (
    CustodyEvent,
    DisposalOrdered,
    EvidenceCopied,
    EvidenceDisclosed,
    EvidenceDisposed,
    HeadAnchored,
    HoldLifted,
    HoldPlaced,
    SealStamped,
)
from ringfence.reporting.text import counted, moment


def sentence(event: CustodyEvent) -> str:
    """One event in one sentence."""
    match event:
        case HoldPlaced():
            return f"Legal hold on all evidence: {event.reason}"
        case HoldLifted():
            return f"Legal hold lifted: {event.reason}. Retention goes on."
        case DisposalOrdered():
            return (
                f"Disposal of {', '.join(event.seals)} ordered, retained until {moment(event.retained_until)}: "
                f"{event.reason}"
            )
        case EvidenceDisposed():
            copies = f". Copies may be at {', '.join(event.copies)}" if event.copies else ""
            return f"Disposed of: {', '.join(event.seals)}, {counted(event.files, 'file')}; digests stay{copies}"
        case EvidenceCopied(result="failed"):
            return f"No copy of {event.seal} at {event.place}: {event.why}"
        case EvidenceCopied():
            why = f": {event.why}" if event.why else ""
            return f"Copy of {event.seal} at {event.place}/{event.key}, {event.result}{why}"
        case SealStamped(at=at) if at is not None:
            return f"{event.seal} stamped by a time-stamping authority at {moment(at)}, serial {event.serial}"
        case SealStamped():
            return f"{event.seal} has no time stamp: {event.why}"
        case EvidenceDisclosed():
            out = f", {counted(len(event.left_out), 'item')} left out" if event.left_out else ""
            raw = f", {counted(len(event.unsearched), 'item')} not searched" if event.unsearched else ""
            return (
                f"Redacted copy {event.disclosure} of {event.seal} made for {event.to}: {event.reason}. "
                f"{counted(len(event.redacted), 'item')} redacted{out}{raw}; sha256 {event.sha256}"
            )
        case HeadAnchored(result="failed"):
            return f"Head {event.seq} of the timeline not anchored at {event.place}: {event.why}"
        case HeadAnchored():
            return f"Head {event.seq} of the timeline anchored at {event.place}/{event.name}"
        case _:
            assert_never(event)
