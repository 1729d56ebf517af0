"""How a bundle is made: in flat memory, verified before it gets its name, never over another file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ringfence.errors import VaultError
from ringfence.seal import envelope, manifest, tar
from ringfence.seal.atrest import VaultKey
from ringfence.seal.blob import Blob, copy_blob
from ringfence.seal.canonical import bounded
from ringfence.seal.chain import Strand
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
from ringfence.seal.verify import BLOBS, examine_stream
from ringfence.seal.walked import Walked

_LINES = 256
"""Lines that are written at once."""


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
    custody: Strand,
    timeline: Strand,
    open_blob: Callable[[Blob], BinaryIO],
    key: SigningKey,
    vault_key: VaultKey | None = None,
    walked: Walked | None = None,
) -> SealedBundle:
    """Write and sign a bundle.

    ``open_blob`` gives the stored bytes of a blob (``BlobFolder.open``); they are checked while they are copied. Both
    chains are whole, from their first entry. The finished file is verified as an auditor would, and only then appears
    as ``path``, durable and read-only; encrypted with ``vault_key`` if there is one (its digest is the bundle's).
    ``walked`` knows the chains of the incident's other bundles: what this one repeats of them is compared only.

    Raises FormatError for values that the format does not allow, Tampered when a blob is not what it says, VaultError
    when the file exists or cannot be written, or when the signer fails.
    """
    if exists(path):
        raise _exists(path)
    contents = Manifest(version=1, seal_id=facts.seal_id, items=tuple(items))
    manifest_bytes = bounded(contents.to_bytes(), manifest.MAX_SIZE, MANIFEST)
    with NewFile(path.parent, mode=0o400, key=vault_key) as file:
        statement = Statement(
            subjects=(
                Subject(MANIFEST, hashlib.sha256(manifest_bytes).hexdigest()),
                Subject(CUSTODY, _digest(custody)),
                Subject(TIMELINE, _digest(timeline)),
            ),
            predicate=Predicate(
                **vars(facts),
                version=1,
                items=len(contents.items),
                custody_head=custody.head,
                timeline_head=timeline.head,
            ),
        )
        sealed = _sign(statement.to_bytes(), key)
        _write_member(file, envelope.NAME, bounded(sealed.to_bytes(), envelope.MAX_SIZE, envelope.NAME))
        _write_member(file, MANIFEST, manifest_bytes)
        _write_chain(file, CUSTODY, custody)
        _write_chain(file, TIMELINE, timeline)
        for digest, (blob, ids) in contents.blobs().items():
            _write_blob(file, BLOBS + digest, blob, ", ".join(ids), open_blob)
        file.write(tar.END)
        verified = examine_stream(file.reread(), key.public_key, walked).verdict()
        if not file.publish(path):
            raise _exists(path)
    return SealedBundle(path, verified.sha256, verified.size, facts.seal_id, key.key_id)


def _sign(payload: bytes, key: SigningKey) -> Envelope:
    signature = key.sign(envelope.pae(PAYLOAD_TYPE, payload))
    return Envelope(payload=payload, payload_type=PAYLOAD_TYPE, key_id=key.key_id, signature=signature)


def _write_member(file: NewFile, name: str, data: bytes) -> None:
    file.write(tar.header(name, len(data)))
    file.write(data)
    file.write(tar.padding(len(data)))


def _write_chain(file: NewFile, name: str, chain: Strand) -> None:
    size = sum(map(len, chain.lines))
    file.write(tar.header(name, size))
    for some in _batches(chain):
        file.write(some)
    file.write(tar.padding(size))


def _digest(chain: Strand) -> str:
    digest = hashlib.sha256()
    for some in _batches(chain):
        digest.update(some)
    return digest.hexdigest()


def _batches(chain: Strand) -> Iterator[bytes]:
    for start in range(0, len(chain.lines), _LINES):
        yield b"".join(chain.lines[start : start + _LINES])


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


def _exists(path: Path) -> VaultError:
    return VaultError(
        f"{path} exists already",
        why="a sealed bundle is never overwritten",
        next_step="seal under a new id, or move the file away",
    )
