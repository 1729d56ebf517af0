"""What a playbook may do, as people and programs read it: the catalogue's steps and the actions behind them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ringfence.actions.base import Action
from ringfence.actions.registry import ACTIONS, BEHIND
from ringfence.errors import TargetError
from ringfence.model.base import Json
from ringfence.model.catalogue import CATALOGUE
from ringfence.model.node_helper import NODE_STEPS
from ringfence.model.permission import Permission


@dataclass(frozen=True)
class Param:
    """A parameter of a step; ``type`` and ``default`` in words."""

    name: str
    type: str
    default: str


@dataclass(frozen=True)
class Entry:
    """One kind of step. Those that change nothing in the cluster have no ``kinds`` and no permissions of their own,
    and are always enabled. ``switch`` is the key of the configuration that enables it."""

    name: str
    title: str
    scope: str
    kinds: tuple[str, ...]
    destructive: bool
    changes_cluster: bool
    enabled: bool
    text: str
    params: tuple[Param, ...]
    params_text: str
    permissions: tuple[Permission, ...]
    switch: str = "actions.enabled"

    @property
    def where(self) -> str:
        """Where the permissions that are not for the whole cluster hold."""
        return "the helper's namespace" if self.name in NODE_STEPS else "namespace"

    @property
    def reversible(self) -> str:
        if not self.changes_cluster:
            return "-"
        return "no" if self.destructive else "yes"

    @property
    def kind_words(self) -> str:
        if self.destructive:
            return "destructive: runs only behind the evidence gate"
        return "reversible" if self.changes_cluster else "changes no object of yours"

    def to_json(self) -> Json:
        return {
            "name": self.name,
            "title": self.title,
            "scope": self.scope,
            "kinds": list(self.kinds),
            "destructive": self.destructive,
            "reversible": self.changes_cluster and not self.destructive,
            "enabled": self.enabled,
            "text": self.text,
            "params": [vars(param) for param in self.params],
            "permissions": [
                {
                    "resource": one.resource,
                    "verbs": sorted(one.verbs),
                    "everywhere": one.everywhere,
                    "because": one.because,
                }
                for one in self.permissions
            ],
        }


def entries(enabled: Iterable[str]) -> tuple[Entry, ...]:
    """Every kind of step in the catalogue's order, then actions that no step of it names."""
    chosen = frozenset(enabled)
    return tuple(_entry(name, chosen) for name in dict.fromkeys((*CATALOGUE, *ACTIONS)))


def entry_of(name: str, enabled: Iterable[str]) -> Entry:
    """Raises TargetError for an unknown name."""
    known = {entry.name: entry for entry in entries(enabled)}
    if name not in known:
        raise TargetError(
            f"there is no action {name!r}", why=f"there are {', '.join(known)}", next_step="ringfence actions list"
        )
    return known[name]


def _entry(name: str, enabled: frozenset[str]) -> Entry:
    step, action = CATALOGUE.get(name), BEHIND.get(name)
    params, params_text = _params(step.params) if step else ((), "")
    destructive = action.destructive if action else bool(step and step.destructive)
    return Entry(
        name=name,
        title=step.title if step else _summary(action),
        scope=step.scope.value if step else "",
        kinds=tuple(sorted(action.kinds)) if action else (),
        destructive=destructive,
        changes_cluster=action is not None or destructive,
        enabled=action is None or name in enabled,
        text=_text(action),
        params=params,
        params_text=params_text,
        permissions=tuple(action.permissions) if action else (),
        switch="node_helper.enabled" if name in NODE_STEPS else "actions.enabled",
    )


def _params(model: Any) -> tuple[tuple[Param, ...], str]:
    schema = model.model_json_schema()
    required = set(schema.get("required") or ())
    params = tuple(
        Param(name, _type(prop), "required" if name in required else f"default {prop.get('default')}")
        for name, prop in (schema.get("properties") or {}).items()
    )
    return params, _prose(inspect.getdoc(model) or "") if params else ""


def _type(prop: Json) -> str:
    if choices := prop.get("enum"):
        return " or ".join(map(str, choices))
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return words.get(str(prop.get("type")), str(prop.get("type", "value")))


def _summary(action: type[Action[Any]] | None) -> str:
    return _text(action).partition("\n")[0] if action else ""


def _text(action: type[Action[Any]] | None) -> str:
    """The module's docstring, which says effect, limits and undo, without the action's own name in front."""
    if action is None:
        return ""
    words = _prose(inspect.getdoc(sys.modules[action.__module__]) or "")
    _, _, rest = words.partition(": ")
    return rest[:1].upper() + rest[1:]


def _prose(text: str) -> str:
    """A docstring without its marks for code and stress."""
    return re.sub(r"\*([^*\n]+)\*", r"\1", text.replace("``", ""))
