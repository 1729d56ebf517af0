"""What the enforcer knows of the cluster: typed facts parsed from API objects.

The API server has validated every object, so anything unknown here means that this parser is behind the API; it is an
error, never "matches everything".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Any, Literal

from lab.errors import LabError

Object = Mapping[str, Any]
Labels = Mapping[str, str]
Protocol = Literal["TCP", "UDP", "SCTP"]
Direction = Literal["ingress", "egress"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PROTOCOLS: Mapping[str, Protocol] = {"TCP": "TCP", "UDP": "UDP", "SCTP": "SCTP"}
_DIRECTIONS: Mapping[str, Direction] = {"Ingress": "ingress", "Egress": "egress"}


class UnknownField(LabError):
    """An object that this enforcer cannot read correctly."""


@dataclass(frozen=True)
class Requirement:
    """One matchExpressions entry. ``operator``: In, NotIn, Exists, DoesNotExist."""

    key: str
    operator: str
    values: frozenset[str]

    def matches(self, labels: Labels) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":  # An absent key satisfies NotIn (apimachinery, labels.Requirement.Matches).
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
            case _:
                raise UnknownField(f"label selector operator {self.operator!r} is unknown: teach Requirement.matches")


@dataclass(frozen=True)
class Selector:
    """A label selector: all requirements must hold; none at all selects everything."""

    requirements: tuple[Requirement, ...]

    def matches(self, labels: Labels) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


@dataclass(frozen=True)
class ContainerPort:
    name: str
    protocol: Protocol
    number: int


@dataclass(frozen=True)
class Pod:
    """A pod with an address of its own. ``created`` is its creationTimestamp (RFC 3339, sorts as text)."""

    namespace: str
    name: str
    uid: str
    created: str
    address: str
    labels: Labels
    ports: tuple[ContainerPort, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class PodPeer:
    """Pods by namespace and labels. ``namespaces`` None: the policy's own namespace."""

    namespaces: Selector | None
    pods: Selector


@dataclass(frozen=True)
class BlockPeer:
    """An IPv4 range without some of its parts."""

    network: IPv4Network
    excluded: tuple[IPv4Network, ...]

    def contains(self, pod: Pod) -> bool:
        address = IPv4Address(pod.address)
        return address in self.network and not any(address in part for part in self.excluded)


Peer = PodPeer | BlockPeer


@dataclass(frozen=True)
class PolicyPort:
    """One ``ports`` entry. ``first`` is a number, a container port's name, or None for every port of the protocol."""

    protocol: Protocol
    first: int | str | None
    last: int | None = None


@dataclass(frozen=True)
class Rule:
    """``peers`` None: everyone; ``ports`` None: every port of every protocol."""

    peers: tuple[Peer, ...] | None
    ports: tuple[PolicyPort, ...] | None


@dataclass(frozen=True)
class Policy:
    """``rules`` has a key for each direction that the policy isolates."""

    namespace: str
    name: str
    selector: Selector
    rules: Mapping[Direction, tuple[Rule, ...]]


def parse_pod(item: Object, cni_addresses: Mapping[str, str] | None = None) -> Pod | None:
    """A pod; None if policies do not apply to it: host network, no address yet, or ended (its address is free again).

    ``cni_addresses`` gives addresses by pod uid that the network plugin has assigned and the API does not tell yet.
    """
    metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
    address = status.get("podIP") or (cni_addresses or {}).get(metadata["uid"])
    if spec.get("hostNetwork") or not address or status.get("phase") in ("Succeeded", "Failed"):
        return None
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]
    ports = tuple(
        ContainerPort(port["name"], _protocol(port), port["containerPort"])
        for container in containers
        for port in container.get("ports") or ()
        if port.get("name")
    )
    return Pod(
        namespace=_name(metadata["namespace"]),
        name=_name(metadata["name"]),
        uid=metadata["uid"],
        created=metadata.get("creationTimestamp", ""),
        address=str(IPv4Address(address)),
        labels=metadata.get("labels") or {},
        ports=ports,
    )


def parse_policy(item: Object) -> Policy:
    """A policy, with the API's defaulting rule for policyTypes: Ingress always, Egress if it has egress rules.

    Raises:
        UnknownField: a field, operator, protocol or policy type that this enforcer does not know.
    """
    spec = item["spec"]
    rules: dict[Direction, tuple[Rule, ...]] = {}
    for policy_type in spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]):
        direction = _DIRECTIONS.get(policy_type)
        if direction is None:
            raise UnknownField(f"policyTypes {policy_type!r} is unknown: teach parse_policy")
        peers_field = "from" if direction == "ingress" else "to"
        rules[direction] = tuple(_rule(entry, peers_field) for entry in spec.get(direction) or ())
    return Policy(
        namespace=_name(item["metadata"]["namespace"]),
        name=_name(item["metadata"]["name"]),
        selector=parse_selector(spec.get("podSelector")),
        rules=rules,
    )


def parse_selector(entry: Object | None) -> Selector:
    """A metav1.LabelSelector; absent and ``{}`` select everything."""
    entry = entry or {}
    _only(entry, {"matchLabels", "matchExpressions"}, "label selector")
    equal = [Requirement(key, "In", frozenset([value])) for key, value in (entry.get("matchLabels") or {}).items()]
    expressions = [
        Requirement(term["key"], term["operator"], frozenset(term.get("values") or ()))
        for term in entry.get("matchExpressions") or ()
    ]
    return Selector((*equal, *expressions))


def _rule(entry: Object, peers_field: str) -> Rule:
    _only(entry, {peers_field, "ports"}, "rule")
    peers: Sequence[Object] = entry.get(peers_field) or ()
    ports: Sequence[Object] = entry.get("ports") or ()
    return Rule(
        peers=tuple(peer for found in peers if (peer := _peer(found)) is not None) if peers else None,
        ports=tuple(_port(found) for found in ports) if ports else None,
    )


def _peer(entry: Object) -> Peer | None:
    """A peer; None for an IPv6 block, which no packet of an IPv4 pod network can match."""
    _only(entry, {"podSelector", "namespaceSelector", "ipBlock"}, "peer")
    if block := entry.get("ipBlock"):
        _only(block, {"cidr", "except"}, "ipBlock")
        network = ip_network(block["cidr"], strict=False)
        if isinstance(network, IPv6Network):
            return None
        excluded = (ip_network(part, strict=False) for part in block.get("except") or ())
        return BlockPeer(network, tuple(part for part in excluded if isinstance(part, IPv4Network)))
    if entry.get("podSelector") is None and entry.get("namespaceSelector") is None:
        raise UnknownField("a peer without podSelector, namespaceSelector and ipBlock: the API refuses it")
    namespaces = entry.get("namespaceSelector")
    return PodPeer(None if namespaces is None else parse_selector(namespaces), parse_selector(entry.get("podSelector")))


def _port(entry: Object) -> PolicyPort:
    _only(entry, {"protocol", "port", "endPort"}, "port")
    return PolicyPort(_protocol(entry), entry.get("port"), entry.get("endPort"))


def _protocol(entry: Object) -> Protocol:
    name = entry.get("protocol", "TCP")
    if name not in _PROTOCOLS:
        raise UnknownField(f"protocol {name!r} is unknown: teach the enforcer's model")
    return _PROTOCOLS[name]


def _only(entry: Object, known: set[str], what: str) -> None:
    if unknown := set(entry) - known:
        raise UnknownField(f"{what} with unknown fields {sorted(unknown)}: teach the enforcer's model")


def _name(text: str) -> str:
    # Names become parts of nftables chain names: hold what the API server promises about them.
    if not _NAME.fullmatch(text):
        raise UnknownField(f"{text!r} is not a DNS-1123 name")
    return text
