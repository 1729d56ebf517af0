"""The cluster's audit log as a stream of events: files of JSON lines (audit.k8s.io/v1), read once, in flat memory.

Where ``audit.py`` looks one request up, this reads all of them. Rotated files (``audit-TIME.log``, as kube-apiserver
names them, packed or not) belong to the file that is given. What is no event is counted and named by its line, and
stops nothing: a log may be cut off, or written to while it is read. Everything in it is foreign text.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, cast

from ringfence.errors import Unverifiable
from ringfence.model.base import Json, isoformat
from ringfence.platform.kubernetes.audit_event import AuditEvent, NotAnEvent, event_of

LONGEST_LINE = 32 << 20
"""Bytes. At level RequestResponse a line holds two objects, and a list can be large; the API server bounds neither."""
_EACH = 500
"""Of lines that are not about what is asked for, one in so many is read, to know which time the log covers."""
_NAMED = 20
"""How many broken lines of a file are named; the rest is counted."""
SEAM = timedelta(seconds=60)
"""Two files follow each other when no more than this lies between them: else one may have been left out."""
_ROTATED = re.compile(r"-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\Z")
_GZIP = b"\x1f\x8b"

Span = tuple[datetime, datetime]


@dataclass
class FileRead:
    """What one file held. ``first`` and ``last`` are the earliest and the latest moment at which a line was written
    (the API server's clock); None while there is no event. ``broken_lines`` are the first of the ``broken``: number,
    from 1, and why. ``problem`` is why the file could not be read to its end. ``position`` is the place in the file, in
    bytes, behind what was read."""

    path: Path
    lines: int = 0
    events: int = 0
    first: datetime | None = None
    last: datetime | None = None
    broken: int = 0
    broken_lines: tuple[tuple[int, str], ...] = ()
    problem: str = ""
    position: int = 0

    def to_json(self) -> Json:
        return {
            "path": str(self.path),
            "lines": self.lines,
            "events": self.events,
            "first": isoformat(self.first) if self.first else None,
            "last": isoformat(self.last) if self.last else None,
            "broken": self.broken,
            "broken_lines": [{"line": line, "why": why} for line, why in self.broken_lines],
            "problem": self.problem,
        }

    def saw(self, at: datetime) -> None:
        self.events += 1
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)

    def broke(self, line: int, why: str) -> None:
        self.broken += 1
        if len(self.broken_lines) < _NAMED:
            self.broken_lines = (*self.broken_lines, (line, why))


class AuditLog:
    """The files of a log, each once. ``since`` leaves out rotated files that were last written before that moment.

    With several API servers, each has a log of its own: give them all.
    """

    def __init__(self, paths: Sequence[Path], since: datetime | None = None) -> None:
        self.files: list[FileRead] = []
        self._given = frozenset(paths)
        self._since = since
        self._paths = paths

    def events(self) -> Iterator[AuditEvent]:
        """Every event; ``files`` is complete at the end. A rotated file that cannot be read says so there.

        Raises Unverifiable when a file that was given cannot be read.
        """
        self.files = []
        for path in with_rotated(self._paths, self._since):
            read = FileRead(path)
            self.files.append(read)
            try:
                with opened(path) as source:
                    yield from events_in(source, read)
            except (OSError, EOFError, zlib.error) as error:
                read.problem = words_of(error)
                if path in self._given and not read.lines:
                    raise unreadable(read) from error

    def spans(self) -> tuple[Span, ...]:
        """The stretches of time that the files cover, in order; what lies between two of them is in no file."""
        return spans_of(self.files)


def unreadable(read: FileRead) -> Unverifiable:
    return Unverifiable(
        f"the audit log {read.path}",
        missing=read.problem,
        next_step="give a file of JSON lines, as kube-apiserver writes them, that this user may read",
    )


def spans_of(files: Iterable[FileRead]) -> tuple[Span, ...]:
    """The stretches of time that files cover together."""
    found: list[Span] = []
    for first, last in sorted((r.first, r.last) for r in files if r.first is not None and r.last is not None):
        if found and first - found[-1][1] <= SEAM:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def with_rotated(paths: Sequence[Path], since: datetime | None) -> list[Path]:
    """Each file once, whatever it is called; the rotated ones of a file before it, the oldest first."""
    found: dict[object, Path] = {}
    for path in paths:
        for file in (*(old for old in _rotated(path) if not _ended_before(old, since)), path):
            found.setdefault(identity(file), file)
    return list(found.values())


def _rotated(path: Path) -> list[Path]:
    # Looked for by name, with no pattern made of the path: it may hold characters that mean something in one.
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return []
    found = []
    for name in names:
        plain = name.removesuffix(".gz")
        if plain.startswith(path.stem) and plain.endswith(path.suffix) and plain != path.name:
            middle = plain[len(path.stem) : len(plain) - len(path.suffix)]
            if _ROTATED.fullmatch(middle):
                found.append(path.with_name(name))
    return found


def _ended_before(path: Path, since: datetime | None) -> bool:
    if since is None:
        return False
    try:
        return path.stat().st_mtime < (since - SEAM).timestamp()
    except OSError:
        return False


def identity(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return path
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    # A pipe in its place must not stop us.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("it is not a regular file")
        packed = file.peek(2).startswith(_GZIP)
        if not packed:
            yield file
            return
        with gzip.open(file, "rb") as source:
            yield cast(IO[bytes], source)


def events_in(source: IO[bytes], read: FileRead, about: bytes = b"", *, growing: bool = False) -> Iterator[AuditEvent]:
    """The events from where the source stands. ``growing``: somebody comes back for what is added, and a line that has
    no end yet is left for then."""
    name = str(read.path)
    while line := source.readline(LONGEST_LINE):
        whole, size = line.endswith(b"\n"), len(line)
        too_long = not whole and size == LONGEST_LINE
        while too_long and (rest := source.readline(LONGEST_LINE)):
            size += len(rest)
            if whole := rest.endswith(b"\n"):
                break
        if growing and not whole:
            return
        read.lines += 1
        read.position += size
        if too_long:
            read.broke(read.lines, f"it is longer than {LONGEST_LINE} bytes")
            continue
        if not line.strip() or (about not in line and read.lines % _EACH != 1):
            continue
        try:
            event = event_of(line, file=name, number=read.lines)
        except NotAnEvent as error:
            if whole:  # the last line of a log may be in the middle of being written
                read.broke(read.lines, str(error))
            continue
        read.saw(event.stage_at)
        yield event


def words_of(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
