"""Chains that were walked before: the same bytes lead to the same place.

Every bundle of an incident carries its chains from their first entry, each time a little longer. Who verifies many of
them, one after the other, walks each chain on from where the bytes that are known end.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence
from typing import NamedTuple

from ringfence.seal.chain import GENESIS, Head

LARGEST = 64 << 20
"""Bytes of a chain that are remembered at most; a longer one is walked from its beginning."""


class Place(NamedTuple):
    """Where a walk is after a line: how many bytes lie behind it, the chain's head, and how many bodies were erased."""

    offset: int
    head: Head
    erased: int


START = Place(0, GENESIS, 0)


class Walked:
    """The longest walk of each chain of one incident, by the chain's name. Safe for several threads."""

    def __init__(self) -> None:
        self._walks: dict[str, tuple[bytes, list[Place]]] = {}
        self._lock = threading.Lock()

    def furthest(self, name: str, data: bytes) -> Place:
        """How far a walk over ``data`` has been before; ``START`` when these bytes are others."""
        with self._lock:
            known, places = self._walks.get(name, (b"", []))
        if data.startswith(known):
            return places[-1] if places else START
        if known.startswith(data):
            found = bisect.bisect_left(places, len(data), key=lambda place: place.offset)
            if places[found].offset == len(data):
                return places[found]
        return START

    def keep(self, name: str, data: bytes, walk: Sequence[Place]) -> None:
        """``walk`` are the places after each line of ``data`` that lies behind what ``furthest`` gave for it."""
        if len(data) > LARGEST or not walk:
            return
        with self._lock:
            known, places = self._walks.get(name, (b"", []))
            if len(known) >= len(data):
                return
            before = places if data.startswith(known) else []
            begun = before[-1].offset if before else 0
            # Another thread may have walked on meanwhile, over the first lines of this walk.
            self._walks[name] = (data, [*before, *(place for place in walk if place.offset > begun)])
