"""The two hash chains: any edit, removal, insertion or move of entries is found; erased bodies are not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.errors import Tampered
from ringfence.seal import canonical, custody, timeline
from ringfence.seal.canonical import FormatError
from ringfence.seal.chain import GENESIS, Head
from ringfence.seal.custody import Action, CustodyEntry
from ringfence.seal.timeline import TimelineEntry, chain_hash
from ringfence.seal.verify import Examination
from tests.seal import sample
from tests.seal.archive import replaced, tampered

texts = st.text(st.characters(codec="utf-8"), max_size=20)
digests = st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest())


@st.composite
def chains(draw: st.DrawFn, smallest: int = 0) -> list[CustodyEntry]:
    entries: list[CustodyEntry] = []
    for _ in range(draw(st.integers(smallest, 6))):
        entries.append(
            custody.append(
                entries[-1] if entries else None,
                at=draw(st.datetimes()).isoformat(timespec="microseconds") + "Z",
                action=draw(st.sampled_from(Action)),
                item=draw(st.text("abc/-.:", min_size=1, max_size=9)),
                actor=draw(texts),
                purpose=draw(texts),
                sha256=draw(st.none() | digests),
            )
        )
    return entries


def follow_timeline(entries: list[TimelineEntry] | tuple[TimelineEntry, ...], incident: str = "INC-1") -> Head:
    head = GENESIS
    for entry in entries:
        head = timeline.follow(head, entry, incident)
    return head


@settings(deadline=None)
@given(chains())
def test_an_appended_chain_verifies_and_survives_json(entries: list[CustodyEntry]) -> None:
    head = custody.strand(entries).head
    assert head == (Head(len(entries), entries[-1].hash) if entries else GENESIS)
    again = [CustodyEntry.from_json(canonical.loads(canonical.dumps(entry.to_json()))) for entry in entries]
    assert again == entries


@settings(deadline=None)
@given(chains(smallest=1), st.data())
def test_any_changed_field_breaks_the_chain_at_that_entry(entries: list[CustodyEntry], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    field, value = data.draw(
        st.sampled_from(
            [
                ("seq", 99),
                ("at", "2001-01-01T00:00:00.000000Z"),
                ("item", "other"),
                ("actor", "somebody else"),
                ("purpose", "another purpose, at length"),
                ("sha256", hashlib.sha256(b"other").hexdigest()),
                ("prev_hash", "1" * 64),
                ("hash", "2" * 64),
            ]
        )
    )
    entries[index] = replace(entries[index], **{field: value})  # type: ignore[arg-type]
    with pytest.raises(Tampered, match=f"entry {index + 1}:"):
        custody.strand(entries)


@settings(deadline=None)
@given(chains(smallest=2), st.data())
def test_any_removal_repetition_or_move_breaks_the_chain(entries: list[CustodyEntry], data: st.DataObject) -> None:
    head = custody.strand(entries).head
    index = data.draw(st.integers(0, len(entries) - 2))
    removed = entries[:index] + entries[index + 1 :]
    doubled = entries[: index + 1] + entries[index:]
    moved = [*entries[:index], entries[index + 1], entries[index], *entries[index + 2 :]]
    for changed in (removed, doubled, moved):
        with pytest.raises(Tampered):
            custody.strand(changed)
    # Only the head tells that the end is gone: that is why the statement carries it.
    assert custody.strand(entries[:-1]).head != head


@settings(deadline=None)
@given(chains(smallest=1))
def test_a_rewritten_chain_has_another_head(entries: list[CustodyEntry]) -> None:
    rewritten: list[CustodyEntry] = []
    for entry in entries:
        facts = {name: getattr(entry, name) for name in ("at", "action", "item", "actor", "sha256")}
        rewritten.append(custody.append(rewritten[-1] if rewritten else None, purpose=entry.purpose + "!", **facts))
    assert custody.strand(rewritten).head != custody.strand(entries).head


def test_an_entry_hashed_anew_still_has_to_follow_the_one_before() -> None:
    """Whoever edits an entry can compute its hash again: then number and link give it away."""
    first, second, _ = sample.custody_entries(3)
    for wrong in (replace(second, seq=3), replace(second, prev_hash="1" * 64)):
        hashed_anew = replace(wrong, hash=wrong.computed_hash())
        with pytest.raises(Tampered, match=r"entry 2: expected (seq|prev_hash)"):
            custody.strand([first, hashed_anew])


def test_a_chain_goes_on_from_a_head() -> None:
    entries = sample.custody_entries(2)
    assert custody.append(Head(1, entries[0].hash), **_facts(entries[1])) == entries[1]


def _facts(entry: CustodyEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("at", "action", "item", "actor", "purpose", "sha256")}


def test_the_custody_hash_is_the_documented_formula() -> None:
    entry = sample.custody_entries(2)[1]
    covered = {name: value for name, value in entry.to_json().items() if name != "hash"}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert entry.hash == hashlib.sha256(text.encode()).hexdigest()


def test_the_timeline_hash_is_the_documented_formula() -> None:
    text = '{{"body_sha256":"{}","incident":"INC-1","prev_hash":"{}","seq":1}}'.format("a" * 64, "0" * 64)
    assert chain_hash("INC-1", 1, "a" * 64, "0" * 64) == hashlib.sha256(text.encode()).hexdigest()


def test_an_erased_body_does_not_break_the_timeline() -> None:
    whole = sample.timeline_entries(("a", "b", "c"))
    erased = [whole[0], replace(whole[1], body=None), whole[2]]
    assert follow_timeline(erased) == follow_timeline(whole)


def test_a_body_that_was_replaced_is_found() -> None:
    whole = sample.timeline_entries(("a", "b", "c"))
    with pytest.raises(Tampered, match=r"timeline\.jsonl entry 2"):
        follow_timeline([whole[0], replace(whole[1], body='{"type":"x"}'), whole[2]])


def test_a_body_and_its_digest_cannot_be_replaced_together() -> None:
    whole = sample.timeline_entries(("a", "b"))
    forged = replace(whole[1], body="{}", body_sha256=hashlib.sha256(b"{}").hexdigest())
    with pytest.raises(Tampered, match=r"timeline\.jsonl entry 2"):
        follow_timeline([whole[0], forged])


def test_another_incidents_timeline_is_refused() -> None:
    with pytest.raises(Tampered, match="entry 1"):
        follow_timeline(sample.timeline_entries(incident="INC-2"))


@pytest.mark.parametrize("name", ["custody.jsonl", "timeline.jsonl"])
@pytest.mark.parametrize(
    ("edit", "entry"),
    [
        (lambda lines: lines[1:], 1),
        (lambda lines: lines[:1] + lines[2:], 2),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
        (lambda lines: [lines[1], lines[0], lines[2]], 1),
        (lambda lines: [lines[0], b"{}\n", *lines[1:]], 2),
        (lambda lines: [lines[0], b"\n", *lines[1:]], 2),
        (lambda lines: [lines[0], lines[1].replace(b'"seq":2', b'"seq": 2'), lines[2]], 2),
        (lambda lines: [lines[0], lines[1], lines[2].rstrip(b"\n")], 3),
        (lambda lines: [lines[0], b"[" * 100_000 + b"\n", *lines[1:]], 2),
    ],
    ids=["first gone", "second gone", "doubled", "moved", "foreign", "blank", "spelled", "no line feed", "nested"],
)
def test_the_first_bad_line_of_a_chain_is_named(
    bundle: bytes,
    examine: Callable[[bytes], Examination],
    name: str,
    edit: Callable[[list[bytes]], list[bytes]],
    entry: int,
) -> None:
    changed = replaced(bundle, name, lambda data: b"".join(edit(data.splitlines(keepends=True))))
    found = tampered(examine(changed))
    assert found == [name, f"{name} entry {entry}"]


def test_a_chain_that_lost_its_end_is_found_by_digest_and_head(
    bundle: bytes, examine: Callable[[bytes], Examination]
) -> None:
    changed = replaced(bundle, "custody.jsonl", lambda data: b"".join(data.splitlines(keepends=True)[:-1]))
    assert tampered(examine(changed)) == ["custody.jsonl", "custody.jsonl"]


def test_custody_refuses_values_that_the_format_does_not_have() -> None:
    facts = {"at": sample.AT, "action": Action.READ, "item": "pod", "actor": "a", "purpose": "b"}
    for wrong in (
        {"at": "2026-01-31 03:04:05"},
        {"at": "2026-02-31T03:04:05.000000Z"},
        {"at": "2026-01-31T03:04:05.000000+00:00"},
        {"item": "two words"},
        {"item": ""},
        {"sha256": "A" * 64},
        {"action": "read"},
        {"actor": None},
    ):
        with pytest.raises(FormatError):
            custody.append(None, **(facts | wrong))
