"""Which bindings give a service account its rights: by name, by user name, by group; and which do not."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.platform.kubernetes.rbac import grants

Json = dict[str, Any]


def binding(*subjects: Json, namespace: str = "", name: str = "b") -> Json:
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "roleRef": {"kind": "ClusterRole", "name": "admin"},
        "subjects": list(subjects),
    }


def account(name: str = "cards", **where: str) -> Json:
    return {"kind": "ServiceAccount", "name": name, **where}


APPLIES = [
    binding(account(namespace="bank")),
    binding(account(namespace="bank"), namespace="shop"),  # rights in shop for an account of bank
    binding(account(), namespace="bank"),  # no namespace: the binding's own
    binding({"kind": "User", "name": "system:serviceaccount:bank:cards"}),
    binding({"kind": "Group", "name": "system:serviceaccounts"}),
    binding({"kind": "Group", "name": "system:serviceaccounts:bank"}),
    binding({"kind": "Group", "name": "system:authenticated"}),
    binding(account("other", namespace="bank"), account(namespace="bank")),
]
DOES_NOT = [
    binding(),
    binding(account("other", namespace="bank")),
    binding(account(namespace="shop")),
    binding(account(), namespace="shop"),
    binding(account()),  # a ClusterRoleBinding has no namespace to lend
    binding({"kind": "User", "name": "cards"}),
    binding({"kind": "User", "name": "system:serviceaccount:shop:cards"}),
    binding({"kind": "Group", "name": "system:serviceaccounts:shop"}),
    binding({"kind": "Group", "name": "system:masters"}),
    binding({"kind": "Group", "name": "system:serviceaccount:bank:cards"}),
    {"metadata": {"name": "b"}, "subjects": None},
]


@pytest.mark.parametrize("applies", APPLIES)
def test_a_binding_applies_by_name_user_or_group(applies: Json) -> None:
    (grant,) = grants("bank", "cards", [applies])
    assert (grant.kind, grant.name, grant.role) == (applies["kind"], "b", "ClusterRole/admin")
    assert grant.namespace == applies["metadata"].get("namespace", "")


@pytest.mark.parametrize("other", DOES_NOT)
def test_a_binding_of_somebody_else_does_not_apply(other: Json) -> None:
    assert grants("bank", "cards", [other]) == ()


def test_a_binding_that_names_the_account_twice_is_one_grant() -> None:
    twice = binding(account(namespace="bank"), {"kind": "Group", "name": "system:authenticated"})
    (grant,) = grants("bank", "cards", [twice])
    assert grant.via == "ServiceAccount/cards"
    assert grant.to_json()["role"] == "ClusterRole/admin"
