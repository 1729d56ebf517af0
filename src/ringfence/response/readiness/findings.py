"""What a check found: a level, what was seen, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ringfence.errors import ExitCode, RingfenceError
from ringfence.model.base import Json


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It works, and the night will lack something; or it could not be tried."""
    FAIL = "fail"
    """It will not work."""


@dataclass(frozen=True)
class Finding:
    """One check. ``exemption`` is a manifest to ask for, as YAML; ``each`` says the same of every object that it was
    tried on, where that is more; ``error`` is the error behind a failure, if any."""

    check: str
    level: Level
    saw: str
    next_step: str = ""
    exemption: str = ""
    each: tuple[str, ...] = ()
    error: RingfenceError | None = None

    def to_json(self) -> Json:
        return {
            "check": self.check,
            "level": self.level.value,
            "saw": self.saw,
            "next_step": self.next_step,
            "exemption": self.exemption,
            "each": list(self.each),
        }


def ok(check: str, saw: str) -> Finding:
    return Finding(check, Level.OK, saw)


def warn(check: str, saw: str, next_step: str, *, exemption: str = "") -> Finding:
    return Finding(check, Level.WARN, saw, next_step, exemption)


def fail(check: str, saw: str, next_step: str, *, exemption: str = "") -> Finding:
    return Finding(check, Level.FAIL, saw, next_step, exemption)


def failed(check: str, error: RingfenceError) -> Finding:
    """A check that ended in an error of ours."""
    return Finding(check, Level.FAIL, str(error), error.next_step, error=error)


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """0 when nothing failed; else the code of the first error, or 3 when what failed was no error but a refusal."""
    failures = [one for one in findings if one.level is Level.FAIL]
    if not failures:
        return ExitCode.OK
    return next((one.error.exit_code for one in failures if one.error is not None), ExitCode.REFUSED)
