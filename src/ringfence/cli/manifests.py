"""The rights that Ringfence needs, as Kubernetes objects and as YAML with each rule's reason beside it (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import yaml

from ringfence.actions.rbac import API_VERSION, Rule, role_of, rules_with_reasons
from ringfence.model.base import Json
from ringfence.model.permission import Permission

_WIDTH = 120


class Account(NamedTuple):
    """A service account that the rights are bound to."""

    namespace: str
    name: str


class Rights(NamedTuple):
    """``roles`` by name with their rules, and the bindings. ``namespace``: they are Roles there, not ClusterRoles."""

    roles: dict[str, tuple[Rule, ...]]
    bindings: tuple[Json, ...]
    namespace: str = ""

    @property
    def objects(self) -> tuple[Json, ...]:
        return (*(self._placed(role_of(name, rules)) for name, rules in self.roles.items()), *self.bindings)

    def to_yaml(self) -> str:
        """YAML documents; above each rule stands why it is asked for."""
        documents = [
            *(_role(self._placed(_bare(name)), rules) for name, rules in self.roles.items()),
            *map(_dumped, self.bindings),
        ]
        return "---\n".join("\n".join(lines) + "\n" for lines in documents)

    def _placed(self, role: Json) -> Json:
        if not self.namespace:
            return role
        return {**role, "kind": "Role", "metadata": {**role["metadata"], "namespace": self.namespace}}


def rights(
    name: str, permissions: Iterable[Permission], account: Account | None = None, namespaces: Sequence[str] = ()
) -> Rights:
    """One ClusterRole for the whole cluster, or two: ``name``, bound in each of ``namespaces`` only, and
    ``name-everywhere``, which holds what is needed beyond them. Bindings only with ``account``."""
    asked = tuple(permissions)
    if not namespaces:
        roles = {name: rules_with_reasons(one._replace(everywhere=True) for one in asked)}
        return Rights(roles, (_binding(name, account),) if account else ())
    beyond = f"{name}-everywhere"
    rules = rules_with_reasons(asked)
    roles = {
        name: tuple(rule for rule in rules if not rule.everywhere),
        beyond: tuple(rule for rule in rules if rule.everywhere),
    }
    bindings = [*(_binding(name, account, one) for one in namespaces), _binding(beyond, account)] if account else []
    return Rights(roles, tuple(bindings))


def rights_in(namespace: str, name: str, permissions: Iterable[Permission], account: Account | None = None) -> Rights:
    """A Role of one namespace, and its binding where there is an account."""
    binding = _binding(name, account, namespace) if account else None
    if binding is not None:
        binding["roleRef"]["kind"] = "Role"
    return Rights({name: rules_with_reasons(permissions)}, (binding,) if binding else (), namespace)


def _bare(name: str) -> Json:
    return {"apiVersion": API_VERSION, "kind": "ClusterRole", "metadata": {"name": name}}


def _role(role: Json, rules: Sequence[Rule]) -> Iterator[str]:
    yield from _dumped(role)
    yield "rules:"
    for rule in rules:
        yield from (f"  # {reason}" for reason in rule.reasons)
        yield f'  - apiGroups: ["{rule.group}"]'
        yield f"    resources: [{rule.resource}]"
        yield f"    verbs: [{', '.join(rule.verbs)}]"


def _dumped(value: Json) -> list[str]:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=_WIDTH).splitlines()


def _binding(role: str, account: Account, namespace: str = "") -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": {"name": role, **({"namespace": namespace} if namespace else {})},
        "roleRef": {"apiGroup": API_VERSION.partition("/")[0], "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}],
    }
