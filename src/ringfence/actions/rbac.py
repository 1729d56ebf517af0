"""The ClusterRole of the enabled actions (pure): every rule with its reasons, and nothing that no action asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ringfence.actions.base import Action
from ringfence.model.base import Json
from ringfence.model.permission import Permission

REASONS_KEY = "ringfence.dev/reasons"
"""The annotation that holds one line for each rule: what it grants, and why."""

API_VERSION = "rbac.authorization.k8s.io/v1"


class Rule(NamedTuple):
    """One RBAC rule: ``resource`` with its subresource, ``verbs`` and ``reasons`` sorted as they are shown.

    ``everywhere`` says that it is asked for beyond the namespaces of the targets.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    reasons: tuple[str, ...]
    everywhere: bool

    def to_json(self) -> Json:
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}

    def __str__(self) -> str:
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{name} {', '.join(self.verbs)}: {'; '.join(self.reasons)}"


def permissions_of(actions: Iterable[type[Action[Any]]], extra: Iterable[Permission] = ()) -> tuple[Permission, ...]:
    """What the actions and ``extra`` (evidence, access) ask for, each once."""
    asked = [permission for action in actions for permission in action.permissions]
    return tuple(dict.fromkeys((*asked, *extra)))


def rules_with_reasons(permissions: Iterable[Permission]) -> tuple[Rule, ...]:
    """One rule per resource and scope, with the verbs and the reasons of all that ask for it, in a stable order."""
    verbs: dict[tuple[bool, str, str], set[str]] = {}
    reasons: dict[tuple[bool, str, str], dict[str, None]] = {}
    for one in permissions:
        key = (one.everywhere, one.group, one.plural)
        verbs.setdefault(key, set()).update(one.verbs)
        reasons.setdefault(key, {})[" ".join(one.because.split())] = None
    return tuple(
        Rule(group, resource, tuple(sorted(verbs[key])), tuple(reasons[key]), everywhere)
        for key in sorted(verbs)
        for everywhere, group, resource in [key]
    )


def cluster_role(name: str, actions: Sequence[type[Action[Any]]], extra: Sequence[Permission]) -> Json:
    """One ClusterRole with everything, to be bound cluster-wide."""
    return role_of(name, rules_with_reasons(permissions_of(actions, extra)))


def cluster_roles(name: str, actions: Sequence[type[Action[Any]]], extra: Sequence[Permission]) -> tuple[Json, Json]:
    """The same in two: ``name``, to be bound by a RoleBinding in each namespace where Ringfence may respond, and
    ``name-everywhere``, to be bound cluster-wide."""
    rules = rules_with_reasons(permissions_of(actions, extra))
    return (
        role_of(name, [rule for rule in rules if not rule.everywhere]),
        role_of(f"{name}-everywhere", [rule for rule in rules if rule.everywhere]),
    )


def role_of(name: str, rules: Sequence[Rule]) -> Json:
    """The manifest. Rules that grant the same more than once (here and everywhere) are merged by the cluster."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ClusterRole",
        "metadata": {"name": name, "annotations": {REASONS_KEY: "\n".join(map(str, rules))}},
        "rules": [rule.to_json() for rule in rules],
    }
