"""Outcomes: no truth value, one description each, and which error makes which."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from ringfence import errors
from ringfence.errors import Effect, PlatformError
from ringfence.model.outcome import (
    Already,
    Applied,
    Failed,
    Outcome,
    Problem,
    Refused,
    Skipped,
    Unknown,
    describe,
    is_done,
    outcome_of,
)

PROBLEM = Problem(code="x", what="it broke", why="as it does")
ONE_OF_EACH: tuple[Any, ...] = (
    Applied(),
    Already(reason="so"),
    Skipped(reason="so"),
    Refused(reason="so"),
    Failed(problem=PROBLEM),
    Unknown(problem=PROBLEM),
)
PLATFORM_ERRORS = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, PlatformError)
]


def test_these_are_all_outcomes() -> None:
    assert {type(outcome) for outcome in ONE_OF_EACH} == set(get_args(get_args(Outcome)[0]))


@pytest.mark.parametrize("outcome", ONE_OF_EACH, ids=lambda outcome: outcome.kind)
def test_an_outcome_is_neither_true_nor_false(outcome: Any) -> None:
    with pytest.raises(TypeError, match="no truth value"):
        bool(outcome)
    with pytest.raises(TypeError, match="no truth value"):
        assert outcome


@pytest.mark.parametrize("outcome", ONE_OF_EACH, ids=lambda outcome: outcome.kind)
def test_an_outcome_survives_json_and_describes_itself(outcome: Any) -> None:
    assert TypeAdapter(Outcome).validate_python(outcome.to_json()) == outcome
    assert describe(outcome)


def test_only_applied_and_already_count_as_done() -> None:
    assert [type(outcome) for outcome in ONE_OF_EACH if is_done(outcome)] == [Applied, Already]


@pytest.mark.parametrize("kind", PLATFORM_ERRORS, ids=lambda kind: kind.__name__)
def test_a_write_that_may_have_happened_is_unknown_and_any_other_failed(kind: type[PlatformError]) -> None:
    outcome = outcome_of(kind("it broke", system="kubernetes", verb="patch", target="pods/x in bank"))
    assert isinstance(outcome, Unknown if kind.effect is Effect.MAYBE else Failed)
    assert (kind.effect is Effect.MAYBE) == (kind is errors.Unanswered)
    assert outcome.problem.code == kind.code
