"""The commands of ``ringfence``. Each imports what it needs when it runs, so that ``--help`` is there at once."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from ringfence import __version__
from ringfence.cli.output import errors_reported, say

_PARTS = {
    "run_commands": ("contain", "respond", "cut-identity", "eradicate", "release"),
    "recovery_commands": ("recover", "close"),
    "steer_commands": ("approve", "reject", "resume", "cancel", "undo", "watch"),
    "incident_commands": ("declare", "note", "classify", "state", "handover"),
    "node_commands": ("node",),
    "anchor_commands": ("anchor",),
    "platform_commands": ("actions", "rbac", "doctor"),
    "look_commands": ("status", "incidents", "timeline", "accept", "report"),
    "evidence_commands": ("evidence",),
    "notify_commands": ("notify",),
}
"""The modules, in the order in which ``--help`` shows their commands, and the commands of each."""


def run() -> None:
    with errors_reported():
        asked_for(sys.argv[1:])()


def asked_for(words: Sequence[str]) -> typer.Typer:
    """The program with the one command that ``words`` begin with: to import and make ready all of them takes longer
    than that one takes by itself. The whole program when they begin with none, for its help, its completion and what
    it says then."""
    first = words[0] if words else ""
    part = next((part for part, commands in _PARTS.items() if first in commands), None)
    if part is None:
        return whole()
    one = _with((part,))
    one.registered_commands = [command for command in one.registered_commands if _name(command) == first]
    one.registered_groups = [group for group in one.registered_groups if group.name == first]
    return one


@functools.cache
def whole() -> typer.Typer:
    """The program with every command."""
    return _with(_PARTS)


def _with(parts: Iterable[str]) -> typer.Typer:
    app = typer.Typer(
        name="ringfence",
        help="Cut an attacker off, seal the evidence, say what is still open, write the report.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    for part in parts:
        importlib.import_module(f"ringfence.cli.{part}").register(app)
    return app


def _name(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__) if command.callback else ""


def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        say(f"ringfence {__version__}")
        raise typer.Exit
