"""Encryption of the vault's files, below everything else: what is hashed, sealed and verified is what was encrypted.

A file is a header and chunks, the STREAM construction over AES-256-GCM::

    header  "RFVAULT1", 8 bytes of the key's id, 16 random bytes
    chunk   64 KiB of the file and a tag of 16 bytes; the last one is shorter, and is there even when it is empty
    key     HKDF-SHA-256 of the configured key, with the random bytes as salt
    nonce   11 bytes of the chunk's number, 1 byte that is 1 in the last chunk alone; the header is authenticated too

So a chunk can be neither changed, moved, left out nor put in from another file, and a file cannot be cut short. Names,
sizes and times of files are not hidden. Losing the key is losing the evidence: keep a second copy of it elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ringfence.errors import ConfigError, Tampered, VaultError
from ringfence.seal.files import ENCRYPTED

CHUNK = 1 << 16
_MAGIC = b"RFVAULT1"
_ID = 8
_SALT = 16
_HEADER = len(_MAGIC) + _ID + _SALT
_TAG = 16
_SETTING = "vault.encryption_key"
_OPEN_TO_OTHERS = 0o077


@dataclass(frozen=True)
class VaultKey:
    """32 bytes. ``id`` tells keys apart and gives nothing away."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        return hashlib.sha256(b"ringfence vault key id" + self.secret).digest()[:_ID]

    def for_file(self, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(SHA256(), 32, salt, b"ringfence vault file").derive(self.secret))


def load_key(path: Path) -> VaultKey:
    """The key in a file: 32 bytes in base64, as ``openssl rand -base64 32`` writes them. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            mode, text = os.fstat(file.fileno()).st_mode, file.read(1024)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error), "check the path and its permissions") from error
    if mode & _OPEN_TO_OTHERS:
        raise _unusable(path, f"others can read it, its mode is {mode & 0o777:04o}", f"chmod 600 {path}")
    try:
        secret = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise _unusable(path, "it is not 32 bytes in base64", f"openssl rand -base64 32 > {path}, for a new vault")
    return VaultKey(secret)


class Sink:
    """Encrypts what is written into ``file``; ``end`` writes the last chunk, after which nothing can be written."""

    def __init__(self, file: BinaryIO, key: VaultKey) -> None:
        salt = os.urandom(_SALT)
        self._header = _MAGIC + key.id + salt
        self._cipher = key.for_file(salt)
        self._file = file
        self._number = 0
        self._rest = bytearray()
        self._ended = False
        file.write(self._header)

    def write(self, data: bytes) -> None:
        assert not self._ended, "what was read back is complete"
        self._rest += data
        whole = (len(self._rest) - 1) // CHUNK if self._rest else 0  # the last chunk is known at the end alone
        for number in range(whole):
            self._put(bytes(self._rest[number * CHUNK : (number + 1) * CHUNK]), last=False)
        del self._rest[: whole * CHUNK]

    def end(self) -> None:
        if not self._ended:
            self._put(bytes(self._rest), last=True)
            self._rest.clear()
            self._ended = True

    def _put(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last=last), chunk, self._header))
        self._number += 1


class _Source(io.RawIOBase):
    """The file as it was before it was encrypted. Reading raises Tampered when a chunk is not the one written."""

    def __init__(self, file: BinaryIO, key: VaultKey | None, name: str, *, owns: bool) -> None:
        super().__init__()
        self._file, self._name, self._owns = file, name, owns
        self._header = file.read(_HEADER)
        if len(self._header) != _HEADER or not self._header.startswith(_MAGIC):
            raise Tampered(name, expected="an encrypted file of the vault", actual="something else")
        written_with = self._header[len(_MAGIC) : len(_MAGIC) + _ID]
        if key is None or key.id != written_with:
            has = "no key is configured" if key is None else f"the configured key is {key.id.hex()}"
            raise VaultError(
                f"{name} cannot be decrypted",
                why=f"it was encrypted with the key {written_with.hex()}, {has}",
                next_step=f"{_SETTING} names the file of that key",
            )
        self._cipher = key.for_file(self._header[len(_MAGIC) + _ID :])
        self._number = 0
        self._next = file.read(CHUNK + _TAG)
        self._plain = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        while not self._plain and not self._ended:
            chunk, self._next = self._next, self._file.read(CHUNK + _TAG)
            self._ended = not self._next
            try:
                self._plain = self._cipher.decrypt(_nonce(self._number, last=self._ended), chunk, self._header)
            except (InvalidTag, ValueError) as error:
                raise Tampered(
                    f"{self._name} (chunk {self._number})", expected="what was encrypted", actual="other bytes"
                ) from error
            self._number += 1
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size

    def close(self) -> None:
        if not self.closed and self._owns:
            self._file.close()
        super().close()


def decrypted(file: BinaryIO, key: VaultKey | None, name: str, *, owns: bool) -> BinaryIO:
    """What was encrypted, from the beginning of ``file``; ``owns``: closing it closes the file.

    Raises VaultError for another key, Tampered when it is no encrypted file; so does reading.
    """
    return io.BufferedReader(_Source(file, key, name, owns=owns), CHUNK)


def open_file(path: Path, key: VaultKey | None) -> BinaryIO:
    """A file of the vault as it was before it was encrypted, if it was. Raises OSError, and as ``decrypted``."""
    file = path.open("rb")
    if path.suffix != ENCRYPTED:
        return file
    try:
        return decrypted(file, key, str(path), owns=True)
    except BaseException:
        file.close()
        raise


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _unusable(path: Path, why: str, next_step: str) -> ConfigError:
    return ConfigError(f"{_SETTING} cannot be used", location=str(path), why=why, next_step=next_step)
