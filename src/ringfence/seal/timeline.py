"""The incident's timeline as a bundle carries it: the events' exact bytes and the chain over their digests.

The formula, which the store follows when it appends::

    body        = canonical JSON (RFC 8785) of the event
    body_sha256 = SHA-256(body)
    hash        = SHA-256(canonical JSON of {"body_sha256", "incident", "prev_hash", "seq"})
    prev_hash   = hash of the entry before; 64 zeros for the first, whose seq is 1

The chain covers ``body_sha256`` and not the body: a body can be erased by law (it is then null) without breaking the
chain, and everybody sees that there was one. Bodies are compared as bytes; what they mean is not looked at here.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.errors import Tampered
from ringfence.seal import canonical, chain
from ringfence.seal.canonical import Count, Name, Record, Sha256
from ringfence.seal.chain import Head, Strand

MAX_LINE = 16 << 20
"""Largest entry in bytes."""


@dataclass(frozen=True)
class TimelineEntry(Record):
    """One event. ``body`` is the text of the JSON that was hashed, byte for byte (UTF-8), or None when erased."""

    incident: Name
    seq: Count
    body: str | None
    body_sha256: Sha256
    prev_hash: Sha256
    hash: Sha256

    @classmethod
    def from_line(cls, line: bytes) -> TimelineEntry:
        """The entry whose canonical encoding ``line`` is. Raises FormatError."""
        return _from_line(line)

    @functools.cached_property
    def head(self) -> Head:
        """The head of a chain that ends in this entry."""
        return Head(self.seq, self.hash)

    @functools.cached_property
    def line(self) -> bytes:
        """The canonical encoding."""
        return self.to_bytes()

    @functools.cached_property
    def body_digest(self) -> str | None:
        """The SHA-256 that the body has, whatever the entry says."""
        return None if self.body is None else hashlib.sha256(self.body.encode()).hexdigest()

    def computed_hash(self) -> str:
        return chain_hash(self.incident, self.seq, self.body_sha256, self.prev_hash)


@canonical.remembering(len)
def _from_line(line: bytes) -> TimelineEntry:
    return TimelineEntry.from_json(canonical.loads(line))


@functools.lru_cache(canonical.REMEMBERED)
def chain_hash(incident: str, seq: int, body_sha256: str, prev_hash: str) -> str:
    """The hash of an entry, by the formula above."""
    covered = {"incident": incident, "seq": seq, "body_sha256": body_sha256, "prev_hash": prev_hash}
    return hashlib.sha256(canonical.dumps(covered)).hexdigest()


def follow(head: Head, entry: TimelineEntry, incident: str) -> Head:
    """The head after ``entry``. Raises Tampered when it does not follow, is another incident's, or has another body."""
    after = chain.follow(head, entry, "timeline.jsonl")
    item = f"timeline.jsonl entry {entry.seq}"
    if entry.incident != incident:
        raise Tampered(item, expected=f"incident {incident}", actual=entry.incident)
    if entry.body_digest not in (None, entry.body_sha256):
        raise Tampered(item, expected=f"a body with sha256:{entry.body_sha256}", actual=f"sha256:{entry.body_digest}")
    return after


def strand(entries: Iterable[TimelineEntry], incident: str, on: Strand = Strand()) -> Strand:  # noqa: B008  # frozen
    """``on`` with these entries behind it. Raises Tampered, naming the first that does not fit, and FormatError."""
    head, lines, erased = on.head, list(on.lines), on.erased
    for entry in entries:
        head = follow(head, entry, incident)
        erased += entry.body is None
        lines.append(canonical.line(entry.line, MAX_LINE, f"entry {entry.seq}"))
    return Strand(head, tuple(lines), erased)
