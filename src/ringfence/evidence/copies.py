"""Copies of sealed bundles in S3: sent after each seal, never in the way of one; what has none is said.

A copy counts when the server has read back its digest and the lock that was asked for. Everything is on the timeline,
so which seals lack a copy is a question to the record and not to the network.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from ringfence.errors import EvidenceError, PlatformError, Tampered, TargetError
from ringfence.evidence.sealing import append_custody
from ringfence.evidence.vault import Vault
from ringfence.model.base import isoformat
from ringfence.model.custody import EvidenceCopied, EvidenceDisposed, HoldLifted, HoldPlaced
from ringfence.model.evidence import Seal
from ringfence.model.timeline import Event
from ringfence.platform.s3 import LARGEST, Bucket, Lock, Stored
from ringfence.seal import custody
from ringfence.store import timeline
from ringfence.store.database import Store

_PAUSE_SECONDS = 60.0
"""After a failure nothing is sent for so long: fifty seals at once do not wait fifty times for the same silence."""


def newest(events: Iterable[Event], place: str) -> dict[str, EvidenceCopied]:
    """The newest word on each seal's copy at ``place``; a copy that was made outlasts a later failure (pure)."""
    found: dict[str, EvidenceCopied] = {}
    for event in events:
        if isinstance(event, EvidenceCopied) and event.place == place:
            known = found.get(event.seal)
            if known is None or known.result != "copied" or event.result == "copied":
                found[event.seal] = event
    return found


def missing(events: Sequence[Event], seals: Iterable[Seal], place: str) -> tuple[tuple[Seal, str], ...]:
    """The seals without a good copy at ``place``, each with the reason; none when no place is configured (pure)."""
    if not place:
        return ()
    known = newest(events, place)
    gone = {seal for event in events if isinstance(event, EvidenceDisposed) for seal in event.seals}
    lacking = []
    for seal in seals:
        word = known.get(seal.id)
        if seal.id not in gone and (word is None or word.result != "copied"):
            lacking.append((seal, word.why if word is not None else "it was not sent"))
    return tuple(lacking)


@dataclass
class Copier:
    """Sends bundles to one place. ``mode`` is an Object Lock mode or empty; ``connect`` is called when needed."""

    store: Store
    vault: Vault
    connect: Callable[[], Bucket]
    place: str
    prefix: str
    mode: str
    retain_days: int
    legal_hold: bool
    _quiet_until: float = field(default=0.0, init=False)
    _why_quiet: str = field(default="", init=False)

    def after_seal(self, seal: Seal, actor: str) -> None:
        """Try once; what does not work is on the timeline, and no error. Raises StoreError."""
        if time.monotonic() < self._quiet_until:
            self._record(seal, actor, self._failed(seal, actor, f"not tried again so soon: {self._why_quiet}"))
            return
        sent = self.send(seal, actor)
        if sent.result == "failed":
            self._quiet_until, self._why_quiet = time.monotonic() + _PAUSE_SECONDS, sent.why

    def send(self, seal: Seal, actor: str, *, again: bool = False) -> EvidenceCopied:
        """Put the bundle, read it back, and write down what became of it. Raises StoreError.

        ``again``: it is one try of several, and what is on the timeline already is not written there once more.
        """
        try:
            word = self._sent(seal, actor)
        except (PlatformError, EvidenceError) as error:
            word = self._failed(seal, actor, str(error))
        except OSError as error:
            word = self._failed(seal, actor, f"{seal.path} cannot be read: {error.strerror or error}")
        if not (again and self._said_last(word)):
            self._record(seal, actor, word)
        return word

    def check(self, seal: Seal) -> str:
        """The copy is there, byte for byte, and locked as it was: in words. Reads all of it.

        Raises TargetError when no copy was made, Tampered when it is another, PlatformError.
        """
        word = newest(self._events(seal.incident), self.place).get(seal.id)
        if word is None or not word.key:
            raise TargetError(
                f"{seal.id} has no copy at {self.place}",
                why=word.why if word is not None else "it was not sent",
                next_step=f"ringfence evidence push {seal.incident}",
            )
        bucket, where = self.connect(), f"{word.place}/{word.key}"
        found = bucket.digest(word.key, word.version)
        if found != word.sha256:
            raise Tampered(where, expected=f"sha256:{word.sha256}", actual=f"sha256:{found}")
        lock = bucket.look(word.key, word.version).lock
        if word.retain_until is not None and (lock.until is None or lock.until < word.retain_until):
            raise Tampered(
                f"{where} (retention)",
                expected=f"locked until {isoformat(word.retain_until)}",
                actual=f"until {isoformat(lock.until)}" if lock.until else "no lock",
            )
        return f"{where}, version {word.version or 'none'}, {_in_words(lock)}"

    def hold(self, incident: str, *, on: bool) -> tuple[str, ...]:
        """Put the copies of an incident under a legal hold, or take it off; what could not be done, in words.

        A hold that the configuration asks for stays on.
        """
        words = [word for word in newest(self._events(incident), self.place).values() if word.key]
        if not words or (not on and self.legal_hold):
            return ()
        try:
            bucket = self.connect()
        except PlatformError as error:
            return (str(error),)
        failed = []
        for word in words:
            try:
                bucket.hold(word.key, word.version, on=on)
                if bucket.look(word.key, word.version).lock.legal_hold is not on:
                    failed.append(f"{word.place}/{word.key}: the server does not show it")
            except PlatformError as error:
                failed.append(f"{word.place}/{word.key}: {error}")
        return tuple(failed)

    def _sent(self, seal: Seal, actor: str) -> EvidenceCopied:
        path = Path(seal.path)
        with self.vault.open(path) as bundle:
            found = _sha256(bundle)
        if found != seal.bundle_sha256:
            return self._failed(seal, actor, f"the bundle here is not the one that was sealed: sha256:{found}")
        with path.open("rb") as file:  # as it lies: a copy of an encrypted vault is encrypted
            sha256 = _sha256(file)
        if path.stat().st_size > LARGEST:
            return self._failed(seal, actor, f"it is larger than one PutObject takes, {LARGEST} bytes")
        # The digest is in the name: another installation's INC-7 is another object.
        key = f"{self.prefix}{seal.incident}/{sha256[:16]}/{path.name}"
        asked = Lock(
            mode=self.mode,
            until=datetime.now(UTC).replace(microsecond=0) + timedelta(days=self.retain_days) if self.mode else None,
            legal_hold=self.legal_hold or _held(self._events(seal.incident)),
        )
        bucket = self.connect()
        stored = bucket.put(key, path, sha256, asked)
        if asked.mode and not _locked(stored, asked):
            bucket.retain(key, stored.version, asked)  # it was there already, from a try that was broken off
        if asked.legal_hold and not stored.lock.legal_hold:
            bucket.hold(key, stored.version, on=True)
        stored = bucket.look(key, stored.version)
        good = (not asked.mode or _locked(stored, asked)) and stored.lock.legal_hold >= asked.legal_hold
        return EvidenceCopied(
            occurred_at=datetime.now(UTC),
            actor=actor,
            seal=seal.id,
            place=self.place,
            key=key,
            result="copied" if good else "unlocked",
            why="" if good else f"it is there, but not locked as asked: {_in_words(stored.lock)}",
            version=stored.version,
            sha256=sha256,
            mode=stored.lock.mode,
            retain_until=stored.lock.until,
            legal_hold=stored.lock.legal_hold,
        )

    def _said_last(self, word: EvidenceCopied) -> bool:
        said = [
            one
            for one in self._events(word.seal.partition("/")[0])
            if isinstance(one, EvidenceCopied) and (one.seal, one.place) == (word.seal, word.place)
        ]
        return word.result != "copied" and bool(said) and (said[-1].result, said[-1].why) == (word.result, word.why)

    def _failed(self, seal: Seal, actor: str, why: str) -> EvidenceCopied:
        return EvidenceCopied(
            occurred_at=datetime.now(UTC), actor=actor, seal=seal.id, place=self.place, result="failed", why=why
        )

    def _record(self, seal: Seal, actor: str, word: EvidenceCopied) -> None:
        with self.store.write() as session:
            now = datetime.now(UTC)
            if word.key:
                purpose = f"{word.place}/{word.key}, version {word.version or 'none'}: {word.result}"
                fact = (custody.Action.STORE, seal.id, purpose, word.sha256)
                append_custody(session, seal.incident, [fact], actor=actor, now=now)
            timeline.append(session, seal.incident, word, now)

    def _events(self, incident: str) -> list[Event]:
        with self.store.read() as session:
            return [entry.event for entry in timeline.read(session, incident)]


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _held(events: Iterable[Event]) -> bool:
    held = False
    for event in events:
        if isinstance(event, HoldPlaced | HoldLifted):
            held = isinstance(event, HoldPlaced)
    return held


def _locked(stored: Stored, asked: Lock) -> bool:
    # Some servers keep whole seconds, and a copy of an earlier try has an earlier date: a day is near enough.
    return (
        stored.lock.mode == asked.mode
        and asked.until is not None
        and stored.lock.until is not None
        and stored.lock.until >= asked.until - timedelta(days=1)
    )


def _in_words(lock: Lock) -> str:
    until = f"{lock.mode.lower()} lock until {isoformat(lock.until)}" if lock.mode and lock.until else "no lock"
    return f"{until}, {'under' if lock.legal_hold else 'no'} legal hold"
