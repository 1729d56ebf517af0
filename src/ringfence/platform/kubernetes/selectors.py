"""Label selectors, as the API server reads them. Pure.

Two shapes exist. A ``metav1.LabelSelector`` (ReplicaSet, NetworkPolicy, PodDisruptionBudget) has ``matchLabels`` and
``matchExpressions``; the empty one selects everything, an absent one nothing. A plain map (Service,
ReplicationController) selects by equality; the empty one selects nothing.

Rule source: k8s.io/apimachinery ``LabelSelectorAsSelector`` and ``labels.Requirement.Matches``: every requirement must
hold, and NotIn holds too for a label that is absent. What is not understood raises :class:`SelectorError`; it is never
read as "everything".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ringfence.errors import ExitCode, RingfenceError

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_UNSHOWABLE = re.compile(r"[^A-Za-z0-9._/:-]")

TRACKING_LABELS = frozenset({"app.kubernetes.io/instance", "argocd.argoproj.io/instance"})
"""Labels by which Argo CD may claim an object for an Application (its label tracking, and its own label key)."""


class SelectorError(RingfenceError, ValueError):
    """A selector that cannot be read as the API defines it, or cannot be sent as a query."""

    code = "selector"
    exit_code = ExitCode.INCOMPLETE


class Operator(StrEnum):
    """Operators of ``matchExpressions``; ``matchLabels`` is In with one value."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One condition on one label. ``values`` is sorted, without repeats, and empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case Operator.IN:
                return self.key in labels and labels[self.key] in self.values
            case Operator.NOT_IN:
                return self.key not in labels or labels[self.key] not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels

    @property
    def is_positive(self) -> bool:
        """Whether it fails for every object that lacks the label."""
        return self.operator in (Operator.IN, Operator.EXISTS)

    def render(self, key: str, values: tuple[str, ...]) -> str:
        """The condition in the grammar of the ``labelSelector`` query parameter."""
        match self.operator:
            case Operator.IN if len(values) == 1:
                return f"{key}={values[0]}"
            case Operator.NOT_IN if len(values) == 1:
                return f"{key}!={values[0]}"
            case Operator.IN:
                return f"{key} in ({','.join(values)})"
            case Operator.NOT_IN:
                return f"{key} notin ({','.join(values)})"
            case Operator.EXISTS:
                return key
            case Operator.DOES_NOT_EXIST:
                return f"!{key}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A selector in normal form: all of ``requirements`` (sorted, no repeats) must hold; none of them: everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def selects_everything(self) -> bool:
        return not self.requirements

    @property
    def required_keys(self) -> frozenset[str]:
        """Labels without any one of which an object cannot be selected (In, Exists)."""
        return frozenset(requirement.key for requirement in self.requirements if requirement.is_positive)

    def to_query(self) -> str:
        """The value of the ``labelSelector`` query parameter, before URL encoding; ``""`` selects everything.

        Raises SelectorError for a key or value that no label can have: older servers stored such selectors, and a
        comma or bracket in one would change the meaning of the query.
        """
        for requirement in self.requirements:
            if not _is_label_key(requirement.key) or not all(map(_is_label_value, requirement.values)):
                raise SelectorError(
                    "the selector cannot be sent as a query",
                    why=f"no label can satisfy {_shown(requirement)}",
                    next_step="list without a selector and match the labels of what comes back",
                )
        return ",".join(requirement.render(requirement.key, requirement.values) for requirement in self.requirements)

    def __str__(self) -> str:
        """For people: the query's grammar, hostile characters escaped."""
        return ",".join(map(_shown, self.requirements)) or "everything"


def parse(selector: Mapping[str, Any]) -> LabelSelector:
    """A ``metav1.LabelSelector`` in normal form. Raises SelectorError for what the API would not accept."""
    _refuse_unknown(selector, {"matchLabels", "matchExpressions"}, "selector")
    labels = selector.get("matchLabels")
    expressions = selector.get("matchExpressions")
    if labels is not None and not isinstance(labels, Mapping):
        raise SelectorError("the selector cannot be read", why="matchLabels is not a map")
    if expressions is not None and not isinstance(expressions, list | tuple):
        raise SelectorError("the selector cannot be read", why="matchExpressions is not a list")
    equalities = [_equality(key, value) for key, value in (labels or {}).items()]
    return LabelSelector(tuple(sorted({*equalities, *map(_expression, expressions or ())})))


def parse_map(selector: Mapping[str, str]) -> LabelSelector:
    """A non-empty plain map, as in a Service, in normal form. The empty one selects nothing: SelectorError."""
    if not selector:
        raise SelectorError("the selector cannot be read", why="an empty map selector selects nothing")
    return LabelSelector(tuple(sorted(_equality(key, value) for key, value in selector.items())))


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a ``metav1.LabelSelector`` selects an object with these labels. ``{}`` everything, None nothing.

    Raises SelectorError for an unknown operator or member, whatever the labels.
    """
    return selector is not None and parse(selector).matches(labels)


def matches_map(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    """Whether a plain map selector (Service, ReplicationController) selects these labels. Empty or None: nothing."""
    return bool(selector) and parse_map(selector or {}).matches(labels)


def to_query(selector: Mapping[str, Any] | None) -> str:
    """The ``labelSelector`` query parameter for a ``metav1.LabelSelector``.

    None selects nothing, which the parameter cannot say (an empty one selects everything): SelectorError.
    """
    if selector is None:
        raise SelectorError(
            "the selector cannot be sent as a query",
            why="an absent selector selects nothing, an empty query everything",
            next_step="do not list at all: the result is empty",
        )
    return parse(selector).to_query()


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels of an object as the server sent it; empty when it has none."""
    return (obj.get("metadata") or {}).get("labels") or {}


def printable(text: str) -> str:
    """Text of unknown origin made safe for a terminal or a page: all but ``A-Z a-z 0-9 . _ / : -`` as an escape.

    What names, label keys and label values may hold stays as it is, but for the backslash escapes of the rest.
    """
    return _UNSHOWABLE.sub(_escape, text)


def _escape(character: re.Match[str]) -> str:
    code = ord(character.group())
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _shown(requirement: Requirement) -> str:
    return requirement.render(printable(requirement.key), tuple(map(printable, requirement.values)))


def _equality(key: object, value: object) -> Requirement:
    return Requirement(_text(key, "a label key"), Operator.IN, (_text(value, "a label value"),))


def _expression(expression: object) -> Requirement:
    if not isinstance(expression, Mapping):
        raise SelectorError("the selector cannot be read", why="a member of matchExpressions is not a map")
    _refuse_unknown(expression, {"key", "operator", "values"}, "match expression")
    key = _text(expression.get("key"), "the key of a match expression")
    name = _text(expression.get("operator"), "an operator")
    try:
        operator = Operator(name)
    except ValueError:
        raise SelectorError(
            "the selector cannot be read",
            why=f"unknown operator {printable(name)} on {printable(key)}",
            next_step="known are In, NotIn, Exists and DoesNotExist",
        ) from None
    values = expression.get("values") or ()
    if not isinstance(values, list | tuple):
        raise SelectorError("the selector cannot be read", why=f"the values of {printable(key)} are not a list")
    if bool(values) != (operator in (Operator.IN, Operator.NOT_IN)):
        need = "needs values" if not values else "takes no values"
        raise SelectorError("the selector cannot be read", why=f"{operator} on {printable(key)} {need}")
    return Requirement(key, operator, tuple(sorted({_text(value, "a label value") for value in values})))


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise SelectorError("the selector cannot be read", why=f"{what} is not a string")
    return value


def _refuse_unknown(obj: Mapping[str, Any], known: set[str], what: str) -> None:
    if unknown := sorted(map(str, obj.keys() - known)):
        raise SelectorError(
            "the selector cannot be read",
            why=f"unknown member of a {what}: {', '.join(map(printable, unknown))}",
            next_step="a newer API may have added it: check this version's release notes",
        )


def _is_label_value(value: str) -> bool:
    return value == "" or _NAME.fullmatch(value) is not None


def _is_label_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return _NAME.fullmatch(name) is not None and (not slash or _DNS_SUBDOMAIN.fullmatch(prefix) is not None)
