"""The report as one HTML page that needs nothing else: its style is inside, it has no script and loads nothing."""

from __future__ import annotations

import functools

import jinja2
import markupsafe

from ringfence.reporting.render import environment
from ringfence.reporting.view import Report


def render(report: Report) -> str:
    """The report as the text of an HTML document."""
    return _environment().get_template("report.html.j2").render(report=report)


def escape(text: str) -> str:
    """One line of plain text as HTML, for an element or a quoted attribute."""
    return str(markupsafe.escape(text))


@functools.cache
def _environment() -> jinja2.Environment:
    return environment(escape)
