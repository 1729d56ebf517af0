"""Taking bundles apart and putting them together again, right or wrong."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable

from ringfence.errors import Tampered, Unverifiable
from ringfence.seal import canonical, tar
from ringfence.seal.envelope import Envelope
from ringfence.seal.signing import SigningKey
from ringfence.seal.statement import PAYLOAD_TYPE
from ringfence.seal.verify import Examination

Members = list[tuple[str, bytes]]


def members(bundle: bytes) -> Members:
    """Names and contents, as Python's own tar reader sees them."""
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        return [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]


def join(parts: Members) -> bytes:
    """A bundle in the canonical encoding, whatever its members."""
    return b"".join(tar.header(name, len(data)) + data + tar.padding(len(data)) for name, data in parts) + tar.END


def replaced(bundle: bytes, name: str, edit: Callable[[bytes], bytes]) -> bytes:
    """The bundle with one member's contents edited."""
    return join([(one, edit(data) if one == name else data) for one, data in members(bundle)])


def statement_of(bundle: bytes) -> dict[str, object]:
    envelope = json.loads(dict(members(bundle))["seal.json"])
    return json.loads(base64.b64decode(envelope["payload"]))  # type: ignore[no-any-return]


def resealed(bundle: bytes, key: SigningKey, statement: object, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The bundle with another statement, properly signed: what a wrong or a newer sealer would write."""
    unsigned = Envelope(canonical.dumps(statement), payload_type, key.key_id, b"")
    signed = Envelope(unsigned.payload, payload_type, key.key_id, key.sign(unsigned.pae()))
    return replaced(bundle, "seal.json", lambda _: signed.to_bytes())


def tampered(examination: Examination) -> list[str]:
    """The items that were found tampered with."""
    return [problem.item for problem in examination.problems if isinstance(problem, Tampered)]


def unverifiable(examination: Examination) -> list[str]:
    return [problem.item for problem in examination.problems if isinstance(problem, Unverifiable)]
