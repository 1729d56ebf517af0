"""Which commands are offered first, by what is known of the fence; and the words for what a probe has seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ringfence.model.access import NETWORK_PATHS, AccessPath, PathState
from ringfence.model.enforcement import Enforcement
from ringfence.model.next_steps import shutting
from ringfence.model.proof import Level

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
ON = "ringfence node INC-1 on --reason …"


def seen(holds: bool, *, ago: timedelta = timedelta()) -> Enforcement:
    return Enforcement(
        cluster="c", holds=holds, saw="4 paths", namespace="bank", node="node-1", at=NOW - ago, by="alice"
    )


def rows(state: PathState, level: Level) -> tuple[AccessPath, ...]:
    made = {"title": "x", "why": "x", "as_of": NOW, "state": state, "level": level}
    return tuple(AccessPath.model_validate({"path": path, **made}) for path in sorted(NETWORK_PATHS))


@pytest.mark.parametrize(
    ("state", "level", "known", "offered"),
    [
        (PathState.UNSEEN, Level.COMPUTED, None, False),
        (PathState.UNSEEN, Level.COMPUTED, True, False),
        (PathState.UNSEEN, Level.COMPUTED, False, True),
        # No fence yet: where it would not hold, it does not come first.
        (PathState.ALIVE, Level.COMPUTED, None, False),
        (PathState.ALIVE, Level.COMPUTED, False, True),
        # A canary has tried this very fence.
        (PathState.DEAD, Level.PROVEN, False, False),
        (PathState.ALIVE, Level.OBSERVED, True, True),
    ],
)
def test_the_node_is_offered_where_policies_were_seen_not_to_hold(
    state: PathState, level: Level, known: bool | None, offered: bool
) -> None:
    probe = None if known is None else seen(known)
    assert (ON in shutting("INC-1", rows(state, level), identity_cut=True, known=probe)) is offered


@pytest.mark.parametrize(
    ("known", "allowed", "offered"), [(None, True, True), (None, False, False), (False, False, True)]
)
def test_a_helper_that_the_configuration_does_not_allow_is_named_only_where_nothing_else_cuts(
    known: bool | None, allowed: bool, offered: bool
) -> None:
    open_flow = AccessPath(
        path="network.established", title="x", why="x", as_of=NOW, state=PathState.UNSEEN, level=Level.NONE
    )
    found = shutting(
        "INC-1",
        (*rows(PathState.UNSEEN, Level.COMPUTED), open_flow),
        identity_cut=True,
        helper_allowed=allowed,
        known=None if known is None else seen(known),
    )
    assert (ON in found) is offered


def test_of_no_row_nothing_is_offered() -> None:
    """Who has not looked yet knows of nobody who is still in."""
    assert shutting("INC-1", (), identity_cut=True, known=seen(False)) == ()


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=-30), "0 min ago"),
        (timedelta(seconds=59), "0 min ago"),
        (timedelta(minutes=59), "59 min ago"),
        (timedelta(hours=3, minutes=50), "3 h ago"),
        (timedelta(days=2, hours=5), "2 d ago"),
    ],
)
def test_its_age_is_said(ago: timedelta, words: str) -> None:
    said = seen(True, ago=ago).words(NOW)
    assert said == f"a deny-all held on node node-1 (doctor --probe in namespace bank, {words})"
