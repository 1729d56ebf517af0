"""The DSSE envelope (Dead Simple Signing Envelope, v1): a payload, its type, and one signature over both.

The signature does not cover the envelope's own spelling, nor the key id. Therefore the envelope has one spelling here
(canonical JSON, canonical base64, exactly the known members, exactly one signature), and the key id must be the key's
fingerprint (``verify`` sees to that).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from ringfence.seal import canonical
from ringfence.seal.canonical import FormatError, exactly

NAME = "seal.json"
MAX_SIZE = 1 << 20
"""Largest envelope in bytes."""


@dataclass(frozen=True)
class Envelope:
    """``signature`` is DER, over ``pae()``, by the key whose fingerprint is ``key_id``."""

    payload: bytes
    payload_type: str
    key_id: str
    signature: bytes

    def pae(self) -> bytes:
        """The bytes that are signed."""
        return pae(self.payload_type, self.payload)

    def to_bytes(self) -> bytes:
        return canonical.dumps(
            {
                "payload": _base64(self.payload),
                "payloadType": self.payload_type,
                "signatures": [{"keyid": self.key_id, "sig": _base64(self.signature)}],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """Raises FormatError unless ``data`` is exactly what ``to_bytes`` of the same envelope gives."""
        members = exactly(canonical.loads(data), "payload", "payloadType", "signatures")
        match members["signatures"]:
            case [only]:
                signature = exactly(only, "keyid", "sig")
            case _:
                raise FormatError("signatures: expected exactly one")
        envelope = cls(
            payload=_bytes(members["payload"]),
            payload_type=_text(members["payloadType"]),
            key_id=_text(signature["keyid"]),
            signature=_bytes(signature["sig"]),
        )
        if envelope.to_bytes() != data:
            raise FormatError("base64 is not in canonical form")
        return envelope


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: type and payload with their lengths in bytes, so that neither can shift."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except ValueError as error:
        raise FormatError(f"not base64: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise FormatError(f"expected text, found {canonical.shown(value)}")
    return value
