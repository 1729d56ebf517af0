"""The journal of changes: what was asked, what was there before, what became of it."""

from ringfence.model.base import Instant, Noun
from ringfence.model.outcome import Outcome
from ringfence.model.plan import Change


class ChangeRecord(Noun):
    """One change as journalled. ``outcome`` is None between intent and result: then live state decides.

    ``result_uid`` and ``result_version`` identify what the server answered with; ``undone`` that its inverse was
    applied later.
    """

    incident: str
    step: str
    action: str
    ordinal: int
    change: Change
    audit_id: str
    intended_at: Instant
    outcome: Outcome | None = None
    answered_at: Instant | None = None
    result_uid: str = ""
    undone: bool = False
