"""What the customer felt against what the plans had predicted (pure).

A plan predicts, for each Service that loses ready pods, until when new connections may fail and which share of them;
what is under way at a pod when it goes may fail as well. So a failure was predicted when its request was under way as
the cut was made, or began within the window of a plan that was carried out; and of those that began there, no more may
fail than the share that the plan names. One that nobody predicted, or a plan that could name no end, is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lab.client import Call

Json = dict[str, Any]


@dataclass(frozen=True)
class Window:
    """One Service that a step took ready pods from: ``taken`` of ``of``.

    Times in seconds since the epoch: ``began`` is the first request of the step, ``until`` the end of what was
    predicted. None: the plan could not name one, ``because`` says why.
    """

    step: str
    service: str
    taken: int
    of: int
    began: float
    until: float | None
    because: str

    @property
    def share(self) -> float:
        return self.taken / self.of if self.of else 1.0

    def had_under_way(self, call: Call) -> bool:
        return call.start < self.began <= call.start + call.latency

    def holds(self, call: Call) -> bool:
        return self.began <= call.start and (self.until is None or call.start <= self.until)

    def __str__(self) -> str:
        share = f"{self.taken} of {self.of} new connections"
        if self.until is None:
            return f"{self.step}: {self.service}: {share} may fail, without an end: {self.because}"
        seconds = self.until - self.began
        return f"{self.step}: {self.service}: what is under way at the cut, and {share} until {seconds:.1f} s after it"


@dataclass(frozen=True)
class Felt:
    """Failures: ``under_way`` began before a cut and ended after it, ``new`` began within a window, ``outside`` are
    those that no plan had predicted. ``at_most`` of the new ones were predicted; ``last`` is how long after the first
    request of its cut the last predicted failure began (None: there was none)."""

    windows: tuple[Window, ...]
    under_way: int
    new: int
    at_most: int
    outside: tuple[Call, ...]
    last: float | None

    @property
    def as_predicted(self) -> bool:
        """Whether every plan named an end, and no more failed than it said."""
        bounded = all(window.until is not None for window in self.windows)
        return bounded and not self.outside and self.new <= self.at_most

    def to_json(self) -> Json:
        return {
            "predicted": [str(window) for window in self.windows],
            "predicted_new_failures_at_most": self.at_most,
            "failures_under_way_at_a_cut": self.under_way,
            "failures_of_new_requests": self.new,
            "failures_not_predicted": [f"{call.start:.3f}: {call.error}" for call in self.outside],
            "last_predicted_failure_after_seconds": self.last if self.last is None else round(self.last, 3),
        }

    def lines(self) -> list[str]:
        """Prediction and measurement, beside each other."""
        said = [f"predicted      {window}" for window in self.windows] or ["predicted      no request fails"]
        last = "" if self.last is None else f"; the last began {max(0.0, self.last):.2f} s after the cut began"
        said.append(
            f"measured       {self.under_way} failed that were under way at a cut, {self.new} that began after it "
            f"(at most {self.at_most} were predicted), {len(self.outside)} that nobody predicted{last}"
        )
        return said + [f"  not predicted: at {_clock(call.start)}: {call.error}" for call in self.outside[:5]]


def predicted(timeline: Sequence[Json]) -> tuple[Window, ...]:
    """The windows of the plans that were carried out, from the timeline as ``report`` writes it."""
    events = [entry["event"] for entry in timeline]
    # A step plans anew just before it writes: its last plan is the one that was carried out.
    plans = {event["step"]: event for event in events if event["type"] == "plan.made"}
    found = []
    for plan in plans.values():
        mine = [one for one in events if one.get("step") == plan["step"]]
        intents = [_moment(one["occurred_at"]) for one in mine if one["type"] == "change.intended"]
        results = [_moment(one["answered_at"]) for one in mine if one["type"] == "change.result"]
        if not intents:
            continue
        for service in plan["impact"]["services"]:
            taken = service["ready_before"] - service["ready_after"]
            if taken <= 0:
                continue
            errors = service.get("errors") or {"seconds": None, "because": "the plan predicted nothing"}
            seconds = errors["seconds"]
            until = None if seconds is None else max([*results, *intents]) + seconds
            found.append(
                Window(
                    plan["step"],
                    service["service"],
                    taken,
                    service["ready_before"],
                    min(intents),
                    until,
                    errors["because"],
                )
            )
    return tuple(found)


def compared(calls: Iterable[Call], windows: Sequence[Window]) -> Felt:
    """The customer's requests, each of which asks every Service once, against the windows."""
    under_way, new, may_fail = 0, 0, 0.0
    outside: list[Call] = []
    last: float | None = None
    for call in calls:
        within = [window for window in windows if window.holds(call)]
        share = min(1.0, sum(window.share for window in within))
        crossing = [window for window in windows if window.had_under_way(call)]
        if not crossing:
            may_fail += share
        if call.ok:
            continue
        if crossing:
            under_way += 1
        elif within:
            new += 1
        else:
            outside.append(call)
            continue
        after = min(call.start - window.began for window in (*crossing, *within))
        last = after if last is None else max(last, after)
    return Felt(tuple(windows), under_way, new, math.ceil(may_fail), tuple(outside), last)


def _clock(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S.%f}"[:-3]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
