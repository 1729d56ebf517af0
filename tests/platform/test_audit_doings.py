"""What a user did, by an audit log: which calls count; and a log that grows, is rotated, packed or cut off."""

from __future__ import annotations

import gzip
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.errors import Unverifiable
from ringfence.platform.kubernetes import audit_doings
from ringfence.platform.kubernetes.audit_doings import Doings, Follower, done_by
from tests.platform.test_audit_log import T0, USER, Json, line, place, write

ROTATED = "audit-2026-11-24T03-00-00.000.log"


def call(at: float, name: str = "miner") -> Json:
    return line(at, objectRef={"resource": "pods", "namespace": "bank", "name": name})


def other(at: float) -> Json:
    return line(at, user={"username": "eve"})


def add(path: Path, *lines: Json | bytes) -> None:
    with path.open("ab") as file:
        file.writelines(part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n" for part in lines)


def follower(path: Path, since: timedelta = timedelta(), limit: int = 500) -> Follower:
    return Follower(path, USER, T0 + since, limit)


def names(doings: Doings) -> list[str]:
    return [call.name for call in doings.calls]


def test_what_an_account_did_since(tmp_path: Path) -> None:
    secret = place("serviceaccounts", "token")
    named = line(5, objectRef={"resource": "jobs"}, responseObject={"metadata": {"name": "job-x7", "uid": "u7"}})
    path = write(
        tmp_path / "audit.log",
        line(-1),  # before
        line(1),
        line(1, code=None, stage="RequestReceived"),
        line(2, objectRef=secret),
        line(3, 403),
        line(3, 504),  # may have been done
        line(4, verb="get"),
        line(4, requestURI="/x?dryRun=All"),
        line(4, user={"username": "eve"}),
        line(4, user={"username": "eve"}, impersonatedUser={"username": USER}),
        line(4, verb="patch", code=200),
        line(4, objectRef=place("pods", "eviction")),
        named,
    )
    did = done_by(path, USER, T0)
    shown = [(call.object, call.code) for call in did.calls]
    assert shown == [
        ("pods/miner in bank", 201),
        ("serviceaccounts/x/token in bank", 201),
        ("pods/miner in bank", 504),
        ("pods/miner in bank", 201),
        ("pods/miner in bank", 200),
        ("pods/x/eviction in bank", 201),
        ("jobs/job-x7", 201),
    ]
    assert did.calls[0].pod_uid == "p1"
    assert did.calls[-1].uid == "u7"
    assert did.spans == ((T0 - timedelta(seconds=1), T0 + timedelta(seconds=5)),)
    bounded = done_by(path, USER, T0, limit=2)
    assert (len(bounded.calls), bounded.more) == (2, 5)


def test_a_second_look_reads_what_was_added(tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", *(other(n) for n in range(300)), call(300, "first"))
    look = follower(log).look
    assert (names(look()), look().files[0].lines) == (["first"], 301)
    earlier = look()
    add(log, call(301, "second"))
    assert names(look()) == ["first", "second"]
    assert look().files[0].lines == 302, "the old lines are not read again"
    assert (names(earlier), earlier.files[0].lines) == (["first"], 301)
    assert look().spans == ((T0, T0 + timedelta(seconds=301)),)


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    whole = json.dumps(call(1, "second")).encode() + b"\n"
    log = write(tmp_path / "audit.log", call(0, "first"), whole[:-1])
    look = follower(log).look
    assert names(look()) == ["first"]
    add(log, b"\n", whole[:30])
    assert names(look()) == ["first", "second"]
    add(log, whole[30:])
    assert names(look()) == ["first", "second", "second"]
    assert look().files[0].broken == 0


def test_a_rotated_file_is_read_on_where_it_was_left(tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", call(0, "first"))
    look = follower(log).look
    look()
    add(log, call(1, "second"))
    log.rename(tmp_path / ROTATED)
    write(log, call(2, "third"))
    found = look()
    assert names(found) == ["first", "second", "third"]
    assert [read.path.name for read in found.files] == [ROTATED, "audit.log"]
    plain = tmp_path / ROTATED
    (tmp_path / f"{ROTATED}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    add(log, call(3, "fourth"))
    for _ in range(2):
        assert names(look()) == ["first", "second", "third", "fourth"]


def test_a_log_that_was_cut_off_and_written_anew_is_read_anew(tmp_path: Path) -> None:
    """As logrotate's copytruncate does: the same inode, and in the end more bytes than before."""
    log = write(tmp_path / "audit.log", call(0, "first"))
    look = follower(log).look
    look()
    inode = log.stat().st_ino
    os.truncate(log, 0)
    add(log, *(call(n, "anew") for n in range(10, 15)))
    assert log.stat().st_ino == inode
    assert names(look()) == ["anew"] * 5


def test_the_limit_counts_what_it_leaves_out_over_all_files_and_looks(tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", *(call(n) for n in range(3)))
    look = follower(log, limit=4).look
    assert (len(look().calls), look().more) == (3, 0)
    log.rename(tmp_path / ROTATED)
    write(log, *(call(n) for n in range(3, 9)))
    assert (len(look().calls), look().more) == (4, 5)


def test_a_file_that_is_gone_is_said_and_found_again(tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", call(0, "first"))
    look = follower(log).look
    look()
    log.unlink()
    with pytest.raises(Unverifiable, match="No such file"):
        look()
    os.mkfifo(log)
    with pytest.raises(Unverifiable, match="regular file"):
        look()
    log.unlink()
    write(log, call(1, "second"))
    assert names(look()) == ["second"]


def test_what_is_older_is_skipped_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_doings, "_NEAR", 4096)
    log = write(tmp_path / "audit.log", *(call(n, f"n{n}") for n in range(0, 20_000, 10)))
    found = follower(log, timedelta(seconds=19_900)).look()
    assert names(found) == [f"n{n}" for n in range(19_900, 20_000, 10)]
    assert found.files[0].lines < 40
    assert found.spans[0][0] <= T0 + timedelta(seconds=19_900 - 60), "it covers the moment that was asked for"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    steps=st.lists(st.integers(-20, 90), min_size=1, max_size=80),
    odd=st.lists(st.tuples(st.integers(0, 80), st.sampled_from([b"x\n", b"\n", b"{}\n", b"y" * 700 + b"\n"]))),
    since=st.integers(-100, 5000),
)
def test_the_search_finds_what_a_reading_of_all_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[int], odd: list[tuple[int, bytes]], since: int
) -> None:
    """Times that go back a little, and lines that are no events: nothing that counts is skipped."""
    at, lines = 0, []
    for number, step in enumerate(steps):
        at += step
        lines.append(json.dumps(call(at, f"n{number}")).encode() + b"\n")
    latest, most_back = 0, 0
    for moment in (sum(steps[: n + 1]) for n in range(len(steps))):
        most_back, latest = max(most_back, latest - moment), max(latest, moment)
    for place_, bytes_ in odd:
        lines.insert(place_, bytes_)
    log = write(tmp_path / "audit.log", *lines)
    monkeypatch.setattr(audit_doings, "_NEAR", 1 << 40)
    everything = follower(log, timedelta(seconds=since)).look()
    monkeypatch.setattr(audit_doings, "_NEAR", 600)
    searched = follower(log, timedelta(seconds=since)).look()
    if most_back <= 60:
        assert names(searched) == names(everything)
