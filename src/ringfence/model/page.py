"""Pages: what wakes somebody. Which events do, and in what words (pure).

A page says what happened, where, and what to type next. It carries nothing that was read from a cluster but names and
the reasons that stand on the timeline; whoever sends it makes them harmless first.
"""

from enum import StrEnum
from typing import NamedTuple

from ringfence.model.access import PathState, Verdict
from ringfence.model.base import Instant, Noun
from ringfence.model.fence_events import FencedChanged
from ringfence.model.incident import Severity
from ringfence.model.outcome import Already, Applied, Skipped, describe
from ringfence.model.recovery_events import IndicatorReturned
from ringfence.model.timeline import (
    AccessTurned,
    ApprovalRequested,
    Event,
    LeaseExpired,
    StepFinished,
)

_CUTTING = ("network.quarantine", "workload.", "node.", "identity.", "argocd.", "keda.", "guard.", "pod.delete")
"""Steps (by the beginning of their action) whose failure leaves an attacker where he was."""


class PageKind(StrEnum):
    """Why somebody is paged. The values are what ``notify.to[].for`` may name."""

    ROW_TURNED = "row-turned"
    """A way in or out that was dead is open again, or the verdict on the incident changed."""
    LEASE_OVERDUE = "lease-overdue"
    """Nobody looked again in time."""
    APPROVAL_WAITS = "approval-waits"
    """A run waits for a person's yes or no."""
    CUT_FAILED = "cut-failed"
    """A step that was to cut the attacker off was refused, failed, or nobody knows."""
    FENCE_CHANGED = "fence-changed"
    """Somebody changed what the incident holds fenced."""

    @property
    def escalates(self) -> bool:
        """Whether it goes on to the next contact while nobody has seen to it."""
        return self in (PageKind.LEASE_OVERDUE, PageKind.APPROVAL_WAITS)


class Draft(NamedTuple):
    """A page before it is written down. ``key`` is what keeps it from being sent twice; ``subject`` is what an
    escalating page waits for (an approval's id)."""

    kind: PageKind
    key: str
    title: str
    body: str
    subject: str = ""


class Page(Noun):
    """One page of the outbox. ``level`` is the contact it goes to (0: the first); ``delivered`` are the names of the
    receivers that took it. ``closed``: why it is not tried any more (``sent``, or words); empty while it is."""

    number: int
    incident: str
    kind: PageKind
    severity: Severity
    key: str
    subject: str = ""
    title: str
    body: str
    level: int = 0
    created_at: Instant
    due_at: Instant
    tries: int = 0
    delivered: tuple[str, ...] = ()
    closed: str = ""
    problem: str = ""


def of_event(incident: str, seq: int, event: Event) -> Draft | None:
    """The page that an event of the timeline asks for; None for most. ``seq`` is the event's place in it."""
    key = f"{incident}/{seq}"
    match event:
        case AccessTurned(before=PathState.DEAD, after=PathState.ALIVE | PathState.UNSEEN):
            return Draft(
                PageKind.ROW_TURNED,
                key,
                f"{incident}: {event.path} was dead and is {event.after}",
                f"{event.why}. Next: ringfence status {incident}",
            )
        case LeaseExpired():
            return Draft(
                PageKind.LEASE_OVERDUE,
                key,
                f"{incident}: nobody has looked again in time",
                f"The lease of its cuts ran out. Nothing was reverted. Next: ringfence status {incident}",
            )
        case ApprovalRequested():
            who = "Somebody else than the one who asked must decide" if event.second_person else "A person must decide"
            return Draft(
                PageKind.APPROVAL_WAITS,
                key,
                f"{incident}: {event.approval} waits for a yes or no",
                f"{who}, until {event.expires_at:%Y-%m-%d %H:%M} UTC: {event.reason}. "
                f"Next: ringfence approve {event.approval}, or ringfence reject {event.approval}",
                subject=event.approval,
            )
        case StepFinished(outcome=Applied() | Already() | Skipped()):
            return None
        case StepFinished() if event.action.startswith(_CUTTING):
            about = f" on {event.target}" if event.target else ""
            return Draft(
                PageKind.CUT_FAILED,
                key,
                f"{incident}: {event.action} is not done",
                f"{event.step}{about}: {describe(event.outcome)}. Next: ringfence status {incident}",
            )
        case FencedChanged():
            return Draft(
                PageKind.FENCE_CHANGED,
                key,
                f"{incident}: {event.ref} {event.what}",
                f"{event.words} Next: ringfence status {incident}",
            )
        case IndicatorReturned():
            return Draft(
                PageKind.ROW_TURNED,
                key,
                f"{incident}: it came back",
                f"{event.what}. "
                + (f"Cut off by {event.run}. " if event.run else "")
                + f"Next: ringfence status {incident}",
            )
        case _:
            return None


def of_verdict(incident: str, seq: int, before: Verdict, after: Verdict) -> Draft:
    """The page about an incident whose verdict changed with the events up to ``seq``."""
    return Draft(
        PageKind.ROW_TURNED,
        f"{incident}/{seq}/verdict",
        f"{incident}: {after}",
        f"It was {before} before. Next: ringfence status {incident}",
    )
