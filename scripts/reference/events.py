"""``docs/reference/events.md``: the timeline's events and what is in them, from their own classes."""

from __future__ import annotations

import types
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ringfence.model import outcome, timeline
from ringfence.model.base import Instant, Json, Noun
from scripts.reference.text import code, doc, document, sentence, table

_NAMES = {str: "text", int: "number", bool: "true or false"}
_SHARED = ("occurred_at", "actor")


def page() -> str:
    events = get_args(get_args(timeline.Event)[0])
    nouns = sorted({noun.__name__: noun for event in events for noun in _nouns(event)}.items())
    return document(
        "Events of the timeline",
        "An incident's timeline is a list of these, in a hash chain, never edited. `ringfence timeline INC-1` prints "
        "it, `-o json` gives every member, a bundle carries its text byte for byte "
        "([bundle format](bundle-format.md#timelinejsonl)).",
        f"Every event has `type`, {' and '.join(map(code, _SHARED))}. `occurred_at` is when the fact happened; "
        "`recorded_at`, which is hashed with it, is when it was written down. `actor` is the principal's id: who "
        "vouches, a slash, whom. Members that do not apply are there, empty "
        "or null.",
        *(_event(event) for event in events),
        "## Parts",
        "What the events are made of.",
        *(_noun(noun) for _, noun in nouns),
    )


def _event(event: type[Noun]) -> str:
    kind = event.model_fields["type"].default
    words = doc(event) if event.__doc__ else _UNDOCUMENTED[kind]
    return f"## {kind}\n\n{words}\n\n" + _members(event, skip=("type", *_SHARED))


_UNDOCUMENTED = {
    "incident.state": "The incident went from one state to the next.",
    "plan.made": "A plan, before anything of it is sent: its requests in words, what it destroys, who will feel it.",
    "change.result": "What became of one request. `sent_at` is empty when it was looked up and not sent.",
    "step.finished": "The end of a step: its outcome, and how well it is shown.",
    "evidence.acquired": "One item was acquired, or could not be had; then `reason` says why.",
    "evidence.sealed": "A bundle was written and signed.",
    "access.accepted": "A person took an open row on.",
    "note.added": "A person's words.",
    "approval.requested": "A run waits for a person. `ceiling` is the most that a yes would allow.",
    "lease.granted": "Until then the cut stands without anybody having to look again.",
    "report.written": "The report was written. Names and digests of its files.",
}


def _noun(noun: type[Noun]) -> str:
    return f"### {noun.__name__}\n\n{sentence(noun)}\n\n" + _members(noun)


def _members(noun: type[Noun], skip: tuple[str, ...] = ()) -> str:
    rows = [(code(name), _type(field.annotation)) for name, field in noun.model_fields.items() if name not in skip]
    return table(("member", "type"), rows)


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation == outcome.Outcome or set(arguments) == set(get_args(get_args(outcome.Outcome)[0])):
        return "one of " + ", ".join(_link(one) for one in get_args(get_args(outcome.Outcome)[0]))
    if annotation in (Instant, get_args(Instant)[0]):
        return "time"
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(map(code, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_type(one) if one is not types.NoneType else "null" for one in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if annotation == Json or annotation is Any:
        return "JSON"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(code(member.value) for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, Noun):
        return _link(annotation)
    return _NAMES[annotation]


def _link(noun: type[Noun]) -> str:
    return f"[{noun.__name__}](#{noun.__name__.lower()})"


def _nouns(noun: type[Noun]) -> Iterator[type[Noun]]:
    """The nouns inside a noun, all the way down."""
    for field in noun.model_fields.values():
        for inner in _inside(field.annotation):
            yield inner
            yield from _nouns(inner)


def _inside(annotation: Any) -> Iterator[type[Noun]]:
    if isinstance(annotation, type) and issubclass(annotation, Noun):
        yield annotation
    for argument in get_args(annotation):
        yield from _inside(argument)
