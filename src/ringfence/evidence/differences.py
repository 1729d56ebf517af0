"""What a comparison with the cluster's audit log comes to: findings, each with what was expected and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ringfence.model.base import Json


class Kind(StrEnum):
    """Of a finding. All but the last two say that a record is not what happened, or that our identity was used by
    somebody else."""

    RECORD = "record"
    """The timeline and the journal, which are written together, do not say the same."""
    MISSING = "missing"
    """Claimed by the timeline, and not in the log of that time."""
    DIFFERENT = "different"
    """In the log under the claimed Audit-ID, with another user, verb, object, time or answer."""
    UNCLAIMED = "unclaimed"
    """In the log in our name, and on no timeline."""
    UNVERIFIABLE = "unverifiable"
    """It cannot be told: the log does not cover that time, or the record does not say what became of the request."""
    NOTE = "note"
    """Worth knowing, and no difference."""

    @property
    def is_difference(self) -> bool:
        return self not in (Kind.UNVERIFIABLE, Kind.NOTE)


@dataclass(frozen=True, slots=True)
class Finding:
    """``where`` is file and line in the audit log; empty when it is about no line."""

    kind: Kind
    what: str
    expected: str
    found: str
    audit_id: str = ""
    where: str = ""

    def to_json(self) -> Json:
        return {
            "kind": self.kind.value,
            "what": self.what,
            "expected": self.expected,
            "found": self.found,
            "audit_id": self.audit_id,
            "where": self.where,
        }
