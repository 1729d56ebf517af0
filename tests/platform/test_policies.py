"""What policies do to one pod: defaulting, selection, openings and their texts, and what the reader refuses.

Whether flows pass is in ``test_flows.py`` (against an oracle), the edits that cut a pod off in ``test_fencing.py``.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given

from ringfence.errors import RingfenceError
from ringfence.platform.kubernetes.policies import (
    AnyPeer,
    Direction,
    IPBlock,
    PodPeer,
    PolicyError,
    PortMatch,
    evaluate,
    evaluate_labels,
    policy_types,
    selecting,
)
from ringfence.platform.kubernetes.selectors import parse as selector
from tests.platform.network_worlds import World, examples, labels_of, picks, types_of, worlds

POD = {"metadata": {"namespace": "bank", "name": "cards", "labels": {"app": "cards"}}, "spec": {}}


def policy(name: str = "p", namespace: str = "bank", **spec: object) -> dict:
    return {"metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, {"Ingress"}),
        ({"egress": []}, {"Ingress"}),
        ({"egress": None, "policyTypes": None}, {"Ingress"}),
        ({"egress": [{}]}, {"Ingress", "Egress"}),
        ({"egress": [{}], "policyTypes": []}, {"Ingress", "Egress"}),
        ({"egress": [{}], "policyTypes": ["Ingress"]}, {"Ingress"}),
        ({"ingress": [{}], "policyTypes": ["Egress"]}, {"Egress"}),
    ],
)
def test_policy_types_default_as_the_server_does(spec: dict, types: set[str]) -> None:
    assert policy_types(spec) == types


def test_a_deny_all_without_policy_types_leaves_egress_open() -> None:
    isolation = evaluate(POD, [policy()])
    assert isolation.ingress_isolated
    assert not isolation.egress_isolated
    assert not isolation.cut
    assert isolation.allows_dns()


def test_a_deny_all_beside_an_allow_policy_does_not_cut() -> None:
    deny = policy("deny", policyTypes=["Ingress", "Egress"])
    dns = policy("dns", podSelector={}, egress=[{"ports": [{"protocol": "UDP", "port": 53}]}], policyTypes=["Egress"])
    assert evaluate(POD, [deny]).cut
    assert not evaluate(POD, [deny, dns]).cut
    assert evaluate(POD, [deny, dns]).shut(Direction.INGRESS)
    assert evaluate(POD, [deny, {**dns, "metadata": {"namespace": "shop", "name": "dns"}}]).cut


def test_rules_of_a_direction_that_the_policy_does_not_have_are_ignored() -> None:
    isolation = evaluate(POD, [policy(policyTypes=["Egress"], ingress=[{}])])
    assert not isolation.ingress_isolated
    assert isolation.shut(Direction.EGRESS)


def test_a_host_network_pod_is_never_cut() -> None:
    isolation = evaluate({**POD, "spec": {"hostNetwork": True}}, [policy(policyTypes=["Ingress", "Egress"])])
    assert isolation.host_network
    assert not isolation.cut


def test_a_pod_that_nothing_selects_is_open_and_has_no_openings() -> None:
    isolation = evaluate(POD, [])
    assert (isolation.ingress_isolated, isolation.egress_isolated, isolation.openings) == (False, False, ())


@examples(50)
@given(worlds())
def test_selection_and_isolation_agree_with_the_oracle(world: World) -> None:
    for pod in world.pods:
        namespace = pod["metadata"]["namespace"]
        expected = tuple(
            policy
            for policy in world.policies
            if policy["metadata"]["namespace"] == namespace
            and picks(policy["spec"].get("podSelector", {}), labels_of(pod))
        )
        assert selecting(world.policies, namespace=namespace, labels=labels_of(pod)) == expected
        isolation = evaluate_labels(namespace, labels_of(pod), world.policies)
        for direction in Direction:
            of_type = [policy for policy in expected if str(direction) in types_of(policy)]
            assert isolation.isolated(direction) == bool(of_type)
            rules = sum(len(policy["spec"].get(direction.lower()) or []) for policy in of_type)
            assert len(isolation.opens(direction)) == rules


def test_an_opening_is_normalised() -> None:
    [opening] = evaluate(
        POD,
        [
            policy(
                ingress=[
                    {
                        "from": [
                            {"podSelector": {"matchLabels": {"app": "web"}}},
                            {"ipBlock": {"cidr": "10.1.2.3/8", "except": ["10.9.0.0/16"]}},
                        ],
                        "ports": [{"port": 80, "endPort": 90}, {"protocol": "UDP"}, {"port": "metrics"}],
                    }
                ]
            )
        ],
    ).openings
    assert (opening.policy, opening.uid, opening.namespace, opening.direction) == ("p", "uid-p", "bank", "Ingress")
    assert opening.peers == (
        PodPeer("bank", None, selector({"matchLabels": {"app": "web"}})),
        IPBlock(ipaddress.ip_network("10.0.0.0/8"), (ipaddress.ip_network("10.9.0.0/16"),)),
    )
    assert opening.ports == (PortMatch("TCP", 80, 90), PortMatch("UDP"), PortMatch("TCP", "metrics"))


def test_an_empty_rule_opens_everything_and_says_so() -> None:
    [opening] = evaluate(POD, [policy(ingress=[{"from": [], "ports": None}])]).openings
    assert opening.peers == (AnyPeer(),)
    assert opening.ports == (PortMatch(),)
    assert opening.summary == "p: ingress from anywhere, all ports"


KUBE_DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            {"to": [KUBE_DNS], "ports": [{"protocol": "UDP", "port": 53}, {"port": 53}]},
            "egress to pods k8s-app=kube-dns in kube-system, UDP 53, TCP 53",
        ),
        ({"to": [{"podSelector": {}}]}, "egress to all pods in bank, all ports"),
        ({"to": [{"namespaceSelector": {}}]}, "egress to all pods in all namespaces, all ports"),
        (
            {"to": [{"namespaceSelector": {"matchExpressions": [{"key": "env", "operator": "Exists"}]}}]},
            "egress to all pods in namespaces env, all ports",
        ),
        (
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"protocol": "SCTP"}]},
            "egress to 0.0.0.0/0 except 10.0.0.0/8, all SCTP ports",
        ),
        ({"ports": [{"port": "https"}, {"port": 1, "endPort": 9}]}, "egress to anywhere, TCP https, TCP 1-9"),
        (
            {"ports": [{"port": port} for port in range(1, 10)]},
            "egress to anywhere, TCP 1, TCP 2, TCP 3, TCP 4, TCP 5, TCP 6, 3 more",
        ),
    ],
)
def test_the_summary_says_who_and_what(rule: dict, text: str) -> None:
    [opening] = evaluate(POD, [policy("allow-x", egress=[rule])]).openings
    assert opening.summary == f"allow-x: {text}"


def test_a_summary_escapes_hostile_text() -> None:
    hostile = "\x1b]0;x\x07\u202e<b>"
    rule = {"to": [{"podSelector": {"matchLabels": {hostile: hostile}}}], "ports": [{"port": hostile}]}
    [opening] = evaluate(POD, [policy(hostile, egress=[rule])]).openings
    assert opening.summary.isascii()
    assert opening.summary.isprintable()
    assert "<" not in opening.summary


@pytest.mark.parametrize(
    ("egress", "allowed"),
    [
        ([], False),
        ([{}], True),
        ([{"ports": [{"port": 443}]}], False),
        ([{"ports": [{"port": 53, "protocol": "UDP"}]}], True),
        ([{"ports": [{"port": 53}]}], True),
        ([{"ports": [{"port": 53, "protocol": "SCTP"}]}], False),
        ([{"ports": [{"port": 1, "endPort": 52}]}], False),
        ([{"ports": [{"port": 1, "endPort": 53}]}], True),
        ([{"ports": [{"protocol": "UDP"}]}], True),
        ([{"ports": [{"port": "named"}]}], True),
        ([{"ports": [{"port": "named", "protocol": "SCTP"}]}], False),
        ([{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}], True),
    ],
)
def test_dns_is_open_whenever_port_53_may_be(egress: list, allowed: bool) -> None:
    assert evaluate(POD, [policy(policyTypes=["Egress"], egress=egress)]).allows_dns() is allowed


@pytest.mark.parametrize(
    "spec",
    [
        {"policyTypes": ["ingress"]},
        {"policyTypes": "Ingress"},
        {"tier": "Admin"},
        {"podSelector": {"matchNames": ["x"]}},
        {"ingress": {}},
        {"ingress": [None]},
        {"ingress": [{"to": []}]},
        {"ingress": [{"from": [{}]}]},
        {"ingress": [{"from": [{"fqdn": "example.com"}]}]},
        {"ingress": [{"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}]}]},
        {"ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        {"ingress": [{"from": [{"ipBlock": {}}]}]},
        {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]},
        {"ingress": [{"from": [{"ipBlock": {"cidr": 10}}]}]},
        {"ingress": [{"ports": [{"port": 0}]}]},
        {"ingress": [{"ports": [{"port": True}]}]},
        {"ingress": [{"ports": [{"port": 70000}]}]},
        {"ingress": [{"ports": [{"port": 80, "protocol": "tcp"}]}]},
        {"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]},
        {"ingress": [{"ports": [{"port": "web", "endPort": 80}]}]},
        {"ingress": [{"ports": [{"endPort": 80}]}]},
        {"ingress": [{"ports": [{"port": 80, "appProtocol": "http"}]}]},
    ],
)
def test_a_policy_that_is_not_understood_is_an_error_that_names_it(spec: dict) -> None:
    with pytest.raises(PolicyError, match="NetworkPolicy bank/odd cannot be read") as error:
        evaluate(POD, [policy("odd", **spec)])
    assert isinstance(error.value, RingfenceError)
    assert error.value.why
    assert error.value.next_step


def test_an_unreadable_policy_of_another_namespace_does_not_matter() -> None:
    assert evaluate(POD, [policy("odd", "shop", ingress=[None])]).openings == ()


def test_a_policy_without_name_or_namespace_is_an_error() -> None:
    for meta in (None, {}, {"name": "p"}, {"namespace": "bank"}, {"name": 1, "namespace": "bank"}):
        with pytest.raises(PolicyError, match="cannot be read"):
            evaluate(POD, [{"metadata": meta, "spec": {}}])
