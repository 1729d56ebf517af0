"""A customer of the bank, for demo and tests: asks for an overview again and again, and counts what was felt."""

from __future__ import annotations

import http.client
import itertools
import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

TIMEOUT = 2.0
CUSTOMERS = 500
# Bounds that keep a forgotten customer from running on.
LONGEST_SECONDS = 1_800.0
MOST_REQUESTS = 200_000
MOST_THREADS = 64


@dataclass(frozen=True)
class Call:
    """One request. ``start`` is in seconds since the epoch, ``latency`` in seconds; ``error`` is empty if it was
    answered with 200."""

    start: float
    latency: float
    ok: bool
    error: str = ""


@dataclass(frozen=True)
class Summary:
    """What the customer felt. Times in seconds.

    ``longest_outage`` runs from the start of the first failed request to the start of the next good one (or to the end
    of the last request). ``per_second`` maps each second since the first request to the share of good requests, 0..1.
    Percentiles are those of the good requests; NaN without any.
    """

    requests: int
    failures: int
    longest_outage: float
    p50: float
    p95: float
    per_second: dict[int, float]

    @property
    def success(self) -> float:
        """The share of good requests, 0..1; NaN without requests."""
        return (self.requests - self.failures) / self.requests if self.requests else math.nan


class Customer:
    """Calls ``URL/overview/N`` every ``interval`` seconds, each time over a new connection, until ``stop``.

    Requests that hang (2 s for each step) do not delay the next ones, so an outage does not hide itself by making the
    customer ask less often. Ends by itself after half an hour or 200,000 requests. Also a context manager.
    """

    def __init__(self, url: str, interval: float = 0.05) -> None:
        address = urlsplit(url)
        if address.scheme != "http" or not address.hostname:
            raise ValueError(f"{url!r} is not an http:// URL with a host")
        self._host, self._port = address.hostname, address.port or 80
        self._interval = interval
        self._stopping = threading.Event()
        self._calls: deque[Call] = deque()
        self._turns = itertools.count()
        self._begun = time.monotonic()
        at_once = min(MOST_THREADS, 1 + math.ceil(TIMEOUT / interval))
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(at_once)]
        for thread in self._threads:
            thread.start()

    @property
    def calls(self) -> list[Call]:
        """All finished requests so far, in the order in which they started."""
        return sorted(self._calls.copy(), key=lambda call: call.start)

    def stop(self) -> Summary:
        """Ends the requests and sums up; a second call sums up again."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        return summarise(self.calls)

    def __enter__(self) -> Customer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while (turn := next(self._turns)) < MOST_REQUESTS:
            due = self._begun + turn * self._interval
            if due - self._begun > LONGEST_SECONDS or self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            self._calls.append(self._call(1 + turn % CUSTOMERS))

    def _call(self, customer: int) -> Call:
        start, began = time.time(), time.monotonic()
        # The time-out is for each step of the connection; the check below makes it one for the whole request.
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        try:
            connection.request("GET", f"/overview/{customer}", headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
            error = "" if answer.status == 200 else f"HTTP {answer.status}"
        except (OSError, http.client.HTTPException) as failure:
            error = f"{type(failure).__name__}: {failure}"
        finally:
            connection.close()
        latency = time.monotonic() - began
        if not error and latency > TIMEOUT:
            error = f"answered after {latency:.1f} s"
        return Call(start, latency, not error, error)


def summarise(calls: list[Call]) -> Summary:
    """Sums up requests that are in the order of their start."""
    good = sorted(call.latency for call in calls if call.ok)
    seconds: dict[int, list[bool]] = {}
    for call in calls:
        seconds.setdefault(int(call.start - calls[0].start), []).append(call.ok)
    return Summary(
        requests=len(calls),
        failures=len(calls) - len(good),
        longest_outage=_longest_outage(calls),
        p50=_percentile(good, 0.50),
        p95=_percentile(good, 0.95),
        per_second={second: sum(results) / len(results) for second, results in sorted(seconds.items())},
    )


def _longest_outage(calls: list[Call]) -> float:
    longest, since = 0.0, None
    for call in calls:
        if since is not None and call.ok:
            longest, since = max(longest, call.start - since), None
        elif since is None and not call.ok:
            since = call.start
    if since is not None:
        longest = max(longest, max(call.start + call.latency for call in calls) - since)
    return longest


def _percentile(ordered: list[float], share: float) -> float:
    """Nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan
