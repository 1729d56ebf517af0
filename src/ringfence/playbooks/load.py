"""A file's bytes to a Playbook, or everything that is wrong with them at once."""

from __future__ import annotations

import functools
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from ringfence.model.catalogue import CATALOGUE, parse_params
from ringfence.model.playbook import Playbook, Step
from ringfence.playbooks import cel, tree
from ringfence.playbooks.document import Document, StepEntry, mistakes, near
from ringfence.playbooks.errors import CelError, Mistake, PlaybookError, legible
from ringfence.playbooks.tree import Path, Tree

SUFFIX = ".yaml"


@functools.lru_cache(maxsize=64)  # The engine asks for the frozen playbook at every step.
def load(content: bytes, source: str) -> Playbook:
    """The playbook in ``content``. ``source`` names it in messages; when it ends in ``.yaml``, its stem is the name.

    Raises PlaybookError with every mistake and its line. Conditions are tried, never trusted: see ``cel``.
    """
    read = tree.read(content)
    wrong = list(read.mistakes)
    if read.data is None and wrong:
        raise PlaybookError(source, wrong)
    document: Document | None = None
    try:
        document = Document.model_validate(read.data)
    except ValidationError as error:
        wrong += mistakes(error, read)
    steps = _check_steps(read, wrong)
    wrong += _check_name(read, source, wrong)
    if wrong or document is None:
        raise PlaybookError(source, wrong)
    return Playbook(
        name=document.metadata.name,
        title=document.metadata.title,
        description=document.metadata.description,
        incident=document.spec.incident,
        targets=document.spec.targets,
        steps=tuple(_step(entry) for entry in steps),
    )


def _step(entry: StepEntry) -> Step:
    return Step(
        id=entry.id,
        title=entry.title,
        action=entry.action,
        phase=entry.phase,
        params=entry.with_,
        when=entry.when,
        on=entry.on,
    )


def _check_steps(read: Tree, wrong: list[Mistake]) -> list[StepEntry]:
    """Each step by itself, so that a mistake in one hides none in the others."""
    entries: list[StepEntry] = []
    first: dict[str, int] = {}
    for place, raw in enumerate(_list(read.data, "spec", "steps")):
        path: Path = ("spec", "steps", place)
        if isinstance(raw, dict):
            wrong += _check_action(read, path, raw)
            wrong += _check_condition(read, path, raw, tuple(first))
            wrong += _check_id(read, path, raw, first)
        try:
            entries.append(StepEntry.model_validate(raw))
        except ValidationError:
            continue  # said already, by the whole document
    return entries


def _text(read: Tree, path: Path, raw: dict[str, Any], key: str) -> str | None:
    """The text under ``key``; None when there is none, or none that is worth a further word."""
    value = raw.get(key)
    return value if isinstance(value, str) and (*path, key) not in read.broken else None


def _check_id(read: Tree, path: Path, raw: dict[str, Any], first: dict[str, int]) -> list[Mistake]:
    name, line = _text(read, path, raw, "id"), read.line_of((*path, "id"))
    if name is None:
        return []
    if name in first:
        return [Mistake(line, f"the step {legible(name)} is there twice (line {first[name]})", "rename one")]
    first[name] = line
    return []


def _check_action(read: Tree, path: Path, raw: dict[str, Any]) -> list[Mistake]:
    action = _text(read, path, raw, "action")
    if action is None:
        return []  # missing, or no text: the document's own check says so
    if action not in CATALOGUE:
        what = f"there is no action {legible(action)}"
        return [Mistake(read.line_of((*path, "action")), what, near(action, CATALOGUE))]
    given = raw.get("with", {})
    if not isinstance(given, dict):
        return []
    try:
        parse_params(action, given)
    except ValidationError as error:
        return mistakes(error, read, (*path, "with"), CATALOGUE[action].params)
    return []


def _check_condition(read: Tree, path: Path, raw: dict[str, Any], earlier: tuple[str, ...]) -> list[Mistake]:
    text = _text(read, path, raw, "when")
    if not text:
        return []
    line = read.line_of((*path, "when"))
    where = f"the `when` of step {legible(raw.get('id', path[-1]))}"
    try:
        expression = cel.compile_expression(text, where)
        cel.rehearse(expression, earlier)
    except CelError as error:
        return [Mistake(line, f"{where}: {error.why}", error.next_step)]
    unknown = sorted(expression.steps - set(earlier))
    next_step = near(unknown[0], earlier) if unknown and earlier else "leave it out: no step is before this one"
    return [Mistake(line, f"{where} asks for {legible(one)}, which is no earlier step", next_step) for one in unknown]


def _check_name(read: Tree, source: str, wrong: list[Mistake]) -> list[Mistake]:
    metadata = read.data.get("metadata") if isinstance(read.data, dict) else None
    name = _text(read, ("metadata",), metadata, "name") if isinstance(metadata, dict) else None
    stem, line = PurePath(source).stem, read.line_of(("metadata", "name"))
    if name in (None, stem) or not source.endswith(SUFFIX) or any(one.line == line for one in wrong):
        return []
    return [Mistake(line, f"the playbook {legible(name)} is in the file {legible(stem)}{SUFFIX}", "give both one name")]


def _list(data: Any, *path: str) -> list[Any]:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, list) else []
