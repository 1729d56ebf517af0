"""The envelope and its signature: spelling, key ids, forms of the signature, and other programs that verify it.

Also which bad news is ``Tampered`` and which is ``Unverifiable``. Flipped bytes: test_every_byte.py.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope as LibraryEnvelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from ringfence.errors import Tampered, Unverifiable
from ringfence.seal import canonical
from ringfence.seal.envelope import Envelope, pae
from ringfence.seal.keys import canonical_signature, public_key_from_pem
from ringfence.seal.signing import SigningKey, load_or_create
from ringfence.seal.verify import Examination, examine_stream, read_envelope, verify_bundle
from tests.seal.archive import members, replaced, resealed, statement_of, tampered, unverifiable

Examine = Callable[[bytes], Examination]
Edit = Callable[[bytes], bytes]

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture
def other_key(tmp_path: Path) -> SigningKey:
    return load_or_create(tmp_path / "other.key")


def envelope_of(bundle: bytes) -> Envelope:
    return Envelope.from_bytes(dict(members(bundle))["seal.json"])


def with_envelope(bundle: bytes, **changed: object) -> bytes:
    envelope = Envelope(**{**vars(envelope_of(bundle)), **changed})
    return replaced(bundle, "seal.json", lambda _: envelope.to_bytes())


def json_edit(edit: Callable[[Any], object]) -> Edit:
    def apply(data: bytes) -> bytes:
        value = json.loads(data)
        edit(value)
        return canonical.dumps(value)

    return apply


def last_base64_bit(text: str) -> str:
    """Another spelling of the same bytes: the bits that padding leaves over are not zero."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    assert body != text, "this text has no spare bits"
    return body[:-1] + digits[digits.index(body[-1]) ^ 1] + "=" * (len(text) - len(body))


def has_special_digits(data: bytes) -> bool:
    """Whether standard and URL-safe base64 of these bytes differ."""
    return base64.b64encode(data) != base64.urlsafe_b64encode(data)


SPELLINGS: dict[str, Edit] = {
    "a space": lambda data: data.replace(b'","', b'", "', 1),
    "a line feed at the end": lambda data: data + b"\n",
    "an escaped letter": lambda data: data.replace(b'"payloadType":"a', b'"payloadType":"\\u0061'),
    "members in another order": lambda data: json.dumps(
        dict(reversed(json.loads(data).items())), separators=(",", ":")
    ).encode(),
    "a doubled member": lambda data: data.replace(b'"payloadType"', b'"payloadType":"x","payloadType"'),
    "an unknown member": json_edit(lambda value: value.update(note="hello")),
    "an unknown member of the signature": json_edit(lambda value: value["signatures"][0].update(cert="x")),
    "two signatures": json_edit(lambda value: value["signatures"].append(value["signatures"][0])),
    "no signature": json_edit(lambda value: value.update(signatures=[])),
    "spare base64 bits": json_edit(lambda value: value.update(payload=last_base64_bit(value["payload"]))),
    "url-safe base64": json_edit(
        lambda value: value["signatures"][0].update(
            sig=value["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
        )
    ),
    "base64 with a line break": lambda data: data.replace(b'"payload":"e', b'"payload":"\\ne'),
    "another encoding of Unicode": lambda data: data.decode().encode("utf-16"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "no object": lambda data: b"[" + data + b"]",
    "nothing": lambda data: b"",
    "deep nesting": lambda data: b"[" * 100_000,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_envelope_has_one_spelling(bundle: bytes, examine: Examine, key: SigningKey, name: str) -> None:
    if name == "spare base64 bits":  # give the payload a length that leaves bits over
        statement = statement_of(bundle)
        while len(canonical.dumps(statement)) % 3 == 0:
            statement["predicate"]["tool"]["version"] += "0"  # type: ignore[index]
        bundle = resealed(bundle, key, statement)
        assert examine(bundle).problems == ()
    while name == "url-safe base64" and not {"+", "/"} & set(
        json.loads(dict(members(bundle))["seal.json"])["signatures"][0]["sig"]
    ):
        bundle = resealed(bundle, key, statement_of(bundle))  # until the signature has a digit that differs
    changed = replaced(bundle, "seal.json", SPELLINGS[name])
    assert changed != bundle
    assert tampered(examine(changed)) == ["seal.json"]


def test_a_huge_envelope_is_refused_before_it_is_read(bundle: bytes, examine: Examine) -> None:
    assert tampered(examine(replaced(bundle, "seal.json", lambda _: bytes(2 << 20)))) == ["seal.json"]


# The table of verify.py: what the key id makes of a signature.


def test_good_signature_under_another_key_id_is_tampering_with_the_key_id(bundle: bytes, examine: Examine) -> None:
    for wrong in ("", "0" * 64, envelope_of(bundle).key_id.upper(), "\x1b[31m"):
        assert tampered(examine(with_envelope(bundle, key_id=wrong))) == ["seal.json (key id)"]


def test_bad_signature_under_the_keys_id_is_tampering_with_the_signature(
    bundle: bytes, examine: Examine, other_key: SigningKey
) -> None:
    envelope = envelope_of(bundle)
    forged = with_envelope(bundle, signature=other_key.sign(envelope.pae()))
    assert tampered(examine(forged)) == ["seal.json (signature)"]
    assert examine(forged).stopped


def test_another_signers_bundle_cannot_be_checked_and_is_never_verified(bundle: bytes, other_key: SigningKey) -> None:
    found = examine_stream(io.BytesIO(bundle), other_key.public_key)
    assert (tampered(found), unverifiable(found)) == ([], ["seal.json (signature)"])
    assert not found.stopped
    with pytest.raises(Unverifiable, match=envelope_of(bundle).key_id):
        found.verdict()


def test_a_seal_remade_with_the_attackers_key_is_never_verified(
    bundle: bytes, examine: Examine, other_key: SigningKey
) -> None:
    remade = resealed(bundle, other_key, statement_of(bundle))
    found = examine(remade)
    assert found.seal is None
    assert unverifiable(found) == ["seal.json (signature)"]
    claimed = with_envelope(remade, key_id=envelope_of(bundle).key_id)
    assert tampered(examine(claimed)) == ["seal.json (signature)"]


def test_without_a_key_everything_else_is_still_checked(bundle: bytes) -> None:
    assert unverifiable(examine_stream(io.BytesIO(bundle), None)) == ["seal.json (signature)"]
    changed = replaced(bundle, "custody.jsonl", lambda data: data.replace(b"ada", b"eve"))
    found = examine_stream(io.BytesIO(changed), None)
    assert tampered(found) == ["custody.jsonl", "custody.jsonl entry 1"]
    with pytest.raises(Tampered):
        found.verdict()


def test_tampering_is_raised_before_what_could_not_be_checked(bundle: bytes) -> None:
    changed = replaced(bundle, "timeline.jsonl", lambda data: data[:-2])
    with pytest.raises(Tampered, match="timeline"):
        examine_stream(io.BytesIO(changed), None).verdict()


def test_an_examination_is_neither_true_nor_false(bundle: bytes, examine: Examine) -> None:
    with pytest.raises(TypeError):
        bool(examine(bundle))


# Forms of a signature.


def test_the_mirrored_signature_is_valid_mathematics_and_refused(
    bundle: bytes, examine: Examine, key: SigningKey
) -> None:
    envelope = envelope_of(bundle)
    r, s = decode_dss_signature(envelope.signature)
    mirrored = encode_dss_signature(r, P256_ORDER - s)
    assert key.public_key.verifies(mirrored, envelope.pae())
    assert canonical_signature(mirrored) == envelope.signature
    assert tampered(examine(with_envelope(bundle, signature=mirrored))) == ["seal.json (signature)"]


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"\x30\x00",
        bytes(64),
        encode_dss_signature(0, 1),
        encode_dss_signature(1, 0),
        encode_dss_signature(1, P256_ORDER),
    ],
    ids=["empty", "empty sequence", "raw", "r zero", "s zero", "s out of range"],
)
def test_malformed_signatures_are_tampering(bundle: bytes, examine: Examine, signature: bytes) -> None:
    assert tampered(examine(with_envelope(bundle, signature=signature))) == ["seal.json (signature)"]


def test_der_with_something_behind_it_is_refused(bundle: bytes, examine: Examine) -> None:
    changed = with_envelope(bundle, signature=envelope_of(bundle).signature + b"\0")
    assert tampered(examine(changed)) == ["seal.json (signature)"]


def test_numbers_out_of_range_have_no_canonical_form() -> None:
    for r, s in ((0, 1), (1, 0), (1, P256_ORDER), (P256_ORDER, 1), (2**300, 1)):
        with pytest.raises(ValueError, match="out of range"):
            canonical_signature(encode_dss_signature(r, s))


def test_every_signature_that_is_made_is_canonical(key: SigningKey) -> None:
    for number in range(64):
        signature = key.sign(b"%d" % number)
        assert canonical_signature(signature) == signature
        assert key.public_key.verifies(signature, b"%d" % number)


# Seals that are intact, but not what version 1 of the format holds.


def set_type(statement: dict[str, object]) -> None:
    statement["_type"] = "https://in-toto.io/Statement/v2"


def set_predicate_type(statement: dict[str, object]) -> None:
    statement["predicateType"] = "https://ringfence.dev/seal/v2"


def add_member(statement: dict[str, object]) -> None:
    statement["extra"] = 1


def add_predicate_member(statement: dict[str, object]) -> None:
    statement["predicate"]["extra"] = 1  # type: ignore[index]


def drop_subject(statement: dict[str, object]) -> None:
    del statement["subject"][2]  # type: ignore[attr-defined]


def swap_subjects(statement: dict[str, object]) -> None:
    statement["subject"].reverse()  # type: ignore[attr-defined]


def second_digest(statement: dict[str, object]) -> None:
    statement["subject"][0]["digest"]["sha512"] = "00"  # type: ignore[index]


def set_version(statement: dict[str, object]) -> None:
    statement["predicate"]["version"] = 2  # type: ignore[index]


@pytest.mark.parametrize(
    "edit",
    [
        set_type,
        set_predicate_type,
        add_member,
        add_predicate_member,
        drop_subject,
        swap_subjects,
        second_digest,
        set_version,
    ],
)
def test_a_properly_signed_unknown_statement_cannot_be_checked(
    bundle: bytes, examine: Examine, key: SigningKey, edit: Callable[[dict[str, object]], None]
) -> None:
    statement = statement_of(bundle)
    edit(statement)
    found = examine(resealed(bundle, key, statement))
    assert (tampered(found), unverifiable(found)) == ([], ["seal.json (statement)"])


def test_a_properly_signed_other_payload_type_cannot_be_checked(
    bundle: bytes, examine: Examine, key: SigningKey
) -> None:
    found = examine(resealed(bundle, key, statement_of(bundle), payload_type="text/plain"))
    assert unverifiable(found) == ["seal.json (statement)"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("items", 6),
        ("seal_id", "INC-1/seal/2"),
        ("incident", "INC-2"),
        ("custody_head", {"seq": 2, "hash": "0" * 64}),
        ("timeline_head", {"seq": 0, "hash": "0" * 64}),
    ],
)
def test_a_statement_that_does_not_fit_its_documents_is_never_verified(
    bundle: bytes, examine: Examine, key: SigningKey, member: str, value: object
) -> None:
    statement = statement_of(bundle)
    statement["predicate"][member] = value  # type: ignore[index]
    found = examine(resealed(bundle, key, statement))
    assert found.seal is None
    assert len(tampered(found)) == 1


@pytest.mark.parametrize("name", ["manifest.json", "custody.jsonl", "timeline.jsonl"])
def test_an_intact_document_with_an_unknown_member_cannot_be_checked(
    bundle: bytes, examine: Examine, key: SigningKey, name: str
) -> None:
    changed = replaced(bundle, name, _extended)
    statement = statement_of(bundle)
    for subject in statement["subject"]:  # type: ignore[attr-defined]
        subject["digest"]["sha256"] = hashlib.sha256(dict(members(changed))[subject["name"]]).hexdigest()
    found = examine(resealed(changed, key, statement))
    assert tampered(found) == []
    assert unverifiable(found)[0].startswith(name)
    assert "zz" in str(found.problems[0])


def _extended(data: bytes) -> bytes:
    """The first object of a document with one member more."""
    first, *rest = data.split(b"\n")
    value = json.loads(first)
    value["zz"] = 1
    return b"\n".join([canonical.dumps(value), *rest])


# Other programs.


def test_openssl_verifies_the_signature(bundle_file: Path, key: SigningKey, tmp_path: Path) -> None:
    envelope = read_envelope(bundle_file)
    (tmp_path / "pae.bin").write_bytes(envelope.pae())
    (tmp_path / "signature.der").write_bytes(envelope.signature)
    (tmp_path / "key.pub").write_bytes(key.public_key.to_pem())
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pub", "-signature", "signature.der", "pae.bin"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "Verified OK\n")


def test_openssl_computes_the_same_key_id(key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_bytes(key.public_key.to_pem())
    command = ["openssl", "pkey", "-pubin", "-in", "key.pub", "-outform", "DER"]
    der = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert hashlib.sha256(der).hexdigest() == key.key_id


def test_securesystemslib_verifies_the_envelope(bundle: bytes, key: SigningKey) -> None:
    envelope = LibraryEnvelope.from_dict(json.loads(dict(members(bundle))["seal.json"]))
    public = SSlibKey.from_crypto(key.public_key.key, keyid=key.key_id)
    assert set(envelope.verify([public], 1)) == {key.key_id}
    assert envelope.pae() == envelope_of(bundle).pae()


def test_pae_is_the_one_of_the_dsse_specification() -> None:
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_counts_bytes_not_characters() -> None:
    assert pae("ü", b"") == "DSSEv1 2 ü 0 ".encode()


# Keys and files that are not what they should be.


def test_only_ecdsa_p256_public_keys_are_taken() -> None:
    for private in (Ed25519PrivateKey.generate(), generate_private_key(SECP384R1())):
        pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(ValueError, match="P-256"):
            public_key_from_pem(pem)
    for junk in (b"", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", base64.b64encode(b"x")):
        with pytest.raises(ValueError):
            public_key_from_pem(junk)


def test_a_public_key_survives_its_pem() -> None:
    public = generate_private_key(SECP256R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public_key_from_pem(pem).to_pem() == pem


def test_files_that_cannot_be_read_are_not_called_tampered(tmp_path: Path, key: SigningKey) -> None:
    for path in (tmp_path / "absent.tar", tmp_path):
        with pytest.raises(Unverifiable):
            verify_bundle(path, key.public_key)


def test_a_failing_disk_is_not_called_tampering(bundle: bytes, key: SigningKey) -> None:
    class FailingDisk(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 6000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    found = examine_stream(FailingDisk(bundle), key.public_key)
    assert (tampered(found), unverifiable(found)) == ([], ["the bundle"])
