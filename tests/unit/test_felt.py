"""What the demo says of its customer: each failure is one that a plan predicted, or is named as one that none did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lab.client import Call
from lab.demo.felt import Felt, compared, predicted

Json = dict[str, Any]
CUT = datetime(2026, 11, 30, 3, 0, tzinfo=UTC).timestamp()
FIVE: Json = {"seconds": 5.0, "because": "by then it has left"}


def event(kind: str, step: str, **more: Any) -> Json:
    return {"seq": 1, "event": {"type": kind, "step": step, **more}}


def at(seconds: float) -> str:
    return datetime.fromtimestamp(CUT + seconds, UTC).isoformat()


def plan(step: str = "cut/1", *, before: int = 2, after: int = 1, errors: Json | None = FIVE) -> Json:
    service = {"service": "cards", "ready_before": before, "ready_after": after, "floor": 1, "errors": errors}
    return event("plan.made", step, impact={"services": [service]})


def carried_out(step: str = "cut/1") -> list[Json]:
    """From the first intent to the last result: half a second."""
    return [
        event("change.intended", step, occurred_at=at(0)),
        event("change.result", step, answered_at=at(0.2)),
        event("change.intended", step, occurred_at=at(0.3)),
        event("change.result", step, answered_at=at(0.5)),
    ]


def calls(*failing: float, latency: float = 0.01) -> list[Call]:
    """Twenty requests a second from 3 s before the cut to 10 s after it; the named ones (seconds) fail."""
    moments = [round(-3 + number * 0.05, 2) for number in range(13 * 20)]
    assert set(failing) <= set(moments)
    return [Call(CUT + m, latency, m not in failing, "HTTP 502" if m in failing else "") for m in moments]


def judged(*failing: float, timeline: list[Json] | None = None, latency: float = 0.01) -> Felt:
    return compared(calls(*failing, latency=latency), predicted(timeline or [plan(), *carried_out()]))


def test_no_failure_is_as_predicted_and_a_plan_that_takes_no_pod_predicts_none() -> None:
    assert judged().as_predicted
    nothing = judged(timeline=[plan(after=2, errors={"seconds": 0.0, "because": "none goes"}), *carried_out()])
    assert (nothing.windows, nothing.as_predicted) == ((), True)


@pytest.mark.parametrize(
    ("failing", "holds"),
    [(0.0, True), (5.5, True), (5.55, False), (-0.05, False), (9.0, False)],
    ids=["at the cut", "the window's last", "after the window", "over before the cut", "long after"],
)
def test_a_failure_counts_by_when_it_began(failing: float, holds: bool) -> None:
    """The window reaches from the first request of the step to five seconds after its last answer."""
    found = judged(failing)
    assert found.as_predicted is holds
    assert len(found.outside) == (not holds)


def test_what_was_under_way_at_the_cut_may_fail_and_is_no_new_request() -> None:
    found = judged(-0.05, -0.5, latency=1.4)
    assert (found.under_way, found.new, found.as_predicted) == (2, 0, True)
    assert not judged(-1.5, latency=1.4).as_predicted, "it was over when the cut began"


def test_no_more_of_the_new_ones_may_fail_than_the_share_that_goes() -> None:
    """Half of the pods go: an outage of the whole Service is not what was predicted, however short the window is."""
    window = [round(0.05 * number, 2) for number in range(111)]
    assert judged(*window[:56]).as_predicted
    found = judged(*window)
    assert (found.new, found.at_most, found.as_predicted) == (111, 56, False)


def test_shares_of_cuts_beside_each_other_add_up_and_no_more_than_all_may_fail() -> None:
    both = [plan("cut/1/1", before=3, after=2), plan("cut/1/2", before=3, after=2)]
    timeline = [*both, *carried_out("cut/1/1"), *carried_out("cut/1/2")]
    assert judged(timeline=timeline).at_most == 74  # two thirds of 111
    thrice = [one for step in "abcd" for one in (plan(step), *carried_out(step))]
    assert judged(timeline=thrice).at_most == 111


def test_a_plan_without_an_end_is_not_met_by_anything() -> None:
    """Else a plan that says nothing would be kept by every outage."""
    endless = judged(9.0, timeline=[plan(errors={"seconds": None, "because": "it stays"}), *carried_out()])
    assert (endless.outside, endless.as_predicted) == ((), False)
    assert "without an end: it stays" in "\n".join(endless.lines())
    assert not judged(timeline=[plan(errors=None), *carried_out()]).as_predicted


def test_a_plan_that_was_not_carried_out_predicts_nothing() -> None:
    found = judged(1.0, timeline=[plan("cut/1"), plan("cut/2"), *carried_out("cut/2")])
    assert [window.step for window in found.windows] == ["cut/2"]
    assert judged(1.0, timeline=[plan("cut/1")]).outside


def test_a_step_that_planned_again_has_one_window() -> None:
    (window,) = judged(timeline=[plan(), plan(before=3, after=2), *carried_out()]).windows
    assert (window.taken, window.of) == (1, 3)


def test_prediction_and_measurement_stand_beside_each_other() -> None:
    first, second, third = judged(0.25, 9.0).lines()
    assert (
        first
        == "predicted      cut/1: cards: what is under way at the cut, and 1 of 2 new connections until 5.5 s after it"
    )
    assert "1 that began after it (at most 56 were predicted), 1 that nobody predicted" in second
    assert "the last began 0.25 s after the cut" in second
    assert third == "  not predicted: at 03:00:09.000: HTTP 502"
