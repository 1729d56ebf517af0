"""The engine lock: an flock on a file, which dies with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from ringfence.durable.port import EngineBusy


class EngineLock:
    """Held from ``acquire`` to ``release``. The file stays: removing it would let two processes lock two files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises EngineBusy naming the holder, OSError when the file cannot be written."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode(), 0)
        except BlockingIOError:
            # The holder writes right after it locks; in between the file is empty.
            holder = os.pread(file, 200, 0).decode("ascii", "replace").strip()
            os.close(file)
            raise EngineBusy("".join(c for c in holder if c.isprintable()) or "a process that just started") from None
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def release(self) -> None:
        """Give the lock back; nothing when it is not held."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None
