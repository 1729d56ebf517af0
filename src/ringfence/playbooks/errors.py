"""What can be wrong with a playbook. All that is wrong with one file is said at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.errors import ConfigError

_SHOWN = 50


@dataclass(frozen=True, order=True)
class Mistake:
    """One thing that is wrong: where (``line`` counts from 1; 0: the file as a whole), what, and what to do."""

    line: int
    what: str
    next_step: str


class PlaybookError(ConfigError):
    """A playbook that cannot be used. ``mistakes`` are in the order of the file's lines."""

    code = "playbook"

    def __init__(self, source: str, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        where = legible(source)
        lines = [
            f"{where}:{one.line}: {one.what}, {one.next_step}" if one.line else f"{where}: {one.what}, {one.next_step}"
            for one in self.mistakes[:_SHOWN]
        ]
        if len(self.mistakes) > _SHOWN:
            lines.append(f"{where}: and {len(self.mistakes) - _SHOWN} more")
        number = len(self.mistakes)
        super().__init__(
            f"the playbook {where} has {number} mistake{'' if number == 1 else 's'}",
            location=where,
            why="\n".join(lines),
            next_step="correct the file; nothing was started",
        )


class CelError(ConfigError):
    """A CEL expression that is not allowed, or whose answer cannot be told from what is known."""

    code = "cel"

    def __init__(self, where: str, why: str, *, next_step: str) -> None:
        super().__init__(f"the condition of {legible(where)}", location=where, why=why, next_step=next_step)


def legible(text: object, limit: int = 80) -> str:
    """``text`` for a message: on one line, short, without characters that a terminal obeys."""
    whole = str(text)
    shown = "".join(one if _is_plain(one) else f"\\u{ord(one):04x}" for one in whole[:limit])
    return shown if len(whole) <= limit else f"{shown}…"


def _is_plain(character: str) -> bool:
    return character == " " or unicodedata.category(character)[0] not in "CZ"
