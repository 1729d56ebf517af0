"""An incident: what it is about, who declared it, where it stands."""

from __future__ import annotations

from enum import StrEnum

from ringfence.model.base import Instant, Noun
from ringfence.model.objects import ObjectRef


class Severity(StrEnum):
    """The runbook's classes."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"


class State(StrEnum):
    """Where the response stands: the phases of NIST SP 800-61, which overlap in life and are one word each here."""

    DECLARED = "declared"
    CONTAINING = "containing"
    ERADICATING = "eradicating"
    RECOVERING = "recovering"
    POST_INCIDENT = "post-incident"
    CLOSED = "closed"

    @classmethod
    def _missing_(cls, value: object) -> State | None:
        # Timelines are never rewritten: version 0.1.0 said these two.
        return {"eradicated": cls.RECOVERING, "released": cls.CLOSED}.get(str(value))

    @property
    def over(self) -> bool:
        """Whether the attacker is considered out: a new sign on the same object is a new incident then."""
        return self in (State.RECOVERING, State.POST_INCIDENT, State.CLOSED)

    def may_become(self, after: State) -> bool:
        """Whether the transition is legal. A closed incident stays closed: what comes back is a new one."""
        return after in _TRANSITIONS[self]


_TRANSITIONS: dict[State, frozenset[State]] = {
    # Closed from anywhere: a false positive can be found out at any time.
    State.DECLARED: frozenset({State.CONTAINING, State.ERADICATING, State.CLOSED}),
    State.CONTAINING: frozenset({State.ERADICATING, State.RECOVERING, State.CLOSED}),
    State.ERADICATING: frozenset({State.CONTAINING, State.RECOVERING, State.CLOSED}),
    State.RECOVERING: frozenset({State.CONTAINING, State.ERADICATING, State.POST_INCIDENT, State.CLOSED}),
    State.POST_INCIDENT: frozenset({State.CONTAINING, State.CLOSED}),
    State.CLOSED: frozenset(),
}


class OcsfStatus(StrEnum):
    """OCSF 1.x, Incident Finding (class 2005), ``status``."""

    NEW = "New"
    IN_PROGRESS = "In Progress"
    RESOLVED = "Resolved"
    CLOSED = "Closed"

    @property
    def status_id(self) -> int:
        return {"New": 1, "In Progress": 2, "Resolved": 4, "Closed": 5}[self.value]


def ocsf_status(state: State) -> OcsfStatus:
    """OCSF's word for where an incident stands."""
    match state:
        case State.DECLARED:
            return OcsfStatus.NEW
        case State.CONTAINING | State.ERADICATING | State.RECOVERING:
            return OcsfStatus.IN_PROGRESS
        case State.POST_INCIDENT:
            return OcsfStatus.RESOLVED
        case State.CLOSED:
            return OcsfStatus.CLOSED


class Determination(StrEnum):
    """What it turned out to be."""

    UNDETERMINED = "undetermined"
    SECURITY_INCIDENT = "security-incident"
    FALSE_POSITIVE = "false-positive"


class Incident(Noun):
    """``id`` is ``INC-n``. ``target`` is the object that the incident began with; ``fence`` the opaque label value."""

    id: str
    cluster: str
    target: ObjectRef
    type: str
    severity: Severity
    state: State
    determination: Determination = Determination.UNDETERMINED
    title: str
    declared_at: Instant
    declared_by: str
    fence: str
    seq: int
    head_hash: str
