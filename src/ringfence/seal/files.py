"""Files that appear whole or not at all, and never in the place of another."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ringfence.errors import VaultError


class NewFile:
    """A file under construction. It has no name of its own until ``publish``; leaving the block without that drops it.

    Raises VaultError for everything that the file system refuses.
    """

    def __init__(self, folder: Path, *, mode: int) -> None:
        """``folder`` is where it will be published; ``mode`` its permissions then (0600 until then)."""
        self._folder = folder
        self._mode = mode
        self._temporary: Path | None = None
        try:
            descriptor = self._nameless()
        except OSError as error:
            raise _refused(f"no file can be made in {folder}", error) from error
        self.stream = os.fdopen(descriptor, "w+b")

    def _nameless(self) -> int:
        """A file without any name, which a process that is killed cannot leave behind; else one with a name."""
        if hasattr(os, "O_TMPFILE"):
            try:
                return os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                    raise
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".unfinished-")
        self._temporary = Path(name)
        return descriptor

    def write(self, data: bytes) -> None:
        try:
            self.stream.write(data)
        except OSError as error:
            raise _refused(f"cannot write to {self._folder}", error) from error

    def reread(self) -> BinaryIO:
        """What was written so far, from its beginning."""
        try:
            self.stream.seek(0)  # writes out what is buffered
        except OSError as error:
            raise _refused(f"cannot write to {self._folder}", error) from error
        return self.stream

    def publish(self, path: Path) -> bool:
        """Make it durable under its name. False, and nothing is changed, when that name is taken already."""
        try:
            self.stream.flush()
            os.fchmod(self.stream.fileno(), self._mode)
            os.fsync(self.stream.fileno())
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # A link, unlike a rename, never replaces what is there. A descriptor as its target is what makes
                # Python follow the source, which is the open file itself (linkat(2), AT_SYMLINK_FOLLOW).
                source = self._temporary or f"/proc/self/fd/{self.stream.fileno()}"
                os.link(source, path.name, dst_dir_fd=folder)
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            return False
        except OSError as error:
            raise _refused(f"{path} cannot be written", error) from error
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
        # Closing writes out what is buffered. What was published is written already; the rest is being dropped.
        with suppress(OSError):
            self.stream.close()


def exists(path: Path) -> bool:
    """Whether there is something of this name. Raises VaultError when that cannot be told."""
    try:
        return path.exists()
    except OSError as error:
        raise _refused(f"{path} cannot be looked up", error) from error


def _refused(what: str, error: OSError) -> VaultError:
    return VaultError(
        what,
        why=error.strerror or str(error),
        next_step="check free space, permissions, and that the file system supports hard links",
    )
