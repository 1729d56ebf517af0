"""Encryption of the vault's files: what comes back is what went in, and nothing of it can be altered unseen."""

from __future__ import annotations

import base64
import io
import tracemalloc
from pathlib import Path

import pytest

from ringfence.errors import ConfigError, Tampered, VaultError
from ringfence.seal.atrest import CHUNK, VaultKey, decrypted, load_key, open_file
from ringfence.seal.blob import BlobFolder, read_blob
from ringfence.seal.files import NewFile

KEY, OTHER = VaultKey(b"k" * 32), VaultKey(b"o" * 32)
HEADER, WHOLE = 32, CHUNK + 16


def written(folder: Path, data: bytes, step: int = 1 << 20, name: str = "f.enc") -> Path:
    with NewFile(folder, mode=0o400, key=KEY) as file:
        for start in range(0, len(data), step):
            file.write(data[start : start + step])
        assert file.size == len(data)
        assert file.publish(folder / name)
    return folder / name


def read(content: bytes, key: VaultKey | None = KEY) -> bytes:
    return decrypted(io.BytesIO(content), key, "f", owns=True).read()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("step", [1 << 20, 4096, CHUNK])
def test_what_goes_in_comes_out(tmp_path: Path, size: int, step: int) -> None:
    data = bytes(number * 31 % 251 for number in range(size))
    path = written(tmp_path, data, step)
    with open_file(path, KEY) as file:
        assert file.read() == data
    assert size < 16 or data[:16] not in path.read_bytes()


def test_two_files_of_the_same_bytes_share_none(tmp_path: Path) -> None:
    one, two = (written(tmp_path, b"x" * 100, name=name).read_bytes() for name in ("1.enc", "2.enc"))
    assert one[HEADER:] != two[HEADER:]


def test_every_bit_counts(tmp_path: Path) -> None:
    content = written(tmp_path, b"evidence").read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises((Tampered, VaultError)):
            read(bytes(changed))


def test_chunks_cannot_be_cut_moved_repeated_or_taken_from_another_file(tmp_path: Path) -> None:
    content = written(tmp_path, b"a" * 2 * CHUNK + b"end").read_bytes()
    other = written(tmp_path, b"a" * 2 * CHUNK + b"end", name="o.enc").read_bytes()
    head, first, second, last = (
        content[:HEADER],
        *(content[HEADER + n * WHOLE : HEADER + (n + 1) * WHOLE] for n in range(3)),
    )
    assert read(head + first + second + last)
    foreign = other[HEADER : HEADER + WHOLE]
    for forged in (
        head + first + second,
        head + first,
        head,
        b"",
        head + second + first + last,
        head + first + first + second + last,
        head + first + last,
        head + foreign + second + last,
        content + b"x",
        content + last,
    ):
        with pytest.raises(Tampered):
            read(forged)


@pytest.mark.parametrize("key", [None, OTHER])
def test_another_key_or_none_is_named_and_no_tampering(tmp_path: Path, key: VaultKey | None) -> None:
    with pytest.raises(VaultError) as refused:
        read(written(tmp_path, b"x").read_bytes(), key)
    assert "vault.encryption_key" in refused.value.next_step
    assert KEY.id.hex() in refused.value.why
    assert "kkkk" not in repr(KEY)


def test_the_unfinished_file_is_encrypted_too(tmp_path: Path) -> None:
    with NewFile(tmp_path, mode=0o400, key=KEY) as file:
        file.write(b"secret words " * 20_000)
        file.stream.flush()
        content = Path(f"/proc/self/fd/{file.stream.fileno()}").read_bytes()  # it has no name yet
        assert len(content) > 2 * CHUNK
        assert b"secret words" not in content
        assert file.reread().read() == b"secret words " * 20_000


def test_blobs_keep_their_digests_and_older_ones_stay_readable(tmp_path: Path) -> None:
    def put(folder: BlobFolder) -> object:
        with folder.new() as writer:
            writer.write(b"log line\n" * 1000)
            return writer.finish()

    plain, sealed = BlobFolder(tmp_path / "p"), BlobFolder(tmp_path / "e", KEY)
    plain.path.mkdir()
    sealed.path.mkdir()
    with plain.new() as writer:
        writer.write(b"log line\n" * 1000)
        blob = writer.finish()
    assert put(sealed) == blob, "the format below is not seen above"
    assert put(sealed) == blob, "the same again is no error"
    for folder in (sealed, BlobFolder(plain.path, KEY)):
        with folder.open(blob) as source:
            assert b"".join(read_blob(source, blob, "x")) == b"log line\n" * 1000
    with pytest.raises(VaultError, match="cannot be decrypted"):
        BlobFolder(sealed.path).open(blob)


def test_memory_stays_flat(tmp_path: Path) -> None:
    piece = b"z" * (1 << 20)
    tracemalloc.start()
    try:
        with NewFile(tmp_path, mode=0o400, key=KEY) as file:
            for _ in range(64):
                file.write(piece)
            file.publish(tmp_path / "big.enc")
        with open_file(tmp_path / "big.enc", KEY) as source:
            while source.read(1 << 16):
                pass
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_key_is_32_bytes_that_others_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_bytes(base64.b64encode(b"k" * 32) + b"\n")
    path.chmod(0o600)
    assert load_key(path) == KEY
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others can read"):
        load_key(path)
    path.chmod(0o600)
    for content in (b"", b"short", base64.b64encode(b"k" * 31), b"k" * 32):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"vault\.encryption_key"):
            load_key(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_key(tmp_path / "none")
