"""The shape of a playbook's file, as pydantic models; what is wrong with one, in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ringfence.model.playbook import IncidentTemplate, Label, Line, Phase, Reactions, TargetKind, Text
from ringfence.playbooks.errors import Mistake, legible
from ringfence.playbooks.tree import Path, Tree

API_VERSION = "ringfence.dev/v1"
MAX_STEPS = 64


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metadata(_Part):
    """``name`` is that of the file."""

    name: Label
    title: Line
    description: Text


class StepEntry(_Part):
    """One step, as it is written. ``with`` depends on ``action``; ``when`` is a CEL expression."""

    id: Label
    title: Line
    action: str
    phase: Phase
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    when: Annotated[str, Field(min_length=1)] | None = None
    on: Reactions = Reactions()


class Spec(_Part):
    """``incident`` is what is declared when the target belongs to none; ``targets`` what it may be started on."""

    incident: IncidentTemplate
    targets: Annotated[tuple[TargetKind, ...], Field(min_length=1)]
    steps: Annotated[tuple[StepEntry, ...], Field(min_length=1, max_length=MAX_STEPS)]


class Document(_Part):
    """A file."""

    api_version: Literal["ringfence.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["Playbook"]
    metadata: Metadata
    spec: Spec


_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): Document,
    ("metadata",): Metadata,
    ("spec",): Spec,
    ("spec", "incident"): IncidentTemplate,
    ("spec", "steps"): StepEntry,
    ("spec", "steps", "on"): Reactions,
}


def mistakes(
    error: ValidationError, tree: Tree, prefix: Path = (), params: type[BaseModel] | None = None
) -> list[Mistake]:
    """What pydantic found, at its line, and what to do. ``params`` is the model of the step's ``with``."""
    found = []
    for problem in error.errors(include_url=False):
        path = (*prefix, *problem["loc"])
        if path in tree.broken:
            continue
        names = tuple(part for part in path if isinstance(part, str))
        model = params if names[:3] == ("spec", "steps", "with") else _MODELS.get(names[:-1])
        what, next_step = _words(problem, _dotted(path), str(path[-1]) if path else "", model)
        found.append(Mistake(tree.line_of(path), what, next_step))
    return found


def near(word: str, known: Iterable[str]) -> str:
    """What to write instead of ``word``."""
    choices = [str(one) for one in known]
    close = difflib.get_close_matches(word[:80], choices, n=1)
    listed = ", ".join(choices)
    return f"did you mean {close[0]}? (one of {listed})" if close else f"use one of {listed}"


def _words(problem: Any, where: str, key: str, model: type[BaseModel] | None) -> tuple[str, str]:
    given = problem["input"]
    match problem["type"]:
        case "missing":
            return f"{where} is missing", "add it"
        case "extra_forbidden":
            known = _keys(model) if model else []
            return f"there is no key {where}", near(key, known) if known else "remove it: nothing can be set here"
        case "enum" | "literal_error":
            choices = str(problem["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
            return f"{where} cannot be {legible(given)}", near(str(given), choices)
        case "string_type":
            return f"{where} is {_kind(given)} and not text", "put it in quotes" if _is_scalar(
                given
            ) else "write a text"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{where} is {_kind(given)} and not a mapping", "write `key: value` lines below it"
        case "tuple_type" | "list_type":
            return f"{where} is {_kind(given)} and not a list", "write `- item` lines below it"
        case "value_error":
            return f"{where} is not usable as {legible(given)}", str(problem["ctx"]["error"])
        case _:
            return f"{where} is not usable as {legible(given)}", str(problem["msg"]).replace("Input", "it", 1)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _dotted(path: Path) -> str:
    words = ""
    for part in path:
        words += f"[{part}]" if isinstance(part, int) else f".{legible(part)}"
    return f"`{words.lstrip('.')}`" if words else "the file"


def _is_scalar(given: Any) -> bool:
    return isinstance(given, bool | int | float)


def _kind(given: Any) -> str:
    match given:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"
