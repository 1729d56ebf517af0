"""What three tries of one path come to, and what a report may say."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from ringfence.model.canary import CanaryPath, CanaryReport, CanaryResult, Row, Seen
from ringfence.model.objects import ObjectRef

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
ACCEPTED, REFUSED, NOT_POSSIBLE = CanaryResult.ACCEPTED, CanaryResult.REFUSED, CanaryResult.NOT_POSSIBLE
OPEN, SHUT = Seen.OPEN, Seen.SHUT


def a_path(row: Row = "network.egress", *seen: Seen) -> CanaryPath:
    return CanaryPath(row=row, way="w", **dict(zip(("control", "fenced", "again"), seen, strict=False)), at=NOW)


def a_report(*paths: CanaryPath, **changes: Any) -> CanaryReport:
    target = ObjectRef(cluster="c", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")
    whole = {"target": target, "canary": "c1", "image": "i", "node": "n", "basis": "b", "paths": paths}
    return CanaryReport(**{**whole, "started_at": NOW, "ended_at": NOW, **changes})


@pytest.mark.parametrize("seen", list(itertools.product(Seen, repeat=3)))
def test_only_open_shut_open_was_refused_and_anything_that_came_through_was_accepted(
    seen: tuple[Seen, Seen, Seen],
) -> None:
    path = a_path("network.egress", *seen)
    expected = ACCEPTED if seen[1] is OPEN else REFUSED if seen == (OPEN, SHUT, OPEN) else NOT_POSSIBLE
    assert path.result is expected
    assert bool(path.why) == (expected is NOT_POSSIBLE)


def test_one_path_that_is_open_decides_its_row_and_no_other() -> None:
    report = a_report(
        a_path("network.egress", OPEN, SHUT, OPEN),
        a_path("network.egress", OPEN, OPEN),
        a_path("network.ingress", OPEN, SHUT, OPEN),
        a_path("network.dns", SHUT, SHUT),
    )
    assert report.result("network.egress") is ACCEPTED
    assert report.result("network.ingress") is REFUSED
    assert report.result("network.dns") is NOT_POSSIBLE


def test_a_report_that_failed_counts_for_nothing() -> None:
    report = a_report(a_path("network.egress", OPEN, SHUT, OPEN), why="the policies were changed")
    assert report.result("network.egress") is NOT_POSSIBLE


def test_a_report_without_a_path_says_why() -> None:
    with pytest.raises(ValidationError, match="says why"):
        a_report()


def test_it_was_tried_when_the_last_path_was() -> None:
    later = a_path("network.dns", OPEN, SHUT, OPEN).model_copy(update={"at": NOW + timedelta(seconds=3)})
    assert a_report(a_path(), later, ended_at=NOW + timedelta(minutes=1)).tried_at == NOW + timedelta(seconds=3)
    assert a_report(why="x").tried_at == NOW
