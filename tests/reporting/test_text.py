"""Times, durations and lists as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ringfence.reporting.text import counted, duration, listed, moment


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (0, "0 s"),
        (0.04, "under 0.1 s"),
        (0.06, "0.1 s"),
        (0.4, "0.4 s"),
        (9.96, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (192, "3 min 12 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86399, "1 d 0 h"),
        (3 * 86400 + 4 * 3600, "3 d 4 h"),
        (-0.2, "0.2 s earlier"),
    ],
)
def test_a_duration_is_rounded_once_and_never_shows_a_full_lower_unit(length: float, words: str) -> None:
    assert duration(timedelta(seconds=length)) == words


def test_a_moment_is_in_utc_to_the_second() -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    assert moment(datetime(2026, 11, 23, 8, 30, 1, 999999, tzinfo=there)) == "2026-11-23T03:00:01Z"


def test_names_beyond_the_limit_are_counted() -> None:
    assert listed(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert listed(["a", "b"], most=2) == "a, b"


def test_one_is_singular() -> None:
    assert (counted(1, "event"), counted(0, "event")) == ("1 event", "0 events")
