"""The report as Markdown (CommonMark with GitHub's tables)."""

from __future__ import annotations

import functools
import re

import jinja2
from jinja2.runtime import Context
from markupsafe import Markup

from ringfence.reporting.render import environment, shown
from ringfence.reporting.view import Report

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>~$&]")
_AT_START = re.compile(r"^(?:[-+#=>:]|\d+[.)](?= |$))")
_LINKS_BY_ITSELF = re.compile(r"@|://|\bwww\.|\b(?:mailto|xmpp):", re.IGNORECASE)
_NOT_IN_CODE = re.compile(r"[`|<>]")


def render(report: Report) -> str:
    """The report as Markdown text."""
    return _environment().get_template("report.md.j2").render(report=report)


def escape(text: str) -> str:
    """One line of plain text as inline Markdown that reads as it is: no markup, link, mention, HTML or table cell.

    Backslashes do not keep renderers from making links of addresses; words that hold one become code.
    """
    outside = [
        code(word) if _LINKS_BY_ITSELF.search(word) else _SPECIAL.sub(r"\\\g<0>", word).replace("|", "&#124;")
        for word in _edges(text).split(" ")
    ]
    return _AT_START.sub(_guard, " ".join(outside))


def code(text: str) -> str:
    """One line of plain text as a code span. Backticks, pipes and angle brackets in it become escapes (``\\x60``)."""
    inside = _NOT_IN_CODE.sub(lambda found: f"\\x{ord(found.group()):02x}", _edges(text))
    return f"`{inside}`" if inside else ""


@functools.cache
def _environment() -> jinja2.Environment:
    env = environment(escape)

    @jinja2.pass_context
    def as_code(context: Context, value: object) -> Markup:
        return Markup(code(shown(context["report"], value)))  # noqa: S704

    env.filters["code"] = as_code
    return env


def _edges(text: str) -> str:
    """Spaces at the edges as escapes: at the start of a line they would mean a code block."""
    inner = text.strip(" ")
    if not inner:
        return "\\x20" * len(text)
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    return "\\x20" * before + inner + "\\x20" * after


def _guard(found: re.Match[str]) -> str:
    mark = found.group()
    return f"{mark[:-1]}\\{mark[-1]}"
