"""The rules: what is a secret by its looks, by its name or by its place, and what the configuration adds to that.

Every built-in expression is bounded, so that a hostile log costs time in proportion to its length. Those of the
configuration may be anything: the clock bounds them (``limited``).
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import NamedTuple

from ringfence.errors import ConfigError, EvidenceError

SECRET, ENVIRONMENT, FIELD_NAME, KNOWN = "kubernetes-secret", "environment", "secret-field", "known-value"
PRIVATE_KEY, TOO_LONG, ARGUMENT = "private-key", "line-too-long", "argument"
BUILT_IN = (
    SECRET,
    ENVIRONMENT,
    FIELD_NAME,
    ARGUMENT,
    PRIVATE_KEY,
    "jwt",
    "bearer-token",
    "authorization",
    "url-password",
    "aws-key",
    "named-secret",
    KNOWN,
    TOO_LONG,
)
ENV_NAMES: tuple[str, ...] = (
    "*PASSWORD*",
    "*PASSWD*",
    "*PASSPHRASE*",
    "*SECRET*",
    "*TOKEN*",
    "*API_KEY*",
    "*APIKEY*",
    "*ACCESS_KEY*",
    "*PRIVATE_KEY*",
    "*CREDENTIAL*",
    "*_DSN",
    "*CONNECTION_STRING*",
)
"""Names of environment variables whose values go, in whatever case."""

_TELLING = "(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)"
SECRET_FIELD = re.compile(rf"(?i).{{0,128}}{_TELLING}s?")
SECRET_FLAG = re.compile(rf"(?i)--?[\w-]{{0,64}}{_TELLING}")
_KEY_BEGINS = re.compile("-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS = re.compile("-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_LONGEST_KEY = 32 << 10
_GLUE = r"(?:[ \t:=\"'\\]|%20|%3[AaDd]){1,8}"
_SIMPLE = (
    ("bearer-token", re.compile(rf"(?i)bearer{_GLUE}([A-Za-z0-9._~+/=-]{{8,}})")),
    (
        "authorization",
        re.compile(rf"(?i)authorization{_GLUE}(?:(?:basic|bearer|token|digest|negotiate){_GLUE})?([^\s\"',;\\]{{6,}})"),
    ),
    ("url-password", re.compile(r"://[^\s/@:\"']{0,256}:([^\s/@\"']{1,1024})@")),
    ("aws-key", re.compile(r"(?<![A-Za-z0-9])((?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA)[A-Z0-9]{16})(?![A-Z0-9])")),
)
_NAMED = re.compile(
    rf"(?i){_TELLING}([\w.-]{{0,64}})[\"'\\]{{0,3}}[ \t]{{0,8}}[:=][ \t]{{0,8}}"
    r"(?:\\{1,4}\"([^\"\\\n]+)|\"((?:[^\"\\\n]|\\.)+)|'([^'\n]+)|([^\s,;&\"'(){}\[\]<>]+))"
)
_NO_SECRET = frozenset({"true", "false", "null", "none", "nil", "~", "|", "|-", ">", ">-", "&"})
_A_REFERENCE = ("name", "names", "ref", "seconds", "path", "namespace", "count", "type", "kind", "uid")
_DOTTED = re.compile(r"[A-Za-z0-9_.-]{20,}+")


class Span(NamedTuple):
    """Characters from ``start`` to before ``end`` that go."""

    start: int
    end: int
    rule: str


@dataclass(frozen=True)
class Pattern:
    """A regular expression of the configuration, tried on each line by itself. Its group ``redact``, if it has one, is
    what goes; else all of the match."""

    name: str
    expression: re.Pattern[str]


@dataclass(frozen=True)
class FieldRule:
    """``path`` is a JSON pointer (RFC 6901) in parts, in which ``*`` stands for any one part; ``items`` a glob."""

    name: str
    items: str
    path: tuple[str, ...]

    def at(self, item: str, path: tuple[str, ...]) -> bool:
        return (
            len(path) == len(self.path)
            and all(mine in ("*", theirs) for mine, theirs in zip(self.path, path, strict=True))
            and fnmatch.fnmatchcase(item, self.items)
        )


@dataclass(frozen=True)
class Rules:
    """What goes. ``omit``: globs of items that are left out. ``seconds`` bounds the patterns, on each piece of text."""

    patterns: tuple[Pattern, ...] = ()
    fields: tuple[FieldRule, ...] = ()
    omit: tuple[str, ...] = ()
    env_names: tuple[str, ...] = ENV_NAMES
    seconds: float = 5.0

    def names(self) -> Iterator[str]:
        yield from BUILT_IN
        yield from (one.name for one in self.patterns)
        yield from (one.name for one in self.fields)
        yield from (f"item:{glob}" for glob in self.omit)

    def is_secret_variable(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name.upper(), glob.upper()) for glob in self.env_names)

    @contextlib.contextmanager
    def limited(self, item: str) -> Iterator[None]:
        """Patterns of the configuration run against the clock: Python's engine can be interrupted by a signal alone.

        Raises EvidenceError when they took longer than ``seconds``, ConfigError outside the process's main thread.
        """
        if not self.patterns:
            yield
            return
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError(
                "patterns cannot be bounded in time here",
                location="disclosure.patterns",
                why="it is not the process's main thread",
                next_step="ringfence evidence disclose",
            )

        def ring(_number: int, _frame: FrameType | None) -> None:
            raise _TooSlow

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        except _TooSlow as error:
            raise EvidenceError(
                f"the patterns of disclosure.patterns took longer than {self.seconds:g} seconds on a piece of {item}",
                why="nothing was disclosed: what was not searched may hold what they look for",
                next_step="bound their repetitions ({0,64} and not *), or raise disclosure.pattern_seconds",
            ) from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class _TooSlow(BaseException):
    """No Exception: nothing between the alarm and ``limited`` may take it for an error of its own."""


@dataclass
class Scanner:
    """Finds what goes in one item's texts, piece after piece. A private key may begin in one piece and end in another.

    ``known``: what ``Hunt.pattern`` gave. ``learn`` hears each value that a rule found.
    """

    rules: Rules
    known: re.Pattern[str] | None = None
    learn: Callable[[str], None] = lambda _value: None
    _key_left: int = field(default=0, init=False)

    def scan(self, text: str) -> list[Span]:
        """What goes, in order, without overlaps."""
        found = [*self._keys(text), *_built_in(text), *self._patterns(text)]
        for span in found:
            self.learn(text[span.start : span.end])
        if self.known is not None:
            found += [Span(one.start(1), one.end(1), KNOWN) for one in self.known.finditer(text)]
        return _merged(found)

    def fresh(self) -> None:
        """The next text has nothing to do with the one before."""
        self._key_left = 0

    def _keys(self, text: str) -> Iterator[Span]:
        start = 0
        while True:
            if self._key_left == 0:
                begun = _KEY_BEGINS.search(text, start)
                if begun is None:
                    return
                start, self._key_left = begun.start(), _LONGEST_KEY
            most = min(len(text), start + self._key_left)
            ended = _KEY_ENDS.search(text, start, most)
            if ended is not None:
                self._key_left = 0
                yield Span(start, ended.end(), PRIVATE_KEY)
                start = ended.end()
                continue
            self._key_left -= most - start
            if most > start:
                yield Span(start, most, PRIVATE_KEY)
            if most == len(text):
                return
            self._key_left, start = 0, most

    def _patterns(self, text: str) -> Iterator[Span]:
        if not self.rules.patterns:
            return
        start = 0
        for line in text.split("\n"):
            for pattern in self.rules.patterns:
                group: int | str = "redact" if "redact" in pattern.expression.groupindex else 0
                for one in pattern.expression.finditer(line):
                    if one.end(group) > one.start(group):
                        yield Span(start + one.start(group), start + one.end(group), pattern.name)
            start += len(line) + 1


def _built_in(text: str) -> Iterator[Span]:
    if "eyJ" in text:
        for run in _DOTTED.finditer(text):
            begins = text.find("eyJ", run.start(), run.end())
            if begins >= 0 and text.find(".", begins, run.end()) >= 0:
                yield Span(begins, run.end(), "jwt")
    for name, expression in _SIMPLE:
        for one in expression.finditer(text):
            yield Span(one.start(1), one.end(1), name)
    for one in _NAMED.finditer(text):
        value = next(number for number in (2, 3, 4, 5) if one.start(number) >= 0)
        if one[value].lower() in _NO_SECRET or one[1].lower().endswith(_A_REFERENCE):
            continue
        yield Span(one.start(value), one.end(value), "named-secret")


def _merged(found: list[Span]) -> list[Span]:
    found.sort(key=lambda span: (span.start, -span.end))
    merged: list[Span] = []
    for span in found:
        if merged and span.start < merged[-1].end:
            if span.end > merged[-1].end:
                merged[-1] = merged[-1]._replace(end=span.end)
        else:
            merged.append(span)
    return merged


def marker(rule: str) -> str:
    """What stands in the place of what went."""
    return f"[redacted:{rule}]"


def without(text: str, spans: list[Span]) -> str:
    """The text with a marker in the place of each span."""
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], marker(span.rule)]
        end = span.end
    return "".join((*parts, text[end:]))
