"""Text of unknown origin, times and sizes, as every format of the report shows them (pure)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

LONGEST = 2000
"""Characters of one text that are shown; the rest is counted."""

# Letters that look like nothing at all.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_SUSPECT = re.compile("[^ -~]")
_HIGHEST_PILE = 2
"""Combining marks on one letter that are drawn; more would be drawn over the lines above."""
_CLAIM = re.compile(r"(contain)(ed)", re.IGNORECASE)


def visible(text: str, *, longest: int = LONGEST) -> str:
    """``text`` on one line, with everything that cannot be seen (controls, direction marks, blanks) as an escape."""
    shown = text[:longest]
    if not (shown.isascii() and shown.isprintable()):
        shown = _SUSPECT.sub(_unless_printable, shown)
    if not shown.isascii():
        shown = _BLANK.sub(lambda found: _escape(found.group()), "".join(_without_piles(shown)))
    left = len(text) - longest
    return shown if left <= 0 else f"{shown} … ({left} characters more)"


def without_claim(text: str) -> str:
    """``text`` with the one word that only the verdict may say marked as altered: contain[ed]."""
    return _CLAIM.sub(r"\1[\2]", text)


def moment(at: datetime) -> str:
    """RFC 3339 in UTC to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(length: timedelta) -> str:
    """A length of time in words, ``earlier`` when it is negative: 0.4 s, 3 min 12 s, 2 h 5 min, 3 d 4 h."""
    if not length:
        return "0 s"
    words = _positive(abs(length))
    return f"{words} earlier" if length < timedelta(0) else words


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 change, 3 changes."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: list[str], *, most: int = 8) -> str:
    """Names in one phrase; those beyond ``most`` are counted."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _unless_printable(found: re.Match[str]) -> str:
    one = found.group()
    return one if one.isprintable() else _escape(one)


def _without_piles(text: str) -> Iterator[str]:
    pile = 0
    for one in text:
        pile = pile + 1 if unicodedata.category(one) in ("Mn", "Me") else 0
        yield one if pile <= _HIGHEST_PILE else _escape(one)


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def _positive(length: timedelta) -> str:
    tenths = round(length / timedelta(milliseconds=100))
    if tenths == 0:
        return "under 0.1 s"
    if tenths < 600:
        return f"{tenths / 10:.1f} s"
    seconds = round(length / timedelta(seconds=1))
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"
