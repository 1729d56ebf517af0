"""Which role bindings give a service account its rights (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ringfence.model.base import Json


class Grant(NamedTuple):
    """A binding that applies. ``via`` is the subject that matched, ``role`` as ``Kind/name``."""

    kind: str
    namespace: str
    name: str
    role: str
    via: str

    def to_json(self) -> Json:
        return dict(self._asdict())


def grants(namespace: str, account: str, bindings: Iterable[Json]) -> tuple[Grant, ...]:
    """The RoleBindings and ClusterRoleBindings that apply to the account, by name or by one of its groups.

    Groups of a service account: system:serviceaccounts, system:serviceaccounts:NAMESPACE, system:authenticated.
    A RoleBinding's rights hold in its own namespace only, whichever role it names.
    """
    groups = {"system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"}
    found: list[Grant] = []
    for binding in bindings:
        meta, role = binding["metadata"], binding.get("roleRef") or {}
        for subject in binding.get("subjects") or ():
            kind, name = subject.get("kind"), subject.get("name")
            if names_account(subject, binding, namespace, account) or (kind == "Group" and name in groups):
                found.append(
                    Grant(
                        kind=str(binding.get("kind", "")),
                        namespace=str(meta.get("namespace", "")),
                        name=str(meta["name"]),
                        role=f"{role.get('kind', '')}/{role.get('name', '')}",
                        via=f"{kind}/{name}",
                    )
                )
                break
    return tuple(found)


def names_account(subject: Json, binding: Json, namespace: str, account: str) -> bool:
    """Whether a binding's subject is the account itself, as a ServiceAccount or by its user name."""
    kind, name = subject.get("kind"), subject.get("name")
    # A ServiceAccount subject of a RoleBinding may leave its namespace out: then it means the binding's.
    where = subject.get("namespace") or binding["metadata"].get("namespace", "")
    return (kind == "ServiceAccount" and (where, name) == (namespace, account)) or (
        kind == "User" and name == f"system:serviceaccount:{namespace}:{account}"
    )
