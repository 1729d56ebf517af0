"""actions, rbac and doctor as they are typed. The rights on a real API server: tests/lab/test_cli_tools.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from ringfence import app as wiring
from ringfence.actions.registry import ACTIONS, BEHIND
from ringfence.cli.manifests import Account, rights
from ringfence.config import Config
from ringfence.errors import ConfigError, ExitCode
from ringfence.model.catalogue import CATALOGUE
from ringfence.model.node_helper import NODE_STEPS
from ringfence.model.permission import Permission
from tests.cli.console import Console
from tests.response.readiness_of import may, with_templates
from tests.simulator import Simulator
from tests.wire import Wire

pytestmark = pytest.mark.slow  # whole commands, one after the other

Json = dict[str, Any]


def granted(objects: list[Json]) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of every rule."""
    return {
        (group, resource, verb)
        for obj in objects
        for rule in obj.get("rules") or ()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(permissions: tuple[Permission, ...]) -> set[tuple[str, str, str]]:
    return {(one.group, one.plural, verb) for one in permissions for verb in one.verbs}


# --- actions --------------------------------------------------------------------------------------------------------
def test_every_step_and_every_action_is_listed(console: Console) -> None:
    listed = {one["name"]: one for one in console("actions", "list", "-o", "json").data}
    assert set(listed) == {*CATALOGUE, *ACTIONS}
    for name, action in BEHIND.items():
        assert listed[name]["destructive"] is action.destructive
        assert listed[name]["permissions"]
    for name in listed:
        assert name in console("actions", "list").out


@pytest.mark.parametrize("name", sorted({*CATALOGUE, *ACTIONS}))
def test_every_action_can_be_shown(console: Console, name: str) -> None:
    shown = console("actions", "show", name)
    assert shown.code == 0
    assert "``" not in shown.out
    for param in CATALOGUE[name].params.model_fields if name in CATALOGUE else {}:
        assert f"  {param}: " in shown.out


def test_the_node_helpers_orders_have_a_switch_and_rights_of_their_own(console: Console) -> None:
    def enabled() -> set[bool]:
        listed = {one["name"]: one["enabled"] for one in console("actions", "list", "-o", "json").data}
        return {listed[name] for name in NODE_STEPS}

    assert enabled() == {False}
    shown = console("actions", "show", "node.cut").out
    assert "NOT ENABLED (node_helper.enabled)" in shown
    assert "the helper's namespace" in shown
    console.settings["node_helper"] = {"enabled": True, "image": "python:3", "namespace": "helpers"}
    console.settings["actions"] = {"enabled": ["network.quarantine"]}
    assert enabled() == {True}
    role = yaml.safe_load(console("rbac").out)
    assert ("", "pods", "create") not in granted([role])
    role, *_ = yaml.safe_load_all(console("rbac", "--node-helper").out)
    assert (role["metadata"]["namespace"], ("", "pods", "create") in granted([role])) == ("helpers", True)


def test_what_is_not_enabled_is_said_and_not_asked_for(console: Console) -> None:
    console.settings["actions"] = {"enabled": ["network.quarantine"]}
    listed = {one["name"]: one["enabled"] for one in console("actions", "list", "-o", "json").data}
    assert listed["network.quarantine"]
    assert not listed["pod.delete"]
    assert listed["evidence.seal"], "what changes nothing cannot be switched off"
    assert "NOT ENABLED" in console("actions", "show", "pod.delete").out
    role = yaml.safe_load(console("rbac").out)
    assert ("", "pods", "patch") in granted([role])
    assert ("", "pods", "delete") not in granted([role])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("actions", "show", "network.quarantin"), ExitCode.NOT_FOUND),
        (("rbac", "--actions", "network.quarantine,pod.delet"), ExitCode.CONFIG),
        (("rbac", "--actions", ""), ExitCode.CONFIG),
        (("rbac", "--service-account", "only-a-name"), ExitCode.USAGE),
        (("rbac", "--service-account", "ns/name\n- kind: x"), ExitCode.USAGE),
        (("rbac", "--name", "x\nrules: []"), ExitCode.USAGE),
        (("rbac", "-n", "*"), ExitCode.USAGE),
    ],
)
def test_a_wrong_word_is_an_error(console: Console, arguments: tuple[str, ...], code: ExitCode) -> None:
    assert console(*arguments).code == code


@pytest.mark.parametrize("enabled", [["pod.delet"], []])
def test_an_unknown_or_empty_list_of_actions_is_an_error(console: Console, enabled: list[str]) -> None:
    console.settings["actions"] = {"enabled": enabled}
    assert console("rbac").code == ExitCode.CONFIG


@pytest.mark.parametrize("url", ["prometheus:9090", "file:///etc/passwd", "https://", ""])
def test_monitoring_is_asked_over_http_alone(console: Console, url: str) -> None:
    console.settings["observability"] = {"grafana_url": url}
    done = console("doctor")
    assert done.code == ExitCode.CONFIG
    assert done.error is not None
    assert "observability.grafana_url" in done.error.why


def test_the_error_names_the_key_and_the_actions_that_there_are() -> None:
    with pytest.raises(ConfigError) as raised:
        wiring.enabled_actions(Config(actions={"enabled": ["pod.delete", "pod.remove"]}))  # type: ignore[arg-type]
    assert raised.value.location == "actions.enabled"
    assert "'pod.remove'" in raised.value.what
    assert "node.cordon" in raised.value.why


# --- rbac -----------------------------------------------------------------------------------------------------------
def test_the_role_grants_what_is_asked_for_and_no_more(console: Console) -> None:
    text = console("rbac").out
    role = yaml.safe_load(text)
    wanted = wiring.permissions(Config(), tuple(ACTIONS))
    assert granted([role]) == asked(wanted)
    assert len(role["rules"]) == len({(one.group, one.plural) for one in wanted}), "one rule for each resource"
    for permission in wanted:
        assert f"  # {permission.because}\n" in text


def test_yaml_and_json_are_the_same_objects(console: Console) -> None:
    arguments = ("rbac", "--service-account", "sec/responder", "-n", "bank", "-n", "shop")
    documents = list(yaml.safe_load_all(console(*arguments).out))
    items = console(*arguments, "-o", "json").data["items"]
    for item in items:
        item["metadata"].pop("annotations", None)
    assert documents == items
    kinds = [(obj["kind"], obj["metadata"].get("namespace")) for obj in documents]
    assert kinds == [
        ("ClusterRole", None),
        ("ClusterRole", None),
        ("RoleBinding", "bank"),
        ("RoleBinding", "shop"),
        ("ClusterRoleBinding", None),
    ]


def test_what_is_needed_in_a_namespace_is_not_given_everywhere() -> None:
    here = Permission("pods", frozenset({"delete"}), "here")
    there = Permission("pods", frozenset({"list"}), "there", everywhere=True)
    split = rights("r", (here, there), Account("sec", "responder"), ("bank",))
    assert granted([split.objects[0]]) == {("", "pods", "delete")}
    assert granted([split.objects[1]]) == {("", "pods", "list")}
    assert [one["roleRef"]["name"] for one in split.bindings] == ["r", "r-everywhere"]
    assert all(
        one["subjects"] == [{"kind": "ServiceAccount", "name": "responder", "namespace": "sec"}]
        for one in split.bindings
    )


def test_nothing_is_bound_unless_asked_for() -> None:
    assert [obj["kind"] for obj in rights("r", (), None, ("bank",)).objects] == ["ClusterRole", "ClusterRole"]


def test_rights_to_start_pods_only_where_a_canary_may_be_started(console: Console) -> None:
    assert ("", "pods", "create") not in granted([yaml.safe_load(console("rbac").out)])
    console.settings["canary"] = {"image": "registry.test/python:3"}
    assert ("", "pods", "create") in granted([yaml.safe_load(console("rbac").out)])


# --- doctor ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def allowed(api: Simulator, wire: Wire) -> None:
    """The simulator has no RBAC: every question is answered with yes."""
    with_templates(api)
    wire.responder = may(api, lambda _attributes: True)


@pytest.mark.usefixtures("allowed")
def test_doctor_prints_every_finding_and_ends_well(console: Console) -> None:
    console.settings["contacts"] = [
        {"role": role, "name": "x", "reach": "1"} for role in ("Security lead", "platform team", "On-call")
    ]
    found = {one["check"]: one for one in console("doctor", "-n", "bank", "-o", "json").data}
    assert {one["level"] for one in found.values()} == {"ok", "warn"}
    assert found["contacts"]["level"] == "ok"
    assert found["network enforcement"]["saw"].startswith("not tried")
    text = console("doctor", "-n", "bank").out
    for name in found:
        assert name in text


@pytest.mark.usefixtures("allowed")
def test_doctor_ends_with_the_code_of_what_is_broken(console: Console) -> None:
    (console.home / "console-vault").write_text("a file where the folder should be")
    done = console("doctor", "-n", "bank", "-o", "json")
    assert done.code == ExitCode.STORAGE
    levels = {one["check"]: one["level"] for one in json.loads(done.out)}
    assert levels["vault"] == "fail"
    assert levels["cluster"] == "ok", "one failure does not hide what follows"


def test_doctor_without_a_cluster_still_looks_at_this_machine(console: Console) -> None:
    console.settings["cluster"] = {"kubeconfig": str(console.home / "none")}
    done = console("doctor", "-o", "json")
    assert done.code == ExitCode.CONFIG
    levels = {one["check"]: one["level"] for one in json.loads(done.out)}
    assert (levels["store"], levels["signing key"], levels["cluster"]) == ("ok", "ok", "fail")
