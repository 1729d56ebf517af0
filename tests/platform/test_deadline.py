"""How long a request may take as a whole, and how long it waits to be let in, over a real connection."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import Throttled, Unanswered
from ringfence.platform.kubernetes import deadline
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.resources import POD
from tests.faults.proxy import Aim, Dribble, Fault, Proxy, Upstream, status
from tests.wire import Answer, Request, Wire, kubeconfig

POD_X = b'{"kind": "Pod", "metadata": {"name": "x", "uid": "u"}}'
BUSY = status(429, "TooManyRequests", "too many requests")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with Wire(Answer(body=POD_X)) as behind:
        upstream = Upstream(kubeconfig(tmp_path / "upstream", behind.url))
        with Proxy(upstream) as started:
            yield started
        upstream.close()


@pytest.mark.parametrize("part", ["headers", "body"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_an_answer_that_dribbles_is_given_up(proxy: Proxy, tmp_path: Path, part: str, method: str) -> None:
    proxy.aims.append(Aim(Fault(Dribble(part, 0.02, 10.0), reaches=True), method))
    cluster = connect(kubeconfig(tmp_path / "kubeconfig", proxy.url), None, 0.2)
    began = time.monotonic()
    with pytest.raises(Unanswered, match=r"not complete after 0\.4 s"):
        cluster.get(POD, "bank", "x") if method == "GET" else cluster.patch(POD, "bank", "x", [])
    assert time.monotonic() - began < 5
    assert cluster.get(POD, "bank", "x")["metadata"]["uid"] == "u", "the next request has its own time"
    cluster.close()


def test_a_log_is_read_for_as_long_as_it_comes(tmp_path: Path) -> None:
    def slow(_request: Request) -> Answer:
        return Answer(body=b"line\n" * 3, headers={"Content-Type": "text/plain"})

    with Wire(slow) as wire:
        cluster = connect(kubeconfig(tmp_path / "kubeconfig", wire.url), None, 0.1)
        with cluster.log("bank", "x", "c") as chunks:
            time.sleep(0.3)  # longer than a request may take
            assert b"".join(chunks) == b"line\n" * 3
        cluster.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were made; they take no time."""
    waits: list[float] = []
    monkeypatch.setattr("ringfence.platform.kubernetes.deadline.time.sleep", waits.append)
    return waits


@pytest.mark.parametrize(
    ("answers", "waits", "lets_in"),
    [
        (["1"], [1.0], True),
        (["1", "2", "1"], [1.0, 2.0, 1.0], True),
        (["0"], [0.5], True),  # at once is no time to recover
        (["5"], [5.0], True),
        (["3", "3"], [3.0], False),  # altogether too long
        (["6"], [], False),
        ([""], [], False),  # it does not say when
        (["0"] * 99, [0.5] * 10, False),
    ],
)
def test_a_throttled_request_comes_back_when_it_is_told_to(
    tmp_path: Path, clock: list[float], answers: list[str], waits: list[float], lets_in: bool
) -> None:
    numbers = itertools.count()

    def busy(request: Request) -> Answer:
        turn = next(numbers)
        if turn < len(answers):
            return Answer(429, BUSY, {"Retry-After": answers[turn]} if answers[turn] else {})
        return Answer(body=POD_X)

    with Wire(busy) as wire:
        cluster = connect(kubeconfig(tmp_path / "kubeconfig", wire.url), None, 5.0)
        if lets_in:
            cluster.patch(POD, "bank", "x", [], audit_id="a-1")
        else:
            with pytest.raises(Throttled):
                cluster.patch(POD, "bank", "x", [], audit_id="a-1")
        assert clock == waits
        assert {request.headers["audit-id"] for request in wire.requests} == {"a-1"}, "it is one request to us"
        assert len(wire.requests) == len(waits) + 1
        cluster.close()


def test_only_a_throttled_request_is_sent_again(tmp_path: Path, clock: list[float]) -> None:
    with Wire(Answer(503, b"", {"Retry-After": "1"})) as wire:
        cluster: Cluster = connect(kubeconfig(tmp_path / "kubeconfig", wire.url), None, 5.0)
        with pytest.raises(Unanswered):
            cluster.patch(POD, "bank", "x", [])
        assert (len(wire.requests), clock) == (1, [])
        cluster.close()
    assert deadline.PATIENCE_SECONDS <= 5
