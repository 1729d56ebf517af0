"""evidence hold, unhold and dispose as they are typed."""

from __future__ import annotations

import pytest

from ringfence.errors import ExitCode
from tests.cli.console import Console


@pytest.fixture
def declared(console: Console) -> Console:
    assert console("declare", "pod/cards-1", "-n", "bank", "--reason", "odd egress").code == 0
    return console


def test_a_reason_says_something(declared: Console) -> None:
    for command in ("hold", "unhold", "dispose"):
        assert declared("evidence", command, "1", "--reason", "  ").code == ExitCode.USAGE


def test_hold_and_unhold_are_on_the_timeline(declared: Console) -> None:
    assert declared("evidence", "hold", "1", "--reason", "case 7").code == 0
    assert declared("evidence", "hold", "1", "--reason", "case 7").code == ExitCode.NOT_FOUND
    assert "case 7" in declared("timeline", "1").out
    assert declared("evidence", "unhold", "1", "--reason", "settled").code == 0


def test_disposal_of_an_open_incident_is_refused_and_told(declared: Console) -> None:
    done = declared("evidence", "dispose", "1", "--reason", "tidy", "--yes")
    assert done.code == ExitCode.REFUSED
    assert "not closed" in str(done.error)
    assert "retention" in declared("timeline", "1").out
