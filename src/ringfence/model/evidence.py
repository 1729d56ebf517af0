"""One item of evidence as the store knows it: where it came from, how, what it hashes to, or why it is missing."""

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from ringfence.model.base import Instant, Noun


class Collected(StrEnum):
    """How the acquisition of one item ended."""

    COLLECTED = "collected"
    ABSENT = "absent"
    """The server said that it does not exist."""
    DENIED = "denied"
    FAILED = "failed"
    NOT_TAKEN = "not-taken"
    """Ringfence does not take this yet, or was not asked to; said, never silent."""


class Blob(Noun):
    """Bytes in the vault. ``stored_*`` is the file as it lies, ``raw_*`` what the server sent. Sizes in bytes."""

    stored_sha256: str
    stored_size: int
    raw_sha256: str
    raw_size: int
    encoding: str


class EvidenceItem(Noun):
    """One acquisition. ``required`` items keep the evidence gate shut unless collected (or absent where allowed).

    ``volatility`` is the rank of RFC 3227's order: 1 is lost first.
    """

    id: str
    kind: str
    required: bool
    result: Collected
    reason: str = ""
    source: str
    method: str
    operator: str
    authority: str
    started_at: Instant
    ended_at: Instant
    clock_offset_ms: int | None = None
    volatility: int
    changes_made: tuple[str, ...] = ()
    media_type: str = "application/json"
    blob: Blob | None = None

    @model_validator(mode="after")
    def _bytes_iff_collected(self) -> Self:
        if (self.result is Collected.COLLECTED) != (self.blob is not None):
            raise ValueError(f"{self.id}: collected means bytes, and bytes mean collected")
        if self.result is not Collected.COLLECTED and not self.reason:
            raise ValueError(f"{self.id}: {self.result} needs a reason")
        return self


class Seal(Noun):
    """A written bundle. ``subject_uid`` is the object it preserves, a pod mostly.

    ``complete``: the evidence gate may open on it.

    ``acquired_at`` is when the last item that the gate asks for was taken (None: not known): after a crash that can be
    long before ``sealed_at``, and the evidence is as old as that.
    """

    id: str
    incident: str
    subject_uid: str
    path: str
    bundle_sha256: str
    key_id: str
    sealed_at: Instant
    acquired_at: Instant | None = None
    items: int
    collected: int
    complete: bool
    why_incomplete: str = ""
