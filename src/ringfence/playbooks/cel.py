"""Conditions in CEL, with limits.

The library evaluates whatever it is given, on the stack and without end: a long sum or deep brackets end the process,
three comprehensions inside each other hold it for many seconds. So an expression is read here first, word by word, and
only a small language passes: comparisons of text, ``&& || ! in ?:``, lists, the functions and macros named below, the
variables of a run. It computes nothing: no arithmetic, no maps, no regular expressions, no conversions. What passes is
bounded in length, brackets and comprehensions; the values are bounded too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ringfence.playbooks.cel_library import library
from ringfence.playbooks.errors import CelError, legible

MAX_LENGTH = 2048
MAX_TOKENS = 400
MAX_BRACKETS = 16
MAX_COMPREHENSIONS = 2
MAX_ITEMS = 100
MAX_TEXT = 4096

VARIABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "incident": ("id", "type", "severity", "state", "title"),
        "target": ("kind", "namespace", "name"),
        "steps": (),
    }
)
"""What a condition may ask for. ``steps`` is by id of an earlier step: ``steps.cut.outcome``."""
OF_STEP = ("outcome", "on_target")
"""``on_target`` is the outcome on the very target that the step which asks is about."""
FUNCTIONS = ("has", "size")
METHODS = ("contains", "startsWith", "endsWith", "size")
MACROS = ("all", "exists", "exists_one", "filter")

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*')
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?(?![\w.]))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>&&|\|\||[=!<>]=|[<>!?:.,()\[\]])""",
    re.VERBOSE | re.ASCII,
)
_LITERALS = frozenset({"true", "false", "null"})
_OPENING = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Expression:
    """A condition that may be evaluated. ``steps`` are the earlier steps that it names; ``paths`` every value that it
    asks for, such as ``("incident", "severity")``; a path of one word means that the variable is used as a whole."""

    text: str
    where: str
    paths: frozenset[tuple[str, ...]]
    program: Any = field(repr=False, compare=False)

    @property
    def steps(self) -> frozenset[str]:
        return frozenset(path[1] for path in self.paths if path[0] == "steps" and len(path) > 1)


@functools.lru_cache(maxsize=256)
def compile_expression(text: str, where: str) -> Expression:
    """Read and compile. ``where`` names the condition in messages. Raises CelError."""
    paths = _Checker(text, where).check()
    try:
        program = library().compile(text)
    except BaseException as error:
        raise _translated(error, where, "it is not CEL", "correct the expression") from error
    return Expression(text, where, paths, program)


def evaluate(expression: Expression | str, variables: Mapping[str, Any], where: str = "when") -> bool:
    """Whether the condition holds. ``variables`` are those of VARIABLES. Raises CelError when that cannot be told:
    a name that is missing, a type that does not fit, an answer that is neither true nor false."""
    if isinstance(expression, str):
        expression = compile_expression(expression, where)
    where = expression.where
    _check_values(variables, where)
    try:
        answer = expression.program.execute(dict(variables))
    except KeyError as error:
        name = legible(error.args[0]) if error.args else "?"
        raise CelError(
            where, f"there is no {name} here", next_step="ask first whether it is there, with has() or `in`"
        ) from error
    except BaseException as error:
        raise _translated(error, where, "it cannot be evaluated", "compare values of one type") from error
    if type(answer) is not bool:
        raise CelError(where, f"its answer is {legible(answer)}", next_step="write a comparison: true or false")
    return answer


def rehearse(expression: Expression, steps: Iterable[str]) -> None:
    """Try a condition on made-up values, so that one which can never work is found when its playbook is read.

    Raises CelError.
    """
    values = {name: dict.fromkeys(fields, "x") for name, fields in VARIABLES.items() if fields}
    outcomes = {name: dict.fromkeys(OF_STEP, "applied") for name in {*steps, *expression.steps}}
    evaluate(expression, {**values, "steps": outcomes})


def _translated(error: BaseException, where: str, what: str, next_step: str) -> CelError:
    """The library's error as ours; what is not the library's goes on."""
    if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":  # Ctrl-C and its like
        raise error
    return CelError(where, f"{what} ({legible(error, 160)})", next_step=next_step)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


@dataclass
class _Bracket:
    """An open bracket; ``bound`` is the variable of a comprehension, empty for others."""

    closing: str
    bound: str = ""
    items: int = 1


class _Checker:
    """One pass over the words: refuses what is not in the language or over a limit, and collects what is asked for."""

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        if len(text) > MAX_LENGTH or len(text.encode("utf-8", "surrogatepass")) > MAX_LENGTH:
            raise self._error(f"it is longer than {MAX_LENGTH} bytes", "split the step, or simplify the condition")
        self._tokens = self._read(text)
        self._open: list[_Bracket] = []
        self._paths: set[tuple[str, ...]] = set()

    def check(self) -> frozenset[tuple[str, ...]]:
        if not self._tokens:
            raise self._error("it is empty", "write a comparison, or leave `when` out")
        for place, token in enumerate(self._tokens):
            match token.kind:
                case "word":
                    self._word(place, token)
                case "text" if self._mark(place + 1, kind="text"):
                    raise self._refused(self._tokens[place + 1], "put an operator between two texts")
                case "number" if token.text[0] == "-" and self._ends_value(place - 1):
                    raise self._refused(token, _advice("-"))
                case "mark":
                    self._bracket(place, token)
                case _:
                    pass
        if self._open:
            raise self._error(f"a {self._open[-1].closing} is missing", "close every bracket")
        return frozenset(self._paths)

    def _read(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._refused(_Token("", text[at : at + 12], at), _advice(text[at]))
            if found.lastgroup != "space":
                tokens.append(_Token(str(found.lastgroup), found.group(), at))
            at = found.end()
        if len(tokens) > MAX_TOKENS:
            raise self._error(f"it has more than {MAX_TOKENS} words and marks", "simplify the condition")
        return tokens

    def _word(self, place: int, token: _Token) -> None:
        if self._mark(place + 1, kind="text"):
            raise self._refused(token, "write the text without a prefix")
        called = self._mark(place + 1, "(")
        if self._mark(place - 1, "."):
            if called and token.text not in (*METHODS, *MACROS):
                raise self._refused(token, f"use one of {', '.join((*METHODS, *MACROS))}")
        elif token.text in _LITERALS or token.text == "in":
            return
        elif called:
            if token.text not in FUNCTIONS:
                raise self._refused(token, f"use one of {', '.join(FUNCTIONS)}")
        elif not self._is_bound(token.text):
            self._variable(place, token)

    def _is_bound(self, name: str) -> bool:
        return any(bracket.bound == name for bracket in self._open)

    def _variable(self, place: int, token: _Token) -> None:
        if token.text not in VARIABLES:
            raise self._refused(token, f"use one of {', '.join(VARIABLES)}")
        path = [token.text, *self._fields(place + 1)]
        known = VARIABLES[token.text]
        if known and len(path) == 2 and path[1] not in known:
            raise self._error(f"{token.text} has no {legible(path[1])}", f"use one of {', '.join(known)}")
        if len(path) == 3 and (token.text != "steps" or path[2] not in OF_STEP):
            raise self._error(f"{'.'.join(path)} is nothing", "ask for steps.ID.outcome, incident.NAME or target.NAME")
        if len(path) == 1 and not self._as_range(place, token):
            raise self._error(f"{token.text} is used as a whole", f"ask for one value of it: {token.text}.NAME")
        self._paths.add(tuple(path))

    def _fields(self, place: int) -> list[str]:
        """The members that are asked for by name, from ``place`` on: ``.cut.outcome`` or ``['seal-pod'].outcome``."""
        names: list[str] = []
        while len(names) < 3:
            name = self._token(place + 1)
            if self._mark(place, ".") and name.kind == "word" and not self._mark(place + 2, "("):
                names.append(name.text)
                place += 2
            elif (
                self._mark(place, "[") and name.kind == "text" and "\\" not in name.text and self._mark(place + 2, "]")
            ):
                names.append(name.text[1:-1])
                place += 3
            else:
                break
        return names

    def _as_range(self, place: int, token: _Token) -> bool:
        """Whether the steps as a whole are looked through, and not compared or copied: that has no bound."""
        if token.text != "steps":
            return False
        before, after = self._token(place - 1), self._token(place + 1)
        method = self._token(place + 2).text if after.text == "." else ""
        counted = self._token(place - 2).text == "size" and before.text == "(" and after.text == ")"
        return before.text == "in" or method in (*MACROS, "size") or counted or self._by_variable(place)

    def _by_variable(self, place: int) -> bool:
        """``steps[a]``, with the variable of a comprehension."""
        return self._mark(place + 1, "[") and self._is_bound(self._token(place + 2).text)

    def _bracket(self, place: int, token: _Token) -> None:
        if token.text in _OPENING:
            if len(self._open) >= MAX_BRACKETS:
                raise self._error(f"its brackets are deeper than {MAX_BRACKETS}", "simplify the condition")
            self._open.append(_Bracket(_OPENING[token.text], self._bound_by(place)))
        elif token.text in _OPENING.values():
            if not self._open or self._open.pop().closing != token.text:
                raise self._refused(token, "close brackets in the order in which they were opened")
        elif token.text == "," and self._open:
            self._open[-1].items += 1
            if self._open[-1].items > MAX_ITEMS:
                raise self._error(f"a list has more than {MAX_ITEMS} items", "shorten it")
        elif token.text == "." and not self._ends_value(place - 1):
            raise self._refused(token, "put a name before the dot")

    def _ends_value(self, place: int) -> bool:
        token = self._token(place)
        return token.kind in ("word", "text", "number") or token.text in (")", "]")

    def _bound_by(self, place: int) -> str:
        """The variable when the bracket at ``place`` opens a macro, else empty."""
        if not (self._token(place - 1).text in MACROS and self._mark(place - 2, ".")):
            return ""
        variable = self._token(place + 1)
        if variable.kind != "word" or variable.text in (*VARIABLES, *_LITERALS, "in"):
            raise self._refused(variable, "begin with a variable of your own: steps.exists(s, …)")
        if 1 + sum(1 for bracket in self._open if bracket.bound) > MAX_COMPREHENSIONS:
            raise self._error(f"comprehensions are deeper than {MAX_COMPREHENSIONS}", "simplify the condition")
        return variable.text

    def _token(self, place: int) -> _Token:
        return self._tokens[place] if 0 <= place < len(self._tokens) else _Token("", "", 0)

    def _mark(self, place: int, text: str = "", *, kind: str = "mark") -> bool:
        token = self._token(place)
        return token.kind == kind and (not text or token.text == text)

    def _refused(self, token: _Token, next_step: str) -> CelError:
        shown = legible(token.text) or "its end"
        return self._error(f"{shown} is not allowed at character {token.at + 1}", next_step)

    def _error(self, why: str, next_step: str) -> CelError:
        return CelError(self._where, why, next_step=next_step)


def _advice(character: str) -> str:
    if character in "+-*/%":
        return "a condition compares and does not compute (a step's id with a dash: steps['seal-pod'].outcome)"
    if character in "'\"":
        return "close the text on its line"
    if character == "=":
        return "compare with =="
    if character in "&|":
        return "write && and ||"
    return "see the reference of playbooks"


def _check_values(variables: Mapping[str, Any], where: str) -> None:
    """Refuse values of another shape than VARIABLES says: the library walks into what it gets, however deep."""
    for name, value in variables.items():
        if name not in VARIABLES:
            raise CelError(where, f"{legible(name)} is no variable", next_step=f"give {', '.join(VARIABLES)}")
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            raise CelError(where, f"{name} is no mapping of at most {MAX_ITEMS} values", next_step="give less")
        for key, member in value.items():
            if name == "steps" and isinstance(member, dict) and set(OF_STEP).issuperset(member):
                _check_texts(f"{name}.{key}", (key, *member.values()), where)
            else:
                _check_texts(f"{name}.{key}", (key, member), where)


def _check_texts(name: str, texts: Iterable[Any], where: str) -> None:
    for text in texts:
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            words = f"{legible(name)} is no text of at most {MAX_TEXT} characters"
            raise CelError(where, words, next_step="give texts")
