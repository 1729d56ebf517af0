"""Signing keys: made once, private, refused when others can read them; other signers by URI."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from ringfence.errors import ConfigError, VaultError
from ringfence.seal.keys import public_key, public_key_from_pem
from ringfence.seal.signing import SigningKey, load_or_create, signer_from_uri


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    made, found = load_or_create(path), load_or_create(path)
    assert made.key_id == found.key_id
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_key_from_pem((tmp_path / "seal.key.pub").read_bytes()).key_id == made.key_id
    assert sorted(one.name for one in tmp_path.iterdir()) == ["seal.key", "seal.key.pub"]


def test_a_key_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create(tmp_path / "seal.key")
    finally:
        os.umask(before)
    assert (tmp_path / "seal.key").stat().st_mode & 0o777 == 0o600


def test_threads_that_start_together_end_with_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_or_create(tmp_path / "seal.key").key_id, range(16)))
    assert len(set(keys)) == 1


def test_processes_that_start_together_end_with_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ringfence.seal.signing import load_or_create; "
        "print(load_or_create(Path(sys.argv[1])).key_id)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path / "seal.key"], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in running}) == 1
    assert all(process.returncode == 0 for process in running)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "seal.key"
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}") as refused:
        load_or_create(path)
    assert "chmod 600" in refused.value.next_step


def _private(curve: SECP256R1 | SECP384R1, password: bytes | None = None) -> bytes:
    locked = BestAvailableEncryption(password) if password else NoEncryption()
    return generate_private_key(curve).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


@pytest.mark.parametrize(
    "content",
    [b"", b"no key", _private(SECP384R1()), _private(SECP256R1(), b"password")],
    ids=["empty", "junk", "another curve", "encrypted"],
)
def test_a_file_that_is_no_usable_key_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seal.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as refused:
        load_or_create(path)
    assert refused.value.location == str(path)
    assert path.read_bytes() == content


def test_a_public_key_of_another_key_beside_it_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path / "seal.key")
    (tmp_path / "seal.key").unlink()
    with pytest.raises(ConfigError, match="public key"):
        load_or_create(tmp_path / "seal.key")


def test_a_key_cannot_be_made_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(VaultError):
        load_or_create(tmp_path / "absent" / "seal.key")


def test_a_signer_by_uri_signs_for_its_public_key(tmp_path: Path) -> None:
    from_file = load_or_create(tmp_path / "seal.key")
    by_uri = signer_from_uri(f"file2:{tmp_path}/seal.key", from_file.public_key)
    assert from_file.public_key.verifies(by_uri.sign(b"message"), b"message")


def test_a_signer_by_uri_with_anothers_public_key_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path / "seal.key")
    other = load_or_create(tmp_path / "other.key")
    with pytest.raises(ConfigError):
        signer_from_uri(f"file2:{tmp_path}/seal.key", other.public_key)


@pytest.mark.parametrize("uri", ["file2:/absent", "nothing:here", ""])
def test_a_signer_that_cannot_be_had_is_a_config_error(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError):
        signer_from_uri(uri, load_or_create(tmp_path / "seal.key").public_key)


def test_a_signer_that_is_not_the_public_keys_never_signs(tmp_path: Path) -> None:
    right, wrong = load_or_create(tmp_path / "right.key"), load_or_create(tmp_path / "wrong.key")
    with pytest.raises(VaultError, match="public key"):
        SigningKey(wrong.sign, right.public_key).sign(b"message")


def test_a_signer_that_fails_is_a_vault_error(tmp_path: Path) -> None:
    def unreachable(message: bytes) -> bytes:
        raise ConnectionError("the key service does not answer")

    key = SigningKey(unreachable, load_or_create(tmp_path / "seal.key").public_key)
    with pytest.raises(VaultError, match="does not answer"):
        key.sign(b"message")


def test_a_p256_key_on_another_curve_is_not_taken() -> None:
    with pytest.raises(ValueError, match="P-256"):
        public_key(generate_private_key(SECP384R1()).public_key())
