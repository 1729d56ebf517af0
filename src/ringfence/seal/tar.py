"""The one tar encoding of a bundle (POSIX ustar): every byte follows from the members' names, sizes and contents.

A member is a header block, its contents, and zeros up to the next multiple of 512. After the last member come exactly
two blocks of zeros, and then the file ends. ``header`` fixes everything else: regular file, mode 0644, no owner, no
times, no links, no extensions. ``TarReader`` builds each header again and compares, so a bundle that any tar program
can list still has no byte that can change unseen, and nothing can hide between the members or behind them.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from ringfence.errors import Tampered, Unverifiable

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_SIZE = 8**11 - 1
"""Largest member in bytes (8 GiB - 1): ustar writes sizes as 11 octal digits."""

_CHUNK = 1 << 17

_FIELDS = (
    ("name", 0, 100),
    ("mode", 100, 8),
    ("uid", 108, 8),
    ("gid", 116, 8),
    ("size", 124, 12),
    ("mtime", 136, 12),
    ("type", 156, 1),
    ("linkname", 157, 100),
    ("magic", 257, 6),
    ("version", 263, 2),
    ("uname", 265, 32),
    ("gname", 297, 32),
    ("devmajor", 329, 8),
    ("devminor", 337, 8),
    ("prefix", 345, 155),
    ("padding", 500, 12),
    ("checksum", 148, 8),  # last: it also differs whenever another field does
)


def header(name: str, size: int) -> bytes:
    """The header block of a member. Raises ValueError when the name or size does not fit into ustar."""
    encoded = name.encode("ascii")
    if not 0 < len(encoded) <= 100 or not 0 <= size <= MAX_SIZE:
        raise ValueError(f"{name!r} with {size} bytes does not fit into a ustar header")
    before_checksum = b"".join(
        (
            encoded.ljust(100, b"\0"),
            b"0000644\0",  # mode
            b"0000000\0",  # uid
            b"0000000\0",  # gid
            b"%011o\0" % size,
            b"00000000000\0",  # mtime
        )
    )
    after_checksum = b"".join(
        (
            b"0",  # type: regular file
            bytes(100),  # linkname
            b"ustar\0",
            b"00",
            bytes(32),  # uname
            bytes(32),  # gname
            b"0000000\0",  # devmajor
            b"0000000\0",  # devminor
            bytes(155),  # prefix
            bytes(12),
        )
    )
    # POSIX: the sum of the header's bytes, the checksum field itself counted as eight spaces.
    checksum = sum(before_checksum) + 8 * ord(" ") + sum(after_checksum)
    return before_checksum + b"%06o\0 " % checksum + after_checksum


def padding(size: int) -> bytes:
    """The zeros between a member's contents and the next block."""
    return bytes(-size % BLOCK)


class TarReader:
    """Reads a bundle front to back, once, in flat memory, and hashes every byte on the way.

    The caller says which member must come next. Whatever else is there raises Tampered with the member's name; a disk
    that cannot be read raises Unverifiable.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._seen: set[str] = set()
        self.offset = 0
        """Bytes read so far."""

    @property
    def sha256(self) -> str:
        """Of all bytes read so far: of the whole file after ``end``."""
        return self._hash.hexdigest()

    def member(self, name: str, *, allowed: frozenset[str], size: int | None = None) -> Member:
        """Open the next member, which must be ``name``, with ``size`` bytes if that is known.

        ``allowed`` are the names that the bundle may hold at all; they only make the message precise.
        """
        found = self._read(BLOCK)
        if len(found) < BLOCK:
            raise Tampered(
                name, expected=f"the member at offset {self.offset - len(found)}", actual="the end of the file"
            )
        found_size = _size_field(found)
        if found != header(name, found_size if size is None else size):
            raise self._diagnose(found, name, allowed, size)
        self._seen.add(name)
        return Member(self, name, found_size)

    def end(self) -> None:
        """Nothing may follow but the two blocks of zeros."""
        found = self._read(len(END) + 1)
        if found == END:
            return
        if len(found) < len(END):
            raise Tampered(
                "end of the archive", expected="two blocks of zeros", actual=f"the file ends after {len(found)} bytes"
            )
        if not any(found[: len(END)]):
            raise Tampered(
                "end of the archive", expected="nothing after two blocks of zeros", actual="more bytes after them"
            )
        name = _name_field(found)
        if name in self._seen:
            raise Tampered(name, expected="one member of this name", actual="a second one at the end")
        if name and found[257:262] == b"ustar":
            raise Tampered(name, expected="no member of this name", actual="an extra member at the end")
        raise Tampered("end of the archive", expected="two blocks of zeros", actual="other bytes")

    def _diagnose(self, found: bytes, name: str, allowed: frozenset[str], size: int | None) -> Tampered:
        """Say how the header block ``found`` differs from the one that must be here."""
        found_name = _name_field(found)
        if not any(found):
            return Tampered(name, expected="a member of this name", actual="the end of the archive: it is missing")
        if found_name != name and found_name in self._seen:
            return Tampered(found_name, expected="one member of this name", actual=f"a second one, before {name}")
        if found_name != name and found_name in allowed:
            return Tampered(
                name, expected="this member here", actual=f"{found_name}: a member is missing or out of order"
            )
        if found_name and found_name != name and found[257:262] == b"ustar" and _is_checksummed(found):
            return Tampered(found_name, expected="no member of this name", actual=f"an extra member before {name}")
        right = header(name, (_size_field(found) if size is None else size))
        field, start, length = next(part for part in _FIELDS if _differs(found, right, part))
        return Tampered(
            f"{name} (tar header, {field})",
            expected=repr(right[start : start + length].rstrip(b"\0")),
            actual=repr(found[start : start + length].rstrip(b"\0")),
        )

    def _read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        parts = []
        while size > 0 and (part := self._read_some(size)):
            self._hash.update(part)
            self.offset += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _read_some(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:
            raise Unverifiable(
                "the bundle",
                missing=f"its bytes at offset {self.offset}: {error.strerror or error}",
                next_step="read it again, from another copy if need be",
            ) from error


class Member:
    """The contents of one member. Call ``finish`` when done with it: the bytes not yet read count too."""

    def __init__(self, reader: TarReader, name: str, size: int) -> None:
        self._reader = reader
        self._left = size
        self._hash = hashlib.sha256()
        self.name = name
        self.size = size

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, fewer only at the member's end. Raises Tampered when the file ends before it."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._reader._read(wanted)
        self._left -= len(data)
        self._hash.update(data)
        if len(data) < wanted:
            raise Tampered(
                self.name, expected=f"{self.size} bytes", actual=f"{self.size - self._left}, then the file ends"
            )
        return data

    def finish(self) -> str:
        """Read what is left, check the padding, return the SHA-256 of the contents."""
        while self._left:
            self.read(_CHUNK)
        zeros = padding(self.size)
        found = self._reader._read(len(zeros))
        if found != zeros:
            actual = "the end of the file" if len(found) < len(zeros) else "other bytes"
            raise Tampered(f"{self.name} (tar padding)", expected="zeros up to the next block", actual=actual)
        return self._hash.hexdigest()


def _name_field(block: bytes) -> str:
    """The name up to the first zero byte, as text that is safe to print: all but visible ASCII is escaped."""
    name = block[:100].split(b"\0", 1)[0]
    return "".join(chr(byte) if 0x20 < byte < 0x7F else f"\\x{byte:02x}" for byte in name)


def _size_field(block: bytes) -> int:
    """The size, or 0 when the field is not canonical (the comparison with the right header then fails)."""
    digits = block[124:135]
    return int(digits, 8) if all(digit in b"01234567" for digit in digits) else 0


def _is_checksummed(block: bytes) -> bool:
    """Whether the checksum fits: then this is another member's header, and not a damaged one of ours."""
    return block[148:156] == b"%06o\0 " % (sum(block[:148]) + 8 * ord(" ") + sum(block[156:]))


def _differs(found: bytes, right: bytes, part: tuple[str, int, int]) -> bool:
    _, start, length = part
    return found[start : start + length] != right[start : start + length]
