"""Evidence as bytes: what the server sent (raw) and what lies on the disk (stored), both hashed while they stream.

The stored bytes are the raw bytes compressed with zstd, or the raw bytes themselves. Digests of the stored bytes prove
that the file is the one that was sealed; digests of the raw bytes prove that it still decodes to what the server sent.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self, cast

import zstandard

from ringfence.errors import Tampered, VaultError
from ringfence.seal.canonical import Count, Record, Sha256
from ringfence.seal.files import ENCRYPTED, NewFile

if TYPE_CHECKING:
    from ringfence.seal.atrest import VaultKey

_CHUNK = 1 << 17
_KNOWN = 1024
_ZSTD_LEVEL = 3
_ZSTD_WINDOW = 1 << 23
"""Most memory (bytes) that a frame may ask of its reader: 8 MiB, what RFC 8878 asks every reader to support."""


class Encoding(StrEnum):
    """How the stored bytes become the raw bytes."""

    ZSTD = "zstd"
    IDENTITY = "identity"


@dataclass(frozen=True)
class Blob(Record):
    """One file of evidence. Sizes in bytes."""

    stored_sha256: Sha256
    stored_size: Count
    raw_sha256: Sha256
    raw_size: Count
    encoding: Encoding


class Readable(Protocol):
    """Anything that gives bytes: a file, a bundle's member."""

    def read(self, size: int, /) -> bytes: ...


class BlobFolder:
    """A folder of blobs, each in a file named after its stored SHA-256, never rewritten."""

    def __init__(self, path: Path, key: VaultKey | None = None) -> None:
        """With ``key``, new blobs are encrypted below their names and digests, which stay those of the stored bytes."""
        self.path = path
        self.key = key
        self._known: dict[str, Blob] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def store(self, chunks: Sequence[bytes]) -> Blob:
        """The blob of bytes that are all there. Those that this object has stored before are not written again: what
        is read for a whole group of pods is evidence of each of them."""
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        raw = digest.hexdigest()
        with self._guard:
            turn = self._turns.setdefault(raw, threading.Lock())
        try:
            with turn:  # others write other bytes meanwhile: what takes long is that the disk has them
                known = self._known.get(raw)
                if known is None or not self._lies(known):
                    known = self._write(chunks)
                if len(self._known) >= _KNOWN:
                    self._known.clear()
                self._known[raw] = known
                return known
        finally:
            with self._guard:
                self._turns.pop(raw, None)

    def _write(self, chunks: Sequence[bytes]) -> Blob:
        with self.new() as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.finish()

    def _lies(self, blob: Blob) -> bool:
        suffix = ENCRYPTED if self.key is not None else ""
        return (self.path / (blob.stored_sha256 + suffix)).exists()

    def new(self, *, encoding: Encoding = Encoding.ZSTD) -> BlobWriter:
        """Start a blob: ``with folder.new() as writer: …; blob = writer.finish()``. The folder must exist."""
        return BlobWriter(self, encoding)

    def open(self, blob: Blob) -> BinaryIO:
        """The stored bytes, unchecked: ``read_blob`` checks them. Raises VaultError when they cannot be opened."""
        try:
            plain = self.path / blob.stored_sha256
            encrypted = self.path / (blob.stored_sha256 + ENCRYPTED)
            # Both are read whatever is configured now: a key that is set later leaves older files as they are.
            if not encrypted.exists():
                return plain.open("rb")
            from ringfence.seal.atrest import open_file

            return open_file(encrypted, self.key)
        except OSError as error:
            raise VaultError(
                f"the stored bytes sha256:{blob.stored_sha256} cannot be read",
                why=error.strerror or str(error),
                next_step=f"check {self.path}; sealed bundles carry their own copies",
            ) from error


class BlobWriter:
    """Takes raw bytes as they arrive; memory stays flat. What is not finished leaves nothing behind."""

    def __init__(self, folder: BlobFolder, encoding: Encoding) -> None:
        self._folder = folder
        self._encoding = encoding
        # The frame carries a checksum, so that plain ``zstd -d`` notices damage too. It cannot carry the size, which
        # nobody knows while a log is still streaming: the manifest does.
        self._compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
        self._raw = _Tally()
        self._stored = _Tally()
        self._file = NewFile(folder.path, mode=0o400, key=folder.key)

    def write(self, chunk: bytes) -> None:
        self._raw.add(chunk)
        self._store(self._compressor.compress(chunk) if self._encoding is Encoding.ZSTD else chunk)

    def finish(self) -> Blob:
        """Make the file durable under its digest and say what it is.

        The same bytes may be there already: then they are read again, and Tampered is raised if they have changed.
        """
        if self._encoding is Encoding.ZSTD:
            self._store(self._compressor.flush())
        blob = Blob(
            stored_sha256=self._stored.sha256,
            stored_size=self._stored.size,
            raw_sha256=self._raw.sha256,
            raw_size=self._raw.size,
            encoding=self._encoding,
        )
        suffix = ENCRYPTED if self._folder.key is not None else ""
        if not self._file.publish(self._folder.path / (blob.stored_sha256 + suffix)):
            with self._folder.open(blob) as present:
                check_blob(present, blob, f"blob sha256:{blob.stored_sha256}")
        return blob

    def _store(self, data: bytes) -> None:
        self._stored.add(data)
        self._file.write(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)


def read_blob(source: Readable, blob: Blob, item: str) -> Iterator[bytes]:
    """The raw bytes, in chunks of at most 128 KiB and never more than ``blob.raw_size`` in all.

    **Only when the iterator ends without an error are the chunks known to be right.** Then both sizes and both digests
    fit. Otherwise Tampered is raised, with ``item`` as the name of what is wrong.
    """
    stored = _Counted(source)
    raw = _Tally()
    problem = ""
    try:
        for chunk in _decode(stored, blob.encoding):
            if raw.size + len(chunk) > blob.raw_size:
                problem = f"more than {blob.raw_size} bytes"  # a decompression bomb ends here
                break
            raw.add(chunk)
            yield chunk
    except zstandard.ZstdError as error:
        problem = f"bytes that do not decode: {error}"
    stored.drain()
    # The stored digest first: if it fits, whatever is wrong was wrong already when this was sealed.
    _compare(f"{item} (stored bytes)", stored.tally, blob.stored_sha256, blob.stored_size)
    if problem:
        raise Tampered(f"{item} (raw bytes)", expected=_described(blob.raw_sha256, blob.raw_size), actual=problem)
    _compare(f"{item} (raw bytes)", raw, blob.raw_sha256, blob.raw_size)


def copy_blob(source: Readable, blob: Blob, item: str, write: Callable[[bytes], None]) -> None:
    """Copy the stored bytes as they are. Raises Tampered when they are not the ones that ``blob`` describes."""
    stored = _Counted(source)
    while stored.tally.size <= blob.stored_size and (chunk := stored.read(_CHUNK)):
        write(chunk)
    _compare(f"{item} (stored bytes)", stored.tally, blob.stored_sha256, blob.stored_size)


def check_blob(source: Readable, blob: Blob, item: str) -> None:
    """``read_blob`` for its checks alone."""
    for _ in read_blob(source, blob, item):
        pass


def _decode(source: _Counted, encoding: Encoding) -> Iterator[bytes]:
    if encoding is Encoding.IDENTITY:
        reader: Readable = source
    else:
        # A stream reader gives bounded chunks: one block of a bomb would otherwise expand to gigabytes at once.
        # Across frames, as ``zstd -d`` does: both must see the same bytes.
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        reader = decompressor.stream_reader(cast(BinaryIO, source), read_size=_CHUNK, read_across_frames=True)
    while chunk := reader.read(_CHUNK):
        yield chunk


def _compare(item: str, found: _Tally, sha256: str, size: int) -> None:
    if (found.sha256, found.size) != (sha256, size):
        raise Tampered(item, expected=_described(sha256, size), actual=_described(found.sha256, found.size))


def _described(sha256: str, size: int) -> str:
    return f"sha256:{sha256} ({size} bytes)"


class _Tally:
    """Size and SHA-256 of bytes that pass by."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class _Counted:
    """A source that keeps a tally of what is read from it."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.tally = _Tally()

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self.tally.add(data)
        return data

    def drain(self) -> None:
        while self.read(_CHUNK):
            pass
