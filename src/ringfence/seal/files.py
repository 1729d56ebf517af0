"""Files that appear whole or not at all, and never in the place of another."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from ringfence.errors import VaultError

if TYPE_CHECKING:  # the verifier reads what left the vault: it loads nothing that decrypts
    from ringfence.seal.atrest import Sink, VaultKey

ENCRYPTED = ".enc"
"""Ends the name of an encrypted file: the name decides how it is read, never its content."""


class NewFile:
    """A file under construction. It has no name of its own until ``publish``; leaving the block without that drops it.

    Raises VaultError for everything that the file system refuses.
    """

    def __init__(self, folder: Path, *, mode: int, key: VaultKey | None = None) -> None:
        """``folder`` is where it will be published; ``mode`` its permissions then (0600 until then).

        With ``key`` the bytes are encrypted before they touch the disk, under its unfinished name too.
        """
        self._folder = folder
        self._mode = mode
        self._temporary: Path | None = None
        try:
            descriptor = self._nameless()
        except OSError as error:
            raise _refused(f"no file can be made in {folder}", error) from error
        self.stream = os.fdopen(descriptor, "w+b")
        self.size = 0
        """Bytes that were written, before encryption."""
        self._key = key
        self._sink = self._encrypting(key) if key is not None else None

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
            (self._sink or self.stream).write(data)
            self.size += len(data)
        except OSError as error:
            raise _refused(f"cannot write to {self._folder}", error) from error

    def reread(self) -> BinaryIO:
        """What was written so far, from its beginning. An encrypted file is complete with that."""
        try:
            if self._sink is not None:
                self._sink.end()
            self.stream.seek(0)  # writes out what is buffered
        except OSError as error:
            raise _refused(f"cannot write to {self._folder}", error) from error
        if self._sink is None:
            return self.stream
        from ringfence.seal.atrest import decrypted

        return decrypted(self.stream, self._key, f"a new file in {self._folder}", owns=False)

    def publish(self, path: Path) -> bool:
        """Make it durable under its name. False, and nothing is changed, when that name is taken already."""
        try:
            if self._sink is not None:
                self._sink.end()
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

    def _encrypting(self, key: VaultKey) -> Sink:
        from ringfence.seal.atrest import Sink

        try:
            return Sink(self.stream, key)
        except OSError as error:
            self.__exit__(None, None, None)
            raise _refused(f"cannot write to {self._folder}", error) from error

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
