"""Public keys: ECDSA on P-256 with SHA-256, which openssl and cosign verify as well.

The key id is the key's fingerprint: SHA-256 over its SubjectPublicKeyInfo in DER, in hex. By hand::

    openssl pkey -pubin -in key.pub -outform DER | sha256sum
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

_GROUP_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies. Whose key it is, is for the caller to know."""

    key: EllipticCurvePublicKey

    @property
    def key_id(self) -> str:
        """The fingerprint, in hex."""
        der = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()

    def to_pem(self) -> bytes:
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (DER) is this key's signature of ``message``."""
        try:
            self.key.verify(signature, message, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def public_key_from_pem(pem: bytes) -> PublicKey:
    """Read a PEM public key. Raises ValueError when it is none, or not ECDSA on P-256."""
    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    return public_key(key)


def public_key(key: object) -> PublicKey:
    """Raises ValueError when ``key`` is not an ECDSA public key on P-256."""
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("not an ECDSA key on the curve P-256")
    return PublicKey(key)


def canonical_signature(signature: bytes) -> bytes:
    """The one form of an ECDSA signature: DER, with the smaller of the two values of s.

    If (r, s) is a valid signature then (r, n - s) is one too, for the same message and without the private key.
    Allowing one of them only means that nobody but the signer can make a second version of a seal.

    Raises ValueError when ``signature`` is not a DER signature with 0 < r, s < n.
    """
    r, s = decode_dss_signature(signature)
    if not (0 < r < _GROUP_ORDER and 0 < s < _GROUP_ORDER):
        raise ValueError("r or s is out of range")
    return encode_dss_signature(r, min(s, _GROUP_ORDER - s))
