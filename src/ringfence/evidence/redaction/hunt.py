"""Values that were found once are looked for everywhere: as they are, in JSON's and URLs' spelling, and in base64."""

from __future__ import annotations

import base64
import itertools
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field

SHORTEST = 6
"""Characters. What is shorter is taken out where a rule finds it, and looked for nowhere else: it would be anywhere."""
_PIECE = 256
"""Characters of a long value that are looked for at once."""
_OF_MANY_LINES = 16
MOST_FROM_TEXT = 2_000
"""Values that rules found in texts and that are looked for elsewhere; the others are counted."""
MOST = 8_000
_DEEPEST = 40


@dataclass
class Hunt:
    """What to look for. ``unhunted`` counts the values that came after ``MOST_FROM_TEXT``."""

    known: dict[str, None] = field(default_factory=dict)
    unhunted: int = 0
    _from_text: int = 0

    def add(self, value: str, *, structured: bool) -> None:
        """``structured``: it stood where only a secret stands (a Secret, an environment variable), not in a text.

        Raises OverflowError when there are more than can be looked for.
        """
        wanted = [one for one in _parts(value) if len(one) >= SHORTEST and one not in self.known]
        if not wanted:
            return
        if not structured:
            if self._from_text >= MOST_FROM_TEXT:
                self.unhunted += 1
                return
            self._from_text += len(wanted)
        self.known.update(dict.fromkeys(wanted))
        if len(self.known) > MOST:
            raise OverflowError(len(self.known))

    def pattern(self) -> re.Pattern[str] | None:
        """Finds every occurrence, overlapping ones too, as group 1 of an empty match. None: nothing to look for."""
        words = {variant for value in self.known for variant in variants(value) if len(variant) >= SHORTEST}
        return re.compile(f"(?=({_alternatives(sorted(words), 0, 0)}))") if words else None


def variants(value: str) -> Iterator[str]:
    """Spellings of a value. Of base64 those characters that stand for it alone, wherever in a longer text it began."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield urllib.parse.quote(value, safe="", errors="surrogateescape")
    yield urllib.parse.quote_plus(value, errors="surrogateescape")
    data = value.encode("utf-8", "surrogateescape")
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data + b"\0\0").decode()
        alone = whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield alone
        yield alone.translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")


def _parts(value: str) -> Iterator[str]:
    yield from (value[start : start + _PIECE] for start in range(0, len(value), _PIECE))
    if (stripped := value.strip()) != value:
        yield stripped[:_PIECE]
    if "\n" in value:  # a key, a file: its lines may be elsewhere, behind other time stamps
        for line in value.splitlines():
            words = line.split()
            if words and _OF_MANY_LINES <= len(words[-1]) <= _PIECE and "-----" not in words[-1]:
                yield words[-1]


def _alternatives(words: list[str], start: int, depth: int) -> str:
    """An expression for sorted words from their character ``start`` on, which never tries a beginning twice: its time
    does not grow with their number. The longest that fits is found.
    """
    ends = len(words[0]) == start
    rest = words[1:] if ends else words
    if not rest:
        return ""
    if depth > _DEEPEST:
        body = "|".join(re.escape(word[start:]) for word in sorted(rest, key=len, reverse=True))
        return f"(?:{body})" + ("?" if ends else "")
    branches = []
    for _, group in itertools.groupby(rest, key=lambda word: word[start]):
        alike = list(group)
        pairs = zip(alike[0], alike[-1], strict=False)
        common = "".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        branches.append(re.escape(common[start:]) + _alternatives(alike, len(common), depth + 1))
    if len(branches) == 1 and not ends:
        return branches[0]
    return f"(?:{'|'.join(branches)})" + ("?" if ends else "")
