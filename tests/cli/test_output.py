"""``-o yaml`` says what ``-o json`` says, everywhere, and nothing that a terminal obeys."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st

import ringfence.cli
from ringfence.cli import output
from ringfence.cli.commands import whole
from ringfence.cli.output import Format, say_data
from ringfence.cli.text import command_line
from tests.cli.console import Console

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc: -#\n", max_size=5), inner, max_size=4),
    max_leaves=12,
)


def written(value: object, out: Format) -> str:
    lines: list[str] = []
    keep = pytest.MonkeyPatch()
    with keep.context() as patch:
        patch.setattr(output, "_write", lambda _stream, words: lines.extend(words))
        say_data(value, out)
    return "\n".join(lines)


@given(VALUES)
def test_yaml_reads_back_as_json_does(value: Any) -> None:
    text = written(value, Format.YAML)
    assert yaml.safe_load(text) == json.loads(written(value, Format.JSON)) == value
    assert text.isascii()
    assert text.replace("\n", "").isprintable()


def test_the_same_object_twice_is_no_alias() -> None:
    once = [1, 2]
    assert written({"a": once, "b": once}, Format.YAML) == "a:\n- 1\n- 2\nb:\n- 1\n- 2"


def test_words_that_yaml_would_read_as_something_else_stay_words() -> None:
    words = ["no", "1e3", "2026-11-23", "null", "~", "=", "0x1F", "12:30:00"]
    assert yaml.safe_load(written(words, Format.YAML)) == words


def test_no_command_knows_json_alone() -> None:
    """Whoever compares with JSON alone prints text for YAML: only a command whose default is YAML may."""
    for path in Path(ringfence.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and ast.unparse(node) == "out is Format.JSON":
                assert path.name == "platform_commands.py", f"{path.name}:{node.lineno}"


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), max_size=4))
def test_the_command_that_is_written_down_is_the_one_that_was_typed(words: list[str]) -> None:
    """Who copies it from the report into a shell types the same words: a reason is one of them."""
    with pytest.MonkeyPatch().context() as patch:
        patch.setattr("sys.argv", ["/usr/local/bin/ringfence", *words])
        assert shlex.split(command_line()) == ["ringfence", *words]


def _commands(group: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= _commands(command, f"{prefix}{name} ") if hasattr(command, "commands") else {prefix + name: command}
    return found


def test_every_command_that_prints_for_programs_prints_yaml_too() -> None:
    options = {
        name: next((p for p in command.params if "--output" in p.opts), None)
        for name, command in _commands(typer.main.get_command(whole())).items()
    }
    formats = {name: [m.value for m in p.type_descriptor.annotation] for name, p in options.items() if p}
    assert {"status", "incidents", "timeline", "doctor", "handover", "rbac", "evidence list"} <= set(formats)
    for name, known in formats.items():
        assert {"json", "yaml"} <= set(known), name


def test_a_list_command_speaks_it(console: Console) -> None:
    console("declare", "cards-1", "-n", "bank", "--reason", "x")
    assert yaml.safe_load(console("incidents", "-o", "yaml").out) == console("incidents", "-o", "json").data
    assert yaml.safe_load(console("timeline", "1", "-o", "yaml").out) == console("timeline", "1", "-o", "json").data
