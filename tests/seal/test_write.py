"""Writing bundles: the same inputs give the same bytes; nothing is overwritten, left half-done, or sealed if false."""

from __future__ import annotations

import hashlib
import resource
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ringfence.errors import Tampered, VaultError
from ringfence.seal import tar
from ringfence.seal.blob import Blob, BlobFolder, Encoding
from ringfence.seal.canonical import FormatError
from ringfence.seal.chain import Strand
from ringfence.seal.signing import SigningKey
from ringfence.seal.timeline import TimelineEntry
from ringfence.seal.verify import verify_bundle
from ringfence.seal.write import write_bundle
from tests.seal import sample
from tests.seal.archive import members


def test_what_is_written_is_what_verification_reads(tmp_path: Path, key: SigningKey) -> None:
    written = sample.write(tmp_path / "INC-1.tar", key)
    seal = verify_bundle(written.path, key.public_key)
    assert (written.sha256, written.size, written.key_id) == (seal.sha256, seal.size, key.key_id)
    assert written.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest()
    assert written.seal_id == seal.predicate.seal_id == "INC-1/seal/1"
    assert seal.items == sample.items(tmp_path / "blobs")
    assert vars(sample.FACTS).items() <= vars(seal.predicate).items()
    assert (seal.predicate.items, seal.predicate.custody_head.seq, seal.predicate.timeline_head.seq) == (5, 3, 3)
    assert seal.erased_events == 1


def test_the_same_inputs_give_the_same_bytes_but_for_the_signature(tmp_path: Path, key: SigningKey) -> None:
    one = members(sample.write(tmp_path / "1.tar", key).path.read_bytes())
    two = members(sample.write(tmp_path / "2.tar", key).path.read_bytes())
    assert one[1:] == two[1:]
    (_, one_seal), (_, two_seal) = one[0], two[0]
    assert one_seal.rpartition(b'"sig"')[0] == two_seal.rpartition(b'"sig"')[0]


def test_a_bundle_is_never_overwritten(tmp_path: Path, key: SigningKey) -> None:
    written = sample.write(tmp_path / "INC-1.tar", key)
    with pytest.raises(VaultError, match="exists"):
        sample.write(tmp_path / "INC-1.tar", key)
    assert hashlib.sha256(written.path.read_bytes()).hexdigest() == written.sha256


def test_a_bundle_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, key: SigningKey) -> None:
    path = tmp_path / "INC-1.tar"

    def slow_timeline() -> Iterator[TimelineEntry]:
        path.write_bytes(b"another process was faster")
        yield from sample.timeline_entries()

    with pytest.raises(VaultError, match="exists"):
        sample.write(path, key, timeline_entries=slow_timeline())
    assert path.read_bytes() == b"another process was faster"
    assert leftovers(tmp_path) == {"INC-1.tar"}


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"blobs"}


def test_a_finished_bundle_is_read_only_and_alone(tmp_path: Path, key: SigningKey) -> None:
    sample.write(tmp_path / "INC-1.tar", key)
    assert (tmp_path / "INC-1.tar").stat().st_mode & 0o777 == 0o400
    assert leftovers(tmp_path) == {"INC-1.tar"}


def test_a_failing_signer_leaves_nothing(tmp_path: Path, key: SigningKey) -> None:
    def unreachable(message: bytes) -> bytes:
        raise ConnectionError("the key service does not answer")

    with pytest.raises(VaultError):
        sample.write(tmp_path / "INC-1.tar", SigningKey(unreachable, key.public_key))
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("damage", [b"", b"x", b"much longer than what was there before, by far" * 99])
def test_a_damaged_vault_is_never_sealed(tmp_path: Path, key: SigningKey, damage: bytes) -> None:
    (tmp_path / "blobs").mkdir()
    items = sample.items(tmp_path / "blobs")
    stored = tmp_path / "blobs" / items[1].blob.stored_sha256  # type: ignore[union-attr]
    stored.chmod(0o600)
    stored.write_bytes(damage)
    with pytest.raises(Tampered, match="logs/cards/current"):
        sample.write(tmp_path / "INC-1.tar", key, items=items)
    assert leftovers(tmp_path) == set()


def test_stored_bytes_that_never_were_the_raw_bytes_are_not_sealed(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "blobs").mkdir()
    blob = replace(sample.store(tmp_path / "blobs", b"raw"), raw_sha256="0" * 64)
    with pytest.raises(Tampered, match="raw bytes"):
        sample.write(tmp_path / "INC-1.tar", key, items=(sample.item("pod", blob=blob),))
    assert leftovers(tmp_path) == set()


def test_a_blob_that_is_gone_is_a_vault_error(tmp_path: Path, key: SigningKey) -> None:
    gone = Blob("0" * 64, 1, "0" * 64, 1, Encoding.IDENTITY)
    with pytest.raises(VaultError):
        sample.write(tmp_path / "INC-1.tar", key, items=(sample.item("pod", blob=gone),))
    assert leftovers(tmp_path) == set()


def test_a_blob_too_large_for_tar_says_so(tmp_path: Path, key: SigningKey) -> None:
    huge = Blob("0" * 64, tar.MAX_SIZE + 1, "0" * 64, 1, Encoding.IDENTITY)
    with pytest.raises(VaultError, match="pod is too large"):
        sample.write(tmp_path / "INC-1.tar", key, items=(sample.item("pod", blob=huge),))


def test_a_full_disk_is_a_vault_error_and_leaves_nothing(tmp_path: Path, key: SigningKey) -> None:
    """A limit on file sizes stands in for the disk: the write fails in the middle of the bundle."""
    (tmp_path / "blobs").mkdir()
    items = sample.items(tmp_path / "blobs")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 500, 3000, 9000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(VaultError, match="cannot"):
                sample.write(tmp_path / "INC-1.tar", key, items=items)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert leftovers(tmp_path) == set()


def test_broken_chains_are_not_sealed(tmp_path: Path, key: SigningKey) -> None:
    custody, timeline = sample.custody_entries(), sample.timeline_entries()
    for wrong in (
        {"custody_entries": custody[1:]},
        {"custody_entries": (custody[0], custody[2])},
        {"timeline_entries": timeline[1:]},
        {"timeline_entries": sample.timeline_entries(incident="INC-2")},
        {"timeline_entries": (timeline[0], replace(timeline[2], seq=2))},
    ):
        with pytest.raises(Tampered):
            sample.write(tmp_path / "INC-1.tar", key, **wrong)
    assert leftovers(tmp_path) == set()


def test_two_items_of_one_name_are_refused(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "blobs").mkdir()
    item = sample.item("pod", blob=sample.store(tmp_path / "blobs", b"x"))
    with pytest.raises(FormatError, match="two items"):
        sample.write(tmp_path / "INC-1.tar", key, items=(item, item))


def test_an_empty_seal_is_a_seal_of_nothing_and_says_so(tmp_path: Path, key: SigningKey) -> None:
    written = sample.write(tmp_path / "0.tar", key, items=(), custody_entries=(), timeline_entries=())
    seal = verify_bundle(written.path, key.public_key)
    assert (seal.items, seal.predicate.items, seal.predicate.timeline_head.seq) == ((), 0, 0)


@pytest.mark.slow
def test_memory_stays_flat_while_writing_and_verifying(tmp_path: Path, key: SigningKey) -> None:
    chunk = hashlib.shake_256(b"seed").digest(1 << 20)
    (tmp_path / "blobs").mkdir()
    with BlobFolder(tmp_path / "blobs").new() as writer:
        for number in range(48):
            writer.write(bytes([number]) + chunk)
        blob = writer.finish()
    long_timeline = sample.timeline_entries([f"event {number}" + "x" * 500 for number in range(2000)])
    tracemalloc.start()
    try:
        written = sample.write(
            tmp_path / "INC-1.tar",
            key,
            items=(sample.item("logs/cards/current", blob=blob),),
            timeline_entries=long_timeline,
        )
        # Of a chain its last lines are remembered, 2 KiB each at most: the blob of 48 MiB is what must not be.
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert written.size > 1 << 20


def test_a_folder_that_is_gone_is_a_vault_error(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(VaultError, match="absent"):
        write_bundle(
            tmp_path / "absent" / "INC-1.tar",
            facts=sample.FACTS,
            items=(),
            custody=Strand(),
            timeline=Strand(),
            open_blob=BlobFolder(tmp_path).open,
            key=key,
        )
