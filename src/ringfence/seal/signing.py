"""Private keys and other signers. Only the writing side loads this module.

A signing key is a file by default. Keys in a KMS or behind PKCS#11 come in through securesystemslib's signer URIs
(``awskms:…``, ``hsm:…``), with the public key given beside them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ringfence.errors import ConfigError, VaultError
from ringfence.seal.files import NewFile, exists
from ringfence.seal.keys import PublicKey, canonical_signature, public_key, public_key_from_pem

_OPEN_TO_OTHERS = 0o077


@dataclass(frozen=True)
class SigningKey:
    """Something that signs, and the public key that verifies it. ``signer`` gives an ECDSA signature in DER."""

    signer: Callable[[bytes], bytes]
    public_key: PublicKey

    @property
    def key_id(self) -> str:
        return self.public_key.key_id

    def sign(self, message: bytes) -> bytes:
        """The signature in its canonical form. Raises VaultError when the signer cannot sign or is not this key's."""
        try:
            signature = canonical_signature(self.signer(message))
        except Exception as error:  # a KMS or a token fails in its own library's ways
            raise VaultError(
                "the seal cannot be signed", why=str(error), next_step="check the signing key and its service"
            ) from error
        if not self.public_key.verifies(signature, message):
            raise VaultError(
                "the signer does not belong to the public key",
                why=f"its signature does not verify with {self.key_id}",
                next_step="give the public key of the signer that is configured",
            )
        return signature


def load_or_create(path: Path) -> SigningKey:
    """The key in ``path`` (PEM, PKCS#8, mode 0600), made if there is none; its public key is written to ``<path>.pub``.

    Two processes that start at once end with the same key: the file appears whole or not at all, and the second finds
    it there. Raises ConfigError when the file is no such key or others can read it, VaultError when it cannot be made.
    """
    if not exists(path):
        with NewFile(path.parent, mode=0o600) as file:
            file.write(_private_pem(generate_private_key(SECP256R1())))
            file.publish(path)
    private = _load(path)
    public = public_key(private.public_key())
    _keep_public_key(path.with_name(path.name + ".pub"), public)
    return SigningKey(lambda message: private.sign(message, ECDSA(SHA256())), public)


def signer_from_uri(uri: str, public: PublicKey) -> SigningKey:
    """A signer that securesystemslib knows (``file2:/path``, ``awskms:…``, ``hsm:…``). Raises ConfigError."""
    from securesystemslib.signer import Signer, SSlibKey  # type: ignore[attr-defined]  # its __init__ has no __all__

    try:
        signer = Signer.from_priv_key_uri(uri, SSlibKey.from_crypto(public.key, keyid=public.key_id))
    except Exception as error:  # each kind of signer fails in its own library's ways
        raise ConfigError(
            "the signing key cannot be used",
            location=uri,
            why=str(error),
            next_step="check the URI, the credentials of its service, and that the public key is this key's",
        ) from error
    return SigningKey(lambda message: bytes.fromhex(signer.sign(message).signature), public)


def _load(path: Path) -> EllipticCurvePrivateKey:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read()
    except OSError as error:
        raise ConfigError(
            "the signing key cannot be read",
            location=str(path),
            why=error.strerror or str(error),
            next_step="check the path and its permissions",
        ) from error
    if mode & _OPEN_TO_OTHERS:
        raise ConfigError(
            "others can read the signing key",
            location=str(path),
            why=f"its mode is {mode & 0o777:04o}",
            next_step=f"chmod 600 {path}, and replace the key if somebody may have copied it",
        )
    try:
        key = load_pem_private_key(pem, password=None)
        public_key(key.public_key())
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise ConfigError(
            "the signing key is not usable",
            location=str(path),
            why=str(error),
            next_step="give an unencrypted PEM key (PKCS#8), ECDSA on P-256, or name a file that does not exist yet",
        ) from error
    assert isinstance(key, EllipticCurvePrivateKey)  # what public_key has just checked
    return key


def _keep_public_key(path: Path, public: PublicKey) -> None:
    """Write the public key beside the private one, or check that the one that is there belongs to it."""
    if not exists(path):
        with NewFile(path.parent, mode=0o644) as file:
            file.write(public.to_pem())
            file.publish(path)
    try:
        found = public_key_from_pem(path.read_bytes()).key_id
    except (OSError, ValueError) as error:
        found = f"not readable: {error}"
    if found != public.key_id:
        raise ConfigError(
            "the public key is not the one of the signing key beside it",
            location=str(path),
            why=f"it is {found}; auditors who were given it could not verify what {public.key_id} seals",
            next_step="put the right signing key back, or move the old public key away and publish the new one",
        )


def _private_pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
