"""Acquiring one item: bytes as the server sent them, hashed while they stream, with who, how, when and why not.

A failure to acquire is an item too: absent (the server said so), denied or failed, each with its reason. Only a vault
that cannot be written raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

from ringfence.errors import Denied, Invalid, NotFound, PlatformError
from ringfence.model.evidence import Blob, Collected, EvidenceItem
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.surroundings import Reading
from ringfence.seal.blob import BlobFolder


@dataclass(frozen=True)
class What:
    """An item before it is acquired. ``absent_on_invalid``: a 400 means that there is none (logs)."""

    id: str
    kind: str
    source: str
    method: str
    volatility: int
    required: bool = False
    media_type: str = "application/json"
    absent_on_invalid: bool = False


class Acquirer:
    """Acquires for one operator under one authority into one incident's blobs. Safe for several threads."""

    def __init__(self, cluster: Cluster, blobs: BlobFolder, *, operator: str, authority: str) -> None:
        self.cluster = cluster
        self.blobs = blobs
        self.operator = operator
        self.authority = authority

    def stream(
        self,
        what: What,
        opened: Callable[[], AbstractContextManager[Iterable[bytes]]],
        on_open: Callable[[], None] = lambda: None,
    ) -> EvidenceItem:
        """Acquire from a stream; ``on_open`` is called when the first byte can come, or when none will."""
        started = datetime.now(UTC)
        try:
            with opened() as chunks:
                on_open()
                return self._store(what, chunks, started)
        except PlatformError as error:
            return self._not_collected(what, error, started)
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
        blob = self._write(reading.raw)
        return self._item(what, Collected.COLLECTED, reading.started_at, reading.ended_at, blob=blob)

    def derived(self, what: What, data: bytes, started: datetime) -> EvidenceItem:
        """Keep something that Ringfence computed; ``what.method`` says from what."""
        return self._store(what, (data,), started)

    def missing(self, what: What, result: Collected, reason: str) -> EvidenceItem:
        """Record that something is not there, without asking."""
        now = datetime.now(UTC)
        return self._item(what, result, now, now, reason=reason)

    def _store(self, what: What, chunks: Iterable[bytes], started: datetime) -> EvidenceItem:
        blob = self._write(chunks)
        return self._item(what, Collected.COLLECTED, started, datetime.now(UTC), blob=blob)

    def _write(self, chunks: Iterable[bytes]) -> Blob:
        with self.blobs.new() as writer:
            for chunk in chunks:
                writer.write(chunk)
            stored = writer.finish()
        return Blob(
            stored_sha256=stored.stored_sha256,
            stored_size=stored.stored_size,
            raw_sha256=stored.raw_sha256,
            raw_size=stored.raw_size,
            encoding=stored.encoding.value,
        )

    def _not_collected(self, what: What, error: PlatformError, started: datetime) -> EvidenceItem:
        match error:
            case NotFound():
                result = Collected.ABSENT
            case Invalid(status=400) if what.absent_on_invalid:
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
            id=what.id,
            kind=what.kind,
            required=what.required,
            result=result,
            reason=reason,
            source=what.source,
            method=what.method,
            operator=self.operator,
            authority=self.authority,
            started_at=started,
            ended_at=ended,
            clock_offset_ms=self.cluster.clock_offset_ms,
            volatility=what.volatility,
            media_type=what.media_type,
            blob=blob,
        )
