"""evidence hold, unhold and dispose as they are typed."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest

from ringfence.errors import ExitCode
from ringfence.seal import cli as verifier
from tests.cli.console import Console

pytestmark = pytest.mark.slow  # whole responses, and programs of their own


@pytest.fixture
def declared(console: Console) -> Console:
    assert console("declare", "pod/cards-1", "-n", "bank", "--reason", "odd egress").code == 0
    return console


def test_a_reason_says_something(declared: Console) -> None:
    for command in ("hold", "unhold", "dispose"):
        assert declared("evidence", command, "1", "--reason", "  ").code == ExitCode.USAGE


def test_hold_and_unhold_are_on_the_timeline(declared: Console) -> None:
    assert declared("evidence", "hold", "1", "--reason", "case 7").code == 0
    assert declared("evidence", "hold", "1", "--reason", "case 7").code == ExitCode.NOT_FOUND
    assert "case 7" in declared("timeline", "1").out
    assert declared("evidence", "unhold", "1", "--reason", "settled").code == 0


def test_disposal_of_an_open_incident_is_refused_and_told(declared: Console) -> None:
    done = declared("evidence", "dispose", "1", "--reason", "tidy", "--yes")
    assert done.code == ExitCode.REFUSED
    assert "not closed" in str(done.error)
    assert "retention" in declared("timeline", "1").out


def test_who_holds_and_discloses_is_whom_the_cluster_vouches_for(console: Console, tmp_path: Path) -> None:
    console.settings["disclosure"] = {"patterns": [{"name": "card", "pattern": "cards-[0-9]"}]}
    done = console("contain", "cards-1", "-n", "bank", "--reason", "odd egress", "--accept-outage")
    assert console("evidence", "hold", "1", "--reason", "case 7").err == ""
    out = tmp_path / "out"
    arguments = ("--out", str(out), "--to", "the police", "--reason", "case 7")
    made = console("evidence", "disclose", "INC-1/seal/1", *arguments, "-o", "json").data
    assert made["id"] == "INC-1/disclosure/1"
    assert verifier.main([made["path"], "--key", str(out / "seal.pub.pem")]) == 0
    held, disclosed = console("timeline", "1", "-o", "json").data[-2:]
    assert held["event"]["actor"].endswith("/alice")
    assert held["event"]["actor"].startswith("kubernetes:")
    assert disclosed["event"]["actor"] == held["event"]["actor"]
    assert (disclosed["event"]["to"], disclosed["event"]["reason"]) == ("the police", "case 7")
    listed = json.loads(Path(made["list_path"]).read_text())
    assert {one["name"]: one["count"] for one in listed["rules"]}["card"] > 0
    assert done.code in (0, ExitCode.INCOMPLETE)
    bundle = next((tmp_path / "console-vault" / "INC-1").glob("*.tar"))
    assert console("evidence", "disclose", str(bundle), *arguments).out.startswith("INC-1/disclosure/2")
    assert console("evidence", "disclose", made["path"], *arguments).code == ExitCode.NOT_FOUND


def test_without_a_cluster_it_is_the_local_user_and_that_is_said(declared: Console) -> None:
    declared.settings["cluster"] = {"kubeconfig": "/nowhere"}
    done = declared("evidence", "hold", "1", "--reason", "case 7")
    assert done.code == 0
    assert "whom no cluster vouches for" in done.err
    last = declared("timeline", "1", "-o", "json").data[-1]
    assert last["event"]["actor"].startswith("local/")


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"patterns": [{"name": "a", "pattern": "("}]}, "no regular expression"),
        ({"patterns": [{"name": "a", "pattern": "x*"}]}, "fits nothing at all"),
        ({"patterns": [{"name": "a", "pattern": "x"}], "fields": [{"name": "a", "path": "/x"}]}, "there twice"),
        ({"patterns": [{"name": "jwt", "pattern": "x"}]}, "always there"),
        ({"fields": [{"name": "a", "path": "spec.x"}]}, "path"),
        ({"omit": [""]}, "fits nothing"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_an_error(declared: Console, section: dict[str, object], why: str) -> None:
    declared.settings["disclosure"] = section
    done = declared("evidence", "disclose", "1", "--out", "/tmp/none", "--to", "a", "--reason", "b")
    assert done.code == ExitCode.CONFIG
    assert why in str(done.error)


def test_without_a_bucket_there_is_nowhere_to_push_to(declared: Console) -> None:
    done = declared("evidence", "push", "1")
    assert done.code == ExitCode.CONFIG
    assert "vault.s3" in str(done.error and done.error.next_step)


def test_a_cut_is_sealed_though_its_bucket_is_silent_and_status_says_so(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    console.settings["vault"]["s3"] = {"bucket": "evidence", "endpoint_url": "http://127.0.0.1:9", "region": "x"}
    done = console("contain", "cards-1", "-n", "bank", "--reason", "odd egress", "--accept-outage")
    assert "sealed" in done.out, done.out + done.err
    assert "NOT SEALED" not in done.out
    status = console("status", "1")
    assert "MISSING for 1 seal" in status.out
    assert "ringfence evidence push INC-1" in status.out
    assert len(console("status", "1", "-o", "json").data["evidence"]["uncopied"]) == 1
    assert console("evidence", "verify", "1").code == 0, "the seal itself is whole"
    pushed = console("evidence", "push", "1")
    assert (pushed.code, "failed" in pushed.out) == (ExitCode.INCOMPLETE, True)
    assert console("evidence", "verify", "1", "--remote").code == ExitCode.NOT_FOUND


def test_an_encrypted_vault_is_read_as_any_and_leaves_plain_and_whole(console: Console) -> None:
    key = console.home / "vault.key"
    key.write_bytes(base64.b64encode(b"k" * 32))
    key.chmod(0o600)
    console.settings["vault"]["encryption_key"] = str(key)
    console("contain", "cards-1", "-n", "bank", "--reason", "odd egress", "--accept-outage")
    files = [path for path in (console.home / "console-vault").rglob("*") if path.is_file()]
    assert files
    assert all(path.read_bytes().startswith(b"RFVAULT1") for path in files)
    assert console("evidence", "verify", "1").code == 0
    assert "cards-1" in console("evidence", "show", "1", "pod").out
    assert console("evidence", "export", "1", str(console.home / "out")).code == 0
    exported = console.home / "out" / "INC-1-seal-1.tar"
    assert verifier.main([str(exported), "--key", str(console.home / "out" / "seal.pub.pem")]) == 0

    bundle = next(path for path in files if path.name == "INC-1-seal-1.tar.enc")
    bundle.chmod(0o600)
    content = bytearray(bundle.read_bytes())
    content[5000] ^= 1
    bundle.write_bytes(content)
    assert console("evidence", "verify", "1").code == ExitCode.TAMPERED
    del console.settings["vault"]["encryption_key"]
    done = console("evidence", "verify", "1")
    assert done.code == ExitCode.STORAGE
    assert "vault.encryption_key" in (done.error.next_step if done.error else "")
    console.settings["vault"]["encryption_key"] = str(console.home / "none")
    assert console("evidence", "verify", "1").code == ExitCode.CONFIG


def test_heads_are_anchored_and_a_rewritten_timeline_is_found_out(declared: Console, tmp_path: Path) -> None:
    assert declared("anchor").code == ExitCode.CONFIG
    repository = tmp_path / "anchors.git"
    subprocess.run(["git", "init", "--bare", "--quiet", str(repository)], check=True)
    declared.settings["anchor"] = {"git": {"repository": str(repository)}}
    assert declared("timeline", "1", "--anchors").code == ExitCode.UNVERIFIABLE
    assert "ANCHOR" in declared("status", "1").out
    (word,) = declared("anchor", "1", "-o", "json").data
    assert word["result"] == "anchored"
    assert word["actor"].startswith("kubernetes:")
    assert "ANCHOR" not in declared("status", "1").out
    done = declared("timeline", "1", "--anchors")
    assert (done.code, "is as it was anchored" in done.out) == (0, True)
    subprocess.run(["git", "-C", str(repository), "update-ref", "-d", "refs/heads/ringfence-anchors"], check=True)
    gone = declared("timeline", "1", "--anchors")
    assert gone.code == ExitCode.TAMPERED
    assert "gone" in gone.err


@pytest.mark.parametrize(
    "repository",
    [
        "ext::sh -c true",
        "-oProxyCommand=x",
        "relative/path",
        "https://u:p@host/x",
        "/a\nb",
        "http://host/x",
        "ssh://-x/y",
    ],
)
def test_a_repository_that_is_no_place_is_an_error(declared: Console, repository: str) -> None:
    declared.settings["anchor"] = {"git": {"repository": repository}}
    assert declared("anchor").code == ExitCode.CONFIG
