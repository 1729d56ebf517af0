"""The one JSON encoding (RFC 8785), and records that are strict about what they hold.

Everything that is signed or hashed is JSON in its canonical form: no spaces, sorted members, one way to write each
string and number (no member of the format is a fraction). ``loads`` refuses any other form of the same value, so that
two readers cannot disagree about it and no byte can change unseen.

A ``Record`` is a frozen dataclass that checks each field against its annotation when it is made, whoever makes it, and
that is read from a JSON object with exactly its members.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import rfc8785

MAX_INT = 2**53 - 1
"""RFC 8785 has no larger integers (they are IEEE 754 doubles); larger values are kept as strings."""


class FormatError(ValueError):
    """A value that version 1 of the format does not allow: what is wrong, and where (``items[3].blob.raw_size``)."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(f"{where}: {what}" if where else what)
        self.what = what
        self.where = where

    def inside(self, name: str) -> FormatError:
        """The same error seen from one level further out."""
        joint = "." if self.where and not self.where.startswith("[") else ""
        return FormatError(self.what, f"{name}{joint}{self.where}")


def dumps(value: object) -> bytes:
    """The canonical encoding of a JSON value.

    Raises FormatError for values that have none: NaN, integers of 2**53 and above, text that is not Unicode.
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:
        raise FormatError(f"no canonical form: {error}") from error


def loads(data: bytes) -> object:
    """The JSON value that ``data`` encodes. Raises FormatError unless ``data`` is its canonical encoding."""
    try:
        value: object = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from error
    if dumps(value) != data:
        # Spaces, member order, escapes, duplicate members: all of them end here.
        raise FormatError("not in canonical form (RFC 8785)")
    return value


@dataclass(frozen=True)
class Rule:
    """A constraint on top of a type: ``Annotated[str, Rule("a colour", is_colour)]``."""

    what: str
    holds: Callable[[Any], bool]


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _is_instant(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).isoformat(timespec="microseconds") == text.removesuffix("Z") + "+00:00"
    except ValueError:
        return False


Sha256 = Annotated[str, Rule("a SHA-256 in lower-case hex", _matches("[0-9a-f]{64}"))]
Name = Annotated[str, Rule("1 to 256 visible ASCII characters", _matches("[!-~]{1,256}"))]
"""Identifiers: safe to print anywhere. Every other text may hold whatever a server or a pod put there."""
Instant = Annotated[str, Rule("a time in UTC like 2026-01-31T23:59:59.000000Z", _is_instant)]
Count = Annotated[int, Rule("not negative", lambda number: number >= 0)]


class Record:
    """Base of the dataclasses that are stored as JSON objects."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            try:
                _check(getattr(self, name), hint)
            except FormatError as error:
                raise error.inside(name) from None

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a JSON object. Raises FormatError when a member is missing, unknown, or not of its type."""
        members = exactly(value, *_hints(cls))
        arguments = {}
        for name, hint in _hints(cls).items():
            try:
                arguments[name] = _decode(members[name], hint)
            except FormatError as error:
                raise error.inside(name) from None
        return cls(**arguments)

    def to_json(self) -> dict[str, object]:
        """The JSON object: strings, integers, booleans, null, lists, objects."""
        return {field.name: _encode(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def exactly(value: object, *names: str) -> Mapping[str, object]:
    """``value`` as a JSON object with these members and no others, else FormatError."""
    if not isinstance(value, dict):
        raise FormatError(f"expected an object, found {_kind(value)}")
    if missing := [name for name in names if name not in value]:
        raise FormatError(f"no member {missing[0]!r}")
    if unknown := sorted(value.keys() - set(names)):
        raise FormatError(f"unknown member {shown(unknown[0])}")
    return value


_hints_of: dict[type, dict[str, Any]] = {}


def _hints(record: type) -> dict[str, Any]:
    """Field → annotation, resolved once per class."""
    if record not in _hints_of:
        _hints_of[record] = get_type_hints(record, include_extras=True)
    return _hints_of[record]


def _check(value: object, hint: Any) -> None:
    """Refuse a value that is not of the annotated type (exactly: no bool for int, no str for an enum member)."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        _check(value, arguments[0])
        for rule in arguments[1:]:
            if not rule.holds(value):
                raise FormatError(f"expected {rule.what}, found {shown(value)}")
    elif origin in (Union, UnionType):
        if value is not None:
            _check(value, _not_none(arguments))
    elif origin is Literal:
        if value not in arguments or type(value) is not type(arguments[0]):
            raise FormatError(f"expected {arguments[0]!r}, found {shown(value)}")
    elif origin is tuple:
        if type(value) is not tuple:
            raise FormatError(f"expected a tuple, found {_kind(value)}")
        for index, element in enumerate(value):
            try:
                _check(element, arguments[0])
            except FormatError as error:
                raise error.inside(f"[{index}]") from None
    elif type(value) is not hint:
        raise FormatError(f"expected {hint.__name__}, found {_kind(value)}")
    elif hint is int and not -MAX_INT <= value <= MAX_INT:  # type: ignore[operator]
        raise FormatError(f"{value} is too large for JSON: keep it as a string")


def _decode(value: object, hint: Any) -> object:
    """Build what the annotation asks for out of a JSON value; what does not fit is left for ``_check`` to refuse."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return None if value is None else _decode(value, _not_none(arguments))
    if origin is tuple:
        if not isinstance(value, list):
            raise FormatError(f"expected a list, found {_kind(value)}")
        return tuple(_decode_element(index, element, arguments[0]) for index, element in enumerate(value))
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_json(value)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value not in list(hint):
            raise FormatError(f"expected one of {', '.join(hint)}, found {shown(value)}")
        return hint(value)  # type: ignore[arg-type]  # it is one of the members' texts
    return value


def _decode_element(index: int, element: object, hint: Any) -> object:
    try:
        return _decode(element, hint)
    except FormatError as error:
        raise error.inside(f"[{index}]") from None


def _encode(value: object) -> object:
    match value:
        case Record():
            return value.to_json()
        case tuple():
            return [_encode(element) for element in value]
        case StrEnum():
            return value.value
        case _:
            return value


def _not_none(arguments: tuple[Any, ...]) -> Any:
    return next(argument for argument in arguments if argument is not NoneType)


def shown(value: object) -> str:
    """``repr``, which escapes control characters, cut to a line."""
    shortener = reprlib.Repr()
    shortener.maxstring = 100
    return shortener.repr(value)


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
