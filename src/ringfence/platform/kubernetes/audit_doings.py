"""What a user did, by an audit log that grows: each look reads what was added since the last one.

A log has gigabytes, and a screen that is looked at again, or a watcher, asks every few seconds. Of a file that is read
for the first time, what was written before the moment that is asked for is skipped by a search: lines stand in the
order of their time, give or take ``SEAM``. A clock that was set back by more while the file was written hides lines
from that search.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import threading
import zlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import IO

from ringfence.platform.kubernetes.audit_event import AuditEvent, NotAnEvent, event_of
from ringfence.platform.kubernetes.audit_log import (
    LONGEST_LINE,
    SEAM,
    FileRead,
    Span,
    events_in,
    identity,
    opened,
    spans_of,
    unreadable,
    with_rotated,
    words_of,
)

_NEAR = 1 << 20
"""Bytes. A search that is as near as this reads on from there."""
_BEGINNING = 1024
"""Bytes of a file by which it is known again: a log that is cut off and written anew keeps its name and its inode."""
_FOLLOWED = 64
"""How many users are followed in one process; the log is read anew for one that was let go of."""


@dataclass(frozen=True)
class Doings:
    """What a user did, by an audit log: ``calls`` in the log's order, ``more`` is how many there were beyond the limit.

    ``files`` says what was read; ``spans`` is what the log covers: outside of them it knows nothing.
    """

    calls: tuple[AuditEvent, ...]
    more: int
    files: tuple[FileRead, ...]
    spans: tuple[Span, ...]


def done_by(path: Path, user: str, since: datetime, *, limit: int = 500) -> Doings:
    """The mutating calls of a user since a moment (the API server's clock) that took effect, or may have.

    ``user`` is the name that the cluster knows (``system:serviceaccount:bank:cards``); a call in which it impersonated
    another, or was impersonated, counts. Left out are reads, dry runs, access reviews (they change nothing) and what
    the server refused (4xx). ``AuditEvent.pod_uid`` tells which pod's token it was, where the log says it.

    Streamed: memory is bounded by ``limit``. Raises Unverifiable when the file cannot be read.
    """
    return _follower(path, user, since, limit).look()


@dataclass
class _Held:
    """What is known of one file: how far it was read, how it begins, and what the user did in it."""

    read: FileRead
    beginning: bytes = b""
    size: int = 0
    calls: list[AuditEvent] = field(default_factory=list)
    more: int = 0

    def goes_on(self, beginning: bytes, size: int, *, packed: bool) -> bool:
        """Whether a file is this one, of which the rest may be read."""
        if self.read.problem or not beginning.startswith(self.beginning):
            return False
        return size == self.size if packed else size >= self.read.position


class Follower:
    """One user in one log, with the files that were rotated away. Safe for several threads."""

    def __init__(self, path: Path, user: str, since: datetime, limit: int) -> None:
        self._path, self._user, self._since, self._limit = path, user, since, limit
        # As the API server writes a name: in JSON, whose escapes ASCII names have none of.
        self._about = user.encode() if user.isascii() and user.isprintable() else b""
        self._held: dict[object, _Held] = {}
        self._lock = threading.Lock()

    def look(self) -> Doings:
        """Everything until now. Raises Unverifiable when the file cannot be read."""
        with self._lock:
            now: dict[object, _Held] = {}
            for path in with_rotated((self._path,), self._since):
                key = identity(path)
                now[key] = self._read(path, self._held.get(key))
            self._held = now
            calls = [call for held in now.values() for call in held.calls]
            files = tuple(replace(held.read) for held in now.values())
            return Doings(
                calls=tuple(calls[: self._limit]),
                more=len(calls[self._limit :]) + sum(held.more for held in now.values()),
                files=files,
                spans=spans_of(files),
            )

    def _read(self, path: Path, before: _Held | None) -> _Held:
        held = _Held(FileRead(path))
        try:
            with opened(path) as source:
                size, packed = os.fstat(source.fileno()).st_size, isinstance(source, gzip.GzipFile)
                beginning = source.read(_BEGINNING)
                if before is not None and before.goes_on(beginning, size, packed=packed):
                    held = before
                    held.read.path = path  # rotated away meanwhile
                    if packed:
                        return held
                elif not packed:
                    held.read.position = _first_since(source, size, self._since)
                held.beginning, held.size = beginning, size
                source.seek(held.read.position)
                for event in events_in(source, held.read, self._about, growing=not packed):
                    self._take(held, event)
        except (OSError, EOFError, zlib.error) as error:
            held.read.problem = words_of(error)
            if path == self._path and not held.read.lines:
                raise unreadable(held.read) from error
        return held

    def _take(self, held: _Held, event: AuditEvent) -> None:
        if not (event.is_answer and event.mutates and event.received_at >= self._since):
            return
        if self._user not in (event.user, event.impersonated) or event.dry_run or event.was_refused:
            return
        if len(held.calls) < self._limit:
            held.calls.append(event)
        else:
            held.more += 1


@functools.lru_cache(_FOLLOWED)
def _follower(path: Path, user: str, since: datetime, limit: int) -> Follower:
    return Follower(path, user, since, limit)


def _first_since(source: IO[bytes], size: int, since: datetime) -> int:
    """Where a line begins before which nothing was written since that moment."""
    low, high = 0, size
    while high - low > _NEAR:
        middle = (low + high) // 2
        found = _line_after(source, middle, high)
        if found is not None and found[1] < since - SEAM:
            low = found[0]
        else:  # where no line can be read, nothing is skipped
            high = middle
    return low


def _line_after(source: IO[bytes], position: int, end: int) -> tuple[int, datetime] | None:
    """The first line that begins behind a position and is an event: where it begins, and when it was written."""
    source.seek(position)
    position += len(source.readline(LONGEST_LINE))
    while position < end and (line := source.readline(LONGEST_LINE)):
        with contextlib.suppress(NotAnEvent):
            return position, event_of(line).stage_at
        position += len(line)
    return None
