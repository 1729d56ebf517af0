"""The engine's own SQLite file: made private and in WAL, checked, and moved aside when it is broken."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

_CHECKED_BYTES = 32 * 2**20
"""Above this size the check at launch looks at the header only (a full one takes about 1 s for 400 MB)."""

BUSY_SECONDS = 10.0

_BROKEN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
"""Not a database, damaged, or with tables that are not the engine's; unlike a full disk or a lock, this stays so."""


class Connection(sqlite3.Connection):
    """Commits without waiting for the disk. A power cut may forget the last steps, which then run once more."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.execute("PRAGMA synchronous=NORMAL")


def prepare(path: Path) -> None:
    """Make the file when there is none (mode 0600, WAL) and check it. Raises sqlite3.Error or OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        if path.stat().st_size <= _CHECKED_BYTES:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                broken = sqlite3.DatabaseError(verdict)
                broken.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise broken
    finally:
        connection.close()


def broken(error: BaseException) -> bool:
    """Whether an error says that the file itself is of no use."""
    cause = getattr(error, "orig", None) or error
    return isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in _BROKEN


def move_aside(path: Path) -> Path:
    """Rename the file and its WAL to ``….broken-<unix time>``; the new path. Raises OSError."""
    aside = path.with_name(f"{path.name}.broken-{time.time_ns() // 1_000_000}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
