"""The enforcer's verdicts on random clusters, against an evaluator of single connections.

The evaluator follows the NetworkPolicy reference word for word and shares nothing with the enforcer but its names.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.enforcer.model import BlockPeer, ContainerPort, Pod, parse_policy
from lab.enforcer.resolve import Addresses, Allow, Isolation, resolve
from tests.unit.test_enforcer_render import WEB, Object, a_pod, a_policy

NAMESPACES = {"bank": {"team": "a"}, "away": {"team": "b"}, "bare": {}}
OUTSIDE = "192.0.2.7"
PORTS = (80, 443, 8080)
# Few words, so that selectors and labels meet often.
KEYS, VALUES = st.sampled_from(["app", "team"]), st.sampled_from(["a", "b"])
NAMESPACE_NAMES = st.sampled_from(["bank", "bank", "bank", "away", "bare"])

expressions = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        KEYS,
        st.sampled_from(["In", "NotIn"]),
        st.lists(VALUES, min_size=1, max_size=2),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator}, KEYS, st.sampled_from(["Exists", "DoesNotExist"])
    ),
)
selectors = st.one_of(
    st.just({}),
    st.builds(lambda labels: {"matchLabels": labels}, st.dictionaries(KEYS, VALUES, min_size=1, max_size=1)),
    st.builds(lambda terms: {"matchExpressions": terms}, st.lists(expressions, min_size=1, max_size=2)),
    st.builds(
        lambda labels, term: {"matchLabels": labels, "matchExpressions": [term]},
        st.dictionaries(KEYS, VALUES, min_size=1, max_size=1),
        expressions,
    ),
)
blocks = st.builds(
    lambda cidr, parts: {"ipBlock": {"cidr": cidr, **({"except": parts} if parts else {})}},
    st.sampled_from(["0.0.0.0/0", "10.244.0.0/29", "192.0.2.0/24"]),
    st.lists(st.sampled_from(["10.244.0.2/32", "10.244.0.2/31", "192.0.2.0/28"]), max_size=2),
)
peers = st.one_of(
    blocks,
    st.builds(lambda pods: {"podSelector": pods}, selectors),
    st.builds(lambda namespaces: {"namespaceSelector": namespaces}, selectors),
    st.builds(lambda one, two: {"namespaceSelector": one, "podSelector": two}, selectors, selectors),
)
policy_ports = st.one_of(
    st.builds(
        lambda port, protocol: {"port": port, "protocol": protocol},
        st.sampled_from([80, 8080, "web", "absent"]),
        st.sampled_from(["TCP", "UDP", "SCTP"]),
    ),
    st.builds(lambda last: {"port": 80, "endPort": last}, st.sampled_from([80, 443, 9000])),
    st.builds(lambda protocol: {"protocol": protocol}, st.sampled_from(["TCP", "UDP"])),
)


def rules_with(peers_field: str) -> st.SearchStrategy[Object]:
    return st.fixed_dictionaries(
        {},
        optional={
            peers_field: st.lists(peers, min_size=1, max_size=2),
            "ports": st.lists(policy_ports, min_size=1, max_size=2),
        },
    )


policies = st.builds(
    lambda namespace, spec: a_policy(spec, namespace),
    NAMESPACE_NAMES,
    st.fixed_dictionaries(
        {"podSelector": st.one_of(st.just({}), selectors)},
        optional={
            "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
            "ingress": st.lists(rules_with("from"), min_size=1, max_size=2),
            "egress": st.lists(rules_with("to"), min_size=1, max_size=2),
        },
    ),
)


@st.composite
def clusters(draw: st.DrawFn) -> list[Pod]:
    return [
        a_pod(
            f"pod-{number}",
            f"10.244.0.{number + 2}",
            draw(NAMESPACE_NAMES),
            labels=draw(st.dictionaries(KEYS, VALUES, max_size=2)),
            ports=draw(
                st.sampled_from([(), (WEB,), (ContainerPort("web", "TCP", 80), ContainerPort("web", "UDP", 443))])
            ),
        )
        for number in range(4)
    ]


def selects(selector: Object, labels: Any) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions", []):
        key, values = term["key"], term.get("values", [])
        holds = {
            "In": key in labels and labels[key] in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not holds[term["operator"]]:
            return False
    return True


def specification_allows(
    pods: list[Pod], found: list[Object], source: str, destination: str, protocol: str, port: int
) -> bool:
    """Whether a new connection may be made, by the words of the NetworkPolicy reference."""
    at = {pod.address: pod for pod in pods}
    if source == destination:
        return True

    def side_allows(direction: str, own: str, other: str) -> bool:
        pod = at.get(own)
        if pod is None:
            return True
        isolated = False
        for item in found:
            spec, namespace = item["spec"], item["metadata"]["namespace"]
            types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
            if namespace != pod.namespace or direction not in types or not selects(spec["podSelector"], pod.labels):
                continue
            isolated = True
            field = "from" if direction == "Ingress" else "to"
            for rule in spec.get(direction.lower(), []):
                if peer_matches(rule.get(field), namespace, other) and port_matches(rule.get("ports")):
                    return True
        return not isolated

    def peer_matches(entries: list[Object] | None, namespace: str, other: str) -> bool:
        if not entries:
            return True
        pod = at.get(other)
        for entry in entries:
            if block := entry.get("ipBlock"):
                within = ip_address(other) in ip_network(block["cidr"])
                if within and not any(ip_address(other) in ip_network(part) for part in block.get("except", [])):
                    return True
            elif pod is not None:
                right_namespace = (
                    selects(entry["namespaceSelector"], NAMESPACES[pod.namespace])
                    if "namespaceSelector" in entry
                    else pod.namespace == namespace
                )
                if right_namespace and selects(entry.get("podSelector", {}), pod.labels):
                    return True
        return False

    def port_matches(entries: list[Object] | None) -> bool:
        if not entries:
            return True
        offered = at[destination].ports if destination in at else ()
        for entry in entries:
            if entry.get("protocol", "TCP") != protocol:
                continue
            wanted = entry.get("port")
            if isinstance(wanted, str):
                if any((o.name, o.protocol, o.number) == (wanted, protocol, port) for o in offered):
                    return True
            elif wanted is None or wanted <= port <= (entry.get("endPort") or wanted):
                return True
        return False

    return side_allows("Egress", source, destination) and side_allows("Ingress", destination, source)


def verdict_allows(found: Iterable[Isolation], source: str, destination: str, protocol: str, port: int) -> bool:
    """The same by what is rendered: one chain after the other, the first allow returns."""

    def passes(allows: tuple[Allow, ...] | None, other: str) -> bool:
        if allows is None or source == destination:
            return True
        return any(
            (
                allow.peers is None
                or (isinstance(allow.peers, Addresses) and other in allow.peers.members)
                or (isinstance(allow.peers, BlockPeer) and allow.peers.contains(a_pod("x", other)))
            )
            and (allow.ports is None or any(p.protocol == protocol and p.first <= port <= p.last for p in allow.ports))
            for allow in allows
        )

    at = {isolation.pod.address: isolation for isolation in found}
    egress = at[source].egress if source in at else None
    ingress = at[destination].ingress if destination in at else None
    return passes(egress, destination) and passes(ingress, source)


@settings(max_examples=150, deadline=None)
@given(pods=clusters(), found=st.lists(policies, min_size=1, max_size=3))
def test_verdicts_are_those_of_the_specification(pods: list[Pod], found: list[Object]) -> None:
    resolved = resolve(pods, NAMESPACES, [parse_policy(item) for item in found])
    ends = [*(pod.address for pod in pods), OUTSIDE]
    for source in ends:
        for destination in ends:
            for protocol in ("TCP", "UDP", "SCTP"):
                for port in PORTS:
                    connection = (source, destination, protocol, port)
                    assert verdict_allows(resolved, *connection) == specification_allows(pods, found, *connection), (
                        connection
                    )
