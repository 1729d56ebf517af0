"""A bundle from an attacker, examined without a key: any content is answered with problems, never with a crash.

Without a key nothing stops the walk at the signature, so every parser sees the attacker's bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.seal import canonical, custody, tar
from ringfence.seal.canonical import FormatError
from ringfence.seal.envelope import Envelope
from ringfence.seal.verify import examine_stream
from tests.seal.archive import join, members, statement_of, tampered

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The paths of all values inside a JSON value, itself included."""
    found = [path]
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, (*path, name))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


def put(value: object, path: tuple[object, ...], new: object) -> object:
    """A copy of a JSON value with another value in one place."""
    if not path:
        return new
    copy = json.loads(json.dumps(value))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = new
    return copy


def consistent(bundle: bytes, statement: dict[str, object], documents: dict[str, bytes]) -> bytes:
    """The bundle with other documents and their right digests in the statement; the signature is the old one."""
    parts = dict(members(bundle)) | documents
    for subject in statement["subject"]:  # type: ignore[attr-defined]
        subject["digest"]["sha256"] = hashlib.sha256(parts[subject["name"]]).hexdigest()
    return with_payload(bundle, parts, canonical.dumps(statement))


def with_payload(bundle: bytes, parts: dict[str, bytes], payload: bytes) -> bytes:
    old = Envelope.from_bytes(parts["seal.json"])
    parts["seal.json"] = Envelope(payload, old.payload_type, old.key_id, old.signature).to_bytes()
    return join(list(parts.items()))


def is_not_verified(data: bytes) -> None:
    found = examine_stream(io.BytesIO(data), None)
    assert found.seal is None
    assert found.problems
    for problem in found.problems:
        assert str(problem).isprintable(), problem


@settings(deadline=None)
@given(data=st.data(), new=junk)
def test_no_value_in_a_document_crashes_the_verifier(bundle: bytes, data: st.DataObject, new: object) -> None:
    name = data.draw(st.sampled_from(["manifest.json", "custody.jsonl", "timeline.jsonl"]))
    lines = dict(members(bundle))[name].split(b"\n")
    line = data.draw(st.integers(0, 0 if name == "manifest.json" else 2))
    value = json.loads(lines[line])
    lines[line] = canonical.dumps(put(value, data.draw(st.sampled_from(places(value))), new))
    is_not_verified(consistent(bundle, statement_of(bundle), {name: b"\n".join(lines)}))


@settings(deadline=None)
@given(data=st.data(), new=junk)
def test_no_value_in_the_statement_or_the_envelope_crashes_the_verifier(
    bundle: bytes, data: st.DataObject, new: object
) -> None:
    parts = dict(members(bundle))
    statement = statement_of(bundle)
    payload = canonical.dumps(put(statement, data.draw(st.sampled_from(places(statement))), new))
    is_not_verified(with_payload(bundle, dict(parts), payload))
    envelope = json.loads(parts["seal.json"])
    parts["seal.json"] = canonical.dumps(put(envelope, data.draw(st.sampled_from(places(envelope))), new))
    is_not_verified(join(list(parts.items())))


@settings(deadline=None)
@given(payload=st.binary(max_size=50))
def test_no_payload_crashes_the_verifier(bundle: bytes, payload: bytes) -> None:
    is_not_verified(with_payload(bundle, dict(members(bundle)), payload))


@settings(deadline=None)
@given(data=st.binary(max_size=2000), at=st.integers(0, 12000))
def test_no_bytes_anywhere_crash_the_verifier(bundle: bytes, data: bytes, at: int) -> None:
    is_not_verified(data)
    is_not_verified(bundle[:at] + data + bundle[at + len(data) :])
    is_not_verified(bundle[:at] + data + bundle[at:])


@pytest.mark.parametrize("name", ["manifest.json", "custody.jsonl", "timeline.jsonl"])
@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000 + b"\n", b'{"a":' * 100_000 + b"\n", b"9" * 10_000 + b"\n", b"\xff\n", bytes(3 << 20), b"\n" * 9],
    ids=["lists", "objects", "number", "not unicode", "zeros", "blank lines"],
)
def test_documents_made_to_exhaust_a_parser_are_problems(bundle: bytes, name: str, content: bytes) -> None:
    is_not_verified(consistent(bundle, statement_of(bundle), {name: content}))


def test_a_huge_manifest_is_refused_before_it_is_read(bundle: bytes) -> None:
    parts = members(bundle)
    claimed = b"".join(tar.header(n, len(d)) + d + tar.padding(len(d)) for n, d in parts[:1])
    found = examine_stream(io.BytesIO(claimed + tar.header("manifest.json", tar.MAX_SIZE)), None)
    assert tampered(found) == ["manifest.json"]
    assert "at most" in str(found.problems[-1])


def test_a_line_is_not_read_past_its_limit(bundle: bytes) -> None:
    endless = consistent(bundle, statement_of(bundle), {"custody.jsonl": b" " * (custody.MAX_LINE + (1 << 20))})
    found = examine_stream(io.BytesIO(endless), None)
    assert f"custody.jsonl entry 1: a reader of its format: longer than {custody.MAX_LINE} bytes" in str(
        found.problems[1]
    )


def test_hostile_names_in_the_archive_are_shown_escaped(bundle: bytes) -> None:
    block = bytearray(tar.header("x" * 20, 0))
    block[:9] = b"\x1b]0;pwn\x07\xff"
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    found = examine_stream(io.BytesIO(bytes(block) + bundle), None)
    assert tampered(found) == [r"\x1b]0;pwn\x07\xff" + "x" * 11]


@given(text=st.text(st.characters(codec="utf-8"), max_size=30))
@settings(deadline=None)
def test_base64_has_one_spelling(bundle: bytes, text: str) -> None:
    """Whatever text stands for the signature: it is refused, or it is the one encoding of its bytes."""
    value = json.loads(dict(members(bundle))["seal.json"])
    value["signatures"][0]["sig"] = text
    try:
        envelope = Envelope.from_bytes(canonical.dumps(value))
    except FormatError:
        return
    assert base64.b64encode(envelope.signature).decode() == text
