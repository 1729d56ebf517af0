"""No byte of a bundle can change, vanish or appear without being found and named.

Every byte, three patterns; every kind of truncation; bytes behind the end. Whole members are moved in test_members.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.seal import custody, tar, timeline
from ringfence.seal.signing import SigningKey
from ringfence.seal.verify import Examination, examine_stream
from tests.seal import sample
from tests.seal.archive import members, tampered

Examine = Callable[[bytes], Examination]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> bytes:
    """A bundle with one of everything, so that its every byte can be tried in seconds."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "blobs").mkdir()
    pod = sample.item("pod", blob=sample.store(folder / "blobs", sample.POD_JSON))
    sample.write(
        folder / "small.tar",
        key,
        items=(pod,),
        custody=custody.strand(sample.custody_entries(1)),
        timeline=timeline.strand(sample.timeline_entries(("declared",)), sample.FACTS.incident),
    )
    return (folder / "small.tar").read_bytes()


def owner_of(bundle: bytes, offset: int) -> str:
    """The member to which a byte belongs: its header, contents and padding."""
    start = 0
    for name, data in members(bundle):
        start += tar.BLOCK + len(data) + len(tar.padding(len(data)))
        if offset < start:
            return name
    return "end of the archive"


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [0x01, 0x80, 0xFF], ids=hex)
def test_every_changed_byte_is_tampering_and_is_named(small: bytes, key: SigningKey, pattern: int) -> None:
    assert tampered(examine_stream(io.BytesIO(small), key.public_key)) == []
    changed = bytearray(small)
    wrong = []
    for offset in range(len(small)):
        changed[offset] ^= pattern
        found = examine_stream(io.BytesIO(changed), key.public_key)
        changed[offset] ^= pattern
        items = tampered(found)
        if found.seal is not None or not items or owner_of(small, offset) not in items[0]:
            wrong.append((offset, items))
    assert wrong == []


def test_every_truncation_is_tampering(small: bytes, examine: Examine) -> None:
    ends = {*range(0, len(small), 97), *range(0, len(small), tar.BLOCK), len(small) - 1}
    for end in sorted(ends):
        found = examine(small[:end])
        assert tampered(found), end
        assert owner_of(small, end) in tampered(found)[0], end


@pytest.mark.parametrize("more", [b"\0", b"x", bytes(512), bytes(10240)], ids=["zero", "text", "block", "record"])
def test_nothing_may_follow_the_end(bundle: bytes, examine: Examine, more: bytes) -> None:
    assert tampered(examine(bundle + more)) == ["end of the archive"]


def test_an_untouched_bundle_verifies_from_any_stream(bundle: bytes, key: SigningKey, tmp_path: Path) -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(7, size) if size is not None and size > 0 else size)

    seal = examine_stream(Trickle(bundle), key.public_key).verdict()
    assert seal.size == len(bundle)
