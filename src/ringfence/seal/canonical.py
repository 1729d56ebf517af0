"""The one JSON encoding (RFC 8785), and records that are strict about what they hold.

Everything that is signed or hashed is JSON in its canonical form: no spaces, sorted members, one way to write each
string and number (no member of the format is a fraction). ``loads`` refuses any other form of the same value, so that
two readers cannot disagree about it and no byte can change unseen.

A ``Record`` is a frozen dataclass that checks each field against its annotation when it is made, whoever makes it, and
that is read from a JSON object with exactly its members.
"""

from __future__ import annotations

import functools
import json
import re
import reprlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import rfc8785

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
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
        value: object = json.loads(
            data.decode("utf-8"), parse_int=_integer, parse_float=_no_fraction, parse_constant=_no_fraction
        )
        again = _plain(value)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from error
    if again != data:
        # Spaces, member order, escapes, duplicate members: all of them end here.
        raise FormatError("not in canonical form (RFC 8785)")
    return value


_encode_sorted = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def bounded(data: bytes, most: int, what: str) -> bytes:
    """``data``. Raises FormatError where it is larger than what verification reads."""
    if len(data) > most:
        raise FormatError(f"{len(data)} bytes, at most {most} are allowed", what)
    return data


def line(encoding: bytes, most: int, what: str) -> bytes:
    """An entry of a chain as a line. Raises FormatError for one that is too long."""
    return bounded(encoding, most, what) + b"\n"


def _plain(value: object) -> bytes:
    """``dumps``, an order of magnitude faster, for a value without fractions or huge integers.

    There the standard library writes the same bytes, as long as the names of members are in the basic plane: beyond it
    RFC 8785 sorts by UTF-16, and no member of the format is called so. Raises ValueError for text that is not Unicode.
    """
    return _encode_sorted(value).encode("utf-8")


def _integer(text: str) -> int:
    if len(text) > len(str(-MAX_INT)) or abs(number := int(text)) > MAX_INT:
        raise ValueError(f"{text[:40]} is too large for JSON")
    return number


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no integer")


REMEMBERED = 4096
_LONGEST = 2048


def remembering(size: Callable[[Any], int]) -> Callable[[Callable[[K], T]], Callable[[K], T]]:
    """For a pure function: its last results are kept, but none of an argument above 2 KiB, so that memory stays flat.

    The bundles of one incident repeat its chains, each a little longer than the one before.
    """

    def decorate(function: Callable[[K], T]) -> Callable[[K], T]:
        remembered = functools.lru_cache(REMEMBERED)(function)

        def call(value: K) -> T:
            return remembered(value) if size(value) <= _LONGEST else function(value)

        return functools.wraps(function)(call)

    return decorate


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
        for name, check in _checks(type(self)):
            try:
                check(getattr(self, name))
            except FormatError as error:
                raise error.inside(name) from None

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a JSON object. Raises FormatError when a member is missing, unknown, or not of its type."""
        decoders = _decoders(cls)
        members = exactly(value, *decoders)
        arguments = {}
        for name, decode in decoders.items():
            try:
                arguments[name] = decode(members[name])
            except FormatError as error:
                raise error.inside(name) from None
        return cls(**arguments)

    def to_json(self) -> dict[str, object]:
        """The JSON object: strings, integers, booleans, null, lists, objects."""
        return {name: _encode(getattr(self, name)) for name in _decoders(type(self))}

    def to_bytes(self, *without: str) -> bytes:
        """The canonical encoding, of all members but those. Raises FormatError for text that is not Unicode."""
        try:
            return _plain({name: value for name, value in self.to_json().items() if name not in without})
        except ValueError as error:
            raise FormatError(f"no canonical form: {error}") from error


def exactly(value: object, *names: str) -> Mapping[str, object]:
    """``value`` as a JSON object with these members and no others, else FormatError."""
    if not isinstance(value, dict):
        raise FormatError(f"expected an object, found {_kind(value)}")
    if missing := [name for name in names if name not in value]:
        raise FormatError(f"no member {missing[0]!r}")
    if unknown := sorted(value.keys() - set(names)):
        raise FormatError(f"unknown member {shown(unknown[0])}")
    return value


# Annotations are looked at once per class and turned into functions: a chain has thousands of entries.
_Check = Callable[[Any], None]
_Decode = Callable[[Any], object]


def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record, include_extras=True)


def _checks_of(record: type) -> tuple[tuple[str, _Check], ...]:
    return tuple((name, _checker(hint)) for name, hint in _hints(record).items())


def _decoders_of(record: type) -> dict[str, _Decode]:
    return {name: _decoder(hint) for name, hint in _hints(record).items()}


_checks: Callable[[Any], tuple[tuple[str, _Check], ...]] = functools.cache(_checks_of)
_decoders: Callable[[Any], dict[str, _Decode]] = functools.cache(_decoders_of)


def _checker(hint: Any) -> _Check:
    """Refuses a value that is not of the annotated type (exactly: no bool for int, no str for an enum member)."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(_checker(arguments[0]), arguments[1:])
    if origin in (Union, UnionType):
        inner = _checker(_not_none(arguments))
        return lambda value: None if value is None else inner(value)
    if origin is Literal:
        return lambda value: _check_literal(value, arguments)
    if origin is tuple:
        element = _checker(arguments[0])
        return lambda value: _check_tuple(value, element)
    if hint is int:
        return _check_int
    return lambda value: _check_type(value, hint)


def _annotated(inner: _Check, rules: tuple[Rule, ...]) -> _Check:
    def check(value: Any) -> None:
        inner(value)
        for rule in rules:
            if not rule.holds(value):
                raise FormatError(f"expected {rule.what}, found {shown(value)}")

    return check


def _check_literal(value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed or type(value) is not type(allowed[0]):
        raise FormatError(f"expected {allowed[0]!r}, found {shown(value)}")


def _check_tuple(value: object, element: _Check) -> None:
    if type(value) is not tuple:
        raise FormatError(f"expected a tuple, found {_kind(value)}")
    for index, member in enumerate(value):
        try:
            element(member)
        except FormatError as error:
            raise error.inside(f"[{index}]") from None


def _check_type(value: object, hint: type) -> None:
    if type(value) is not hint:
        raise FormatError(f"expected {hint.__name__}, found {_kind(value)}")


def _check_int(value: object) -> None:
    _check_type(value, int)
    if not -MAX_INT <= value <= MAX_INT:  # type: ignore[operator]  # it is an int
        raise FormatError(f"{value} is too large for JSON: keep it as a string")


def _decoder(hint: Any) -> _Decode:
    """Builds what the annotation asks for out of a JSON value; what does not fit is left for the check to refuse."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inner = _decoder(_not_none(arguments))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        element = _decoder(arguments[0])
        return lambda value: _decode_list(value, element)
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_json
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return lambda value: _decode_enum(value, hint)
    return lambda value: value


def _decode_list(value: object, decode: _Decode) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise FormatError(f"expected a list, found {_kind(value)}")
    return tuple(_decode_element(index, element, decode) for index, element in enumerate(value))


def _decode_element(index: int, element: object, decode: _Decode) -> object:
    try:
        return decode(element)
    except FormatError as error:
        raise error.inside(f"[{index}]") from None


def _decode_enum(value: object, members: type[StrEnum]) -> StrEnum:
    if value not in list(members):
        raise FormatError(f"expected one of {', '.join(members)}, found {shown(value)}")
    return members(value)  # type: ignore[arg-type]  # it is one of the members' texts


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
