"""``ringfence-verify`` as an auditor runs it: exit codes, what it says, what it writes, what it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.errors import ExitCode
from ringfence.seal import cli
from ringfence.seal.manifest import Result
from ringfence.seal.signing import SigningKey, load_or_create
from tests.seal import sample
from tests.seal.archive import replaced


@pytest.fixture
def public(tmp_path: Path, key: SigningKey) -> Path:
    path = tmp_path / "key.pub"
    path.write_bytes(key.public_key.to_pem())
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: object) -> tuple[int, str]:
        code = cli.main([str(one) for one in arguments])
        return code, capsys.readouterr().out

    return run


Run = Callable[..., tuple[int, str]]


def test_a_good_bundle_is_verified_and_what_is_not_proven_is_said(run: Run, bundle_file: Path, public: Path) -> None:
    code, out = run(bundle_file, "--key", public)
    assert code == 0
    assert out.startswith(f"verified: {bundle_file}\n")
    assert "INC-1/seal/1 of incident INC-1" in out
    assert "5: 3 collected, 1 absent, 1 denied" in out
    assert "3 events, 1 erased" in out
    assert "Not proven by this:" in out


def test_a_changed_bundle_is_tampered_and_the_item_is_named(run: Run, bundle_file: Path, public: Path) -> None:
    data = bundle_file.read_bytes()
    bundle_file.write_bytes(data.replace(b"cards-7d9f", b"cards-7d9e"))
    code, out = run(bundle_file, "--key", public)
    assert code == 20
    assert out.startswith("TAMPERED: ")
    assert "manifest.json" in out
    assert "verified" not in out


def test_without_or_with_another_key_it_cannot_be_checked(
    run: Run, bundle_file: Path, public: Path, tmp_path: Path, key: SigningKey
) -> None:
    load_or_create(tmp_path / "other.key")
    (tmp_path / "junk.pub").write_text("junk")
    for arguments in ((), ("--key", tmp_path / "other.key.pub"), ("--key", tmp_path / "junk.pub"), ("--key", "absent")):
        code, out = run(bundle_file, *arguments)
        assert code == 21
        assert out.startswith("CANNOT BE CHECKED: ")
    assert key.key_id in run(bundle_file)[1]


def test_a_private_key_is_not_taken_for_a_public_one(run: Run, bundle_file: Path, tmp_path: Path) -> None:
    load_or_create(tmp_path / "other.key")
    assert run(bundle_file, "--key", tmp_path / "other.key")[0] == ExitCode.UNVERIFIABLE


def test_an_absent_bundle_cannot_be_checked(run: Run, public: Path) -> None:
    code, out = run("absent.tar", "--key", public)
    assert code == ExitCode.UNVERIFIABLE
    assert "No such file" in out


@pytest.mark.parametrize("arguments", [[], ["a.tar", "--unknown"], ["a.tar", "b.tar"], ["a.tar", "-o", "xml"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert "usage: ringfence-verify" in capsys.readouterr().err


def test_json_says_the_same(run: Run, bundle_file: Path, public: Path) -> None:
    code, out = run(bundle_file, "--key", public, "-o", "json", "--list")
    said = json.loads(out)
    assert (code, said["verdict"], said["problems"]) == (0, "ok", [])
    assert said["seal"]["seal_id"] == "INC-1/seal/1"
    assert [item["id"] for item in said["items"]] == [item.id for item in sample.items(bundle_file.parent)]

    bundle_file.write_bytes(replaced(bundle_file.read_bytes(), "custody.jsonl", lambda data: data[1:]))
    code, out = run(bundle_file, "--key", public, "-o", "json", "--list")
    said = json.loads(out)
    assert (code, said["verdict"], said["seal"], said["items"]) == (20, "tampered", None, None)
    assert {(problem["code"], problem["item"]) for problem in said["problems"]} == {
        ("tampered", "custody.jsonl"),
        ("tampered", "custody.jsonl entry 1"),
    }
    assert set(said["problems"][0]) == {"code", "item", "why", "next_step", "expected", "actual"}


def test_list_shows_every_item_and_why_it_is_missing(run: Run, bundle_file: Path, public: Path) -> None:
    _, out = run(bundle_file, "--key", public, "--list")
    assert "required  logs/cards/current  sha256:" in out
    assert "absent     optional  logs/cards/previous  previous terminated container not found" in out


def test_text_of_a_bundle_cannot_drive_the_terminal(run: Run, bundle_file: Path, public: Path) -> None:
    """The sample's denied item carries an escape sequence in its reason."""
    _, out = run(bundle_file, "--key", public, "--list")
    assert "\\x1b[2J" in out
    assert all(one.isprintable() or one == "\n" for one in out)


def test_a_hostile_file_name_cannot_drive_the_terminal(run: Run, tmp_path: Path) -> None:
    _, out = run(tmp_path / "\x1b]0;owned\x07\u202e.tar")
    assert all(one.isprintable() or one == "\n" for one in out)


def test_required_items_that_are_missing_are_always_shown(
    run: Run, tmp_path: Path, public: Path, key: SigningKey
) -> None:
    missing = sample.item("logs/cards/current", result=Result.DENIED, reason="forbidden")
    written = sample.write(tmp_path / "INC-2.tar", key, items=(missing,))
    code, out = run(written.path, "--key", public)
    assert code == ExitCode.OK
    assert "missing    logs/cards/current: denied: forbidden" in out


def test_extract_gives_openssl_what_it_needs(run: Run, bundle_file: Path, public: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert run(bundle_file, "--key", public, "--extract", folder)[0] == 0
    command = ["openssl", "dgst", "-sha256", "-verify", str(public), "-signature", "signature.der", "pae.bin"]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert checked.stdout == "Verified OK\n"


def test_extract_works_on_a_tampered_bundle_and_never_overwrites(
    run: Run, bundle_file: Path, public: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle_file.write_bytes(bundle_file.read_bytes()[:-1])
    assert run(bundle_file, "--key", public, "--extract", tmp_path / "x")[0] == ExitCode.TAMPERED
    before = (tmp_path / "x" / "pae.bin").read_bytes()
    assert cli.main([str(bundle_file), "--extract", str(tmp_path / "x")]) == ExitCode.STORAGE
    assert "File exists" in capsys.readouterr().err
    assert (tmp_path / "x" / "pae.bin").read_bytes() == before


def test_extract_of_a_broken_envelope_is_tampering(run: Run, bundle_file: Path, tmp_path: Path) -> None:
    bundle_file.write_bytes(replaced(bundle_file.read_bytes(), "seal.json", lambda data: data[:-1]))
    assert run(bundle_file, "--extract", tmp_path / "x")[0] == ExitCode.TAMPERED
    assert not (tmp_path / "x").exists()


def test_it_runs_as_a_program_with_an_ascii_terminal(bundle_file: Path, public: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ringfence.seal.cli", bundle_file, "--key", public, "--list"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("verified: ")


def test_it_loads_nothing_but_the_verifier() -> None:
    """Small to audit, quick to start: no other room of ours, no framework, not even the writing side."""
    program = "import sys, ringfence.seal.cli; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.split(".")[0] == "ringfence"}
    assert ours == {
        "ringfence",
        "ringfence.errors",
        "ringfence.seal",
        *(f"ringfence.seal.{name}" for name in VERIFIER),
    }
    outside = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"ringfence"}
    assert {name for name in outside if not name.startswith("_")} <= ALLOWED


VERIFIER = [
    "walked",
    "blob",
    "canonical",
    "chain",
    "cli",
    "custody",
    "envelope",
    "files",
    "keys",
    "manifest",
    "statement",
    "tar",
    "timeline",
    "verify",
]
ALLOWED = {"cryptography", "rfc8785", "zstandard", "cffi", "sitecustomize", "usercustomize"}
