"""Small clusters for the NetworkPolicy tests: hypothesis strategies, a brute-force oracle, an RFC 6902 interpreter.

The oracle shares no code with the product and works the other way round: it expands every rule into the concrete set
of (peer, protocol, port) that it grants, and intersects sets; it never asks about one flow.
"""

from __future__ import annotations

import copy
import ipaddress
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ringfence.platform.kubernetes.flows import Connectivity, Flow, PodRef

Json = dict[str, Any]
Party = tuple[str, str]  # (namespace, name) of a pod, or ("", address)
Grant = tuple[Party, Party, str, int]
Body = tuple[list[str], Json | None]  # addresses, and the pod that has them

FENCE = "ringfence.dev/fence"
NODES = ("192.168.0.1", "192.168.0.2")
OUTSIDE = ("198.51.100.7", "10.0.0.200", "fd00::99")
PORTS = (("TCP", 53), ("UDP", 53), ("TCP", 80), ("TCP", 8080), ("UDP", 8080), ("SCTP", 80))
KEYS = ("app", "tier", "team")
VALUES = ("a", "b")


def examples(count: int) -> settings:
    """So many examples, however slow the machine: what takes time here is the oracle, not the product."""
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class World:
    """Raw objects, as the server would list them."""

    namespaces: tuple[Json, ...]
    pods: tuple[Json, ...]
    policies: tuple[Json, ...]

    def connectivity(self) -> Connectivity:
        return Connectivity(self.policies, self.pods, self.namespaces)

    def parties(self) -> list[Party]:
        return [key(pod) for pod in self.pods] + [("", address) for address in (*OUTSIDE, *NODES)]

    def with_pod(self, pod: Json) -> World:
        return replace(self, pods=tuple(pod if key(old) == key(pod) else old for old in self.pods))

    def with_policy(self, policy: Json) -> World:
        return replace(self, policies=tuple(policy if key(old) == key(policy) else old for old in self.policies))

    def adding(self, policy: Json) -> World:
        return replace(self, policies=(*self.policies, policy))


def key(obj: Json) -> Party:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def flow(grant: Grant) -> Flow:
    """The product's flow for one tuple of the oracle."""
    source, destination, protocol, port = grant
    ends = [PodRef(*party) if party[0] else ipaddress.ip_address(party[1]) for party in (source, destination)]
    return Flow(ends[0], ends[1], port, protocol)


def every_flow(world: World) -> Iterator[Grant]:
    for source in world.parties():
        for destination in world.parties():
            for protocol, port in PORTS:
                yield source, destination, protocol, port


# --- the oracle ---------------------------------------------------------------------------------------------------


def picks(selector: Json, labels: Json) -> bool:
    """A label selector, by set algebra over (key, value) pairs."""
    pairs, keys = set(labels.items()), set(labels)
    verdicts = [set((selector.get("matchLabels") or {}).items()) <= pairs]
    for expression in selector.get("matchExpressions") or []:
        held = bool(pairs & {(expression["key"], value) for value in expression.get("values", [])})
        exists = expression["key"] in keys
        verdicts.append(
            {"In": held, "NotIn": not held, "Exists": exists, "DoesNotExist": not exists}[expression["operator"]]
        )
    return all(verdicts)


def in_cidr(address: str, cidr: str) -> bool:
    base, length = cidr.split("/")
    one, two = ipaddress.ip_address(address), ipaddress.ip_address(base)
    shift = one.max_prefixlen - int(length)
    return one.version == two.version and int(one) >> shift == int(two) >> shift


def labels_of(obj: Json) -> Json:
    return obj["metadata"].get("labels") or {}


def _bodies(world: World, party: Party) -> list[Body]:
    """Whom a party may be: addresses and pod. A node's address is also each host-network pod there."""
    if party[0]:
        pod = next(pod for pod in world.pods if key(pod) == party)
        return [([entry["ip"] for entry in pod["status"]["podIPs"]], pod)]
    holders = [pod for pod in world.pods if {"ip": party[1]} in pod["status"]["podIPs"]]
    return [([entry["ip"] for entry in pod["status"]["podIPs"]], pod) for pod in holders] or [([party[1]], None)]


def _granted_peer(world: World, policy: Json, peer: Json, addresses: list[str], pod: Json | None) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return any(
            in_cidr(address, block["cidr"]) and not any(in_cidr(address, out) for out in block.get("except", []))
            for address in addresses
        )
    if pod is None:
        return False
    home = pod["metadata"]["namespace"]
    if "namespaceSelector" in peer:
        [namespace] = [n for n in world.namespaces if n["metadata"]["name"] == home]
        right_namespace = picks(peer["namespaceSelector"], labels_of(namespace))
    else:
        right_namespace = home == policy["metadata"]["namespace"]
    return right_namespace and picks(peer.get("podSelector", {}), labels_of(pod))


def _granted_ports(rule: Json, destination: Json | None) -> set[tuple[str, int]]:
    if not rule.get("ports"):
        return set(PORTS)
    granted, spec = set(), destination["spec"] if destination else {}
    containers = [*spec.get("containers", []), *spec.get("initContainers", [])]
    named = {
        (port["name"], port.get("protocol", "TCP"), port["containerPort"])
        for container in containers
        for port in container.get("ports", [])
        if "name" in port
    }
    for entry in rule["ports"]:
        protocol, port = entry.get("protocol", "TCP"), entry.get("port")
        if port is None:
            numbers = set(range(1, 65536))
        elif isinstance(port, str):
            numbers = {number for name, its_protocol, number in named if (name, its_protocol) == (port, protocol)}
        else:
            numbers = set(range(port, entry.get("endPort", port) + 1))
        granted |= {(p, n) for p, n in PORTS if p == protocol and n in numbers}
    return granted


def types_of(policy: Json) -> set[str]:
    spec = policy["spec"]
    return set(spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]))


def _passes(world: World, direction: str, own: Body, other: Body) -> set[tuple[str, int]]:
    """The (protocol, port) pairs that the policies of ``own`` let through in this direction."""
    pod = own[1]
    if pod is None or pod["spec"].get("hostNetwork") or (other[1] is not None and key(pod) == key(other[1])):
        return set(PORTS)
    if pod["status"]["hostIP"] in other[0]:
        return set(PORTS)
    selected_by = [
        policy
        for policy in world.policies
        if policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and direction in types_of(policy)
        and picks(policy["spec"].get("podSelector", {}), labels_of(pod))
    ]
    if not selected_by:
        return set(PORTS)
    granted: set[tuple[str, int]] = set()
    for policy in selected_by:
        for rule in policy["spec"].get(direction.lower()) or []:
            peers = rule.get("from" if direction == "Ingress" else "to")
            if not peers or any(_granted_peer(world, policy, peer, *other) for peer in peers):
                granted |= _granted_ports(rule, pod if direction == "Ingress" else other[1])
    return granted


def oracle(world: World) -> frozenset[Grant]:
    """Every allowed flow among the parties of this world."""
    allowed: set[Grant] = set()
    bodies = {party: _bodies(world, party) for party in world.parties()}
    for source, sources in bodies.items():
        for destination, destinations in bodies.items():
            for one in sources:
                for two in destinations:
                    both = _passes(world, "Egress", one, two) & _passes(world, "Ingress", two, one)
                    allowed |= {(source, destination, protocol, port) for protocol, port in both}
    return frozenset(allowed)


def beyond_policies(world: World, victim: Json) -> set[Grant]:
    """Flows of a pod that no policy can stop: to itself, and from and to its own node."""
    own, node = key(victim), victim["status"]["hostIP"]
    on_node = {("", node)} | {key(pod) for pod in world.pods if {"ip": node} in pod["status"]["podIPs"]}
    return {grant for grant in every_flow(world) if own in grant[:2] and set(grant[:2]) <= {own} | on_node}


# --- strategies ---------------------------------------------------------------------------------------------------


# Each building block is one draw from a list of all its forms: quick to generate, and shrinks to the first form.


def _forms_of_selectors(keys: tuple[str, ...]) -> list[Json]:
    """The empty selector, every single requirement over ``keys``, and some pairs."""
    equalities = [{"matchLabels": {key: "a"}} for key in keys]
    single = [{"key": key, "operator": operator} for key in keys for operator in ("Exists", "DoesNotExist")]
    single += [
        {"key": key, "operator": operator, "values": values}
        for key in keys
        for operator in ("In", "NotIn")
        for values in (["a"], ["b"], ["a", "b"])
    ]
    both = [{**labels, "matchExpressions": [one]} for labels in equalities for one in single[:4]]
    pairs = [{"matchExpressions": [one, two]} for one, two in zip(single, single[3:], strict=False)]
    alone = [{"matchExpressions": [one]} for one in single]
    return [{}, *equalities, {"matchLabels": {"app": "a", "tier": "a"}}, *alone, *both, *pairs]


LABELS: list[Json] = [
    {key: value for key, value in zip(KEYS, values, strict=True) if value}
    for values in itertools.product(("", "a", "b"), repeat=3)
]
labels = st.sampled_from(LABELS)
selectors = st.sampled_from(_forms_of_selectors(KEYS))
maps = st.sampled_from([{}, {"app": "a"}, {"tier": "a"}, {"team": "b"}, {"app": "a", "tier": "a"}])

CIDRS = ("0.0.0.0/0", "10.0.0.0/24", "10.0.0.0/30", "192.168.0.0/24", "198.51.100.0/24", "::/0", "fd00::/64")
ports = st.sampled_from(
    [
        {},
        {"protocol": "UDP"},
        {"protocol": "SCTP"},
        {"port": 80},
        {"port": 53, "protocol": "UDP"},
        {"port": 53, "protocol": "TCP"},
        {"port": 60, "endPort": 8080},
        {"port": 1, "endPort": 79, "protocol": "UDP"},
        {"port": "web"},
        {"port": "dns", "protocol": "UDP"},
    ]
)
blocks = st.sampled_from(
    [{"ipBlock": {"cidr": cidr}} for cidr in CIDRS]
    + [{"ipBlock": {"cidr": CIDRS[0], "except": list(two)}} for two in itertools.combinations(CIDRS[1:5], 2)]
    + [{"ipBlock": {"cidr": cidr, "except": [out]}} for cidr in CIDRS for out in CIDRS]
)
peers = st.one_of(
    st.builds(lambda pods: {"podSelector": pods}, selectors),
    st.builds(lambda namespaces: {"namespaceSelector": namespaces}, selectors),
    st.builds(lambda pods, namespaces: {"podSelector": pods, "namespaceSelector": namespaces}, selectors, selectors),
    blocks,
)


def rules(peers_key: str) -> st.SearchStrategy[list[Json]]:
    """Rules that restrict something are the rule here, and the all-open ones the exception."""
    some_peers = st.lists(peers, min_size=1, max_size=2)
    some_ports = st.lists(ports, min_size=1, max_size=2)
    rule = st.one_of(
        st.builds(lambda who: {peers_key: who}, some_peers),
        st.builds(lambda who, what: {peers_key: who, "ports": what}, some_peers, some_ports),
        st.builds(lambda what: {"ports": what}, some_ports),
        st.sampled_from([{}, {peers_key: [], "ports": []}]),
    )
    return st.lists(rule, max_size=2)


@st.composite
def policy_specs(draw: st.DrawFn) -> Json:
    """Half of them select every pod; the selector of the others may speak of the fence label too."""
    spec: Json = {"ingress": draw(rules("from"))}
    if draw(st.booleans()):
        spec["egress"] = draw(rules("to"))
    if types := draw(st.sampled_from([None, [], ["Ingress"], ["Egress"], ["Ingress", "Egress"]])):
        spec["policyTypes"] = types
    selector = draw(st.one_of(st.sampled_from([None, {}]), st.sampled_from(_forms_of_selectors((*KEYS, FENCE)))))
    if selector is not None:
        spec["podSelector"] = selector
    return copy.deepcopy(spec)


container_ports = st.lists(
    st.sampled_from(
        [
            {"name": "web", "containerPort": 80},
            {"name": "web", "containerPort": 8080, "protocol": "TCP"},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns", "containerPort": 53, "protocol": "TCP"},
            {"containerPort": 80},
        ]
    ),
    max_size=2,
)


@st.composite
def worlds(draw: st.DrawFn, *, fenced_before: bool = False) -> World:
    """Two namespaces, two to four pods, one to four policies; the first pod is on the pod network.

    With ``fenced_before`` some other pods may be under a fence of their own, deny-all included.
    """
    namespaces = tuple(
        {"metadata": {"name": name, "labels": {**draw(labels), "kubernetes.io/metadata.name": name}}}
        for name in ("bank", "shop")
    )
    pods = []
    for index in range(draw(st.integers(2, 4))):
        node = draw(st.sampled_from(NODES))
        host_network = index > 0 and draw(st.integers(0, 5)) == 0
        addresses = [node] if host_network else [f"10.0.0.{index + 1}", *([f"fd00::{index + 1}"] if index % 2 else [])]
        own = dict(draw(labels))
        if fenced_before and index > 0 and draw(st.integers(0, 3)) == 0:
            own[FENCE] = "earlier"
        spec: Json = {"containers": [{"name": "main", "ports": draw(container_ports)}]}
        if draw(st.booleans()):
            spec["initContainers"] = [{"name": "proxy", "restartPolicy": "Always", "ports": draw(container_ports)}]
        if host_network:
            spec["hostNetwork"] = True
        pods.append(
            {
                "metadata": {
                    "namespace": draw(st.sampled_from(["bank", "bank", "shop"])),
                    "name": f"pod-{index}",
                    "uid": f"pod-uid-{index}",
                    "resourceVersion": str(100 + index),
                    **({"labels": own} if own else {}),
                },
                "spec": spec,
                "status": {
                    "podIP": addresses[0],
                    "podIPs": [{"ip": address} for address in addresses],
                    "hostIP": node,
                    "phase": "Running",
                },
            }
        )
    policies = [
        {
            "metadata": {
                "namespace": draw(st.sampled_from(["bank", "bank", "shop"])),
                "name": f"policy-{index}",
                "uid": f"policy-uid-{index}",
                "resourceVersion": str(200 + index),
            },
            "spec": draw(policy_specs()),
        }
        for index in range(draw(st.integers(1, 4)))
    ]
    if fenced_before:
        policies += [
            {
                "metadata": {"namespace": name, "name": "earlier", "uid": f"earlier-{name}", "resourceVersion": "300"},
                "spec": {"podSelector": {"matchLabels": {FENCE: "earlier"}}, "policyTypes": ["Ingress", "Egress"]},
            }
            for name in ("bank", "shop")
        ]
    return World(namespaces, tuple(pods), tuple(policies))


# --- RFC 6902, as far as it is used -------------------------------------------------------------------------------


class PatchRefused(Exception):
    """A ``test`` operation failed, or a path does not exist."""


def patched(obj: Json, operations: tuple[Json, ...]) -> Json:
    """The object after a JSON patch over members of objects; like a server, all or nothing."""
    result = copy.deepcopy(obj)
    for operation in operations:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].removeprefix("/").split("/")
        ]
        holder = result
        for part in parents:
            holder = holder[part]
        if operation["op"] != "add" and last not in holder:
            raise PatchRefused(f"{operation['path']} does not exist")
        match operation["op"]:
            case "test":
                if holder[last] != operation["value"]:
                    raise PatchRefused(f"{operation['path']} is {holder[last]!r}")
            case "add" | "replace":
                holder[last] = copy.deepcopy(operation["value"])
            case "remove":
                del holder[last]
            case other:
                raise PatchRefused(f"unknown operation {other}")
    return result
