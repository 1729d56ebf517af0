"""Blobs: written by digest and read back with both digests checked, in flat memory, whatever the bytes are."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.errors import Tampered, VaultError
from ringfence.seal.blob import Blob, BlobFolder, Encoding, check_blob, read_blob
from ringfence.seal.signing import SigningKey
from tests.seal import sample


def write(folder: Path, *chunks: bytes, encoding: Encoding = Encoding.ZSTD) -> Blob:
    with BlobFolder(folder).new(encoding=encoding) as writer:
        for chunk in chunks:
            writer.write(chunk)
        return writer.finish()


def read(folder: Path, blob: Blob) -> bytes:
    with BlobFolder(folder).open(blob) as stored:
        return b"".join(read_blob(stored, blob, "item"))


def described(stored: bytes, raw: bytes, encoding: Encoding = Encoding.ZSTD) -> Blob:
    """What a writer would say of these bytes."""
    return Blob(hashlib.sha256(stored).hexdigest(), len(stored), hashlib.sha256(raw).hexdigest(), len(raw), encoding)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(chunks=st.lists(st.binary(max_size=200), max_size=5), encoding=st.sampled_from(Encoding))
def test_what_was_written_is_read_back(tmp_path: Path, chunks: list[bytes], encoding: Encoding) -> None:
    raw = b"".join(chunks)
    blob = write(tmp_path, *chunks, encoding=encoding)
    stored = (tmp_path / blob.stored_sha256).read_bytes()
    assert blob == described(stored, raw, encoding)
    assert read(tmp_path, blob) == raw


def test_plain_zstd_unpacks_a_blob_and_notices_damage(tmp_path: Path) -> None:
    blob = write(tmp_path, b"log line\n" * 1000)
    stored = (tmp_path / blob.stored_sha256).read_bytes()
    assert zstandard.get_frame_parameters(stored).has_checksum
    assert zstandard.ZstdDecompressor().decompressobj().decompress(stored) == b"log line\n" * 1000


def test_a_blob_is_read_only_and_nothing_else_is_left(tmp_path: Path) -> None:
    blob = write(tmp_path, b"x")
    assert [path.name for path in tmp_path.iterdir()] == [blob.stored_sha256]
    assert (tmp_path / blob.stored_sha256).stat().st_mode & 0o777 == 0o400


def test_an_abandoned_blob_leaves_nothing(tmp_path: Path) -> None:
    with BlobFolder(tmp_path).new() as writer:
        writer.write(b"half of a log")
    with pytest.raises(TypeError), BlobFolder(tmp_path).new() as writer:
        writer.write("text, not bytes")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_same_bytes_twice_are_one_file(tmp_path: Path) -> None:
    assert write(tmp_path, b"same") == write(tmp_path, b"sa", b"me")
    assert len(list(tmp_path.iterdir())) == 1


def test_bytes_that_are_there_already_but_damaged_are_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    blob = write(tmp_path, b"same")
    (tmp_path / blob.stored_sha256).chmod(0o600)
    (tmp_path / blob.stored_sha256).write_bytes(b"damaged")
    with pytest.raises(Tampered, match=blob.stored_sha256):
        write(tmp_path, b"same")


def test_any_changed_stored_byte_is_found(tmp_path: Path) -> None:
    blob = write(tmp_path, b"2026-01-31 GET /cards\n" * 9)
    stored = bytearray((tmp_path / blob.stored_sha256).read_bytes())
    for offset in range(len(stored)):
        for bit in range(8):
            stored[offset] ^= 1 << bit
            with pytest.raises(Tampered, match="stored bytes"):
                check_blob(io.BytesIO(stored), blob, "item")
            stored[offset] ^= 1 << bit


@pytest.mark.parametrize("encoding", Encoding)
def test_shorter_and_longer_files_are_found(tmp_path: Path, encoding: Encoding) -> None:
    blob = write(tmp_path, b"0123456789", encoding=encoding)
    stored = (tmp_path / blob.stored_sha256).read_bytes()
    for changed in (stored[:-1], stored[:1], b"", stored + b"\0", stored + stored):
        with pytest.raises(Tampered, match="stored bytes"):
            check_blob(io.BytesIO(changed), blob, "item")


def test_stored_bytes_that_do_not_decode_to_what_was_sealed_are_found() -> None:
    good = zstandard.ZstdCompressor().compress(b"the truth")
    for stored in (zstandard.ZstdCompressor().compress(b"something"), b"no zstd at all", good[:-3], good + b"junk"):
        sealed = described(stored, b"the truth")
        with pytest.raises(Tampered, match="raw bytes"):
            check_blob(io.BytesIO(stored), sealed, "item")


def test_a_bomb_ends_at_the_sealed_size_and_in_flat_memory() -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(2000)) + compressor.flush()
    sealed = described(bomb, b"x" * 1000)
    tracemalloc.start()
    try:
        with pytest.raises(Tampered, match="more than 1000 bytes"):
            check_blob(io.BytesIO(bomb), sealed, "item")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_that_wants_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    stored = compressor.compress(b"x") + compressor.flush()
    with pytest.raises(Tampered, match="do not decode"):
        check_blob(io.BytesIO(stored), described(stored, b"x"), "item")


def test_memory_stays_flat_for_large_blobs(tmp_path: Path) -> None:
    chunk = hashlib.shake_256(b"seed").digest(1 << 20)
    tracemalloc.start()
    try:
        for encoding in Encoding:
            with BlobFolder(tmp_path).new(encoding=encoding) as writer:
                for number in range(24):
                    writer.write(bytes([number]) + chunk)
                blob = writer.finish()
            with BlobFolder(tmp_path).open(blob) as stored:
                check_blob(stored, blob, "item")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_blob_that_is_gone_is_a_vault_error(tmp_path: Path) -> None:
    blob = described(b"stored", b"raw")
    with pytest.raises(VaultError, match=blob.stored_sha256):
        BlobFolder(tmp_path).open(blob)


def test_a_folder_that_is_gone_is_a_vault_error(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="absent"):
        BlobFolder(tmp_path / "absent").new()


def test_bytes_that_are_kept_again_are_written_once_and_again_when_they_are_gone(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    first = folder.store([b"the namespace's ", b"policies"])
    path = tmp_path / first.stored_sha256
    written = path.stat().st_ino
    assert folder.store([b"the namespace's policies"]) == first
    assert path.stat().st_ino == written
    path.unlink()
    assert folder.store([b"the namespace's policies"]) == first
    assert path.exists()


def test_what_is_known_to_be_kept_is_checked_when_it_is_sealed(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "blobs").mkdir()
    folder = BlobFolder(tmp_path / "blobs")
    blob = folder.store([b"the namespace's policies"])
    path = folder.path / blob.stored_sha256
    path.chmod(0o600)
    path.write_bytes(b"other")
    assert folder.store([b"the namespace's policies"]) == blob
    with pytest.raises(Tampered, match="policies"):
        sample.write(tmp_path / "INC-1.tar", key, items=(sample.item("policies", blob=blob),))
