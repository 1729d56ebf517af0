"""The laws of the residual-access statement: what a row may say, and when a screen may say "contained"."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from ringfence.model.access import Acceptance, AccessPath, PathState, Verdict, verdict
from ringfence.model.proof import Level

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
PATHS = ("network.egress", "network.ingress", "identity.kubernetes", "node")


def row(
    path: str, state: PathState, *, level: Level | None = None, accepted_as: PathState = PathState.ALIVE
) -> AccessPath:
    acceptance = Acceptance(principal="k/alice", reason="known", at=NOW, state=accepted_as)
    return AccessPath(
        path=path,
        title=path,
        state=state,
        level=level or (Level.OBSERVED if state is PathState.DEAD else Level.COMPUTED),
        why="because",
        as_of=NOW,
        acceptance=acceptance if state is PathState.ACCEPTED else None,
    )


@pytest.mark.parametrize("count", range(5))
def test_contained_needs_rows_and_each_of_them_dead_or_accepted(count: int) -> None:
    for paths in itertools.combinations(PATHS, count):
        for states in itertools.product(PathState, repeat=count):
            rows = [row(path, state) for path, state in zip(paths, states, strict=True)]
            every = count > 0 and all(state in (PathState.DEAD, PathState.ACCEPTED) for state in states)
            assert (verdict(rows) is Verdict.CONTAINED) is every, (paths, states)


@pytest.mark.parametrize("count", range(1, 5))
def test_new_traffic_that_flows_is_never_called_partly_contained(count: int) -> None:
    for paths in itertools.combinations(PATHS, count):
        for states in itertools.product(PathState, repeat=count):
            rows = [row(path, state) for path, state in zip(paths, states, strict=True)]
            flows = any(r.path.startswith("network.") and r.state is PathState.ALIVE for r in rows)
            if flows:
                assert verdict(rows) is Verdict.NOT_CONTAINED


def test_open_rows_without_any_about_the_network_are_not_contained() -> None:
    assert verdict([row("node", PathState.UNSEEN)]) is Verdict.NOT_CONTAINED


def test_one_open_row_outside_the_network_is_not_fully_contained() -> None:
    rows = [
        row("network.egress", PathState.DEAD),
        row("network.ingress", PathState.UNSEEN),
        row("node", PathState.ALIVE),
    ]
    assert verdict(rows) is Verdict.NOT_FULLY_CONTAINED


def test_the_verdict_reads_its_rows_once() -> None:
    assert verdict(iter([row("network.egress", PathState.ALIVE)])) is Verdict.NOT_CONTAINED
    assert verdict(iter([row("network.egress", PathState.DEAD)])) is Verdict.CONTAINED
    assert verdict(iter(())) is Verdict.NOT_CONTAINED


@pytest.mark.parametrize("level", list(Level))
def test_dead_needs_to_be_observed_or_proven(level: Level) -> None:
    if level in (Level.OBSERVED, Level.PROVEN):
        assert row("node", PathState.DEAD, level=level).state is PathState.DEAD
    else:
        with pytest.raises(ValidationError, match="dead needs observed or proven"):
            row("node", PathState.DEAD, level=level)


def test_the_levels_are_in_order() -> None:
    ranks = [level.rank for level in (Level.NONE, Level.REQUESTED, Level.COMPUTED, Level.OBSERVED, Level.PROVEN)]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize("state", [state for state in PathState if state is not PathState.ACCEPTED])
def test_only_an_accepted_row_has_an_acceptor(state: PathState) -> None:
    accepted = row("node", PathState.ACCEPTED)
    with pytest.raises(ValidationError, match="accepted needs an acceptor"):
        AccessPath.model_validate({**accepted.to_json(), "state": state, "level": "observed"})
    with pytest.raises(ValidationError, match="accepted needs an acceptor"):
        AccessPath.model_validate({**accepted.to_json(), "acceptance": None})


@pytest.mark.parametrize(("principal", "reason"), [("", "known"), ("k/alice", ""), ("k/alice", "  "), (" ", "known")])
def test_an_acceptance_names_a_person_and_a_reason(principal: str, reason: str) -> None:
    body = row("node", PathState.ACCEPTED).to_json()
    body["acceptance"] |= {"principal": principal, "reason": reason}
    with pytest.raises(ValidationError, match="names a principal and a reason"):
        AccessPath.model_validate(body)


@pytest.mark.parametrize("state", [PathState.DEAD, PathState.ACCEPTED])
def test_nobody_accepts_what_is_not_open(state: PathState) -> None:
    with pytest.raises(ValidationError, match="only an open row"):
        row("node", PathState.ACCEPTED, accepted_as=state)


def test_an_acceptance_covers_what_was_accepted_and_what_is_better_but_still_open() -> None:
    alive, unseen = (
        Acceptance(principal="k/alice", reason="known", at=NOW, state=state)
        for state in (PathState.ALIVE, PathState.UNSEEN)
    )
    assert [alive.covers(state) for state in (PathState.ALIVE, PathState.UNSEEN)] == [True, True]
    assert [unseen.covers(state) for state in (PathState.ALIVE, PathState.UNSEEN)] == [False, True]
    assert not any(acceptance.covers(PathState.DEAD) for acceptance in (alive, unseen))


def test_a_row_is_frozen_and_survives_json() -> None:
    accepted = row("node", PathState.ACCEPTED)
    with pytest.raises(ValidationError, match="frozen"):
        accepted.state = PathState.DEAD
    assert AccessPath.model_validate(accepted.to_json()) == accepted
