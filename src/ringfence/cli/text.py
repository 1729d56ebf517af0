"""Text for a terminal: whatever came from a cluster, a log or a person is made harmless before it is printed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator

from ringfence.reporting.text import LONGEST, visible

_LONGEST_LINE = 1 << 20
"""Bytes of one line of an item of evidence; a longer one goes on in the next."""


def clean(text: object, *, longest: int | None = LONGEST) -> str:
    """One line without control characters, escape sequences, marks that turn the direction of writing, characters that
    cannot be seen, or piles of accents. Beyond ``longest`` characters (None: no limit) the rest is counted."""
    words = str(text).replace("\n", " ").replace("\t", " ")
    return visible(words, longest=len(words) if longest is None else longest)


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Bytes as lines of text, in flat memory; what is not UTF-8 becomes escapes. Not clean yet."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", "backslashreplace") for line in whole)
        while len(rest) > _LONGEST_LINE:
            yield rest[:_LONGEST_LINE].decode("utf-8", "backslashreplace")
            rest = rest[_LONGEST_LINE:]
    if rest:
        yield rest.decode("utf-8", "backslashreplace")


def typed(argument: str) -> str:
    """What was typed, as Unicode: a byte that is none becomes U+FFFD, so that it can be kept and sent."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def command_line() -> str:
    """The command as it was typed, quoted so that a shell reads it as the same words again."""
    return shlex.join(["ringfence", *sys.argv[1:]])


def plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"
