"""Heads of timelines in places outside, and whether the timeline is still the one that was anchored there.

Whoever can rewrite the store can make a chain that fits in itself. What he cannot do is to make the anchors say so,
where they are locked or in somebody else's hands. What was never anchored, nobody can tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from ringfence.errors import (
    ChainBroken,
    EvidenceError,
    PlatformError,
    RingfenceError,
    StoreError,
    Tampered,
    Unverifiable,
)
from ringfence.model.base import Json, isoformat
from ringfence.model.custody import HeadAnchored
from ringfence.model.entry import TimelineEntry
from ringfence.model.incident import Incident
from ringfence.platform.git import Branch
from ringfence.platform.s3 import Bucket, Lock
from ringfence.seal import anchor
from ringfence.seal.anchor import Anchor
from ringfence.seal.keys import PublicKey
from ringfence.seal.signing import SigningKey
from ringfence.store import timeline
from ringfence.store.database import Store

_MOST = 20_000
"""Anchors of one incident in one place."""


class Place(Protocol):
    """Where anchors go. Both methods raise PlatformError."""

    @property
    def name(self) -> str:
        """How the place is called in the record."""
        ...

    def write(self, name: str, data: bytes) -> None: ...

    def read(self, incident: str) -> Mapping[str, bytes]:
        """All anchors of an incident, by the names that they were written under."""
        ...


@dataclass(frozen=True)
class S3Place:
    """``mode``: an Object Lock mode, or empty. ``prefix`` is empty or ends with a slash."""

    name: str
    connect: Callable[[], Bucket]
    prefix: str
    mode: str
    retain_days: int
    legal_hold: bool

    def write(self, name: str, data: bytes) -> None:
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=self.retain_days) if self.mode else None
        lock = Lock(self.mode, until, self.legal_hold)
        stored = self.connect().write(self.prefix + name, data, lock)
        if (stored.lock.mode, stored.lock.legal_hold) != (lock.mode, lock.legal_hold):
            raise Unverifiable(f"{self.name}/{self.prefix}{name}", missing="the lock that was asked for")

    def read(self, incident: str) -> Mapping[str, bytes]:
        bucket = self.connect()
        keys = bucket.names(f"{self.prefix}{incident}/", _MOST)
        return {key.removeprefix(self.prefix): bucket.read(key, anchor.MAX_SIZE) for key in keys}


@dataclass(frozen=True)
class GitPlace:
    branch: Branch
    name: str

    def write(self, name: str, data: bytes) -> None:
        self.branch.add(name, data, f"Anchor of {name.partition('/')[0]}")

    def read(self, incident: str) -> Mapping[str, bytes]:
        return self.branch.files(incident, _MOST, anchor.MAX_SIZE)


@dataclass(frozen=True)
class Difference:
    """The first event that is not the one that was anchored. ``found`` is empty when there is no such event."""

    seq: int
    place: str
    name: str
    expected: str
    found: str


@dataclass
class Checked:
    """What the anchors say. ``anchors`` counts those that hold, by place; ``newest`` is the last event they cover."""

    incident: str
    anchors: dict[str, int] = field(default_factory=dict)
    newest: int = 0
    events: int = 0
    difference: Difference | None = None
    gone: list[str] = field(default_factory=list)
    problems: list[RingfenceError] = field(default_factory=list)

    def to_json(self) -> Json:
        return {
            "incident": self.incident,
            "anchors": self.anchors,
            "newest_anchored": self.newest,
            "events": self.events,
            "difference": vars(self.difference) if self.difference is not None else None,
            "gone": self.gone,
            "problems": [str(one) for one in self.problems],
        }

    def error(self) -> RingfenceError | None:
        """What the command ends with; None when the timeline is the one that was anchored, as far as it was."""
        if (first := self.difference) is not None:
            found = f"it is {first.found} here" if first.found else "there is none here"
            return ChainBroken(
                self.incident, first.seq, f"{first.place}/{first.name} was anchored with {first.expected}; {found}"
            )
        tampered = [one for one in self.problems if isinstance(one, Tampered)]
        if self.gone:
            return Tampered(self.gone[0], expected="the anchor that the timeline says was written", actual="nothing")
        if tampered or self.problems:
            return (tampered or self.problems)[0]
        if not any(self.anchors.values()):
            next_step = f"ringfence anchor {self.incident}"
            return Unverifiable(f"{self.incident} against its anchors", missing="any anchor", next_step=next_step)
        return None


@dataclass(frozen=True)
class Anchorer:
    """Writes heads to every place. ``key`` is asked for when something is to be signed."""

    store: Store
    key: Callable[[], SigningKey]
    places: tuple[Place, ...]

    def anchor(self, incident: Incident, actor: str, *, again: bool = False) -> list[HeadAnchored]:
        """Anchor the head wherever it is not; what does not work is on the timeline, and no error.

        ``again``: it is one try of several, and a failure for the reason that is on the timeline already is not written
        there once more. Raises ChainBroken, StoreError.
        """
        with self.store.read() as session:
            rows = timeline.raw(session, incident.id)
            entries = timeline.read(session, incident.id)
        words = []
        for place in self.places:
            if not (since := unanchored(entries, place.name)):
                continue
            hashes = tuple(row.hash for row in rows[since - 1 :])[-anchor.MOST_HASHES :]
            word = self._written(place, incident, len(rows), hashes, actor)
            words.append(word)
            if again and word.result == "failed" and _said_last(entries, word):
                continue
            with self.store.write() as session:
                timeline.append(session, incident.id, word, datetime.now(UTC))
        return words

    def check(self, incident: Incident, key: PublicKey) -> Checked:
        """Compare the timeline with every anchor. Raises ChainBroken, StoreError; all else is in the answer."""
        with self.store.read() as session:
            rows = timeline.raw(session, incident.id)
        here = {row.seq: row.hash for row in rows}
        checked = Checked(incident.id, events=len(rows))
        entries: tuple[TimelineEntry, ...] = ()
        try:
            with self.store.read() as session:
                entries = timeline.read(session, incident.id)
        except ChainBroken:
            raise
        except StoreError as error:  # an event that is none: the hashes are compared all the same
            checked.problems.append(error)
        for place in self.places:
            checked.anchors[place.name] = 0
            try:
                found = place.read(incident.id)
            except PlatformError as error:
                checked.problems.append(
                    Unverifiable(f"{incident.id} against {place.name}", missing=str(error), next_step=error.next_step)
                )
                continue
            for name, data in sorted(found.items()):
                self._compare(checked, incident, place.name, name, data, key, here)
            checked.gone += [
                f"{place.name}/{word.name}"
                for word in _anchored(entries, place.name).values()
                if word.name not in found or hashlib.sha256(found[word.name]).hexdigest() != word.sha256
            ]
        return checked

    @staticmethod
    def _compare(
        checked: Checked, incident: Incident, place: str, name: str, data: bytes, key: PublicKey, here: dict[int, str]
    ) -> None:
        where = f"{place}/{name}"
        try:
            found = anchor.read(data, key, where)
            if (found.incident, found.cluster_uid) != (incident.id, incident.cluster):
                raise Unverifiable(where, missing=f"an anchor of {incident.id}: it is {found.incident} elsewhere")
        except EvidenceError as error:
            checked.problems.append(error)
            return
        differing = [seq for seq, hashed in found.known().items() if here.get(seq) != hashed]
        if not differing:
            checked.anchors[place] += 1
            checked.newest = max(checked.newest, found.seq)
        elif checked.difference is None or differing[0] < checked.difference.seq:
            first = differing[0]
            checked.difference = Difference(first, place, name, found.known()[first], here.get(first, ""))

    def _written(self, place: Place, incident: Incident, seq: int, hashes: tuple[str, ...], actor: str) -> HeadAnchored:
        now = datetime.now(UTC)
        word = HeadAnchored(occurred_at=now, actor=actor, place=place.name, result="failed", seq=seq, head=hashes[-1])
        try:
            words = Anchor(1, incident.id, incident.cluster, seq, isoformat(now), hashes)
            data = anchor.sign(words, self.key())
            sha256 = hashlib.sha256(data).hexdigest()
            name = f"{incident.id}/{seq:010d}-{sha256[:16]}.json"
            place.write(name, data)
        except (RingfenceError, ValueError) as error:
            return word.model_copy(update={"why": str(error)})
        return word.model_copy(update={"result": "anchored", "name": name, "sha256": sha256})


def unanchored(entries: Sequence[TimelineEntry], place: str) -> int:
    """The first event that is not anchored at ``place``; 0 when only anchors came after the last one (pure)."""
    newest = max(_anchored(entries, place), default=0)
    if not any(entry.seq > newest and not isinstance(entry.event, HeadAnchored) for entry in entries):
        return 0
    return newest + 1


def last_anchored(entries: Sequence[TimelineEntry], place: str) -> datetime | None:
    """When the head was last anchored there (pure)."""
    words = _anchored(entries, place)
    return words[max(words)].occurred_at if words else None


def _anchored(entries: Sequence[TimelineEntry], place: str) -> dict[int, HeadAnchored]:
    return {
        entry.event.seq: entry.event
        for entry in entries
        if isinstance(entry.event, HeadAnchored) and entry.event.place == place and entry.event.result == "anchored"
    }


def _said_last(entries: Sequence[TimelineEntry], word: HeadAnchored) -> bool:
    said = [one.event for one in entries if isinstance(one.event, HeadAnchored) and one.event.place == word.place]
    return bool(said) and (said[-1].result, said[-1].why) == (word.result, word.why)
