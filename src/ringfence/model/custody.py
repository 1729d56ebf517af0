"""What happens to evidence after it was sealed, as events of the timeline: held, kept elsewhere, disposed of."""

from typing import Literal

from ringfence.model.base import Instant, Noun


class CustodyFact(Noun):
    """Base of these events."""

    occurred_at: Instant
    actor: str


class HoldPlaced(CustodyFact):
    """A legal hold: until it is lifted, nothing of the incident's evidence is disposed of."""

    type: Literal["hold.placed"] = "hold.placed"
    reason: str


class HoldLifted(CustodyFact):
    """The legal hold ended. Retention goes on."""

    type: Literal["hold.lifted"] = "hold.lifted"
    reason: str


class DisposalOrdered(CustodyFact):
    """Written before the first file is removed. `seals` and `sha256` (of their bundles) belong together."""

    type: Literal["disposal.ordered"] = "disposal.ordered"
    seals: tuple[str, ...]
    sha256: tuple[str, ...]
    reason: str
    retained_until: Instant


class EvidenceDisposed(CustodyFact):
    """The files are gone from the vault's folder; the digests stay in the record. `copies` are where some may be."""

    type: Literal["evidence.disposed"] = "evidence.disposed"
    seals: tuple[str, ...]
    files: int
    copies: tuple[str, ...] = ()


class EvidenceCopied(CustodyFact):
    """A sealed bundle was sent to another place, or could not be. `unlocked`: it is there, but not locked as asked.

    `sha256`, `version` and the lock are what the other side says of the object, read back after the write.
    """

    type: Literal["evidence.copied"] = "evidence.copied"
    seal: str
    place: str
    key: str = ""
    result: Literal["copied", "unlocked", "failed"]
    why: str = ""
    version: str = ""
    sha256: str = ""
    mode: str = ""
    retain_until: Instant | None = None
    legal_hold: bool = False


class SealStamped(CustodyFact):
    """A time-stamping authority (RFC 3161) was asked to stamp a seal. `at` is its time, not ours."""

    type: Literal["seal.stamped"] = "seal.stamped"
    seal: str
    result: Literal["stamped", "failed"]
    why: str = ""
    at: Instant | None = None
    serial: str = ""


class EvidenceDisclosed(CustodyFact):
    """A redacted copy of a sealed bundle was made for somebody outside. `sha256` is the copy's, `bundle_sha256` that of
    what it was made from; `salt` opens the commitments in the copy's list to the originals' digests.
    """

    type: Literal["evidence.disclosed"] = "evidence.disclosed"
    seal: str
    bundle_sha256: str
    disclosure: str
    sha256: str
    to: str
    reason: str
    salt: str
    items: int
    redacted: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unsearched: tuple[str, ...] = ()


class HeadAnchored(CustodyFact):
    """The timeline's head, signed, was written to a place outside, or could not be. `head` is the hash of event `seq`,
    `sha256` that of the signed words, and `name` how they are called there.
    """

    type: Literal["head.anchored"] = "head.anchored"
    place: str
    result: Literal["anchored", "failed"]
    why: str = ""
    seq: int
    head: str
    name: str = ""
    sha256: str = ""


CustodyEvent = (
    SealStamped
    | EvidenceCopied
    | EvidenceDisclosed
    | HeadAnchored
    | HoldPlaced
    | HoldLifted
    | DisposalOrdered
    | EvidenceDisposed
)
