"""The ClusterRole that is rendered from the actions: everything that they ask for, nothing more, each with a reason."""

from __future__ import annotations

from typing import Any

import yaml

from ringfence.actions.rbac import REASONS_KEY, cluster_role, cluster_roles, permissions_of, rules_with_reasons
from ringfence.actions.registry import ACTIONS
from ringfence.evidence.permissions import PERMISSIONS as EVIDENCE
from ringfence.model.permission import Permission

Json = dict[str, Any]


def granted(*roles: Json) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(permissions: tuple[Permission, ...]) -> set[tuple[str, str, str]]:
    return {(one.group, one.plural, verb) for one in permissions for verb in one.verbs}


def test_a_role_grants_exactly_what_is_asked_for() -> None:
    actions = tuple(ACTIONS.values())
    wanted = asked(permissions_of(actions, EVIDENCE))
    assert granted(cluster_role("r", actions, EVIDENCE)) == wanted
    assert granted(*cluster_roles("r", actions, EVIDENCE)) == wanted


def test_an_action_that_is_not_enabled_gets_nothing() -> None:
    role = cluster_role("r", [ACTIONS["node.cordon"]], ())
    assert granted(role) == {("", "nodes", "get"), ("", "nodes", "list"), ("", "nodes", "patch")}


def test_what_is_cluster_wide_is_apart() -> None:
    near, everywhere = cluster_roles("r", tuple(ACTIONS.values()), ())
    assert (near["metadata"]["name"], everywhere["metadata"]["name"]) == ("r", "r-everywhere")
    assert ("", "nodes", "patch") in granted(everywhere)
    assert ("", "nodes", "patch") not in granted(near)
    assert ("", "pods", "delete") in granted(near) - granted(everywhere)


def test_rules_of_a_resource_are_one_with_every_reason() -> None:
    rules = rules_with_reasons(
        [
            Permission("pods", frozenset({"get"}), "one"),
            Permission("pods", frozenset({"list", "get"}), "two\n  lines"),
            Permission("pods", frozenset({"list"}), "far", everywhere=True),
        ]
    )
    assert [(r.verbs, r.reasons, r.everywhere) for r in rules] == [
        (("get", "list"), ("one", "two lines"), False),
        (("list",), ("far",), True),
    ]


def test_every_rule_has_its_reason_in_the_manifest_and_yaml_keeps_it() -> None:
    role = cluster_role("r", tuple(ACTIONS.values()), EVIDENCE)
    again = yaml.safe_load(yaml.safe_dump(role))
    assert again == role
    lines = role["metadata"]["annotations"][REASONS_KEY].splitlines()
    assert len(lines) == len(role["rules"])
    assert all(line.partition(": ")[2] for line in lines)


def test_subresources_keep_their_group() -> None:
    (rule,) = rules_with_reasons([Permission("deployments/scale.apps", frozenset({"patch"}), "scale")])
    assert rule.to_json() == {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}


def test_the_order_is_stable() -> None:
    actions = tuple(ACTIONS.values())
    assert cluster_role("r", actions, ())["rules"] == cluster_role("r", actions[::-1], ())["rules"]
