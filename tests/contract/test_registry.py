"""Laws that every registered action keeps, walked over the registry; and the words that no screen may say too early."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import ringfence
from ringfence import app
from ringfence.actions.base import Action
from ringfence.actions.checkpoint import Checkpoint
from ringfence.actions.node_helper import NODE_ACTIONS
from ringfence.actions.registry import ACTIONS, BEHIND
from ringfence.config import Config
from ringfence.evidence.permissions import PERMISSIONS
from ringfence.model.catalogue import CATALOGUE
from ringfence.model.node_helper import NODE_STEPS
from ringfence.model.permission import Permission

SOURCE = Path(ringfence.__file__).parent
EVERY: dict[str, type[Action]] = {**ACTIONS, **NODE_ACTIONS, "node.checkpoint": Checkpoint}
"""A checkpoint is no step of a playbook: it is ordered by `ringfence node` alone."""


@pytest.mark.parametrize(("name", "action"), EVERY.items())
def test_an_action_is_registered_under_its_own_name(name: str, action: type[Action]) -> None:
    assert action.name == name
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)


@pytest.mark.parametrize("action", EVERY.values())
def test_an_action_says_what_it_needs_and_why(action: type[Action]) -> None:
    assert isinstance(action.destructive, bool)
    assert action.permissions
    for permission in action.permissions:
        assert permission.verbs
        assert permission.because.strip()


@pytest.mark.parametrize("action", EVERY.values())
def test_an_action_module_says_effect_limits_and_undo(action: type[Action]) -> None:
    words = inspect.getdoc(importlib.import_module(action.__module__)) or ""
    assert action.name in words
    assert "undo" in words.lower()


def every_permission() -> list[Permission]:
    return [*PERMISSIONS, *(permission for action in EVERY.values() for permission in action.permissions)]


def test_every_kind_of_step_that_acts_has_the_action_behind_it() -> None:
    """Those of the node helper are apart: nobody is asked for their rights by day, and nothing of them is rehearsed."""
    assert set(BEHIND) == {*ACTIONS, *NODE_ACTIONS, *NODE_STEPS}
    assert set(BEHIND) <= set(CATALOGUE)
    assert not set(ACTIONS) & set(NODE_STEPS)
    assert all(permission.plural.startswith("pods") for name in NODE_STEPS for permission in BEHIND[name].permissions)
    assert app.permissions(Config(), tuple(ACTIONS)) == app.permissions(
        Config(node_helper={"enabled": True, "image": "python:3", "namespace": "helpers"}), tuple(ACTIONS)
    )


def test_nothing_asks_for_secrets_exec_or_everything() -> None:
    for permission in every_permission():
        assert permission.plural not in ("secrets", "pods/exec", "pods/attach", "*")
        assert "*" not in permission.verbs


def test_only_destructive_actions_delete_pods() -> None:
    for action in ACTIONS.values():
        deletes = any(p.plural == "pods" and "delete" in p.verbs for p in action.permissions)
        assert deletes <= action.destructive


def test_every_module_is_small_and_says_what_it_is_for() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        assert path.name == "py.typed" or ast.get_docstring(ast.parse(text)), path


def test_the_word_contained_is_spelled_in_one_place() -> None:
    """A screen says it only through ``model.access.verdict``; reports are driven in tests/reporting."""
    said = re.compile(r"""["'][^"'\n]*\bCONTAINED\b""")
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).as_posix() != "model/access.py":
            assert not [line for line in path.read_text().splitlines() if said.search(line)], path


@pytest.mark.parametrize("legacy", [True, False])
def test_what_is_off_by_default_is_the_same_with_and_without_the_registry(legacy: bool) -> None:
    """A command that only looks answers this by itself; a second action with a key of its own would be left on."""
    config = Config(identity={"legacy_tokens": legacy})
    assert app.policy(config).disabled == frozenset(ACTIONS) - frozenset(app.enabled_actions(config))
