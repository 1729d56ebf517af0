"""``--help`` and ``status`` are there soon: what is slow to import, or to make ready, is so where it is needed.

A time would depend on the machine; what is imported and what is made ready do not.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

from ringfence.cli import commands

SLOW = ("pydantic", "sqlalchemy", "alembic", "lightkube", "httpx2", "dbos", "yaml", "jinja2", "cryptography", "asyncio")


def said_by(program: str) -> tuple[str, str]:
    """What a fresh interpreter prints, and what it complains of."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return done.stdout.strip(), done.stderr


def test_the_command_line_imports_nothing_slow() -> None:
    program = f"import sys, ringfence.cli.commands; print([name for name in {SLOW!r} if name in sys.modules])"
    assert said_by(program) == ("[]", "")


NOT_FOR_LOOKING = (
    *("pydantic_settings", "alembic", "dbos", "zstandard", "cryptography", "jinja2", "rich"),
    *("ringfence.actions.registry", "ringfence.evidence.acquire", "ringfence.seal.atrest"),
    *(
        "ringfence.actions",
        "ringfence.response.steps",
        "ringfence.response.guard",
        "ringfence.platform.kubernetes.audit_log",
        "ringfence.platform.kubernetes.fencing",
    ),
    *("sqlalchemy.orm", "sqlalchemy.dialects.postgresql", "lightkube", "lightkube.models", "h2", "anyio"),
)


def test_a_command_that_only_looks_imports_neither_what_acts_nor_what_seals() -> None:
    """What ``status`` imports before it asks the cluster; nothing here is set in the environment."""
    program = (
        "import sys\n"
        "from ringfence import app\n"
        "from ringfence.cli import views\n"
        "from ringfence.config import Config\n"
        "import ringfence.platform.kubernetes.client, ringfence.platform.kubernetes.identity\n"
        "app.policy(Config()); app.vault(Config())\n"
        f"print([name for name in {NOT_FOR_LOOKING!r} if name in sys.modules])"
    )
    assert said_by(program) == ("[]", "")


def test_of_lightkube_a_part_is_imported_and_whoever_asks_later_gets_the_whole() -> None:
    program = (
        "import ringfence.platform.kubernetes.client\n"
        "from lightkube import ApiError, Client\n"
        "from lightkube.core.internal_models import meta_v1\n"
        "from lightkube.utils.quantity import parse_quantity\n"
        "print(Client.__module__, meta_v1.__name__, parse_quantity('3Mi'))"
    )
    assert said_by(program) == ("lightkube.core.client lightkube.models.meta_v1 3145728.000", "")


def test_only_what_checks_the_configuration_is_built_before_something_is_read() -> None:
    """Each event and each noun of the model has checks that take as long to build as a small module to import."""
    program = (
        "from ringfence.cli import views\n"
        "from ringfence.config import Config\n"
        "from ringfence.model.base import Noun\n"
        "from ringfence.config.sections import Section\n"
        "Config()\n"
        "def below(kind): return [kind, *(one for sub in kind.__subclasses__() for one in below(sub))]\n"
        "print([kind.__name__ for kind in below(Noun) + below(Section) if kind.__pydantic_complete__])"
    )
    assert said_by(program) == ("[]", "")


def test_a_condition_is_read_without_the_library_of_a_command_line() -> None:
    """``contain`` reads one before its cut; ``cel`` as a package imports a whole prompt."""
    program = (
        "import sys\n"
        "from ringfence.playbooks import find, load\n"
        "load(*find('compromised-workload'))\n"
        "print([name for name in ('cel.cli', 'prompt_toolkit', 'typer') if name in sys.modules])"
    )
    assert said_by(program) == ("[]", "")


@pytest.mark.parametrize(
    ("words", "ready"),
    [
        (["status", "INC-1"], {"status"}),
        (["evidence", "list", "INC-1"], {"evidence"}),
        (["cut-identity", "INC-1"], {"cut-identity"}),
    ],
)
def test_of_all_commands_the_one_that_is_asked_for_is_made_ready(words: list[str], ready: set[str]) -> None:
    assert set(typer.main.get_command(commands.asked_for(words)).commands) == ready


@pytest.mark.parametrize("command", sorted(typer.main.get_command(commands.whole()).commands))
def test_each_command_is_found_in_the_part_that_the_table_says(command: str) -> None:
    assert set(typer.main.get_command(commands.asked_for([command])).commands) == {command}


def test_the_table_names_every_command_and_none_besides() -> None:
    named = [name for names in commands._PARTS.values() for name in names]
    assert sorted(named) == sorted(typer.main.get_command(commands.whole()).commands)


@pytest.mark.parametrize("words", [[], ["--help"], ["stauts", "INC-1"], ["-h", "status"]])
def test_without_a_command_the_whole_program_answers(words: list[str]) -> None:
    assert commands.asked_for(words) is commands.whole()
