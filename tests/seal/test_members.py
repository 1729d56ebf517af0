"""Members of a bundle that are missing, doubled, moved, swapped, foreign, or no plain files.

Also: a bundle is a tar that other programs read. Single bytes: test_every_byte.py.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.seal.verify import Examination
from tests.seal.archive import Members, join, members, replaced, tampered, unverifiable

Examine = Callable[[bytes], Examination]

NAMES = ("seal.json", "manifest.json", "custody.jsonl", "timeline.jsonl", "first blob", "second blob")


@pytest.fixture
def parts(bundle: bytes) -> Members:
    return members(bundle)


def test_rebuilding_the_members_gives_the_same_bytes(bundle: bytes, parts: Members) -> None:
    assert join(parts) == bundle


@pytest.mark.parametrize("index", range(6), ids=NAMES)
def test_a_missing_member_is_named(parts: Members, examine: Examine, index: int) -> None:
    name = parts[index][0]
    found = examine(join(parts[:index] + parts[index + 1 :]))
    assert tampered(found)[0] == name
    assert "missing" in str(found.problems[0])


@pytest.mark.parametrize("index", range(6), ids=NAMES)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_doubled_member_is_named(parts: Members, examine: Examine, index: int, at_the_end: bool) -> None:
    where = len(parts) if at_the_end else index + 1
    found = examine(join([*parts[:where], parts[index], *parts[where:]]))
    assert tampered(found) == [parts[index][0]]
    assert "second" in str(found.problems[0])


@pytest.mark.parametrize("index", range(5), ids=NAMES[:5])
def test_reordered_members_are_named(parts: Members, examine: Examine, index: int) -> None:
    parts[index], parts[index + 1] = parts[index + 1], parts[index]
    assert tampered(examine(join(parts))) == [parts[index + 1][0]]


@pytest.mark.parametrize("index", range(7), ids=(*NAMES, "end"))
@pytest.mark.parametrize("name", ["notes.txt", "../../etc/passwd", "/etc/passwd", "blobs/sha256/" + "0" * 64])
def test_an_extra_member_is_named(parts: Members, examine: Examine, index: int, name: str) -> None:
    found = examine(join([*parts[:index], (name, b"hello"), *parts[index:]]))
    expected_names = {name, parts[min(index, 5)][0]}
    assert set(tampered(found)) <= expected_names
    assert name in str(found.problems[0])


def test_contents_swapped_between_blobs_are_named(parts: Members, examine: Examine) -> None:
    (one, one_data), (other, other_data) = parts[4:]
    found = tampered(examine(join([*parts[:4], (one, other_data), (other, one_data)])))
    assert one in found[0]


def test_every_bad_blob_is_named_with_its_items(bundle: bytes, parts: Members, examine: Examine) -> None:
    changed = join(parts[:4] + [(name, data[::-1]) for name, data in parts[4:]])
    found = tampered(examine(changed))
    assert len(found) == 2
    assert all(name in item for (name, _), item in zip(parts[4:], found, strict=True))
    assert any(item.startswith("logs/cards/current, logs/cards/again: ") for item in found)
    assert any(item.startswith("pod: ") for item in found)


def test_a_bad_manifest_does_not_hide_a_bad_timeline(bundle: bytes, parts: Members, examine: Examine) -> None:
    def forged(name: str, data: bytes) -> bytes:
        # Not in the envelope: its random base64 may happen to hold these letters.
        return data if name == "seal.json" else data.replace(b"ada", b"eve").replace(b"cut", b"cat")

    found = examine(join([(name, forged(name, data)) for name, data in parts]))
    assert tampered(found) == [
        "manifest.json",
        "custody.jsonl",
        "custody.jsonl entry 1",
        "timeline.jsonl",
        "timeline.jsonl entry 3",
    ]
    assert unverifiable(found) == ["blobs"]
    assert found.stopped


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (tarfile.SYMTYPE, "type"),
        (tarfile.LNKTYPE, "type"),
        (tarfile.DIRTYPE, "type"),
        (tarfile.FIFOTYPE, "type"),
        (tarfile.AREGTYPE, "type"),
        (tarfile.CONTTYPE, "type"),
    ],
)
def test_members_that_are_no_regular_files_are_refused(
    bundle: bytes, examine: Examine, kind: bytes, field: str
) -> None:
    at = bundle.index(b"custody.jsonl\0")
    changed = bytearray(bundle)
    changed[at + 156 : at + 157] = kind
    changed[at + 148 : at + 156] = b" " * 8
    changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
    assert tampered(examine(bytes(changed))) == [f"custody.jsonl (tar header, {field})"]


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_other_tar_dialects_are_refused(parts: Members, examine: Examine, format_: int) -> None:
    """The same members, written by another program: owner, times or extensions may differ, so it is another file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as archive:
        for name, data in parts:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.pax_headers = {"comment": "hidden"}
            archive.addfile(info, io.BytesIO(data))
    assert tampered(examine(file.getvalue()))


def test_a_file_that_is_no_bundle_is_not_called_verified(examine: Examine) -> None:
    assert examine(b"").seal is None
    assert examine(b"%PDF-1.7 " * 1000).seal is None


def test_any_tar_program_lists_and_unpacks_a_bundle(bundle: bytes, bundle_file: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    run = subprocess.run(["tar", "-xf", bundle_file, "-C", unpacked], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    for name, data in members(bundle):
        assert (unpacked / name).read_bytes() == data


def test_an_edited_size_cannot_shift_bytes_between_members(bundle: bytes, examine: Examine) -> None:
    """A header of another size, checksum and all, with the contents that this would make."""
    parts = members(bundle)
    spill = dict(parts)["custody.jsonl"] + bytes(512)
    assert "custody.jsonl" in tampered(examine(replaced(bundle, "custody.jsonl", lambda _: spill)))


def test_the_verdict_carries_the_files_own_digest(bundle: bytes, examine: Examine) -> None:
    assert examine(bundle).verdict().sha256 == hashlib.sha256(bundle).hexdigest()
