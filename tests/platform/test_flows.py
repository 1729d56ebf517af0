"""Which connections policies allow: ``allows`` against a brute-force oracle, and ``Isolation`` against ``allows``.

Tables of single rules are in ``test_policies.py``; the edits that cut a pod off in ``test_fencing.py``.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given

from ringfence.errors import TargetError
from ringfence.platform.kubernetes.flows import Flow, PodRef, allows
from ringfence.platform.kubernetes.policies import Direction, PolicyError, evaluate
from tests.platform.network_worlds import World, beyond_policies, every_flow, examples, flow, key, oracle, worlds

pytestmark = pytest.mark.slow  # many generated worlds each


@examples(60)
@given(worlds())
def test_allows_agrees_with_the_oracle_on_every_flow(world: World) -> None:
    connectivity = world.connectivity()
    allowed = {grant for grant in every_flow(world) if connectivity.allows(flow(grant))}
    expected = oracle(world)
    assert allowed == expected, f"too many {allowed - expected}, too few {expected - allowed}"


@examples(60)
@given(worlds())
def test_a_shut_direction_lets_no_flow_through_but_self_and_node(world: World) -> None:
    allowed = oracle(world)
    for pod in world.pods:
        isolation = evaluate(pod, world.policies)
        if isolation.host_network:
            assert not isolation.cut
            continue
        governed = allowed - beyond_policies(world, pod)
        leaving = {grant for grant in governed if grant[0] == key(pod)}
        entering = {grant for grant in governed if grant[1] == key(pod)}
        assert not (isolation.shut(Direction.EGRESS) and leaving)
        assert not (isolation.shut(Direction.INGRESS) and entering)
        assert not (isolation.cut and (leaving or entering))
        if not isolation.allows_dns():
            assert not {grant for grant in leaving if grant[2] in ("UDP", "TCP") and grant[3] == 53}


@examples(60)
@given(worlds())
def test_a_pods_address_is_the_pod(world: World) -> None:
    connectivity = world.connectivity()
    own = [pod for pod in world.pods if not pod["spec"].get("hostNetwork")]
    addresses = {PodRef(*key(pod)): ipaddress.ip_address(pod["status"]["podIP"]) for pod in own}
    for source in addresses:
        for destination in addresses:
            by_name = connectivity.allows(Flow(source, destination, 80))
            assert connectivity.allows(Flow(addresses[source], addresses[destination], 80)) == by_name
            assert connectivity.allows(Flow(source, addresses[destination], 80)) == by_name


def pod(name: str, address: str, *, phase: str = "Running", **spec: object) -> dict:
    status = {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.168.0.1", "phase": phase}
    return {
        "metadata": {"namespace": "bank", "name": name, "labels": {"app": name}},
        "spec": {"containers": [], **spec},
        "status": status,
    }


def policy(**spec: object) -> dict:
    return {"metadata": {"namespace": "bank", "name": "p"}, "spec": {"podSelector": {}, **spec}}


BANK = ({"metadata": {"name": "bank", "labels": {"kubernetes.io/metadata.name": "bank"}}},)
DENY = policy(policyTypes=["Ingress", "Egress"])
A, B = PodRef("bank", "a"), PodRef("bank", "b")
PODS = (pod("a", "10.0.0.1"), pod("b", "10.0.0.2"))


def test_both_ends_must_agree() -> None:
    out = policy(policyTypes=["Ingress", "Egress"], egress=[{}])
    assert not allows(Flow(A, B, 80), [DENY], PODS, BANK)
    assert not allows(Flow(A, B, 80), [out], PODS, BANK)
    assert allows(Flow(A, B, 80), [policy(policyTypes=["Ingress", "Egress"], egress=[{}], ingress=[{}])], PODS, BANK)


def test_a_pod_always_reaches_itself_and_its_node() -> None:
    node, other_node = ipaddress.ip_address("192.168.0.1"), ipaddress.ip_address("192.168.0.2")
    assert allows(Flow(A, A, 80), [DENY], PODS, BANK)
    assert allows(Flow(A, node, 10250), [DENY], PODS, BANK)
    assert allows(Flow(node, A, 80), [DENY], PODS, BANK)
    assert not allows(Flow(A, other_node, 10250), [DENY], PODS, BANK)


def test_a_host_network_pod_is_not_subject_to_policies() -> None:
    pods = (pod("a", "192.168.0.2", hostNetwork=True), pod("b", "10.0.0.2"))
    outside = ipaddress.ip_address("198.51.100.7")
    assert allows(Flow(A, outside, 443), [DENY], pods, BANK)
    assert not allows(Flow(B, outside, 443), [DENY], pods, BANK)


def test_the_address_of_a_finished_pod_is_nobodys() -> None:
    only_a = policy(policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}])
    address = ipaddress.ip_address("10.0.0.1")
    assert allows(Flow(address, B, 80), [only_a], PODS, BANK)
    assert not allows(Flow(address, B, 80), [only_a], (pod("a", "10.0.0.1", phase="Failed"), PODS[1]), BANK)


def test_a_named_port_is_the_destinations_name_for_it() -> None:
    server = pod("b", "10.0.0.2", initContainers=[{"ports": [{"name": "web", "containerPort": 8080}]}])
    client = pod("a", "10.0.0.1", containers=[{"ports": [{"name": "web", "containerPort": 9090}]}])
    egress = policy(policyTypes=["Egress"], egress=[{"ports": [{"port": "web"}]}])
    assert allows(Flow(A, B, 8080), [egress], (client, server), BANK)
    assert not allows(Flow(A, B, 9090), [egress], (client, server), BANK)
    assert not allows(Flow(A, B, 8080, "UDP"), [egress], (client, server), BANK)
    assert not allows(Flow(A, ipaddress.ip_address("198.51.100.7"), 8080), [egress], (client, server), BANK)


def test_a_port_with_two_names_answers_to_both() -> None:
    server = pod(
        "b",
        "10.0.0.2",
        containers=[{"ports": [{"name": "web", "containerPort": 80}, {"name": "api", "containerPort": 80}]}],
    )
    for name in ("web", "api"):
        ingress = policy(ingress=[{"ports": [{"port": name}]}])
        assert allows(Flow(A, B, 80), [ingress], (PODS[0], server), BANK)


def test_an_ip_block_is_its_range_without_the_exceptions_in_either_family() -> None:
    def reaches(address: str, cidr: str, *excepts: str) -> bool:
        block = {"cidr": cidr, "except": list(excepts)}
        egress = policy(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}])
        return allows(Flow(A, ipaddress.ip_address(address), 443), [egress], PODS, BANK)

    assert reaches("198.51.100.7", "0.0.0.0/0")
    assert reaches("198.51.100.7", "0.0.0.0/0", "10.0.0.0/8", "203.0.113.0/24")
    assert not reaches("203.0.113.9", "0.0.0.0/0", "10.0.0.0/8", "203.0.113.0/24")
    assert not reaches("fd00::1", "0.0.0.0/0")
    assert reaches("fd00::1", "::/0", "fd01::/16")
    assert not reaches("198.51.100.7", "::/0")


def test_every_address_of_a_dual_stack_pod_counts() -> None:
    second = pod("b", "10.0.0.2")
    second["status"]["podIPs"].append({"ip": "fd00::2"})
    only_v6 = policy(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "fd00::/64"}}]}])
    assert allows(Flow(A, B, 80), [only_v6], (PODS[0], second), BANK)
    assert allows(Flow(A, ipaddress.ip_address("fd00::2"), 80), [only_v6], (PODS[0], second), BANK)
    assert not allows(Flow(A, B, 80), [only_v6], PODS, BANK)


def test_a_namespace_whose_labels_are_needed_and_unknown_is_an_error() -> None:
    asks = policy(ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"env": "prod"}}}]}])
    with pytest.raises(PolicyError, match="cannot be evaluated"):
        allows(Flow(A, B, 80), [asks], PODS, [])
    assert allows(Flow(A, B, 80), [policy(ingress=[{"from": [{"namespaceSelector": {}}]}])], PODS, [])


def test_an_unknown_pod_is_an_error() -> None:
    with pytest.raises(TargetError, match="not among the pods read"):
        allows(Flow(A, PodRef("bank", "gone"), 80), [], PODS, BANK)


def test_an_unreadable_policy_spoils_only_its_own_namespace() -> None:
    broken = policy(ingress=[{"from": [{"fqdn": "x"}]}])
    elsewhere = {**broken, "metadata": {"namespace": "shop", "name": "p"}}
    assert allows(Flow(A, B, 80), [elsewhere], PODS, BANK)
    with pytest.raises(PolicyError, match="bank/p cannot be read"):
        allows(Flow(A, B, 80), [broken], PODS, BANK)


@pytest.mark.parametrize(("port", "protocol"), [(0, "TCP"), (65536, "TCP"), (80, "ICMP"), (80, "tcp")])
def test_what_no_policy_governs_is_not_a_flow(port: int, protocol: str) -> None:
    with pytest.raises(PolicyError):
        Flow(A, B, port, protocol)
