"""Printing and ending: one place writes to the terminal, one place turns errors into messages and exit codes.

A closed pipe never stops a response: what cannot be printed is dropped, the work goes on, the exit code stands.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from types import FrameType
from typing import NoReturn, TextIO

from ringfence.cli.text import clean
from ringfence.errors import ExitCode, RingfenceError


class Format(StrEnum):
    """``-o``."""

    TEXT = "text"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


_STYLES = {"bold": "1", "red": "1;31", "yellow": "33", "green": "32", "dim": "2"}


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """Coloured on a terminal that wants it (NO_COLOR is honoured); plain elsewhere. ``text`` is clean already."""
    target = stream or sys.stdout
    if not style or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not target.isatty():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def say(*lines: str) -> None:
    """Print lines that are clean already (or styled)."""
    _write(sys.stdout, lines)


def note(*lines: str) -> None:
    """Progress and warnings: to standard error, so that ``-o json`` stays JSON."""
    _write(sys.stderr, tuple(map(clean, lines)))


def say_json(value: object) -> None:
    # ASCII only: a terminal escape or a right-to-left mark in a value stays an escape. DEL is ASCII, and a control.
    _write(sys.stdout, (json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f"),))


def say_data(value: object, out: Format) -> None:
    """For programs: JSON, or the same as YAML. ASCII only, as ``say_json``."""
    if out is Format.YAML:
        import yaml

        fresh = json.loads(json.dumps(value))  # the same list twice would become an alias
        text = yaml.safe_dump(fresh, sort_keys=False, allow_unicode=False, width=120)
        _write(sys.stdout, (text.removesuffix("\n"),))
        return
    say_json(value)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as kubectl prints them: capitals above, three spaces between."""
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(header), *(len(row[i]) for row in cells), 0) for i, header in enumerate(headers)]
    for line in ([header.upper() for header in headers], *cells):
        say("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _write(stream: TextIO, lines: Sequence[str]) -> None:
    try:
        for line in lines:
            stream.write(_writable(line, stream) + "\n")
        stream.flush()
    except (OSError, ValueError):  # closed, full, or its reader is gone
        _mute(stream)


def _writable(line: str, stream: TextIO) -> str:
    """The line with escapes for what the stream's encoding has not: a terminal of another locale, a lone surrogate."""
    encoding = stream.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _mute(stream: TextIO) -> None:
    """Nobody reads this stream any more: send the rest to nowhere, the interpreter's last flush too."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(error: RingfenceError) -> None:
    """What, why, what next: to standard error."""
    note(f"error: {error.what}")
    if error.code == "playbook":
        _mistakes(error)
    elif error.why:
        note(f"  why:  {error.why}")
    if error.next_step:
        note(f"  next: {error.next_step}")


def _mistakes(error: RingfenceError) -> None:
    """A file's mistakes come all at once, each with its line."""
    from ringfence.playbooks.errors import PlaybookError

    assert isinstance(error, PlaybookError)
    for mistake in error.mistakes:
        where = f"line {mistake.line}: " if mistake.line else ""  # 0: the file as a whole
        note(f"  {where}{mistake.what}: {mistake.next_step}")


def stop(code: ExitCode) -> NoReturn:
    raise SystemExit(int(code))


class _Interrupted(BaseException):
    """Ctrl-C. Not KeyboardInterrupt, which the command-line library turns into a bare "Aborted"."""


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Interrupted


@contextlib.contextmanager
def errors_reported() -> Iterator[None]:
    """Ringfence's own errors and Ctrl-C become a message and an exit code; anything else is a bug and says so."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except RingfenceError as error:
        fail(error)
        stop(error.exit_code)
    except _Interrupted:
        note("interrupted: what was sent to the cluster stands in the journal", "  next: ringfence incidents")
        raise SystemExit(128 + signal.SIGINT) from None
