"""An audit log as a stream: what counts as a mutation or a dry run, files that are broken, and what a user did."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import Unverifiable
from ringfence.platform.kubernetes import audit_log
from ringfence.platform.kubernetes.audit_event import NotAnEvent, event_of
from ringfence.platform.kubernetes.audit_log import AuditLog

T0 = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
USER = "system:serviceaccount:bank:cards"
Json = dict[str, Any]


def line(at: float = 0, code: int | None = 201, **changes: Any) -> Json:
    moment = (T0 + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    event: Json = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "a1",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/bank/pods",
        "verb": "create",
        "user": {"username": USER, "extra": {"authentication.kubernetes.io/pod-uid": ["p1"]}},
        "sourceIPs": ["10.0.0.9"],
        "objectRef": {"resource": "pods", "namespace": "bank", "name": "miner", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": code} if code is not None else None,
        "requestReceivedTimestamp": moment,
        "stageTimestamp": moment,
    }
    return {**event, **changes}


def place(resource: str, subresource: str = "", group: str = "") -> Json:
    ref = {"resource": resource, "namespace": "bank", "name": "x", "subresource": subresource, "apiGroup": group}
    return {key: value for key, value in ref.items() if value}


def write(path: Path, *lines: Json | bytes) -> Path:
    path.write_bytes(b"".join(part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n" for part in lines))
    return path


def dry(**changes: Any) -> bool | None:
    return event_of(json.dumps(line(**changes)).encode()).dry_run


URI = "/api/v1/namespaces/bank/pods/x"


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"requestURI": f"{URI}?fieldManager=ringfence&dryRun=All"}, True),
        ({"requestURI": f"{URI}?dryRun=%41ll"}, True),
        ({"requestURI": f"{URI}?fieldManager=dryRun=All2"}, False),
        ({"requestURI": f"{URI}?dryrun=All"}, False),  # the API server's parameters tell capitals from small letters
        ({"requestURI": f"{URI}?dryRun=All;x"}, False),  # Go drops a pair with a semicolon: it was carried out
        ({"requestURI": f"{URI}?x#dryRun=All"}, False),
        ({"requestURI": URI}, False),
        # A deletion goes by its body.
        ({"verb": "delete", "requestURI": f"{URI}?dryRun=All"}, None),
        ({"verb": "delete", "requestURI": URI}, False),
        ({"verb": "delete", "level": "Request", "requestURI": f"{URI}?dryRun=All"}, True),
        ({"verb": "delete", "level": "Request", "requestURI": f"{URI}?dryRun=All", "requestObject": {}}, False),
        ({"verb": "delete", "level": "Request", "requestURI": URI, "requestObject": {"dryRun": ["All"]}}, True),
        ({"verb": "deletecollection", "requestURI": f"{URI}?dryRun=All"}, None),
        # These take effect whatever they are asked to pretend.
        ({"objectRef": place("serviceaccounts", "token"), "requestURI": "/x?dryRun=All"}, False),
        ({"objectRef": place("pods", "exec"), "requestURI": "/x?dryRun=All"}, False),
        ({"objectRef": place("services", "proxy"), "requestURI": "/x?dryRun=All"}, False),
    ],
)
def test_what_is_a_dry_run_the_server_decides(changes: Json, answer: bool | None) -> None:
    assert dry(**changes) is answer


@pytest.mark.parametrize(
    ("verb", "ref", "uri", "mutates"),
    [
        ("create", place("pods"), "", True),
        ("update", place("deployments", "scale", "apps"), "", True),
        ("deletecollection", place("pods"), "", True),
        ("get", place("pods"), "", False),
        ("list", place("secrets"), "", False),
        ("create", place("selfsubjectreviews", group="authentication.k8s.io"), "", False),
        ("create", place("selfsubjectaccessreviews", group="authorization.k8s.io"), "", False),
        ("create", place("serviceaccounts", "token"), "", True),
        ("get", place("pods", "exec"), "", True),  # over a web socket
        ("create", place("pods", "exec"), "", True),
        ("get", place("pods", "portforward"), "", True),
        ("get", place("nodes", "proxy"), "/api/v1/nodes/n/proxy/metrics", False),
        ("get", place("nodes", "proxy"), "/api/v1/nodes/n/proxy/exec/bank/cards/main", True),
        ("get", place("pods", "log"), "", False),
        ("post", None, "/somewhere", True),
        ("get", None, "/version", False),
    ],
)
def test_what_may_change_something(verb: str, ref: Json | None, uri: str, mutates: bool) -> None:
    event = event_of(json.dumps(line(verb=verb, objectRef=ref, requestURI=uri or URI)).encode())
    assert event.mutates is mutates


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b"7",
        {"kind": "Event", "apiVersion": "v1"},
        line(stage="Done"),
        line(stage=7),
        line(user="me"),
        line(objectRef=[]),
        line(responseStatus={"code": True}),
        line(responseStatus={"code": "200"}),
        line(requestReceivedTimestamp=None),
        line(requestReceivedTimestamp="2026-11-24T03:00:00"),
        line(stageTimestamp="soon"),
        line(stageTimestamp="0001-01-01T00:00:00+14:00"),
    ],
)
def test_a_broken_line_is_named_by_its_number_and_stops_nothing(tmp_path: Path, broken: Json | bytes) -> None:
    data = broken if isinstance(broken, bytes) else json.dumps(broken).encode()
    with pytest.raises(NotAnEvent):
        event_of(data)
    path = write(tmp_path / "audit.log", line(1), data + b"\n", line(2))
    log = AuditLog([path])
    assert [event.line for event in log.events()] == [1, 3]
    (read,) = log.files
    assert (read.lines, read.events) == (3, 2)
    assert [number for number, _ in read.broken_lines] == ([2] if data else []), "an empty line is no line"


def test_many_broken_lines_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    log = AuditLog([write(tmp_path / "audit.log", *[b"x\n"] * 1000, line())])
    assert len(list(log.events())) == 1
    assert (log.files[0].broken, len(log.files[0].broken_lines)) == (1000, 20)


def test_a_line_that_is_being_written_is_not_broken(tmp_path: Path) -> None:
    log = AuditLog([write(tmp_path / "audit.log", line(), json.dumps(line()).encode()[:100])])
    assert len(list(log.events())) == 1
    assert log.files[0].broken == 0


def test_a_line_beyond_all_bounds_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "LONGEST_LINE", 4096)
    log = AuditLog([write(tmp_path / "audit.log", b"x" * 50_000 + b"\n", line(), b"y" * 50_000)])
    assert [event.line for event in log.events()] == [2]
    assert [number for number, _ in log.files[0].broken_lines] == [1, 3]


def test_rotated_files_belong_to_it_packed_or_not_and_each_is_read_once(tmp_path: Path) -> None:
    current = write(tmp_path / "audit[1].log", line(30))
    older = write(tmp_path / "audit[1]-2026-11-24T03-00-20.000.log", line(20))
    oldest = tmp_path / "audit[1]-2026-11-24T03-00-10.000.log.gz"
    oldest.write_bytes(gzip.compress(json.dumps(line(10)).encode() + b"\n"))
    write(tmp_path / "audit[1]-copy.log", line(99))
    write(tmp_path / "audit1-2026-11-24T03-00-10.000.log", line(99))
    (tmp_path / "link.log").symlink_to(current)
    log = AuditLog([older, current, tmp_path / "link.log"])
    assert [event.received_at for event in log.events()] == [T0 + timedelta(seconds=s) for s in (20, 10, 30)]
    assert {read.path for read in log.files} == {older, oldest, current}
    assert log.spans() == ((T0 + timedelta(seconds=10), T0 + timedelta(seconds=30)),)
    os.utime(oldest, (0, 0))
    log = AuditLog([current], since=T0)
    assert len(list(log.events())) == 2, "what ended before is not read"


def test_what_lies_between_two_files_is_in_none(tmp_path: Path) -> None:
    log = AuditLog([write(tmp_path / "a", line(0), line(9)), write(tmp_path / "b", line(600), line(700))])
    assert len(list(log.events())) == 4
    seconds = [tuple(int((moment - T0).total_seconds()) for moment in span) for span in log.spans()]
    assert seconds == [(0, 9), (600, 700)]


def test_a_packed_file_that_is_cut_off_says_so_and_what_came_before_counts(tmp_path: Path) -> None:
    packed = gzip.compress(
        b"".join(json.dumps(line(n, auditID=os.urandom(9).hex())).encode() + b"\n" for n in range(999))
    )
    path = tmp_path / "audit.log.gz"
    path.write_bytes(packed[: len(packed) // 2])
    log = AuditLog([path])
    assert 0 < len(list(log.events())) < 999
    assert log.files[0].problem


def test_a_file_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "packed").write_bytes(b"\x1f\x8bnot really")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe", tmp_path / "packed"):
        with pytest.raises(Unverifiable, match=str(path)):
            list(AuditLog([path]).events())


def test_a_long_log_is_read_in_flat_memory(tmp_path: Path) -> None:
    body = {"items": ["x" * 1000] * 20}
    path = write(tmp_path / "audit.log", *[line(n, responseObject=body) for n in range(400)])
    assert path.stat().st_size > 8_000_000
    log = AuditLog([path])
    tracemalloc.start()
    try:
        assert sum(1 for _ in log.events()) == 400
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
