"""The manifest: what was acquired, how, by whom, and what could not be had.

One item per acquisition, after ISO/IEC 27037: source, method, tool and version, operator, authority, start and end with
the clock's offset, volatility rank, changes that acquiring made. An item that could not be collected is listed with the
reason; nothing is left out in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from ringfence.seal import canonical
from ringfence.seal.blob import Blob
from ringfence.seal.canonical import FormatError, Instant, Name, Record

MAX_SIZE = 16 << 20
"""Largest manifest in bytes: some ten thousand items."""


class Result(StrEnum):
    """How the acquisition of one item ended."""

    COLLECTED = "collected"
    ABSENT = "absent"
    """The server said that it does not exist."""
    DENIED = "denied"
    FAILED = "failed"
    NOT_TAKEN = "not-taken"
    """Not asked for, or not something that can be taken yet."""


@dataclass(frozen=True)
class Source(Record):
    """Where it came from. ``cluster_uid`` is the uid of the cluster's kube-system namespace (empty: not a cluster)."""

    cluster_uid: str
    path: str


@dataclass(frozen=True)
class Method(Record):
    """How it was asked for: the API verb or command, and its query or arguments as they were sent."""

    verb: str
    query: str


@dataclass(frozen=True)
class Tool(Record):
    """The program that acquired or sealed."""

    name: str
    version: str


@dataclass(frozen=True)
class Item(Record):
    """One acquisition. Times are the acquiring machine's; ``clock_offset_ms`` is the source's clock minus that one.

    ``volatility`` is the rank of RFC 3227's order (1 is lost first). ``authority`` is the incident or command on which
    the operator acted. Collected means bytes and bytes mean collected; everything else needs a reason.
    """

    id: Name
    kind: Name
    required: bool
    result: Result
    reason: str
    source: Source
    method: Method
    tool: Tool
    operator: str
    authority: str
    started_at: Instant
    ended_at: Instant
    clock_offset_ms: int | None
    volatility: int
    changes_made: tuple[str, ...]
    media_type: str
    blob: Blob | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.result is Result.COLLECTED) != (self.blob is not None):
            raise FormatError(f"{self.id}: collected means bytes, and bytes mean collected")
        if self.result is not Result.COLLECTED and not self.reason:
            raise FormatError(f"{self.id}: {self.result} needs a reason")


@dataclass(frozen=True)
class Manifest(Record):
    """All items of one seal. Ids are unique; items may share a blob, which is then the same in every respect."""

    version: Literal[1]
    seal_id: Name
    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        repeated = [name for name, times in Counter(item.id for item in self.items).items() if times > 1]
        if repeated:
            raise FormatError(f"two items are called {repeated[0]!r}")
        self.blobs()

    def blobs(self) -> dict[str, tuple[Blob, Sequence[str]]]:
        """Stored SHA-256 → the blob and the ids of the items that it belongs to, sorted by digest."""
        found: dict[str, tuple[Blob, list[str]]] = {}
        for item in self.items:
            if item.blob is None:
                continue
            blob, ids = found.setdefault(item.blob.stored_sha256, (item.blob, []))
            if blob != item.blob:
                raise FormatError(f"{ids[0]!r} and {item.id!r} describe the same stored bytes differently")
            ids.append(item.id)
        return dict(sorted(found.items()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises FormatError unless ``data`` is the canonical encoding of a manifest of version 1."""
        return cls.from_json(canonical.loads(data))
