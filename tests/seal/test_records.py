"""Canonical JSON and the strict records: one spelling per value, exact types, no unknown members.

The snapshot tests hold the bundle format, which is public: a change there needs a new version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.seal import canonical
from ringfence.seal.blob import Blob, Encoding
from ringfence.seal.canonical import MAX_INT, FormatError
from ringfence.seal.custody import CustodyEntry
from ringfence.seal.manifest import Item, Manifest, Result
from ringfence.seal.statement import ObjectRef, Predicate
from ringfence.seal.timeline import TimelineEntry
from tests.seal import sample
from tests.seal.archive import statement_of

values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abé", max_size=3), inner, max_size=4),
    max_leaves=20,
)

BLOB = Blob("a" * 64, 3, "b" * 64, 5, Encoding.ZSTD)


@settings(deadline=None)
@given(values)
def test_what_is_dumped_is_loaded(value: object) -> None:
    assert canonical.loads(canonical.dumps(value)) == value


@settings(deadline=None)
@given(values)
def test_any_other_spelling_is_refused(value: object) -> None:
    spelled = json.dumps(value, indent=1).encode()
    if spelled != canonical.dumps(value):
        with pytest.raises(FormatError):
            canonical.loads(spelled)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" 1",
        b"1 ",
        b"1.0",
        b"-0",
        b"1e2",
        b"NaN",
        b"Infinity",
        b"9007199254740992",
        b"9" * 5000,
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'"\\u0061"',
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        "1".encode("utf-16"),
        b"[" * 100_000 + b"]" * 100_000,
        b"1\n",
    ],
)
def test_text_that_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        canonical.loads(data)


@pytest.mark.parametrize("value", [float("nan"), 2**53, -(2**53), "\ud800", {1: 2}, object()])
def test_values_without_a_canonical_form_are_refused(value: object) -> None:
    with pytest.raises(FormatError):
        canonical.dumps(value)


def full_item() -> Item:
    return sample.item("pod", blob=BLOB)


def test_records_survive_json() -> None:
    manifest = Manifest(
        version=1,
        seal_id="INC-1/seal/1",
        items=(full_item(), sample.item("events", result=Result.DENIED, reason="forbidden")),
    )
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@pytest.mark.parametrize("name", [field.name for field in fields(Item)])
def test_every_member_of_an_item_is_needed(name: str) -> None:
    value = full_item().to_json()
    del value[name]
    with pytest.raises(FormatError, match=name):
        Item.from_json(value)


@pytest.mark.parametrize("name", [field.name for field in fields(Item)])
@pytest.mark.parametrize("wrong", [[], {}, 1.5, [[]], {"a": 1}], ids=repr)
def test_no_member_of_an_item_takes_another_type(name: str, wrong: object) -> None:
    if name == "changes_made" and wrong == []:
        return
    with pytest.raises(FormatError, match=name):
        Item.from_json(full_item().to_json() | {name: wrong})


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"required": 1}, "required"),
        ({"volatility": True}, "volatility"),
        ({"volatility": 2**53}, "volatility"),
        ({"volatility": "1"}, "volatility"),
        ({"result": "Collected"}, "result"),
        ({"id": "two words"}, "id"),
        ({"id": "\x1b[31m"}, "id"),
        ({"id": "ü"}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"started_at": "2026-01-31T03:04:05Z"}, "started_at"),
        ({"started_at": "2026-01-31T03:04:05.000000+01:00"}, "started_at"),
        ({"started_at": "2026-13-31T03:04:05.000000Z"}, "started_at"),
        ({"started_at": None}, "started_at"),
        ({"changes_made": "one"}, "changes_made"),
        ({"changes_made": ["one", 2]}, r"changes_made\[1\]"),
        ({"blob": BLOB.to_json() | {"raw_size": -1}}, r"blob\.raw_size"),
        ({"blob": BLOB.to_json() | {"raw_sha256": "B" * 64}}, r"blob\.raw_sha256"),
        ({"blob": BLOB.to_json() | {"raw_sha256": "b" * 64 + "\n"}}, r"blob\.raw_sha256"),
        ({"blob": BLOB.to_json() | {"encoding": "gzip"}}, r"blob\.encoding"),
        ({"blob": BLOB.to_json() | {"more": 1}}, "blob: unknown member 'more'"),
        ({"source": {"cluster_uid": "x"}}, "source: no member 'path'"),
        ({"more": 1}, "unknown member 'more'"),
        ({"blob": None}, "collected means bytes"),
        ({"result": "denied", "reason": "no"}, "collected means bytes"),
        ({"result": "denied", "blob": None}, "needs a reason"),
    ],
)
def test_values_that_the_format_does_not_have_are_refused_with_their_place(
    changed: dict[str, object], where: str
) -> None:
    with pytest.raises(FormatError, match=where):
        Item.from_json(full_item().to_json() | changed)


def test_records_check_what_a_program_gives_them_too() -> None:
    for wrong in ({"required": 1}, {"blob": BLOB.to_json()}, {"result": "collected"}, {"changes_made": ["x"]}):
        with pytest.raises(FormatError):
            replace(full_item(), **wrong)


def test_items_that_share_bytes_must_agree_about_them() -> None:
    one, other = full_item(), replace(full_item(), id="other", blob=replace(BLOB, raw_size=6))
    with pytest.raises(FormatError, match="differently"):
        Manifest(1, "INC-1/seal/1", (one, other))


def test_another_version_of_the_manifest_is_not_version_1() -> None:
    value = Manifest(1, "INC-1/seal/1", ()).to_json()
    for version in (2, 0, "1", True, 1.0, None):
        with pytest.raises(FormatError, match="version"):
            Manifest.from_json(value | {"version": version})


def test_hostile_text_is_shown_escaped_and_short() -> None:
    with pytest.raises(FormatError) as refused:
        Item.from_json(full_item().to_json() | {"id": "\x1b[2J" * 10_000})
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 300


# The format's snapshot.


def test_the_members_of_every_record_are_those_of_version_1() -> None:
    found = {
        record.__name__: " ".join(field.name for field in fields(record))
        for record in (Blob, Item, Manifest, CustodyEntry, TimelineEntry, ObjectRef, Predicate)
    }
    assert found == {
        "Blob": "stored_sha256 stored_size raw_sha256 raw_size encoding",
        "Item": "id kind required result reason source method tool operator authority started_at ended_at "
        "clock_offset_ms volatility changes_made media_type blob",
        "Manifest": "version seal_id items",
        "CustodyEntry": "seq at action item actor purpose sha256 prev_hash hash",
        "TimelineEntry": "incident seq body body_sha256 prev_hash hash",
        "ObjectRef": "api_version kind namespace name uid",
        "Predicate": "seal_id incident cluster_uid preserves sealed_at tool version items custody_head timeline_head",
    }


def test_the_statement_is_an_in_toto_statement(bundle: bytes) -> None:
    statement = statement_of(bundle)
    assert sorted(statement) == ["_type", "predicate", "predicateType", "subject"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://ringfence.dev/seal/v1"
    assert [subject["name"] for subject in statement["subject"]] == [  # type: ignore[attr-defined]
        "manifest.json",
        "custody.jsonl",
        "timeline.jsonl",
    ]


def test_an_items_text_is_snapshotted(tmp_path: Path) -> None:
    text = canonical.dumps(full_item().to_json())
    assert hashlib.sha256(text).hexdigest() == "6c874ea97026e5f233b25aec4ae58869b75705e99de1c8b1c39e374875c87d93"
