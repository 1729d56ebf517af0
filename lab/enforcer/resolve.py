"""Who may talk to whom: policies applied to the pods that exist now. Pure.

Rules follow the NetworkPolicy v1 reference: policies add up, a direction is closed only by a policy that isolates it,
a connection needs the egress side's and the ingress side's consent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.enforcer.model import BlockPeer, Direction, Labels, Pod, PodPeer, Policy, PolicyPort, Protocol, Rule


@dataclass(frozen=True, order=True)
class PortRange:
    """Ports ``first`` to ``last``, both included."""

    protocol: Protocol
    first: int
    last: int


ALL_PORTS = (0, 65535)


@dataclass(frozen=True)
class Addresses:
    """Some pods."""

    members: frozenset[str]


@dataclass(frozen=True)
class Allow:
    """One way through. ``peers`` None: everyone; ``ports`` None: every port of every protocol."""

    peers: Addresses | BlockPeer | None
    ports: tuple[PortRange, ...] | None


@dataclass(frozen=True)
class Isolation:
    """One pod's verdicts. None: the direction is open; an empty tuple: nothing may pass."""

    pod: Pod
    ingress: tuple[Allow, ...] | None
    egress: tuple[Allow, ...] | None


def distinct_addresses(pods: Iterable[Pod]) -> list[Pod]:
    """The pods, without those whose address a younger pod has taken over (the old object lingers while it ends)."""
    youngest: dict[str, Pod] = {}
    for pod in sorted(pods, key=lambda pod: (pod.created, pod.uid)):
        youngest[pod.address] = pod
    return sorted(youngest.values(), key=lambda pod: pod.key)


def resolve(pods: Iterable[Pod], namespaces: Mapping[str, Labels], policies: Iterable[Policy]) -> tuple[Isolation, ...]:
    """The isolated pods, each with what may pass. ``namespaces`` maps each name to its labels."""
    known = distinct_addresses(pods)
    by_namespace: dict[str, list[Policy]] = defaultdict(list)
    for policy in policies:
        by_namespace[policy.namespace].append(policy)
    found = []
    for pod in known:
        selecting = [policy for policy in by_namespace[pod.namespace] if policy.selector.matches(pod.labels)]
        isolation = Isolation(
            pod,
            ingress=_direction("ingress", pod, selecting, known, namespaces),
            egress=_direction("egress", pod, selecting, known, namespaces),
        )
        if isolation.ingress is not None or isolation.egress is not None:
            found.append(isolation)
    return tuple(found)


def _direction(
    direction: Direction,
    pod: Pod,
    selecting: Sequence[Policy],
    pods: Sequence[Pod],
    namespaces: Mapping[str, Labels],
) -> tuple[Allow, ...] | None:
    rules = [(policy, rule) for policy in selecting for rule in policy.rules.get(direction, ())]
    if not any(direction in policy.rules for policy in selecting):
        return None
    allows = [
        allow
        for policy, rule in rules
        for allow in (
            _ingress_allows(rule, policy, pod, pods, namespaces)
            if direction == "ingress"
            else _egress_allows(rule, policy, pods, namespaces)
        )
    ]
    return tuple(dict.fromkeys(allows))


def _ingress_allows(
    rule: Rule, policy: Policy, pod: Pod, pods: Sequence[Pod], namespaces: Mapping[str, Labels]
) -> Iterable[Allow]:
    # The destination is the pod itself, so a named port means its own container port.
    ports = None if rule.ports is None else _ports(rule.ports, pod)
    if ports == ():
        return
    if rule.peers is None:
        yield Allow(None, ports)
        return
    for block in _blocks(rule):
        yield Allow(block, ports)
    if sources := _selected(rule, policy, pods, namespaces):
        yield Allow(Addresses(frozenset(source.address for source in sources)), ports)


def _egress_allows(
    rule: Rule, policy: Policy, pods: Sequence[Pod], namespaces: Mapping[str, Labels]
) -> Iterable[Allow]:
    # A named port means each destination's own container port, so destinations are grouped by what it is there. For
    # everyone, or a range of addresses, it can only mean the pods among them.
    numbered = None if rule.ports is None else _ports([port for port in rule.ports if not isinstance(port.first, str)])
    named = any(isinstance(port.first, str) for port in rule.ports or ())
    blocks = _blocks(rule)
    if numbered != ():
        if rule.peers is None:
            yield Allow(None, numbered)
        for block in blocks:
            yield Allow(block, numbered)
    destinations = _selected(rule, policy, pods, namespaces)
    if named:
        destinations += [pod for pod in pods if rule.peers is None or any(block.contains(pod) for block in blocks)]
    groups: dict[tuple[PortRange, ...] | None, set[str]] = defaultdict(set)
    for destination in destinations:
        groups[None if rule.ports is None else _ports(rule.ports, destination)].add(destination.address)
    for ports, addresses in groups.items():
        if ports != ():
            yield Allow(Addresses(frozenset(addresses)), ports)


def _blocks(rule: Rule) -> list[BlockPeer]:
    return [peer for peer in rule.peers or () if isinstance(peer, BlockPeer)]


def _selected(rule: Rule, policy: Policy, pods: Sequence[Pod], namespaces: Mapping[str, Labels]) -> list[Pod]:
    peers = [peer for peer in rule.peers or () if isinstance(peer, PodPeer)]
    return [pod for pod in pods if any(_is_peer(pod, peer, policy, namespaces) for peer in peers)]


def _is_peer(pod: Pod, peer: PodPeer, policy: Policy, namespaces: Mapping[str, Labels]) -> bool:
    if peer.namespaces is None:
        in_namespace = pod.namespace == policy.namespace
    else:
        # A namespace that is not known (its event is still on the way) must not match NotIn or an empty selector.
        labels = namespaces.get(pod.namespace)
        in_namespace = labels is not None and peer.namespaces.matches(labels)
    return in_namespace and peer.pods.matches(pod.labels)


def _ports(ports: Iterable[PolicyPort], destination: Pod | None = None) -> tuple[PortRange, ...]:
    """Port ranges, merged per protocol (nftables refuses overlapping ones); empty if no named port exists there."""
    ranges: set[PortRange] = set()
    for port in ports:
        match port.first:
            case None:
                ranges.add(PortRange(port.protocol, *ALL_PORTS))
            case int(first):
                ranges.add(PortRange(port.protocol, first, port.last or first))
            case str(name):
                offered = destination.ports if destination else ()
                ranges |= {
                    PortRange(port.protocol, offer.number, offer.number)
                    for offer in offered
                    if (offer.name, offer.protocol) == (name, port.protocol)
                }
    merged: list[PortRange] = []
    for found in sorted(ranges):
        last = merged[-1] if merged else None
        if last and last.protocol == found.protocol and found.first <= last.last + 1:
            merged[-1] = PortRange(last.protocol, last.first, max(last.last, found.last))
        else:
            merged.append(found)
    return tuple(merged)
