"""Anchors: the head of a timeline, signed, for a place where who can write to the store cannot rewrite it.

An anchor is a DSSE envelope, as a bundle's ``seal.json`` is; its payload is one canonical JSON object. ``hashes`` are
those of the events ``seq - len(hashes) + 1`` to ``seq``, so that several anchors name the first event that differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ringfence.errors import Tampered, Unverifiable
from ringfence.seal import canonical, envelope
from ringfence.seal.canonical import Count, FormatError, Instant, Name, Record, Sha256
from ringfence.seal.envelope import Envelope
from ringfence.seal.keys import PublicKey, canonical_signature
from ringfence.seal.signing import SigningKey

PAYLOAD_TYPE = "application/vnd.ringfence.anchor+json"
MOST_HASHES = 4096
MAX_SIZE = envelope.MAX_SIZE


@dataclass(frozen=True)
class Anchor(Record):
    """The head of the timeline of ``incident`` in ``cluster_uid``, at ``at`` by the signer's clock."""

    version: Literal[1]
    incident: Name
    cluster_uid: Name
    seq: Count
    at: Instant
    hashes: tuple[Sha256, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < len(self.hashes) <= min(self.seq, MOST_HASHES):
            raise FormatError(f"{len(self.hashes)} hashes of {self.seq} events")

    @property
    def head(self) -> str:
        """The hash of event ``seq``."""
        return self.hashes[-1]

    def known(self) -> dict[int, str]:
        """Event → its hash."""
        return dict(enumerate(self.hashes, start=self.seq - len(self.hashes) + 1))


def sign(anchor: Anchor, key: SigningKey) -> bytes:
    """Raises VaultError when the signer cannot."""
    payload = anchor.to_bytes()
    signature = key.sign(envelope.pae(PAYLOAD_TYPE, payload))
    return Envelope(payload=payload, payload_type=PAYLOAD_TYPE, key_id=key.key_id, signature=signature).to_bytes()


def read(data: bytes, key: PublicKey, name: str) -> Anchor:
    """The anchor, if ``key`` signed it. Raises Tampered when it did not though it is named, Unverifiable for another
    key's, and for bytes that are no anchor."""
    try:
        sealed = Envelope.from_bytes(data)
        if sealed.payload_type != PAYLOAD_TYPE:
            raise FormatError(f"its type is {canonical.shown(sealed.payload_type)}")
        good = canonical_signature(sealed.signature) == sealed.signature and key.verifies(
            sealed.signature, sealed.pae()
        )
        if sealed.key_id != key.key_id:
            raise Unverifiable(name, missing=f"the public key with the id {canonical.shown(sealed.key_id)}")
        if not good:
            raise Tampered(name, expected=f"a signature by {key.key_id}", actual="none")
        return Anchor.from_json(canonical.loads(sealed.payload))
    except ValueError as error:
        raise Unverifiable(name, missing=f"an anchor of version 1: {error}") from error
