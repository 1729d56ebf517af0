"""Following a collection: from a list on, over bookmarks and ends of streams, and anew when it was forgotten."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ringfence.platform.kubernetes import watching
from ringfence.platform.kubernetes.client import connect
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.watching import Following, Happened, Listed, Seen
from tests.wire import Answer, Request, Wire, kubeconfig

Json = dict[str, Any]


def pod(name: str, version: str, **labels: str) -> Json:
    return {"metadata": {"name": name, "namespace": "bank", "uid": name, "resourceVersion": version, "labels": labels}}


def listed(version: str, *pods: Json) -> Answer:
    body = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": list(pods)}
    return Answer(body=json.dumps(body).encode())


def stream(*events: tuple[str, Json]) -> Answer:
    return Answer(body=b"".join(json.dumps({"type": kind, "object": obj}).encode() + b"\n" for kind, obj in events))


GONE = ("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})


class Script:
    """Answers lists and watches, each from its own row; the last of a row is repeated."""

    def __init__(self, lists: list[Answer], watches: list[Answer]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        row = self.watches if "watch" in request.query else self.lists
        return row.pop(0) if len(row) > 1 else row[0]

    @property
    def versions(self) -> list[str]:
        return [one.query["resourceVersion"] for one in self.asked if "watch" in one.query]


class Follower:
    def __init__(self, script: Script, stack: ExitStack, folder: Path) -> None:
        self.said: list[str] = []
        self.stop = threading.Event()
        wire = stack.enter_context(Wire(script))
        cluster = connect(kubeconfig(folder / "kubeconfig", wire.url), None, 5.0)
        stack.callback(cluster.close)
        self.following = Following(cluster, POD, "bank", self.stop, self.said.append, poll_seconds=0.02)

    def first(self, number: int) -> list[Seen]:
        found = list(islice(self.following.seen(), number))
        self.stop.set()
        return found


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    monkeypatch.setattr(watching, "_FIRST_WAIT", 0.01)
    with ExitStack() as opened:
        yield opened


def names(seen: list[Seen]) -> list[object]:
    return [
        [obj["metadata"]["name"] for obj in one.objects]
        if isinstance(one, Listed)
        else (one.kind, one.object["metadata"]["name"])
        for one in seen
    ]


def test_it_lists_then_watches_from_there_and_goes_on_after_the_bookmark(stack: ExitStack, tmp_path: Path) -> None:
    script = Script(
        [listed("7", pod("a", "5"))],
        [
            stream(("MODIFIED", pod("a", "8")), ("BOOKMARK", {"metadata": {"resourceVersion": "42"}})),
            stream(("DELETED", pod("a", "50"))),
        ],
    )
    seen = Follower(script, stack, tmp_path).first(3)
    assert names(seen) == [["a"], ("MODIFIED", "a"), ("DELETED", "a")]
    assert script.versions == ["7", "42"]
    assert script.asked[1].query["allowWatchBookmarks"] == "true"
    happened = seen[1]
    assert isinstance(happened, Happened)
    assert happened.object["kind"] == "Pod"


@pytest.mark.parametrize("how", ["event", "status"])
def test_what_the_server_has_forgotten_is_listed_anew(stack: ExitStack, tmp_path: Path, how: str) -> None:
    gone = stream(GONE) if how == "event" else Answer(status=410, body=json.dumps(GONE[1]).encode())
    script = Script(
        [listed("7", pod("a", "5")), listed("90", pod("b", "80"))], [gone, stream(("ADDED", pod("c", "91")))]
    )
    follower = Follower(script, stack, tmp_path)
    assert names(follower.first(3)) == [["a"], ["b"], ("ADDED", "c")]
    assert script.versions == ["7", "90"]
    assert follower.said == []


def test_a_stream_that_breaks_off_is_said_once_and_everything_looked_at_again(stack: ExitStack, tmp_path: Path) -> None:
    broken = Answer(body=stream(("ADDED", pod("b", "8"))).body + b'{"type":"ADDED","obj', sends=None)
    script = Script([listed("7")], [Answer(body=b'{"type":"ADDED","object":{"metadata":{"na', sends=20), broken])
    follower = Follower(script, stack, tmp_path)
    seen = follower.first(3)
    assert names(seen) == [[], [], ("ADDED", "b")]
    assert len(follower.said) == 1
    assert "pods in bank" in follower.said[0]


def test_where_a_watch_is_refused_it_looks_at_intervals_and_says_so(stack: ExitStack, tmp_path: Path) -> None:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": 403,
        "reason": "Forbidden",
        "message": 'pods is forbidden: User "ada" cannot watch resource "pods"',
    }
    script = Script(
        [listed("7", pod("a", "5")), listed("8", pod("a", "5"), pod("b", "8"))],
        [Answer(status=403, body=json.dumps(status).encode())],
    )
    follower = Follower(script, stack, tmp_path)
    seen = follower.first(3)
    assert names(seen) == [["a"], ["a", "b"], ["a", "b"]]
    assert [one.polled for one in seen if isinstance(one, Listed)] == [False, True, True]
    assert len(follower.said) == 1
    assert "looked at every" in follower.said[0]


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"[]",
        b'{"type":"ADDED"}',
        b'{"type":"BOGUS","object":{"metadata":{}}}',
        b'{"type":"ADDED","object":{}}',
    ],
)
def test_what_is_no_event_of_a_watch_is_none(stack: ExitStack, tmp_path: Path, line: bytes) -> None:
    script = Script([listed("7"), listed("8", pod("a", "8"))], [Answer(body=line + b"\n")])
    follower = Follower(script, stack, tmp_path)
    assert names(follower.first(2)) == [[], ["a"]]
    assert "cannot be watched now" in follower.said[0]


def test_an_event_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch, stack: ExitStack, tmp_path: Path) -> None:
    monkeypatch.setattr(watching, "LONGEST_EVENT", 1000)
    script = Script([listed("7"), listed("8", pod("a", "8"))], [Answer(body=b"x" * 5000)])
    follower = Follower(script, stack, tmp_path)
    assert names(follower.first(2)) == [[], ["a"]]
    assert "longer than any object" in follower.said[0]
