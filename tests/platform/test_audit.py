"""The second witness: what counts in an audit log, what does not, and files that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes import audit
from ringfence.platform.kubernetes.audit import audit_says

REF = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")
ID = "6f9619ff-8b86-5011-b42d-00cf4fc964ff"
Json = dict[str, Any]


def line(code: int = 200, **changes: Any) -> Json:
    event: Json = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": ID,
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/bank/pods/cards-1",
        "verb": "patch",
        "user": {"username": "oncall", "groups": ["system:authenticated"]},
        "objectRef": {"resource": "pods", "namespace": "bank", "name": "cards-1", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": code},
    }
    return {**event, **changes}


def says(tmp_path: Path, *lines: Json | bytes) -> bool | None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n" for part in lines))
    return audit_says(path, ID, verb="patch", ref=REF, user="oncall")


@pytest.mark.parametrize(
    ("codes", "answer"),
    [
        ([], None),
        ([200], True),
        ([201], True),
        ([403], False),
        ([409], False),
        ([500], None),  # the API server itself does not know: etcd may have taken it
        ([504], None),
        ([429, 200], True),
        ([200, 409], True),  # a gateway sent it twice
        ([429], False),
        ([500, 404], False),
    ],
)
def test_the_answer_decides(tmp_path: Path, codes: list[int], answer: bool | None) -> None:
    assert says(tmp_path, *(line(code) for code in codes)) is answer


@pytest.mark.parametrize(
    "other",
    [
        line(auditID="other"),
        line(stage="RequestReceived"),
        line(stage="Panic"),
        line(verb="get"),
        line(user={"username": "eve"}),
        line(user={"username": "oncall"}, impersonatedUser={"username": "eve"}),
        line(objectRef={"resource": "pods", "namespace": "bank", "name": "cards-2"}),
        line(objectRef={"resource": "pods", "namespace": "other", "name": "cards-1"}),
        line(objectRef={"resource": "configmaps", "namespace": "bank", "name": "cards-1"}),
        line(objectRef=None),
        line(responseStatus=None),
        line(responseStatus={"code": "200"}),
        line(responseStatus={"code": True}),
        line(auditID="other", userAgent=f'"auditID":"{ID}"'),
        {"auditID": ID},
    ],
)
def test_a_line_of_another_request_says_nothing(tmp_path: Path, other: Json) -> None:
    assert says(tmp_path, other) is None
    assert says(tmp_path, line(403), other) is False
    assert says(tmp_path, other, line(200)) is True


@pytest.mark.parametrize(
    "junk", [b"\n\n", b"\xff\xfe" + ID.encode() + b"\n", b"[" * 100_000 + ID.encode() + b"\n", b"{"]
)
def test_what_is_no_line_of_a_log_is_passed_over(tmp_path: Path, junk: bytes) -> None:
    assert says(tmp_path, junk) is None
    assert says(tmp_path, line(), b"\n", junk) is True


def test_a_line_that_is_still_being_written_is_not_read_as_another(tmp_path: Path) -> None:
    whole = json.dumps(line()).encode()
    assert says(tmp_path, whole[: len(whole) // 2]) is None
    assert says(tmp_path, whole) is True, "the last line needs no end"


def test_lines_across_the_borders_of_what_is_read_at_once_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    padding = line(auditID="other")
    for chunk in (1, 7, 64, 500, 4096):
        monkeypatch.setattr(audit, "_CHUNK", chunk)
        assert says(tmp_path, padding, line(), padding, padding) is True


def test_it_reads_from_the_end_and_no_more_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 4096)
    old = [line(auditID="other")] * 20
    assert says(tmp_path, line(), *old) is None
    assert says(tmp_path, *old, line()) is True


def test_a_log_that_was_rotated_goes_on_in_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rotated(time: str, *lines: Json) -> None:
        name = f"audit-2026-11-24T{time}.000.jsonl"
        (tmp_path / name).write_text("".join(json.dumps(part) + "\n" for part in lines))

    rotated("03-00-00", line())
    assert says(tmp_path, line(auditID="other")) is True
    assert says(tmp_path, line(403)) is True
    rotated("04-00-00", line(auditID="other"))
    assert says(tmp_path, line(403)) is False, "one file back, no further"
    rotated("05-00-00", line())
    monkeypatch.setattr(audit, "MAX_BYTES", 100)
    assert says(tmp_path, line(auditID="other")) is None, "both together are no more than may be read"


def test_a_line_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_LONGEST_LINE", 4096)
    monkeypatch.setattr(audit, "_CHUNK", 1024)
    assert says(tmp_path, line(), b"x" * 100_000) is None


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        assert audit_says(path, ID) is None
    assert audit_says(tmp_path / "missing", "") is None


def test_without_more_to_go_by_the_id_decides(tmp_path: Path) -> None:
    says(tmp_path, line(user={"username": "eve"}, verb="get"))
    assert audit_says(tmp_path / "audit.jsonl", ID) is True
    assert audit_says(tmp_path / "audit.jsonl", ID[:-1]) is None
