"""JSON: walked by its structure, and every text in it searched. JSON inside of a text is walked as well."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ringfence.evidence.redaction.rules import (
    ARGUMENT,
    ENVIRONMENT,
    FIELD_NAME,
    SECRET,
    SECRET_FIELD,
    SECRET_FLAG,
    Scanner,
    marker,
    without,
)
from ringfence.evidence.redaction.tally import Tally

LARGEST = 16 << 20
"""Bytes of JSON that is taken apart: it is in memory as a whole."""
_DEEPEST = 8
"""Levels of JSON inside of texts."""


class NoJson(ValueError):
    """It cannot be read as JSON in one way only, or is too large. The words say why."""


class _Number(str):
    """A number as it was written."""


@dataclass
class Walker:
    """Takes what goes out of one document. ``learn`` hears the values that stood where only secrets stand."""

    item: str
    scanner: Scanner
    tally: Tally
    learn: Callable[[str], None] = lambda _value: None
    _path: list[str] = field(default_factory=list, init=False)
    _prefix: list[str] = field(default_factory=list, init=False)
    _depth: int = field(default=0, init=False)

    def redact(self, data: bytes) -> bytes:
        """The bytes themselves when nothing goes. Raises NoJson, EvidenceError."""
        value = parse(data)
        before = self.tally.counts.total()
        try:
            with self.scanner.rules.limited(self.item):
                changed = self._value(value, in_list_of_secrets=False)
        except RecursionError as error:
            raise NoJson("it is nested too deep") from error
        return data if self.tally.counts.total() == before else _dumps(changed).encode()

    def _value(self, value: object, *, in_list_of_secrets: bool) -> object:
        for rule in self.scanner.rules.fields:
            if rule.at(self.item, tuple(self._path)):
                return self._gone(value, rule.name)
        match value:
            case dict():
                return self._object(value, in_list_of_secrets)
            case list():
                return self._array(value, in_list_of_secrets)
            case str():
                return self._text(value)
            case _:
                return value

    def _object(self, value: dict[str, object], in_list_of_secrets: bool) -> dict[str, object]:
        kind = value.get("kind")
        secret = kind == "Secret" or (in_list_of_secrets and kind is None)
        variable = value.get("name")
        changed: dict[str, object] = {}
        for key, inner in value.items():
            name = self._key(key, changed)
            self._path.append(name)
            if secret and key in ("data", "stringData"):
                changed[name] = self._secret(inner, encoded=key == "data")
            elif isinstance(inner, str) and (
                key == "value" and isinstance(variable, str) and self.scanner.rules.is_secret_variable(variable)
            ):
                changed[name] = self._gone(inner, ENVIRONMENT)
            elif isinstance(inner, str) and inner and SECRET_FIELD.fullmatch(key):
                changed[name] = self._gone(inner, FIELD_NAME)
            else:
                changed[name] = self._value(inner, in_list_of_secrets=kind == "SecretList" and key == "items")
            self._path.pop()
        return changed

    def _array(self, value: list[object], in_list_of_secrets: bool) -> list[object]:
        changed: list[object] = []
        for number, inner in enumerate(value):
            self._path.append(str(number))
            before = value[number - 1] if number else None
            if isinstance(inner, str) and isinstance(before, str) and SECRET_FLAG.fullmatch(before):
                changed.append(self._gone(inner, ARGUMENT))
            else:
                changed.append(self._value(inner, in_list_of_secrets=in_list_of_secrets))
            self._path.pop()
        return changed

    def _secret(self, value: object, *, encoded: bool) -> object:
        """All values of a Secret, whatever their form."""
        if not isinstance(value, dict):
            return None if value is None else self._gone(value, SECRET)
        changed: dict[str, object] = {}
        for key, inner in value.items():
            name = self._key(key, changed)
            self._path.append(name)
            if encoded and isinstance(inner, str):
                with contextlib.suppress(binascii.Error):  # the API server gives no other; it goes as it is
                    self.learn(base64.b64decode(inner, validate=True).decode("utf-8", "surrogateescape"))
            changed[name] = self._gone(inner, SECRET)
            self._path.pop()
        return changed

    def _gone(self, value: object, rule: str) -> str:
        for text in _texts(value):
            self.learn(text)
        self._tell(rule)
        return marker(rule)

    def _text(self, value: str) -> str:
        if not isinstance(value, _Number) and value.lstrip()[:1] in ("{", "[") and self._depth < _DEEPEST:
            try:
                inner = parse(value.encode("utf-8", "surrogatepass"))
            except NoJson:
                pass
            else:
                return self._inside(value, inner)
        self.scanner.fresh()
        spans = self.scanner.scan(value)
        for span in spans:
            self._tell(span.rule)
        return without(value, spans) if spans else value

    def _inside(self, value: str, inner: object) -> str:
        before = self.tally.counts.total()
        path, self._path = self._path, []
        self._prefix.append("/".join(("", *map(_escaped, path))))
        self._depth += 1
        changed = self._value(inner, in_list_of_secrets=False)
        self._depth -= 1
        self._prefix.pop()
        self._path = path
        return value if self.tally.counts.total() == before else _dumps(changed)

    def _key(self, key: str, taken: dict[str, object]) -> str:
        """Names of members are texts too."""
        self.scanner.fresh()
        spans = self.scanner.scan(key)
        name = without(key, spans) if spans else key
        number = 1
        while name in taken:
            number += 1
            name = f"{without(key, spans)}#{number}"
        for span in spans:
            self._path.append(name)
            self._tell(span.rule)
            self._path.pop()
        return name

    def _tell(self, rule: str) -> None:
        pointer = "/".join(("", *map(_escaped, self._path)))
        self.tally.add(rule, "#".join((*self._prefix, pointer)))


def parse(data: bytes) -> object:
    """Numbers as they are written. Raises NoJson, also for two members of one name: programs differ about them."""
    if len(data) > LARGEST:
        raise NoJson(f"it is larger than {LARGEST} bytes")
    try:
        return json.loads(
            data, object_pairs_hook=_unique, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant
        )
    except RecursionError as error:
        raise NoJson("it is nested too deep") from error
    except ValueError as error:
        raise NoJson(str(error)[:200]) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("two members have one name")
    return found


def _no_constant(_word: str) -> object:
    raise ValueError("it has a number that JSON has not")


def _dumps(value: object) -> str:
    match value:
        case _Number():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{_dumps(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_dumps, value)) + "]"
        case _:
            return json.dumps(value)


def _texts(value: object) -> Iterable[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
