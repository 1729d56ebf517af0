"""Acquiring one item: bytes as the server sent them, hashed while they stream, with who, how, when and why not.

A failure to acquire is an item too: absent (the server said so), denied or failed, each with its reason. A stream that
breaks off is two: the item failed, and ``<item>.partial`` holds what had come. Only a vault that cannot be written
raises.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

from ringfence.errors import Denied, Invalid, NotFound, PlatformError
from ringfence.model.evidence import Blob, Collected, EvidenceItem
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.surroundings import Reading
from ringfence.seal import blob
from ringfence.seal.blob import BlobFolder, BlobWriter

PARTIAL = ".partial"
"""Ends the id of the item that holds what came of a stream before it broke off, or was cut."""
_LONGEST_ID = 200
_LONGEST_REASON = 4000
_LONGEST_SOURCE = 8000
_SAFE = "!$&'()*+,:;=@"


@dataclass(frozen=True)
class What:
    """An item before it is acquired. ``absent_on_invalid``: a 400 means that there is none (logs), and so does a 204,
    which the API server answers for a pod that no node has.
    """

    id: str
    kind: str
    source: str
    method: str
    volatility: int
    required: bool = False
    media_type: str = "application/json"
    absent_on_invalid: bool = False


@dataclass(frozen=True)
class StreamLimits:
    """How much of one stream is taken, and for how long at most: an attacker may write as much as they like."""

    max_bytes: int = 2 << 30
    max_seconds: float = 900.0


LIMITS = StreamLimits()


class Acquirer:
    """Acquires for one operator under one authority into one incident's blobs. Safe for several threads."""

    def __init__(
        self,
        cluster: Cluster,
        blobs: BlobFolder,
        *,
        operator: str,
        authority: str,
        limits: StreamLimits | None = None,
    ) -> None:
        """``limits`` holds for each stream."""
        self.cluster = cluster
        self.blobs = blobs
        self.operator = operator
        self.authority = authority
        self.limits = limits or LIMITS

    def stream(
        self,
        what: What,
        opened: Callable[[], AbstractContextManager[Iterable[bytes]]],
        on_open: Callable[[], None] = lambda: None,
        limits: StreamLimits | None = None,
    ) -> tuple[EvidenceItem, ...]:
        """Acquire from a stream; ``on_open`` is called when the first byte can come, or when none will.
        ``limits``: others than the acquirer's.

        One item; two when the stream broke off after its first byte or was cut by ``limits``: then the item is failed,
        and a second one, which is not required, holds what came.
        """
        started = datetime.now(UTC)
        try:
            with opened() as chunks:
                on_open()
                return self._take(what, chunks, started, limits or self.limits)
        except PlatformError as error:
            return (self._not_collected(what, error, started),)
        finally:
            on_open()

    def read(self, what: What, fetch: Callable[[], Iterable[bytes]]) -> EvidenceItem:
        """Acquire what ``fetch`` returns."""
        started = datetime.now(UTC)
        try:
            return self._store(what, fetch(), started)
        except PlatformError as error:
            return self._not_collected(what, error, started)

    def keep(self, what: What, reading: Reading) -> EvidenceItem:
        """Keep bytes that a plan has read already, under the time at which it read them."""
        if reading.why:
            return self._item(what, Collected.DENIED, reading.started_at, reading.ended_at, reason=reading.why)
        blob = _described(self.blobs.store(reading.raw))
        return self._item(what, Collected.COLLECTED, reading.started_at, reading.ended_at, blob=blob)

    def shared(self, what: What, read: Callable[[], Reading]) -> EvidenceItem:
        """``keep`` for what is read once for several pods, by whoever asks first."""
        started = datetime.now(UTC)
        try:
            return self.keep(what, read())
        except PlatformError as error:
            return self._not_collected(what, error, started)

    def derived(self, what: What, data: bytes, started: datetime) -> EvidenceItem:
        """Keep something that Ringfence computed; ``what.method`` says from what."""
        return self._store(what, (data,), started)

    def missing(self, what: What, result: Collected, reason: str) -> EvidenceItem:
        """Record that something is not there, without asking."""
        now = datetime.now(UTC)
        return self._item(what, result, now, now, reason=reason)

    def _take(
        self, what: What, chunks: Iterable[bytes], started: datetime, limits: StreamLimits
    ) -> tuple[EvidenceItem, ...]:
        with self.blobs.new() as writer:
            size, failure = _pour(chunks, writer, limits)
            if not failure:
                blob = _blob(writer)
                return (self._item(what, Collected.COLLECTED, started, datetime.now(UTC), blob=blob),)
            if size == 0:
                return (self._item(what, Collected.FAILED, started, datetime.now(UTC), reason=failure),)
            blob, ended = _blob(writer), datetime.now(UTC)
        part = replace(what, id=what.id + PARTIAL, required=False)
        reason = f"{failure}; the {size} bytes that had come are kept as {_name(part.id)}"
        return (
            self._item(what, Collected.FAILED, started, ended, reason=reason),
            self._item(part, Collected.COLLECTED, started, ended, reason=failure, blob=blob),
        )

    def _store(self, what: What, chunks: Iterable[bytes], started: datetime) -> EvidenceItem:
        blob = self._write(chunks)
        return self._item(what, Collected.COLLECTED, started, datetime.now(UTC), blob=blob)

    def _write(self, chunks: Iterable[bytes]) -> Blob:
        with self.blobs.new() as writer:
            for chunk in chunks:
                writer.write(chunk)
            return _blob(writer)

    def _not_collected(self, what: What, error: PlatformError, started: datetime) -> EvidenceItem:
        match error:
            case NotFound():
                result = Collected.ABSENT
            case Invalid(status=400 | 204) if what.absent_on_invalid:
                result = Collected.ABSENT
            case Denied():
                result = Collected.DENIED
            case _:
                result = Collected.FAILED
        return self._item(what, result, started, datetime.now(UTC), reason=str(error))

    def _item(
        self,
        what: What,
        result: Collected,
        started: datetime,
        ended: datetime,
        *,
        reason: str = "",
        blob: Blob | None = None,
    ) -> EvidenceItem:
        return EvidenceItem(
            id=_name(what.id),
            kind=_name(what.kind),
            required=what.required,
            result=result,
            reason=_cut(reason, _LONGEST_REASON),
            source=_cut(what.source, _LONGEST_SOURCE),
            method=_cut(what.method, _LONGEST_SOURCE),
            operator=self.operator,
            authority=self.authority,
            started_at=started,
            ended_at=ended,
            clock_offset_ms=self.cluster.clock_offset_ms,
            volatility=what.volatility,
            media_type=what.media_type,
            blob=blob,
        )


def name_part(text: str) -> str:
    """``text`` from the cluster as one part of an item's id: visible ASCII without a slash.

    Most names are that already. One that had to be altered ends in a digest of the original, so that two stay two.
    """
    return text if _fits(text) and "/" not in text else _altered(text, _SAFE)


def _name(text: str) -> str:
    """An id or a kind as the bundle's format has it: who may write an owner's kind must not be able to stop a seal."""
    return text if _fits(text) else _altered(text, _SAFE + "/")


def _fits(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_ID and all("!" <= character <= "~" for character in text)


def _altered(text: str, safe: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{quote(text, safe=safe, errors='replace')[:60]}~{digest[:12]}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest} characters more)"


def _pour(chunks: Iterable[bytes], writer: BlobWriter, limits: StreamLimits) -> tuple[int, str]:
    """Write chunks until they end; how many bytes, and why that was before the end (empty when it was not)."""
    size, began = 0, time.monotonic()
    try:
        for chunk in chunks:
            room = limits.max_bytes - size
            writer.write(chunk[:room])
            size += min(len(chunk), room)
            if len(chunk) > room:
                return size, f"cut by Ringfence's own limit of {limits.max_bytes} bytes: what follows was not read"
            if time.monotonic() - began > limits.max_seconds:
                return size, f"cut by Ringfence's own limit of {limits.max_seconds:g} s: what follows was not read"
    except PlatformError as error:
        return size, f"it broke off: {error}"
    return size, ""


def _blob(writer: BlobWriter) -> Blob:
    return _described(writer.finish())


def _described(stored: blob.Blob) -> Blob:
    return Blob(
        stored_sha256=stored.stored_sha256,
        stored_size=stored.stored_size,
        raw_sha256=stored.raw_sha256,
        raw_size=stored.raw_size,
        encoding=stored.encoding.value,
    )
