"""How a bundle is made: in flat memory, verified before it gets its name, never over another file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ringfence.errors import VaultError
from ringfence.seal import custody, envelope, manifest, tar, timeline
from ringfence.seal.atrest import VaultKey
from ringfence.seal.blob import Blob, copy_blob
from ringfence.seal.canonical import FormatError
from ringfence.seal.chain import GENESIS, Head
from ringfence.seal.custody import CustodyEntry
from ringfence.seal.envelope import Envelope
from ringfence.seal.files import NewFile, exists
from ringfence.seal.manifest import Item, Manifest
from ringfence.seal.signing import SigningKey
from ringfence.seal.statement import (
    CUSTODY,
    MANIFEST,
    PAYLOAD_TYPE,
    TIMELINE,
    Predicate,
    SealFacts,
    Statement,
    Subject,
)
from ringfence.seal.timeline import TimelineEntry
from ringfence.seal.verify import BLOBS, examine_stream

_CHUNK = 1 << 17


@dataclass(frozen=True)
class SealedBundle:
    """A bundle that was written. ``sha256`` and ``size`` (bytes) are the whole file's."""

    path: Path
    sha256: str
    size: int
    seal_id: str
    key_id: str


def write_bundle(
    path: Path,
    *,
    facts: SealFacts,
    items: Sequence[Item],
    custody_entries: Sequence[CustodyEntry],
    timeline_entries: Iterable[TimelineEntry],
    open_blob: Callable[[Blob], BinaryIO],
    key: SigningKey,
    vault_key: VaultKey | None = None,
) -> SealedBundle:
    """Write and sign a bundle.

    ``open_blob`` gives the stored bytes of a blob (``BlobFolder.open``); they are checked while they are copied. Both
    chains are whole, from their first entry. The finished file is verified as an auditor would, and only then appears
    as ``path``, durable and read-only; encrypted with ``vault_key`` if there is one (its digest is the bundle's).

    Raises FormatError for values that the format does not allow, Tampered when a chain or a blob is not what it says,
    VaultError when the file exists or cannot be written, or when the signer fails.
    """
    if exists(path):
        raise _exists(path)
    contents = Manifest(version=1, seal_id=facts.seal_id, items=tuple(items))
    manifest_bytes = _bounded(contents.to_bytes(), manifest.MAX_SIZE, MANIFEST)
    custody_bytes = b"".join(_line(entry, custody.MAX_LINE) for entry in custody_entries)
    with (
        NewFile(path.parent, mode=0o400, key=vault_key) as spool,
        NewFile(path.parent, mode=0o400, key=vault_key) as file,
    ):
        # The statement comes first in the file but names the timeline's digest, hence the detour over a spool. It lies
        # beside the bundle: the timeline is evidence and does not go to a shared /tmp.
        timeline_head, timeline_sha256 = _spool_timeline(timeline_entries, facts.incident, spool)
        statement = Statement(
            subjects=(
                Subject(MANIFEST, hashlib.sha256(manifest_bytes).hexdigest()),
                Subject(CUSTODY, hashlib.sha256(custody_bytes).hexdigest()),
                Subject(TIMELINE, timeline_sha256),
            ),
            predicate=Predicate(
                **vars(facts),
                version=1,
                items=len(contents.items),
                custody_head=custody.verify_chain(custody_entries),
                timeline_head=timeline_head,
            ),
        )
        sealed = _sign(statement.to_bytes(), key)
        _write_member(file, envelope.NAME, _bounded(sealed.to_bytes(), envelope.MAX_SIZE, envelope.NAME))
        _write_member(file, MANIFEST, manifest_bytes)
        _write_member(file, CUSTODY, custody_bytes)
        _write_spooled(file, TIMELINE, spool)
        for digest, (blob, ids) in contents.blobs().items():
            _write_blob(file, BLOBS + digest, blob, ", ".join(ids), open_blob)
        file.write(tar.END)
        verified = examine_stream(file.reread(), key.public_key).verdict()
        if not file.publish(path):
            raise _exists(path)
    return SealedBundle(path, verified.sha256, verified.size, facts.seal_id, key.key_id)


def _sign(payload: bytes, key: SigningKey) -> Envelope:
    signature = key.sign(envelope.pae(PAYLOAD_TYPE, payload))
    return Envelope(payload=payload, payload_type=PAYLOAD_TYPE, key_id=key.key_id, signature=signature)


def _spool_timeline(entries: Iterable[TimelineEntry], incident: str, spool: NewFile) -> tuple[Head, str]:
    """Write the lines; return the head of the chain, which is verified on the way, and the digest of the lines."""
    head, digest = GENESIS, hashlib.sha256()
    waiting, size = list[bytes](), 0

    def out() -> None:
        lines = b"".join(waiting)
        digest.update(lines)
        spool.write(lines)

    for entry in entries:
        head = timeline.follow(head, entry, incident)
        line = _line(entry, timeline.MAX_LINE)
        waiting.append(line)
        size += len(line)
        if size >= _CHUNK:
            out()
            waiting, size = [], 0
    out()
    return head, digest.hexdigest()


def _line(entry: CustodyEntry | TimelineEntry, most: int) -> bytes:
    return _bounded(entry.line, most, f"entry {entry.seq}") + b"\n"


def _write_member(file: NewFile, name: str, data: bytes) -> None:
    file.write(tar.header(name, len(data)))
    file.write(data)
    file.write(tar.padding(len(data)))


def _write_spooled(file: NewFile, name: str, spool: NewFile) -> None:
    size = spool.size
    file.write(tar.header(name, size))
    lines = spool.reread()
    while chunk := lines.read(_CHUNK):
        file.write(chunk)
    file.write(tar.padding(size))


def _write_blob(file: NewFile, name: str, blob: Blob, items: str, open_blob: Callable[[Blob], BinaryIO]) -> None:
    if blob.stored_size > tar.MAX_SIZE:
        raise VaultError(
            f"{items} is too large for a bundle",
            why=f"{blob.stored_size} stored bytes; a bundle's member has at most {tar.MAX_SIZE}",
            next_step="acquire it in parts",
        )
    file.write(tar.header(name, blob.stored_size))
    try:
        with open_blob(blob) as stored:
            copy_blob(stored, blob, items, file.write)
    except OSError as error:
        raise VaultError(
            f"the stored bytes of {items} cannot be read",
            why=error.strerror or str(error),
            next_step="check the vault's disk; nothing was sealed",
        ) from error
    file.write(tar.padding(blob.stored_size))


def _bounded(data: bytes, most: int, what: str) -> bytes:
    """Refuse here what verification would refuse for its size."""
    if len(data) > most:
        raise FormatError(f"{len(data)} bytes, at most {most} are allowed", what)
    return data


def _exists(path: Path) -> VaultError:
    return VaultError(
        f"{path} exists already",
        why="a sealed bundle is never overwritten",
        next_step="seal under a new id, or move the file away",
    )
