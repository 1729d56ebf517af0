"""Hash chains: every entry carries the hash of the one before it, so none can be changed, removed or put in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ringfence.errors import Tampered
from ringfence.seal.canonical import Count, Record, Sha256


@dataclass(frozen=True)
class Head(Record):
    """The last entry of a chain: its number and hash. Whoever holds a head can tell any other history of the chain."""

    seq: Count
    hash: Sha256


GENESIS = Head(seq=0, hash="0" * 64)
"""What the first entry (number 1) follows. Also the head of a chain without entries."""


@dataclass(frozen=True)
class Strand:
    """A chain as a bundle carries it: its lines, each with its line feed, and the head after the last of them.

    Made by ``custody.strand`` and ``timeline.strand``, which put a line on when it follows; one grows into the next.
    """

    head: Head = GENESIS
    lines: tuple[bytes, ...] = ()
    erased: int = 0
    """How many entries have lost their body."""


class Link(Protocol):
    """An entry of a chain."""

    @property
    def seq(self) -> int: ...
    @property
    def prev_hash(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def head(self) -> Head:
        """The head of a chain that ends in this entry."""
        ...

    def computed_hash(self) -> str:
        """What ``hash`` must be, from everything that it covers."""
        ...


def follow(head: Head, entry: Link, chain: str) -> Head:
    """The head after ``entry``. Raises Tampered, naming the entry of ``chain``, when it does not follow ``head``."""
    item = f"{chain} entry {head.seq + 1}"
    if entry.seq != head.seq + 1:
        raise Tampered(item, expected=f"seq {head.seq + 1}", actual=f"seq {entry.seq}")
    if entry.prev_hash != head.hash:
        raise Tampered(item, expected=f"prev_hash {head.hash}", actual=entry.prev_hash)
    computed = entry.computed_hash()
    if entry.hash != computed:
        raise Tampered(item, expected=f"hash {computed}", actual=entry.hash)
    return entry.head
