"""evidence verify --audit-log as it is typed. What the comparison finds: tests/evidence/test_reconcile.py."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import ExitCode
from tests.cli.console import Console

Json = dict[str, Any]


@pytest.fixture
def declared(console: Console) -> Console:
    assert console("declare", "pod/cards-1", "-n", "bank", "--reason", "odd egress").code == 0
    return console


def line(verb: str = "delete", name: str = "web-1", user: str = "alice", **more: Any) -> Json:
    moment = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    event: Json = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Request",
        "auditID": "a1",
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/namespaces/bank/pods/{name}",
        "verb": verb,
        "user": {"username": user},
        "userAgent": "kubectl",
        "objectRef": {"resource": "pods", "namespace": "bank", "name": name},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": moment,
        "stageTimestamp": moment,
    }
    return {**event, **more}


def write(path: Path, *lines: Json | str) -> str:
    path.write_text("".join((part if isinstance(part, str) else json.dumps(part)) + "\n" for part in lines))
    return str(path)


def verify(console: Console, *arguments: str) -> Any:
    return console("evidence", "verify", "INC-1", *arguments)


def test_nothing_sealed_and_nothing_done_is_no_finding(declared: Console, tmp_path: Path) -> None:
    done = verify(declared, "--audit-log", write(tmp_path / "audit.log", line("get")))
    assert done.code == ExitCode.OK
    assert "0 of 0 claimed calls in the audit log, 0 differences, 0 that cannot be checked" in done.out
    assert "no sealed evidence" in done.err


def test_a_call_outside_is_named_with_its_line_and_ends_with_20(declared: Console, tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", line("get"), "junk", line())
    done = verify(declared, "--audit-log", log)
    assert done.code == ExitCode.TAMPERED
    assert "UNCLAIMED  delete pods/web-1 in bank by alice" in done.out
    assert f"{log}:3" in done.out
    assert f"{log}:2: it is not JSON" in done.err
    assert done.error is not None
    assert done.error.code == "audit-mismatch"


def test_for_programs_too_and_the_exit_code_stands(declared: Console, tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", "junk", line())
    done = verify(declared, "--audit-log", log, "-o", "json")
    assert done.code == ExitCode.TAMPERED
    said = json.loads(done.out)
    (finding,) = said["audit_log"]["findings"]
    assert (said["verified"], finding["kind"], finding["where"]) == (False, "unclaimed", f"{log}:2")
    assert said["audit_log"]["files"][0]["broken_lines"] == [{"line": 1, "why": "it is not JSON"}]


def test_several_files_are_one_log(declared: Console, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.log", line()), write(tmp_path / "b.log", line(name="web-2"))
    said = json.loads(verify(declared, "--audit-log", first, "--audit-log", second, "-o", "json").out)
    assert [finding["where"] for finding in said["audit_log"]["findings"]] == [f"{first}:1", f"{second}:1"]


def test_what_cannot_be_checked_ends_with_21(declared: Console, tmp_path: Path) -> None:
    untold = line(level="Metadata", requestURI="/api/v1/namespaces/bank/pods/web-1?dryRun=All")
    done = verify(declared, "--audit-log", write(tmp_path / "audit.log", untold))
    assert done.code == ExitCode.UNVERIFIABLE
    assert "UNVERIFIABLE  delete pods/web-1" in done.out


def test_a_log_that_cannot_be_read_is_no_finding(declared: Console, tmp_path: Path) -> None:
    done = verify(declared, "--audit-log", str(tmp_path / "missing.log"))
    assert done.code == ExitCode.UNVERIFIABLE
    assert str(tmp_path / "missing.log") in str(done.error)


def test_an_incident_or_a_seal_that_is_none_is_an_error(declared: Console, tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", line())
    assert declared("evidence", "verify", "INC-9", "--audit-log", log).code == ExitCode.NOT_FOUND
    assert verify(declared, "--audit-log", log, "--seal", "3").code == ExitCode.NOT_FOUND
    assert verify(declared).code == ExitCode.NOT_FOUND, "without a log there is nothing else to verify"


def test_foreign_text_in_the_log_drives_no_terminal(declared: Console, tmp_path: Path) -> None:
    hostile = line(name="x\x1b[2J\u202e", userAgent="\x1b]0;owned\x07", requestURI="/\n")
    done = verify(declared, "--audit-log", write(tmp_path / "audit.log", hostile))
    assert done.code == ExitCode.TAMPERED
    assert not set(done.out + done.err) & {"\x1b", "\x07", "\u202e"}


def test_another_identity_can_be_asked_for(declared: Console, tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", line(user="bob"))
    assert verify(declared, "--audit-log", log).code == ExitCode.OK
    assert verify(declared, "--audit-log", log, "--identity", "bob").code == ExitCode.TAMPERED
