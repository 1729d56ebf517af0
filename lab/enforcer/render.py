"""Verdicts as one nftables transaction. Pure: text in, nothing run.

Two maps lead from an address to the chain of that pod's egress or ingress. A chain returns what is allowed (the other
side is asked next) and counts and drops the rest. Rules read the connection's original tuple, as conntrack knows it
behind the Service's address translation, not the packet's own addresses: so both directions of a flow have the
verdict of the direction that opened it, and ``Flows.CUT`` needs no rules of its own, only no shortcut for established
flows.

Syntax is that of nftables 1.0.6: one statement a line; ``fwd`` is reserved; ports of a conntrack tuple need
``meta l4proto`` before them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import Enum
from ipaddress import collapse_addresses

from lab.enforcer.model import BlockPeer, Direction
from lab.enforcer.resolve import ALL_PORTS, Addresses, Allow, Isolation, PortRange

TABLE = "inet ringfence_lab"
# The host ends of the ptp plugin's pairs; every other interface of the node belongs to the node.
POD_INTERFACES = '"veth*"'
SPOOFED = "spoofed"
INVALID = "invalid"
_NAME_LIMIT = 120


class Flows(Enum):
    """What a new verdict does to connections that are open already."""

    KEPT = "kept"
    CUT = "cut"


def chain_name(direction: Direction, pod_key: str) -> str:
    """The name of a pod's chain, and of its drop counter: ``egress-NAMESPACE/POD``.

    Longer names than nftables takes end in a hash.
    """
    name = f"{direction}-{pod_key}"
    if len(name) <= _NAME_LIMIT:
        return name
    return f"{name[: _NAME_LIMIT - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def chain_names(isolations: Iterable[Isolation]) -> frozenset[str]:
    """Every pod chain that ``render`` writes for these verdicts."""
    return frozenset(name for isolation in isolations for name, _, _ in _chains(isolation))


def render(isolations: Sequence[Isolation], flows: Flows, installed: Collection[str] = ()) -> str:
    """The transaction that puts these verdicts in force.

    ``installed`` names the pod chains that the kernel may hold from before: those not needed any more go, with their
    counters; the counters of the others go on counting. Right on an empty kernel as well.
    """
    stale = sorted(set(installed) - chain_names(isolations))
    lines = [
        f"add table {TABLE}",
        f"add map {TABLE} egress_of {{ type ipv4_addr : verdict; }}",
        f"add map {TABLE} ingress_of {{ type ipv4_addr : verdict; }}",
        f"flush table {TABLE}",
        f"flush map {TABLE} egress_of",
        f"flush map {TABLE} ingress_of",
    ]
    for name in stale:
        # Adding first makes deleting right when there is none.
        lines += [f"{verb} {what} {TABLE} {name}" for what in ("chain", "counter") for verb in ("add", "delete")]
    lines += [f"table {TABLE} {{", f"counter {SPOOFED} {{ }}", f"counter {INVALID} {{ }}"]
    elements: dict[Direction, list[str]] = {"egress": [], "ingress": []}
    for isolation in isolations:
        for name, direction, allows in _chains(isolation):
            elements[direction].append(f"{isolation.pod.address} : jump {name}")
            lines += _pod_chain(name, direction, isolation.pod.address, allows)
    for direction, entries in elements.items():
        lines += [f"map {direction}_of {{", "type ipv4_addr : verdict"]
        lines += [f"elements = {{ {', '.join(entries)} }}"] if entries else []
        lines += ["}"]
    for hook in ("forward", "input", "output"):
        lines += _base_chain(hook, flows)
    lines += ["}"]
    return "\n".join(lines) + "\n"


def _chains(isolation: Isolation) -> Iterator[tuple[str, Direction, tuple[Allow, ...]]]:
    if isolation.egress is not None:
        yield chain_name("egress", isolation.pod.key), "egress", isolation.egress
    if isolation.ingress is not None:
        yield chain_name("ingress", isolation.pod.key), "ingress", isolation.ingress


def _base_chain(hook: str, flows: Flows) -> list[str]:
    lines = [f"chain {hook} {{", f"type filter hook {hook} priority filter - 10; policy accept;"]
    if hook == "output":
        # From the node itself: its own connections to pods (probes) always pass, answers follow the pod's verdict.
        lines += [f"oifname {POD_INTERFACES} meta nfproto ipv6 drop"]
    else:
        # The pod network is IPv4, and a pod's link-local IPv6 address would go around every rule. A packet whose
        # source is not routed back to where it came from, or that belongs to no flow, would do so too.
        lines += [
            f"iifname {POD_INTERFACES} meta nfproto ipv6 drop",
            f"iifname {POD_INTERFACES} fib saddr . iif oif missing counter name {SPOOFED} drop",
            f"iifname {POD_INTERFACES} ct state invalid,untracked counter name {INVALID} drop",
        ]
    if flows is Flows.KEPT:
        lines += ["ct state established,related accept"]
    lines += ["ct original ip saddr vmap @egress_of"]
    if hook == "forward":
        lines += ["ct reply ip saddr vmap @ingress_of"]
    return [*lines, "}"]


def _pod_chain(name: str, direction: Direction, address: str, allows: Sequence[Allow]) -> list[str]:
    # The tuple's original source opened the flow; the reply's source is the destination after Service translation.
    other = "reply" if direction == "egress" else "original"
    lines = [f"counter {name} {{ }}", f"chain {name} {{"]
    # A pod may always reach itself, here by way of a Service.
    lines += [f"ct {other} ip saddr {address} return"]
    lines += [
        " ".join([*_peers(allow.peers, other), *ports, "return"]) for allow in allows for ports in _ports(allow.ports)
    ]
    return [*lines, f"counter name {name} drop", "}"]


def _peers(peers: Addresses | BlockPeer | None, side: str) -> list[str]:
    match peers:
        case None:
            return []
        case Addresses(members):
            return [f"ct {side} ip saddr {{ {', '.join(sorted(members))} }}"]
        case BlockPeer(network, excluded):
            # A set with overlapping ranges is refused, so what is excluded twice is merged.
            without = ", ".join(str(part) for part in collapse_addresses(excluded))
            within = f"ct {side} ip saddr {network}" if network.prefixlen else ""
            return [part for part in (within, f"ct {side} ip saddr != {{ {without} }}" if without else "") if part]


def _ports(ports: Sequence[PortRange] | None) -> list[list[str]]:
    """One match for each protocol."""
    if ports is None:
        return [[]]
    by_protocol: dict[str, list[PortRange]] = {}
    for port in ports:
        by_protocol.setdefault(port.protocol.lower(), []).append(port)
    matches = []
    for protocol, ranges in by_protocol.items():
        match = [f"meta l4proto {protocol}"]
        if (ranges[0].first, ranges[0].last) != ALL_PORTS:
            numbers = (str(part.first) if part.first == part.last else f"{part.first}-{part.last}" for part in ranges)
            match.append(f"ct reply proto-src {{ {', '.join(numbers)} }}")
        matches.append(match)
    return matches
