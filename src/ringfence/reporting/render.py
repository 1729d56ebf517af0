"""What both formats share: a Jinja environment in which every value is made safe where it is put out.

Values go through ``finalize``, which no template can forget: a string is shown as foreign text, a ``Markup`` (what a
filter of ours has made) as it is. An undefined name is an error.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import PurePath

import jinja2
from jinja2.runtime import Context
from markupsafe import Markup

from ringfence.model.access import PathState, Verdict
from ringfence.model.evidence import Seal
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Refused, Skipped, Unknown, describe
from ringfence.model.proof import Level
from ringfence.reporting.text import duration, moment, visible, without_claim
from ringfence.reporting.view import Report

LEVELS = (
    (Level.NONE, "nobody has looked yet"),
    (Level.REQUESTED, "the API accepted the request"),
    (Level.COMPUTED, "read back, and judged by Ringfence itself"),
    (Level.OBSERVED, "somebody else says so: the kubelet, an EndpointSlice, a counter, the audit log"),
    (Level.PROVEN, "a packet, call or admission of a canary was refused"),
)
STATES = (
    (PathState.ALIVE, "a way that works, or that nothing known stops"),
    (PathState.UNSEEN, "not known to be shut"),
    (PathState.DEAD, "shown shut: observed or proven"),
    (PathState.ACCEPTED, "open or unseen, and a named person has taken it on"),
)


def environment(escape: Callable[[str], str]) -> jinja2.Environment:
    """An environment over the package's templates. ``escape`` makes one line of plain text safe in the format."""

    @jinja2.pass_context
    def finalize(context: Context, value: object) -> object:
        if isinstance(value, Markup):
            return value
        report = context["report"]
        # The verdict itself is the one text that may say the word.
        return Markup(value.value if isinstance(value, Verdict) else escape(shown(report, value)))  # noqa: S704

    env = jinja2.Environment(
        loader=jinja2.PackageLoader("ringfence.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(moment=moment, duration=duration, outcome=outcome_words, verify=verify_command)
    env.globals.update(LEVELS=LEVELS, STATES=STATES)
    return env


def shown(report: Report, value: object) -> str:
    """A value as plain text that is fit to be seen, not yet escaped for a format."""
    text = visible(str(value))
    return text if report.verdict is Verdict.CONTAINED else without_claim(text)


def outcome_words(outcome: Outcome | None) -> str:
    """An outcome in one line, with what to do next where it says so."""
    match outcome:
        case None:
            return "no result was recorded: live state decides"
        case Refused(next_step=next_step) if next_step:
            return f"{describe(outcome)}. Next: {next_step}"
        case Failed(problem=problem) | Unknown(problem=problem) if problem.next_step:
            return f"{describe(outcome)}. Next: {problem.next_step}"
        case Applied() | Already() | Skipped() | Refused() | Failed() | Unknown():
            return describe(outcome)


def verify_command(seal: Seal) -> str:
    """The command that checks a bundle offline, fit to be pasted into a shell."""
    return f"ringfence-verify {shlex.quote(visible(PurePath(seal.path).name))} --key PUB.pem"
