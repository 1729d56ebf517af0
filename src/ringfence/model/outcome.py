"""What became of one step: a tagged union without a truth value, so that a skip cannot pass for success.

Match it exhaustively and end with ``assert_never``::

    match outcome:
        case Applied() | Already(): ...
        case Skipped() | Refused(): ...
        case Failed() | Unknown(): ...
"""

from typing import Annotated, Literal, NoReturn, Self, assert_never

from pydantic import Field

from ringfence.errors import Effect, PlatformError, RingfenceError
from ringfence.model.base import Noun


class _Outcome(Noun):
    def __bool__(self) -> NoReturn:
        raise TypeError("an Outcome has no truth value: match its class")


class Problem(Noun):
    """An error as data: what an Outcome keeps and a report prints."""

    code: str
    what: str
    why: str = ""
    next_step: str = ""

    @classmethod
    def of(cls, error: RingfenceError) -> Self:
        return cls(code=error.code, what=error.what, why=error.why, next_step=error.next_step)

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


class Applied(_Outcome):
    """The change was made by us, and the server said so."""

    kind: Literal["applied"] = "applied"


class Already(_Outcome):
    """Live state is what the change would make; nothing was sent."""

    kind: Literal["already"] = "already"
    reason: str


class Skipped(_Outcome):
    """Not done, on purpose. Never a success."""

    kind: Literal["skipped"] = "skipped"
    reason: str


class Refused(_Outcome):
    """A guardrail, a gate or the cluster's admission said no; nothing changed."""

    kind: Literal["refused"] = "refused"
    reason: str
    next_step: str = ""


class Failed(_Outcome):
    """Tried, and the other side certainly did not do it."""

    kind: Literal["failed"] = "failed"
    problem: Problem


class Unknown(_Outcome):
    """Tried, and the write may have happened: live state must be read before anything else."""

    kind: Literal["unknown"] = "unknown"
    problem: Problem


Outcome = Annotated[Applied | Already | Skipped | Refused | Failed | Unknown, Field(discriminator="kind")]


def outcome_of(error: PlatformError) -> Failed | Unknown:
    """The outcome of a request that raised ``error``: unknown when the write may have happened."""
    problem = Problem.of(error)
    return Unknown(problem=problem) if error.effect is Effect.MAYBE else Failed(problem=problem)


def describe(outcome: Outcome) -> str:
    """One line for people."""
    match outcome:
        case Applied():
            return "applied"
        case Already(reason=reason):
            return f"already so ({reason})"
        case Skipped(reason=reason):
            return f"skipped: {reason}"
        case Refused(reason=reason):
            return f"refused: {reason}"
        case Failed(problem=problem):
            return f"failed: {problem}"
        case Unknown(problem=problem):
            return f"unknown, the write may have happened: {problem}"


def next_step_of(outcome: Outcome) -> str:
    """What an outcome that is not done says to do."""
    match outcome:
        case Refused(next_step=next_step):
            return next_step
        case Failed(problem=problem) | Unknown(problem=problem):
            return problem.next_step
        case Skipped() | Applied() | Already():
            return ""
        case _:
            assert_never(outcome)


def is_done(outcome: Outcome) -> bool:
    """Whether the wanted state holds: applied by us, or so already. Skipped, refused and unknown are not done."""
    match outcome:
        case Applied() | Already():
            return True
        case Skipped() | Refused() | Failed() | Unknown():
            return False
        case _:
            assert_never(outcome)
