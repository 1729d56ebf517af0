"""``docs/reference/cli.md``: every command with its arguments and options, from the programs' own parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer

from ringfence.cli.commands import whole
from ringfence.seal import cli as verifier
from scripts.reference.text import code, document, prose, table

_KINDS = {str: "text", int: "number", float: "number", Path: "path", bool: "flag"}


def page() -> str:
    root = typer.main.get_command(whole())
    return document(
        "Command line",
        "Two programs. `ringfence` talks to the cluster and keeps the store; `ringfence-verify` needs a bundle and a "
        "public key and nothing else. What they end with: [exit codes](exit-codes.md).",
        "Results go to standard output, progress, warnings and errors to standard error, so `-o json` stays JSON. "
        "`NO_COLOR` is honoured. An error says what happened, why, and what to do next.",
        "An option wins over the [environment and the configuration](configuration.md).",
        "## ringfence",
        prose(root.help or ""),
        _options(root),
        *_commands(root, "ringfence"),
        "## ringfence-verify",
        *_verifier(),
    )


def _commands(group: Any, name: str) -> Iterator[str]:
    for key, command in group.commands.items():
        full = f"{name} {key}"
        if hasattr(command, "commands"):
            yield from _commands(command, full)
            continue
        arguments = [f"{_metavar(p)}" for p in command.params if _is_argument(p)]
        yield f"### {full}"
        yield f"```text\n{' '.join([full, *arguments, '[OPTIONS]'])}\n```"
        yield prose(command.help or "")
        yield table(
            ("argument", "meaning"), [(code(_metavar(p)), p.help or "") for p in command.params if _is_argument(p)]
        )
        yield _options(command)


def _options(command: Any) -> str:
    rows = [
        (", ".join(map(code, p.opts)), _kind(p), _default(p), p.help or "")
        for p in command.params
        if not _is_argument(p) and p.name not in ("help", "install_completion", "show_completion")
    ]
    return table(("option", "value", "default", "meaning"), rows)


def _is_argument(parameter: Any) -> bool:
    return not any(option.startswith("-") for option in parameter.opts)


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _kind(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(code(member.value) for member in kind)
    if get_origin(kind) is list:
        return f"{_KINDS[get_args(kind)[0]]}, may be repeated"
    return _KINDS[kind]


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if isinstance(value, Enum):
        return code(value.value)
    return code(value) if value not in (None, "", False) else ""


def _verifier() -> Iterator[str]:
    # The parser is the verifier's own; nobody else should have to build it.
    parser: argparse.ArgumentParser = verifier._parser()
    yield "```text\nringfence-verify BUNDLE [--key KEY.pub] [OPTIONS]\n```"
    yield prose(parser.description or "")
    rows = [
        (
            ", ".join(map(code, action.option_strings)) or code(action.metavar),
            ", ".join(map(code, action.choices)) if action.choices else _argparse_kind(action),
            code(action.default) if action.default not in (None, False, argparse.SUPPRESS) else "",
            (action.help or "").replace(" (default: text)", ""),
        )
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    yield table(("argument or option", "value", "default", "meaning"), rows)
    yield "How to check a signature by hand: [evidence and custody](../concepts/evidence-and-custody.md#by-hand)."


def _argparse_kind(action: argparse.Action) -> str:
    return "path" if action.type is Path else "flag"
