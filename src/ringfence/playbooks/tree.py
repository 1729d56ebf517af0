"""A small, strict YAML: plain data with the line of every key, and nothing that surprises.

It is YAML with the core schema of YAML 1.2, so that ``on`` and ``yes`` are words and ``0777`` is no octal number.
Left out, and said so by line: anchors and aliases (they can blow a small file up), tags (they can name types),
directives, several documents, keys that are no words, double keys, infinite numbers, invisible characters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from ringfence.model.playbook import invisible
from ringfence.playbooks.errors import Mistake, legible

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16

Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_LONGEST_NUMBER = 18


class _Stop(Exception):
    """What follows cannot be read."""


@dataclass
class Tree:
    """``data`` is what the file holds (None when it cannot be read); ``lines`` says where, by the path to it.

    ``broken`` are the places of values that are wrong already: what stands there in ``data`` is not worth a word.
    """

    data: Any = None
    broken: set[Path] = field(default_factory=set)
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """The line of ``path``, or of the nearest thing around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def wrong(self, line: int, what: str, next_step: str) -> None:
        self.mistakes.append(Mistake(line, what, next_step))


def read(content: bytes) -> Tree:
    """Read one document. Raises nothing: what is wrong is in ``mistakes``."""
    tree = Tree()
    if len(content) > MAX_BYTES:
        tree.wrong(0, f"the file has {len(content)} bytes", f"keep it under {MAX_BYTES // 1024} KiB")
        return tree
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        tree.wrong(line, f"byte 0x{content[error.start]:02x} is not UTF-8", "save the file as UTF-8")
        return tree
    try:
        _Reader(text, tree).document()
    except _Stop:
        tree.data = None
    return tree


class _Reader:
    def __init__(self, text: str, tree: Tree) -> None:
        self._tree = tree
        self._events = self._guarded(text)

    def document(self) -> None:
        self._next()  # the stream's start
        start = self._next()
        if not isinstance(start, yaml.DocumentStartEvent):
            self._stop(1, "the file is empty", "write a playbook into it")
        if start.version or start.tags:
            self._tree.wrong(_line(start), "there is a % directive", "remove it")
        data = self._node(self._next(), (), 1)
        self._next()  # the document's end
        following = self._next()
        if not isinstance(following, yaml.StreamEndEvent):
            self._stop(_line(following), "a second document begins", "keep one playbook per file")
        self._tree.data = data

    def _guarded(self, text: str) -> Iterator[yaml.Event]:
        """The parser's events; its errors become a mistake and the end."""
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            words = ": ".join(filter(None, (error.context, error.problem)))
            self._stop(mark.line + 1 if mark else 1, f"this is not YAML ({legible(words, 160)})", "correct it")
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self._stop(line, f"the character U+{_code(error.character):04X} is not allowed", "take it out")
        except (ValueError, OverflowError):  # an escape that is no character: "\UFFFFFFFF"
            self._stop(1, "an escape in double quotes names no character", "correct the text in double quotes")

    def _next(self) -> Any:
        return next(self._events)

    def _stop(self, line: int, what: str, next_step: str) -> None:
        self._tree.wrong(line, what, next_step)
        raise _Stop

    def _node(self, event: Any, path: Path, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self._stop(_line(event), f"this is nested deeper than {MAX_DEPTH} levels", "flatten it")
        self._refuse_marks(event, path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        return None  # an alias, refused above

    def _refuse_marks(self, event: Any, path: Path) -> None:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            self._tree.wrong(line, f"*{legible(event.anchor)} is an alias", "write the value out")
            self._tree.broken.add(path)
        elif event.anchor is not None:
            self._tree.wrong(line, f"&{legible(event.anchor)} is an anchor", "remove it and write values out")
        if getattr(event, "tag", None) is not None:
            self._tree.wrong(line, f"{legible(event.tag)} is a tag", "remove it")
            self._tree.broken.add(path)

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            place = (*path, len(items))
            self._tree.lines[place] = _line(event)
            items.append(self._node(event, place, depth + 1))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = _line(event)
            key = self._node(event, (*path, "?"), depth + 1)
            place = (*path, key if isinstance(key, str) else "?")
            first = self._tree.lines.get(place) if isinstance(key, str) and key in found else None
            if first is None:
                self._tree.lines[place] = line
            value = self._node(self._next(), place, depth + 1)
            if not isinstance(key, str):
                self._tree.wrong(line, f"the key {_shown(key)} is not a word", "use a name, or put it in quotes")
            elif first is not None:
                self._tree.wrong(line, f"the key `{legible(key)}` is there twice (line {first})", "keep one")
            else:
                found[key] = value
        return found

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Any:
        text: str = event.value
        hidden = invisible(text)
        if hidden:
            self._tree.wrong(_line(event), f"the text holds the invisible character {hidden}", "take it out")
            self._tree.broken.add(path)
            return "?"
        if event.style is not None:  # quoted, or a block: always text
            return text
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if not (_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
            return text
        number = _number(text)
        if not math.isfinite(number):
            self._tree.wrong(
                _line(event), f"{legible(text)} is no number of use here", "correct it, or put it in quotes"
            )
            self._tree.broken.add(path)
            return 0
        return number


def _number(text: str) -> int | float:
    """The number; not finite when it is too long to be meant."""
    if len(text) > _LONGEST_NUMBER:
        return math.inf
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _code(character: Any) -> int:
    return character if isinstance(character, int) else ord(str(character)[0])


def _shown(key: Any) -> str:
    return "of several parts" if isinstance(key, list | dict) else f"`{legible(key)}`"
