"""Custody: who did what to the evidence, when and what for, as a hash chain.

An entry's hash is the SHA-256 of the canonical JSON of the entry without its ``hash``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ringfence.seal import canonical, chain
from ringfence.seal.canonical import Count, Instant, Name, Record, Sha256
from ringfence.seal.chain import GENESIS, Head, Strand

MAX_LINE = 1 << 20
"""Largest entry in bytes."""


class Action(StrEnum):
    """What was done."""

    ACQUIRE = "acquire"
    STORE = "store"
    READ = "read"
    EXPORT = "export"
    VERIFY = "verify"
    SEAL = "seal"
    HOLD = "hold"
    DISPOSE = "dispose"


@dataclass(frozen=True)
class CustodyEntry(Record):
    """One event. ``item`` is the id of an item or a seal, ``sha256`` the bytes that were touched, if any were."""

    seq: Count
    at: Instant
    action: Action
    item: Name
    actor: str
    purpose: str
    sha256: Sha256 | None
    prev_hash: Sha256
    hash: Sha256

    @classmethod
    def from_line(cls, line: bytes) -> CustodyEntry:
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

    def computed_hash(self) -> str:
        return self._computed_hash

    @functools.cached_property
    def _computed_hash(self) -> str:
        return hashlib.sha256(self.to_bytes("hash")).hexdigest()


@canonical.remembering(len)
def _from_line(line: bytes) -> CustodyEntry:
    return CustodyEntry.from_json(canonical.loads(line))


def append(
    previous: CustodyEntry | Head | None,
    *,
    at: str,
    action: Action,
    item: str,
    actor: str,
    purpose: str,
    sha256: str | None = None,
) -> CustodyEntry:
    """The entry that follows ``previous`` (None: the chain begins here). Raises FormatError for unfit values."""
    head = GENESIS if previous is None else previous
    unhashed = CustodyEntry(
        seq=head.seq + 1,
        at=at,
        action=action,
        item=item,
        actor=actor,
        purpose=purpose,
        sha256=sha256,
        prev_hash=head.hash,
        hash=GENESIS.hash,
    )
    return dataclasses.replace(unhashed, hash=unhashed.computed_hash())


def strand(entries: Iterable[CustodyEntry], on: Strand = Strand()) -> Strand:  # noqa: B008  # it is frozen
    """``on`` with these entries behind it. Raises Tampered, naming the first that does not fit, and FormatError."""
    head, lines = on.head, list(on.lines)
    for entry in entries:
        head = chain.follow(head, entry, "custody.jsonl")
        lines.append(canonical.line(entry.line, MAX_LINE, f"entry {entry.seq}"))
    return Strand(head, tuple(lines))
