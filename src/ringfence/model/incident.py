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
    """Where the response stands (NIST SP 800-61r3's functions in one word each)."""

    DECLARED = "declared"
    CONTAINING = "containing"
    ERADICATED = "eradicated"
    RELEASED = "released"


class Incident(Noun):
    """``id`` is ``INC-n``. ``target`` is the pod that the incident began with; ``fence`` the opaque label value."""

    id: str
    cluster: str
    target: ObjectRef
    type: str
    severity: Severity
    state: State
    title: str
    declared_at: Instant
    declared_by: str
    fence: str
    seq: int
    head_hash: str
