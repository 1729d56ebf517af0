"""What a crash or an outage prevented is tried again: copies and stamps of seals, and anchors, which also fall due.

One thread, at its own pace: nothing of a response waits for it. Each thing that fails is left alone for a minute, then
for twice as long each time, an hour at most; its failure is on the timeline once for each reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ringfence.errors import RingfenceError
from ringfence.evidence import copies, stamping
from ringfence.evidence.anchoring import Anchorer, last_anchored, unanchored
from ringfence.evidence.copies import Copier
from ringfence.evidence.stamping import Stamper
from ringfence.model.custody import EvidenceCopied, SealStamped
from ringfence.model.entry import TimelineEntry
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident, State
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store

_ROUND_SECONDS = 20.0
_FIRST_SECONDS = 60.0
_LONGEST_SECONDS = 3600.0


@dataclass
class Backoff:
    """When something may be tried again. ``clock`` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    _until: dict[tuple[str, ...], tuple[float, float]] = field(default_factory=dict, init=False)

    def may(self, thing: tuple[str, ...]) -> bool:
        return thing not in self._until or self.clock() >= self._until[thing][0]

    def failed(self, thing: tuple[str, ...]) -> None:
        _, before = self._until.get(thing, (0.0, _FIRST_SECONDS / 2))
        pause = min(before * 2, _LONGEST_SECONDS)
        self._until[thing] = (self.clock() + pause, pause)

    def done(self, thing: tuple[str, ...]) -> None:
        self._until.pop(thing, None)


@dataclass
class Upkeep:
    """None: that is not configured. ``anchor_every``: how long an open incident may change without an anchor."""

    store: Store
    copier: Copier | None
    stamper: Stamper | None
    anchorer: Anchorer | None
    anchor_every: timedelta
    actor: str
    say: Callable[[str], None]
    backoff: Backoff = field(default_factory=Backoff)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _settled: dict[str, int] = field(default_factory=dict, init=False)
    """Incidents that lacked nothing, at the event that was their last then: they are not read again until another."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Rounds in a thread of its own until the block ends; none when nothing is configured."""
        if self.copier is None and self.stamper is None and self.anchorer is None:
            yield
            return
        thread = threading.Thread(target=self._rounds, name="upkeep", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join(timeout=5)  # it may be in the middle of an upload: what is not recorded is tried again

    def round(self) -> None:
        """Everything that is missing and may be tried, once. Raises StoreError."""
        with self.store.read() as session:
            all_of_them = incidents.newest_first(session)
            last = incidents.last_events(session)
        for incident in all_of_them:
            if self._stopped.is_set():
                return
            if self._settled.get(incident.id) == last[incident.id]:
                continue
            try:
                self._see_to(incident, last[incident.id])
            except RingfenceError as error:
                if self.backoff.may(("incident", incident.id)):
                    self.say(f"{incident.id}: its copies, stamps and anchors cannot be seen to: {error}")
                    self.backoff.failed(("incident", incident.id))

    def _rounds(self) -> None:
        while not self._stopped.is_set():
            try:
                self.round()
            except RingfenceError as error:
                self.say(f"copies, stamps and anchors cannot be seen to: {error}")
            self._stopped.wait(_ROUND_SECONDS)

    def _see_to(self, incident: Incident, last: int) -> None:
        with self.store.read() as session:
            seals = evidence.seals(session, incident.id)
            entries = timeline.read(session, incident.id)
        events = [entry.event for entry in entries]
        if not self._lacks(seals, entries):
            self._settled[incident.id] = last
            return
        if (copier := self.copier) is not None:
            for seal, _ in copies.missing(events, seals, copier.place):
                self._try("copy", seal, lambda seal=seal: copier.send(seal, self.actor, again=True))  # type: ignore[misc]
        if (stamper := self.stamper) is not None:
            for seal, _ in stamping.missing(events, seals):
                self._try("time stamp", seal, lambda seal=seal: stamper.ask(seal, self.actor, again=True))  # type: ignore[misc]
        if self.anchorer is not None and self._anchor_is_due(self.anchorer, incident, entries):
            thing = ("anchor", incident.id)
            if self.backoff.may(thing):
                words = self.anchorer.anchor(incident, self.actor, again=True)
                self._told(thing, f"{incident.id}: anchor", [word.why for word in words if word.result == "failed"])

    def _lacks(self, seals: tuple[Seal, ...], entries: tuple[TimelineEntry, ...]) -> bool:
        """Whether anything is to be done for an incident, now or when its time comes."""
        events = [entry.event for entry in entries]
        return (
            (self.copier is not None and any(copies.missing(events, seals, self.copier.place)))
            or (self.stamper is not None and any(stamping.missing(events, seals)))
            or (self.anchorer is not None and any(unanchored(entries, place.name) for place in self.anchorer.places))
        )

    def _try(self, what: str, seal: Seal, act: Callable[[], EvidenceCopied | SealStamped]) -> None:
        thing = (what, seal.id)
        if self._stopped.is_set() or not self.backoff.may(thing):
            return
        word = act()
        self._told(thing, f"{seal.id}: {what}", [] if word.result in ("copied", "stamped") else [word.why])

    def _told(self, thing: tuple[str, ...], words: str, problems: list[str]) -> None:
        if problems:
            self.backoff.failed(thing)
            self.say(f"{words} failed, and is tried again: {problems[0]}")
        else:
            self.backoff.done(thing)
            self.say(f"{words} made")

    def _anchor_is_due(self, anchorer: Anchorer, incident: Incident, entries: tuple[TimelineEntry, ...]) -> bool:
        """An open incident at intervals; a closed one as soon as its end is not anchored."""
        for place in anchorer.places:
            if not unanchored(entries, place.name):
                continue
            last = last_anchored(entries, place.name)
            if last is None or incident.state is State.CLOSED or self.now() - last >= self.anchor_every:
                return True
        return False
