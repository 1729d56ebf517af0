"""Times as people type them: lengths such as 30m, 8h, 2d, and moments of RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_UNITS = {"m": 1, "h": 60, "d": 1440}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PART = re.compile(r"(\d{1,5})([mhd])")


def minutes_of(text: str) -> int | None:
    """The minutes of ``8h`` or ``1d12h``; None for anything else, and for nothing at all."""
    parts = _PART.findall(text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in parts) or None


def seconds_of(text: str) -> int | None:
    """The seconds of ``30s``, or of what ``minutes_of`` reads; None for anything else."""
    found = re.fullmatch(r"(\d{1,5})s", text.strip().lower(), re.ASCII)
    if found is not None:
        return int(found[1]) or None
    minutes = minutes_of(text)
    return minutes * 60 if minutes is not None else None


def instant_of(text: str) -> datetime | None:
    """The moment of an RFC 3339 time; None for anything else, above all for one without its offset."""
    if not _MOMENT.fullmatch(text.strip()):
        return None
    try:
        return datetime.fromisoformat(text.strip().upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
