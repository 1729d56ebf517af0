"""What was taken out of one item, and where its markers stand in the copy: no place tells how long a secret was."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ringfence.model.base import Json

MOST_PLACES = 1_000
"""Places that are listed for each rule of an item; the others are counted."""


@dataclass
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[object]] = field(default_factory=dict)

    def add(self, rule: str, place: object) -> None:
        """``place``: a JSON pointer, or the marker's first byte and the byte after its last one, in the copy."""
        self.counts[rule] += 1
        listed = self.places.setdefault(rule, [])
        if len(listed) < MOST_PLACES:
            listed.append(place)

    def to_json(self) -> list[Json]:
        return [
            {"rule": rule, "count": count, "places": self.places[rule], "places_listed": len(self.places[rule])}
            for rule, count in sorted(self.counts.items())
        ]
