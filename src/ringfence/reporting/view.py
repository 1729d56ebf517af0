"""What a report says, before it is set in any format. Strings are as the store has them; escaping is the renderers'."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ringfence.model.access import AccessPath, PathState, Verdict
from ringfence.model.evidence import EvidenceItem, Seal
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Outcome
from ringfence.model.plan import ServiceImpact
from ringfence.model.proof import Proof
from ringfence.model.timeline import CanaryTried, EvidenceHandled, PlanMade, Refusal


@dataclass(frozen=True)
class Contact:
    """Whom to call."""

    role: str
    name: str
    reach: str


@dataclass(frozen=True)
class Person:
    """An actor of the timeline. ``name`` is what the report calls them; ``vouched`` says who vouches for the name."""

    id: str
    name: str
    vouched: str


@dataclass(frozen=True)
class Milestone:
    """A point of the response. ``at`` and ``after`` (since the declaration) are None when it was not reached."""

    name: str
    at: datetime | None
    after: timedelta | None
    note: str


@dataclass(frozen=True)
class TimelineLine:
    """One event, or a run of acquisitions (``first`` to ``last``). ``after`` is the time since the declaration.

    ``at`` is None for an event whose text was erased by law.
    """

    first: int
    last: int
    at: datetime | None
    after: timedelta | None
    actor: str
    text: str


@dataclass(frozen=True)
class ChangeView:
    """One mutating request. ``outcome`` is None while its result is not known."""

    id: str
    action: str
    audit_id: str
    verb: str
    ref: ObjectRef
    effect: str
    intended_at: datetime
    answered_at: datetime | None
    outcome: Outcome | None
    undone: bool


@dataclass(frozen=True)
class StepView:
    """One attempt of a step. ``plan`` is None for what was refused before a plan, or follows from an earlier plan.

    ``outcome`` is None when no result of the step was recorded. ``refusals`` are the gates that said no to it.
    """

    step: str
    action: str
    at: datetime
    actor: str
    plan: PlanMade | None
    outcome: Outcome | None
    finished_at: datetime | None
    proof: Proof | None
    changes: tuple[ChangeView, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class BreakGlass:
    """A destructive step that a named person ordered without its evidence, and how that step ended."""

    at: datetime
    person: str
    step: str
    action: str
    reason: str
    missing: str
    outcome: Outcome | None


@dataclass(frozen=True)
class AcceptanceView:
    """A row that a named person took on. ``was`` is its state before; ``stands`` that the acceptance still holds."""

    path: str
    title: str
    person: str
    reason: str
    at: datetime
    was: PathState | None
    stands: bool


@dataclass(frozen=True)
class AffectedObject:
    """An object that the response touched, and what was done to it, oldest first."""

    ref: ObjectRef
    done: tuple[str, ...]


@dataclass(frozen=True)
class Affected:
    """``suspect`` are facts of the pod as it was found; ``services`` what the plans said that customers would feel."""

    suspect: tuple[tuple[str, str], ...]
    objects: tuple[AffectedObject, ...]
    services: tuple[tuple[str, ServiceImpact], ...]
    """Each with the step whose plan says it."""
    maybe: tuple[AccessPath, ...]
    """Rows of the statement that speak of other resources which are not shown to be clean."""


@dataclass(frozen=True)
class Capture:
    """One capture and its seal. ``seal`` is None for items that were acquired and never sealed."""

    seal: Seal | None
    items: tuple[EvidenceItem, ...]


@dataclass(frozen=True)
class Measure:
    """A preventive measure and the recorded facts that it follows from."""

    facts: tuple[str, ...]
    measure: str


@dataclass(frozen=True)
class ChainHead:
    """Where a hash chain stands."""

    seq: int
    hash: str


@dataclass(frozen=True)
class Report:
    """Everything that a report says, computed from the store alone."""

    generated_at: datetime
    tool_version: str
    incident: Incident
    command: str
    declared_by: str
    verdict: Verdict
    rows: tuple[AccessPath, ...]
    acceptances: tuple[AcceptanceView, ...]
    break_glass: tuple[BreakGlass, ...]
    milestones: tuple[Milestone, ...]
    persons: tuple[Person, ...]
    timeline: tuple[TimelineLine, ...]
    affected: Affected
    steps: tuple[StepView, ...]
    refusals: tuple[Refusal, ...]
    canaries: tuple[CanaryTried, ...]
    root_cause: tuple[str, ...]
    lessons: tuple[str, ...]
    reviewed_by: str
    """Who named the root cause and the lessons; empty when nobody has yet."""
    measures: tuple[Measure, ...]
    evidence: tuple[Capture, ...]
    handlings: tuple[EvidenceHandled, ...]
    custody: ChainHead | None
    limits: tuple[str, ...]
    contacts: tuple[Contact, ...]
    head: ChainHead

    @property
    def counts(self) -> dict[PathState, int]:
        """How many rows of the statement are in each state."""
        return {state: sum(1 for row in self.rows if row.state is state) for state in PathState}

    @property
    def accepts(self) -> bool:
        """Whether a row is open by a named person's decision."""
        return self.counts[PathState.ACCEPTED] > 0

    @property
    def as_of(self) -> datetime | None:
        """The oldest moment that a row of the statement speaks of; None without rows."""
        return min((row.as_of for row in self.rows), default=None)

    def name(self, actor: str) -> str:
        """What the report calls that actor."""
        return next((person.name for person in self.persons if person.id == actor), actor)
