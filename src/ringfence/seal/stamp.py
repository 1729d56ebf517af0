"""RFC 3161 time stamps: a third party's word that a seal existed at a time, beside our own clock's.

What is stamped is ``seal.json``, the envelope that names everything in the bundle by digest. The answer lies beside the
bundle as ``<bundle>.tsr``, outside the format, and is checked by hand with::

    tar xf INC-7-seal-1.tar seal.json
    openssl ts -verify -data seal.json -in INC-7-seal-1.tar.tsr -CAfile roots.pem
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimeStampRequest,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from ringfence.errors import Tampered, Unverifiable
from ringfence.seal import envelope

CONTENT_TYPE = "application/timestamp-query"
SUFFIX = ".tsr"
MAX_SIZE = 64 * 1024
"""Largest answer in bytes that is read."""


@dataclass(frozen=True)
class Stamp:
    """``at`` is the authority's time, ``serial`` its number of the stamp."""

    at: datetime
    serial: int


def sealed_bytes(bundle: BinaryIO, name: str) -> bytes:
    """``seal.json`` of a bundle, which is its first member: not checked here. Raises Tampered, OSError."""
    try:
        with tarfile.open(fileobj=bundle, mode="r|") as tar:
            member = tar.next()
            found = tar.extractfile(member) if member is not None and member.name == envelope.NAME else None
            data = found.read(envelope.MAX_SIZE + 1) if found is not None else b""
    except tarfile.TarError as error:
        raise Tampered(name, expected="a bundle", actual=str(error)) from error
    if not 0 < len(data) <= envelope.MAX_SIZE:
        raise Tampered(name, expected=f"{envelope.NAME} first", actual="something else")
    return data


def query(data: bytes) -> TimeStampRequest:
    """What an authority is asked: the SHA-256 of ``data``, with a nonce, for an answer with its certificate."""
    return (
        TimestampRequestBuilder()
        .data(data)
        .hash_algorithm(HashAlgorithm.SHA256)
        .nonce(nonce=True)
        .cert_request(cert_request=True)
        .build()
    )


def check(answer: bytes, data: bytes, roots: bytes, *, nonce: int | None = None) -> Stamp:
    """The stamp of ``data`` by an authority below ``roots`` (PEM). ``nonce`` when the answer is to a query just made.

    Certificates count as of the stamp's own time: revocation is not looked up. Raises Tampered when the answer is not
    a good stamp of ``data``, Unverifiable when it or the roots cannot be read.
    """
    try:
        builder = VerifierBuilder(roots=x509.load_pem_x509_certificates(roots))
        verifier = (builder if nonce is None else builder.nonce(nonce)).build()
    except ValueError as error:
        raise Unverifiable(
            "the time stamp",
            missing=f"root certificates in PEM: {error}",
            next_step="signing.timestamp_roots names their file",
        ) from error
    try:
        response = decode_timestamp_response(answer)
    except ValueError as error:
        raise Unverifiable("the time stamp", missing=f"an answer of RFC 3161: {str(error)[:300]}") from error
    try:
        verifier.verify_message(response, data)
        return Stamp(response.tst_info.gen_time, response.tst_info.serial_number)
    except (VerificationError, ValueError) as error:
        raise Tampered(
            "the time stamp", expected="a stamp of this seal by a trusted authority", actual=str(error)[:300]
        ) from error
