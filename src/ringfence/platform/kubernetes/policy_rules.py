"""NetworkPolicy v1 objects in normal form: what the API leaves implicit is written out. Pure.

A rule without peers is open to anything (:class:`AnyPeer`), a rule without ports to every port (:class:`PortMatch`
without protocol), a port without protocol is TCP, a policy without ``policyTypes`` isolates ingress, and egress only if
it has egress rules. Rule source: the API reference of networking.k8s.io/v1 and the API server's defaulting.

The reader is strict: a member or value that it does not know raises :class:`PolicyError`, because a policy that is
half understood could open more than we say.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from ringfence.errors import ExitCode, RingfenceError
from ringfence.platform.kubernetes import selectors
from ringfence.platform.kubernetes.selectors import LabelSelector, Operator, SelectorError, printable

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PROTOCOLS = ("TCP", "UDP", "SCTP")
"""What NetworkPolicy can speak of. What it does to other protocols (ICMP) is up to the network plugin."""

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
_SHOWN = 6


class PolicyError(RingfenceError, ValueError):
    """A NetworkPolicy that cannot be read, or that is not in the state that an edit was made for."""

    code = "network-policy"
    exit_code = ExitCode.INCOMPLETE


class Direction(StrEnum):
    """Direction of a connection as the isolated pod sees it; the values of ``policyTypes``."""

    INGRESS = "Ingress"
    EGRESS = "Egress"


@dataclass(frozen=True, slots=True)
class AnyPeer:
    """A rule without peers: everything, inside the cluster and out."""

    def __str__(self) -> str:
        return "anywhere"


@dataclass(frozen=True, slots=True)
class PodPeer:
    """Pods of the policy's own ``namespace``, or, if there is a ``namespace_selector``, of those that it selects."""

    namespace: str
    namespace_selector: LabelSelector | None
    pod_selector: LabelSelector

    def __str__(self) -> str:
        pods = "all pods" if self.pod_selector.selects_everything else f"pods {self.pod_selector}"
        return f"{pods} in {self._namespaces()}"

    def _namespaces(self) -> str:
        if self.namespace_selector is None:
            return printable(self.namespace)
        match self.namespace_selector.requirements:
            case ():
                return "all namespaces"
            case (only,) if only.key == NAMESPACE_NAME_LABEL and only.operator is Operator.IN:
                return _listed(map(printable, only.values), " or ")
            case _:
                return f"namespaces {self.namespace_selector}"


@dataclass(frozen=True, slots=True)
class IPBlock:
    """Addresses of ``cidr`` that are in none of ``excepts``."""

    cidr: Network
    excepts: tuple[Network, ...] = ()

    def __contains__(self, address: Address) -> bool:
        return address in self.cidr and not any(address in network for network in self.excepts)

    def __str__(self) -> str:
        excepts = f" except {_listed(map(str, self.excepts), ' and ')}" if self.excepts else ""
        return f"{self.cidr}{excepts}"


Peer: TypeAlias = AnyPeer | PodPeer | IPBlock


@dataclass(frozen=True, slots=True)
class PortMatch:
    """Ports that a rule opens.

    ``protocol`` None: every port of every protocol. ``port`` None: every port of the protocol; a number: that port, up
    to ``end_port`` if there is one; a name: the ports that the *destination* pod's containers give that name.
    """

    protocol: str | None = None
    port: int | str | None = None
    end_port: int | None = None

    def matches(self, protocol: str, port: int, names: Iterable[str] = ()) -> bool:
        """Whether it opens this port; ``names`` are the names that the port has in the destination pod."""
        if self.protocol is None:
            return True
        if self.protocol != protocol:
            return False
        if isinstance(self.port, str):
            return self.port in names
        return self.port is None or self.port <= port <= (self.end_port or self.port)

    def may_match(self, protocol: str, port: int) -> bool:
        """Whether it can open this port for some destination: a name may stand for any number."""
        return self.matches(protocol, port, (self.port,) if isinstance(self.port, str) else ())

    def __str__(self) -> str:
        if self.protocol is None:
            return "all ports"
        if self.port is None:
            return f"all {self.protocol} ports"
        end = f"-{self.end_port}" if self.end_port is not None else ""
        return f"{self.protocol} {printable(str(self.port))}{end}"


@dataclass(frozen=True, slots=True)
class Opening:
    """One allow rule of one policy: any of ``peers`` on any of ``ports`` (neither is ever empty)."""

    policy: str
    uid: str
    namespace: str
    direction: Direction
    peers: tuple[Peer, ...]
    ports: tuple[PortMatch, ...]

    @property
    def summary(self) -> str:
        """``allow-dns: egress to pods k8s-app=kube-dns in kube-system, UDP 53, TCP 53``. Safe for a terminal."""
        way = "ingress from" if self.direction is Direction.INGRESS else "egress to"
        peers = _listed(map(str, self.peers), " or ")
        return f"{printable(self.policy)}: {way} {peers}, {_listed(map(str, self.ports), ', ')}"


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """A NetworkPolicy in normal form. ``openings`` are the rules of its ``types`` only: the API ignores others."""

    namespace: str
    name: str
    uid: str
    pod_selector: LabelSelector
    types: frozenset[Direction]
    openings: tuple[Opening, ...]


def parse(policy: Mapping[str, Any]) -> PolicyRules:
    """A NetworkPolicy, as the server sent it, in normal form. Raises PolicyError."""
    namespace, name = key_of(policy)
    uid = str(policy["metadata"].get("uid") or "")
    try:
        spec = _map(policy.get("spec") or {}, "spec", {"podSelector", "policyTypes", "ingress", "egress"})
        selector = selectors.parse(spec.get("podSelector") or {})
        types = _policy_types(spec)
        openings = tuple(
            Opening(name, uid, namespace, direction, *_rule(rule, direction, namespace))
            for direction in Direction
            for rule in _list(spec.get(direction.lower()), direction.lower())
        )
    except ValueError as problem:
        raise _unreadable(namespace, name, problem) from problem
    return PolicyRules(
        namespace, name, uid, selector, types, tuple(opening for opening in openings if opening.direction in types)
    )


def policy_types(spec: Mapping[str, Any]) -> frozenset[Direction]:
    """The directions that a policy's spec isolates, defaulting included. Raises PolicyError for an unknown type."""
    try:
        return _policy_types(spec)
    except ValueError as problem:
        raise PolicyError("the policy types cannot be read", why=str(problem)) from problem


def pod_selector(policy: Mapping[str, Any]) -> LabelSelector:
    """The pods of its namespace that a policy selects: absent and empty select all. Raises PolicyError."""
    namespace, name = key_of(policy)
    try:
        return selectors.parse(_map(policy.get("spec") or {}, "spec").get("podSelector") or {})
    except ValueError as problem:
        raise _unreadable(namespace, name, problem) from problem


def key_of(policy: Mapping[str, Any]) -> tuple[str, str]:
    """Namespace and name. Raises PolicyError when one is missing."""
    meta = policy.get("metadata")
    namespace, name = (meta.get("namespace"), meta.get("name")) if isinstance(meta, Mapping) else (None, None)
    if not (isinstance(namespace, str) and namespace and isinstance(name, str) and name):
        raise PolicyError("a NetworkPolicy cannot be read", why="it has no name or no namespace")
    return namespace, name


def _unreadable(namespace: str, name: str, problem: ValueError) -> PolicyError:
    return PolicyError(
        f"NetworkPolicy {printable(namespace)}/{printable(name)} cannot be read",
        why=problem.why if isinstance(problem, SelectorError) else str(problem),
        next_step="read it by hand; a cut on the node does not depend on policies",
    )


def _policy_types(spec: Mapping[str, Any]) -> frozenset[Direction]:
    stated = _list(spec.get("policyTypes"), "policyTypes")
    if unknown := [value for value in stated if value not in tuple(Direction)]:
        raise ValueError(f"unknown policy type {printable(str(unknown[0]))}")
    if stated:
        return frozenset(map(Direction, stated))
    return frozenset(Direction) if spec.get("egress") else frozenset({Direction.INGRESS})


def _rule(rule: object, direction: Direction, namespace: str) -> tuple[tuple[Peer, ...], tuple[PortMatch, ...]]:
    peers_key = "from" if direction is Direction.INGRESS else "to"
    members = _map(rule, f"{direction.lower()} rule", {peers_key, "ports"})
    peers = tuple(_peer(peer, namespace) for peer in _list(members.get(peers_key), peers_key))
    ports = tuple(_port(port) for port in _list(members.get("ports"), "ports"))
    return peers or (AnyPeer(),), ports or (PortMatch(),)


def _peer(peer: object, namespace: str) -> Peer:
    members = _map(peer, "peer", {"podSelector", "namespaceSelector", "ipBlock"})
    pods, namespaces, block = (members.get(key) for key in ("podSelector", "namespaceSelector", "ipBlock"))
    if block is not None:
        if pods is not None or namespaces is not None:
            raise ValueError("a peer has both an ipBlock and a selector")
        cidrs = _map(block, "ipBlock", {"cidr", "except"})
        excepts = tuple(_network(cidr) for cidr in _list(cidrs.get("except"), "except"))
        return IPBlock(_network(cidrs.get("cidr")), excepts)
    if pods is None and namespaces is None:
        raise ValueError("a peer names nobody")
    return PodPeer(
        namespace,
        None if namespaces is None else selectors.parse(_map(namespaces, "namespaceSelector")),
        selectors.parse(_map(pods or {}, "podSelector")),
    )


def _port(port: object) -> PortMatch:
    members = _map(port, "port", {"protocol", "port", "endPort"})
    protocol, number, end = members.get("protocol") or "TCP", members.get("port"), members.get("endPort")
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {printable(str(protocol))}")
    if not (number is None or (isinstance(number, str) and number) or _is_port(number)):
        raise ValueError(f"{printable(str(number))} is not a port")
    if end is not None and not (_is_port(end) and _is_port(number) and number <= end):
        raise ValueError("endPort needs a port number that is not above it")
    return PortMatch(protocol, number, end)


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _network(cidr: object) -> Network:
    try:
        if isinstance(cidr, str):
            return ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        pass
    raise ValueError(f"{printable(str(cidr))} is not a CIDR")


def _map(value: object, what: str, known: set[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is not a map")
    if known is not None and (unknown := sorted(map(str, value.keys() - known))):
        raise ValueError(f"unknown member of {what}: {', '.join(map(printable, unknown))}")
    return value


def _list(value: object, what: str) -> list[Any] | tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise ValueError(f"{what} is not a list")
    return value


def _listed(texts: Iterable[str], separator: str) -> str:
    """Joined, and cut short: a hostile policy may have thousands of peers."""
    items = list(texts)
    more = [f"{len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return separator.join([*items[:_SHOWN], *more])
