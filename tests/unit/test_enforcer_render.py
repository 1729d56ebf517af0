"""The enforcer's pure part: API objects → verdicts → nftables text. Packets are tests/lab/test_enforcer_packets.py.

Covered: what is subject to policies, defaulting, ports and peers that need care (test_enforcer_verdicts.py has random
ones), the order and names of the transaction, what must be an error, records of the name service.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.enforcer.cni import CniAddresses
from lab.enforcer.model import (
    ContainerPort,
    Pod,
    UnknownField,
    parse_pod,
    parse_policy,
    parse_selector,
)
from lab.enforcer.records import hosts
from lab.enforcer.render import Flows, chain_name, chain_names, render
from lab.enforcer.resolve import Addresses, Allow, Isolation, PortRange, resolve
from lab.layout import Lab

Object = dict[str, Any]

CREATED = "2026-01-01T00:00:00Z"
WEB = ContainerPort("web", "TCP", 8080)


def a_pod(name: str = "a", address: str = "10.244.0.2", namespace: str = "bank", **changes: Any) -> Pod:
    facts: Object = {"uid": f"uid-{name}", "created": CREATED, "labels": {"app": name}, "ports": (WEB,)}
    return Pod(namespace, name, address=address, **(facts | changes))


def a_policy(spec: Object, namespace: str = "bank", name: str = "p") -> Object:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def pod_object(**changes: Any) -> Object:
    container = {"name": "main", "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}
    return {
        "metadata": {"namespace": "bank", "name": "a", "uid": "uid-a", "creationTimestamp": CREATED},
        "spec": {"containers": [container], **changes.get("spec", {})},
        "status": {"podIP": "10.244.0.2", "phase": "Running", **changes.get("status", {})},
    }


def verdicts(spec: Object, *others: Pod, pod: Pod | None = None) -> Isolation | None:
    pods = [pod or a_pod(), *others]
    found = resolve(pods, {"bank": {}, "away": {"team": "away"}}, [parse_policy(a_policy(spec))])
    return next((isolation for isolation in found if isolation.pod == pods[0]), None)


# --- what a policy applies to ----------------------------------------------------
def test_a_pod_on_the_host_network_or_without_address_or_ended_is_not_subject() -> None:
    assert parse_pod(pod_object()) is not None
    assert parse_pod(pod_object(spec={"hostNetwork": True})) is None
    assert parse_pod(pod_object(status={"podIP": ""})) is None
    assert parse_pod(pod_object(status={"phase": "Succeeded"})) is None
    assert parse_pod(pod_object(status={"phase": "Failed"})) is None


def test_the_network_plugins_address_serves_until_the_api_tells_one() -> None:
    found = parse_pod(pod_object(status={"podIP": "", "phase": "Pending"}), {"uid-a": "10.244.0.9"})
    assert found is not None
    assert found.address == "10.244.0.9"


def test_ports_of_sidecars_have_names_too() -> None:
    sidecar = {"name": "s", "restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9090}]}
    found = parse_pod(pod_object(spec={"initContainers": [sidecar]}))
    assert found is not None
    assert found.ports == (WEB, ContainerPort("metrics", "TCP", 9090))


@pytest.mark.parametrize(
    ("spec", "isolated"),
    [
        ({}, {"ingress"}),
        ({"ingress": [{}]}, {"ingress"}),
        ({"egress": [{}]}, {"ingress", "egress"}),
        ({"egress": []}, {"ingress"}),
        ({"policyTypes": ["Egress"]}, {"egress"}),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, {"egress"}),
        ({"policyTypes": ["Ingress", "Egress"]}, {"ingress", "egress"}),
    ],
)
def test_policy_types_default_to_ingress_and_to_egress_where_there_are_egress_rules(
    spec: Object, isolated: set[str]
) -> None:
    assert set(parse_policy(a_policy({"podSelector": {}, **spec})).rules) == isolated


def test_a_pod_that_no_policy_selects_is_not_isolated() -> None:
    assert verdicts({"podSelector": {"matchLabels": {"app": "other"}}}) is None


def test_an_address_that_moved_on_belongs_to_the_younger_pod() -> None:
    old = a_pod("old", labels={"app": "old"})
    new = a_pod("new", labels={"app": "new"}, created="2026-01-02T00:00:00Z")
    policy = parse_policy(a_policy({"podSelector": {"matchLabels": {"app": "old"}}}))
    assert resolve([new, old], {"bank": {}}, [policy]) == ()


# --- verdicts --------------------------------------------------------------------
def test_overlapping_and_adjacent_port_ranges_are_merged_because_nftables_refuses_them() -> None:
    ports = [{"port": 10, "endPort": 20}, {"port": 15, "endPort": 30}, {"port": 31}, {"port": 20, "protocol": "UDP"}]
    found = verdicts({"podSelector": {}, "ingress": [{"ports": ports}]})
    assert found is not None
    assert found.ingress == (Allow(None, (PortRange("TCP", 10, 31), PortRange("UDP", 20, 20))),)


def test_a_named_port_that_the_pod_does_not_have_opens_nothing() -> None:
    found = verdicts({"podSelector": {}, "ingress": [{"ports": [{"port": "absent"}]}]})
    assert found is not None
    assert found.ingress == ()


def test_a_named_egress_port_means_each_destinations_own_number() -> None:
    b = a_pod("b", "10.244.0.3", ports=(ContainerPort("web", "TCP", 80),))
    c = a_pod("c", "10.244.0.4", ports=())
    rule = {"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}
    found = verdicts({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}, b, c)
    assert found is not None
    assert found.egress is not None
    assert set(found.egress) == {
        Allow(Addresses(frozenset({"10.244.0.2"})), (PortRange("TCP", 8080, 8080),)),
        Allow(Addresses(frozenset({"10.244.0.3"})), (PortRange("TCP", 80, 80),)),
    }


def test_a_named_egress_port_to_a_block_means_the_pods_within_it() -> None:
    b = a_pod("b", "10.244.0.3", ports=(ContainerPort("web", "TCP", 80),))
    block = {"cidr": "10.244.0.0/24", "except": ["10.244.0.2/32"]}
    rule = {"to": [{"ipBlock": block}], "ports": [{"port": "web"}]}
    found = verdicts({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}, b)
    assert found is not None
    assert found.egress == (Allow(Addresses(frozenset({"10.244.0.3"})), (PortRange("TCP", 80, 80),)),)


def test_a_port_name_of_another_protocol_does_not_count() -> None:
    pod = a_pod(ports=(ContainerPort("web", "TCP", 80), ContainerPort("web", "UDP", 443)))
    found = verdicts({"podSelector": {}, "ingress": [{"ports": [{"port": "web", "protocol": "UDP"}]}]}, pod=pod)
    assert found is not None
    assert found.ingress == (Allow(None, (PortRange("UDP", 443, 443),)),)


def test_a_namespace_that_is_not_known_yet_is_no_peer_even_of_an_empty_selector() -> None:
    stray = a_pod("stray", "10.244.0.3", namespace="not-yet")
    found = verdicts({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}, stray)
    assert found is not None
    assert found.ingress == (Allow(Addresses(frozenset({"10.244.0.2"})), None),)


def test_an_ipv6_block_alone_admits_nobody_instead_of_everybody() -> None:
    found = verdicts({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}]})
    assert found is not None
    assert found.ingress == ()


@pytest.mark.parametrize(
    "spec",
    [
        {"podSelector": {"matchFields": []}},
        {"podSelector": {}, "policyTypes": ["Forward"]},
        {"podSelector": {}, "ingress": [{"to": []}]},
        {"podSelector": {}, "ingress": [{"from": [{}]}]},
        {"podSelector": {}, "ingress": [{"from": [{"serviceSelector": {}}]}]},
        {"podSelector": {}, "ingress": [{"ports": [{"protocol": "ICMP"}]}]},
        {"podSelector": {}, "ingress": [{"ports": [{"port": 1, "appProtocol": "http"}]}]},
        {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "exempt": []}}]}]},
    ],
)
def test_what_the_enforcer_does_not_know_is_an_error_and_never_everyone(spec: Object) -> None:
    with pytest.raises(UnknownField):
        parse_policy(a_policy(spec))


def test_an_unknown_selector_operator_is_an_error() -> None:
    selector = parse_selector({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["x"]}]})
    with pytest.raises(UnknownField):
        selector.matches({"a": "x"})


# --- the transaction -------------------------------------------------------------
def test_no_isolated_pod_still_makes_the_table_so_that_its_absence_shows() -> None:
    text = render((), Flows.KEPT)
    assert "add table inet ringfence_lab" in text
    assert "elements" not in text


def test_established_flows_are_accepted_first_when_kept_and_never_when_cut() -> None:
    shortcut = "ct state established,related accept"
    assert render((), Flows.KEPT).count(shortcut) == 3
    assert shortcut not in render((), Flows.CUT)


def test_the_lookup_of_verdicts_comes_after_the_checks_that_nothing_goes_around_them() -> None:
    lines = render((), Flows.KEPT).split("\n")
    forward = lines[lines.index("chain forward {") : lines.index("chain input {")]
    positions = [
        next(number for number, line in enumerate(forward) if part in line)
        for part in (
            "ipv6 drop",
            "missing counter name spoofed",
            "invalid,untracked",
            "established",
            "@egress_of",
            "@ingress_of",
        )
    ]
    assert positions == sorted(positions)


def test_chains_of_pods_that_are_no_longer_isolated_go_with_their_counters() -> None:
    isolation = Isolation(a_pod(), ingress=(), egress=None)
    text = render((isolation,), Flows.KEPT, installed={"ingress-bank/a", "egress-bank/gone"})
    for what in ("chain", "counter"):
        assert f"delete {what} inet ringfence_lab egress-bank/gone\n" in text
        assert f"delete {what} inet ringfence_lab ingress-bank/a\n" not in text
    assert chain_names([isolation]) == {"ingress-bank/a"}


def test_long_names_stay_apart_and_within_what_nftables_takes() -> None:
    keys = [f"{'n' * 63}/{'p' * 200}{end}" for end in "ab"]
    names = {chain_name("ingress", key) for key in keys}
    assert len(names) == 2
    assert all(len(name) <= 120 for name in names)


def test_labels_never_reach_the_transaction() -> None:
    hostile = a_pod(labels={"app": "x; flush ruleset"})
    spec = {"podSelector": {"matchLabels": {"app": "x; flush ruleset"}}}
    found = resolve([hostile], {"bank": {}}, [parse_policy(a_policy(spec))])
    assert found
    assert "flush ruleset" not in render(found, Flows.KEPT)


@pytest.mark.parametrize("name", ["a;b", "a b", "a\n}", "", "A", "-a"])
def test_a_name_that_the_api_would_refuse_is_an_error(name: str) -> None:
    item = pod_object()
    item["metadata"]["name"] = name
    with pytest.raises(UnknownField):
        parse_pod(item)


# --- addresses from the network plugin -------------------------------------------
def record(uid: str, address: str) -> str:
    return json.dumps({"cniArgs": [["K8S_POD_UID", uid]], "result": {"ips": [{"address": f"{address}/24"}]}})


def test_a_half_written_record_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.layout.STATE_ROOT", tmp_path)
    folder = tmp_path / "lab" / "cni" / "results"
    folder.mkdir(parents=True)
    addresses = CniAddresses(Lab("lab", 0))
    whole = record("uid-a", "10.244.0.2")
    (folder / "lab-x-eth0").write_text(whole[:20])
    (folder / "cni-loopback-x-lo").write_text(record("uid-a", "127.0.0.1"))
    assert not addresses.refresh()
    (folder / "lab-x-eth0").write_text(whole)
    assert addresses.refresh()
    assert addresses.by_uid == {"uid-a": "10.244.0.2"}
    assert not addresses.refresh()


# --- records of the name service -------------------------------------------------
def a_service(name: str, **spec: Any) -> Object:
    return {"metadata": {"namespace": "bank", "name": name}, "spec": spec}


def test_services_of_every_type_have_the_records_that_the_dns_specification_gives_them() -> None:
    slices = [
        {
            "metadata": {"namespace": "bank", "labels": {"kubernetes.io/service-name": "members"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.244.0.2"], "hostname": "member-0", "conditions": {"ready": True}},
                {"addresses": ["10.244.0.3"], "conditions": {}},
                {"addresses": ["10.244.0.4"], "conditions": {"ready": False}},
            ],
        }
    ]
    services = [
        a_service("ledger", clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00::7"]),
        a_service("members", clusterIP="None", clusterIPs=["None"]),
        a_service("elsewhere", type="ExternalName", externalName="evil.example"),
    ]
    assert hosts(services, slices).split("\n") == [
        "10.244.0.3 10-244-0-3.members.bank.svc.cluster.local",
        "10.96.0.7 ledger.bank.svc.cluster.local",
        "10.244.0.2 member-0.members.bank.svc.cluster.local",
        "10.244.0.2 members.bank.svc.cluster.local",
        "10.244.0.3 members.bank.svc.cluster.local",
        "",
    ]
