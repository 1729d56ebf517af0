"""What a canary tries, and what its tries come to (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ringfence.model.base import Json
from ringfence.model.canary import Row, Seen
from ringfence.platform.kubernetes import canary_output
from ringfence.platform.kubernetes.canaries import Destination, Phase, Protocol
from ringfence.platform.kubernetes.canary_output import Hello, Output
from ringfence.platform.kubernetes.selectors import printable

CANARY = "canary"
PEER_PORT = 18080
"""Where peers listen, TCP and UDP: no well-known service's."""
MOST = 8
"""Ports of the victim, Services and asked-for destinations, of each so many at most."""
_SHUT_IN_A_ROW = 3
_OPEN_IN_A_ROW = 2
_SILENCE = frozenset({"refused", "silent"})


@dataclass(frozen=True)
class Greeted:
    """A pod of the examination that has begun: where it is, and what it says of itself."""

    role: str
    namespace: str
    node: str
    address: str
    hello: Hello

    @property
    def words(self) -> str:
        return f"a peer in namespace {printable(self.namespace)} on {printable(self.node)}"


class Way(NamedTuple):
    """One path: which pod tries it, and the place of its order among that pod's."""

    row: Row
    words: str
    role: str
    place: int


class Tries(NamedTuple):
    """The orders of each pod by its role, the paths that they are for, and what was left out."""

    orders: dict[str, tuple[Destination, ...]]
    ways: tuple[Way, ...]
    notes: tuple[str, ...]


def tries(
    canary_id: str, canary: Greeted, peers: Sequence[Greeted], services: Iterable[Json], extra: Sequence[str]
) -> Tries:
    """Every path of the victim that its canary can try, out and in.

    ``extra`` are destinations ``HOST:PORT`` (TCP) of the configuration.
    """
    found, left_out = _cluster_ips(services)
    out: list[tuple[Row, str, Destination]] = []
    for peer in peers:
        for protocol, ports in _listening(peer.hello):
            if (port := ports.get(PEER_PORT)) is not None:
                words = f"{protocol.upper()} to {peer.words} ({_at(peer.address, port)})"
                out.append(("network.egress", words, Destination(protocol, peer.address, port, canary_id)))
    if canary.hello.api is not None:
        host, port = canary.hello.api
        out.append(("network.egress", f"the API server ({_at(host, port)})", Destination("tcp", host, port)))
    for resolver in canary.hello.resolvers:
        out.append(("network.dns", f"DNS over UDP at {resolver}", Destination("dns-udp", resolver, 53)))
        out.append(("network.dns", f"DNS over TCP at {resolver}", Destination("dns-tcp", resolver, 53)))
    for name, host, port in found[:MOST]:
        words = f"Service {printable(name)} ({_at(host, port)})"
        out.append(("network.egress", words, Destination("tcp", host, port)))
    for one in extra:
        host, port = host_and_port(one)
        out.append(("network.egress", printable(one), Destination("tcp", host, port)))
    ways = [Way(row, words, CANARY, index) for index, (row, words, _) in enumerate(out)]
    orders = {CANARY: tuple(destination for _, _, destination in out)}
    for peer in peers:
        into = _into(canary_id, canary, peer)
        ways += [Way("network.ingress", words, peer.role, index) for index, (words, _) in enumerate(into)]
        orders[peer.role] = tuple(destination for _, destination in into)
    if len(found) > MOST:
        left_out.append(f"{len(found) - MOST} more Services than the {MOST} that were tried")
    return Tries(orders, tuple(ways), tuple(left_out))


def host_and_port(words: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT``. Raises ValueError."""
    host, colon, port = words.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"{words!r} is not HOST:PORT")
    if (":" in bare) != (host != bare):
        raise ValueError(f"{words!r} is not HOST:PORT: an IPv6 address stands in brackets")
    return bare, int(port)


def seen(way: Way, outputs: dict[str, Output], phase: Phase) -> Seen:
    """What the way's last tries of a phase come to, as of now.

    Behind the fence one open try among the last ones is enough for open; shut are so many in a row that did not get
    through. Without it, open are some in a row.
    """
    rounds = outputs[way.role].of(phase)
    if phase == "fenced":
        words = canary_output.last(rounds, way.place, _SHUT_IN_A_ROW)
        if "open" in words:
            return Seen.OPEN
        return Seen.SHUT if len(words) == _SHUT_IN_A_ROW and _SILENCE.issuperset(words) else Seen.NOT_SEEN
    words = canary_output.last(rounds, way.place, _OPEN_IN_A_ROW)
    if len(words) == _OPEN_IN_A_ROW and set(words) == {"open"}:
        return Seen.OPEN
    return Seen.SHUT if len(words) == _OPEN_IN_A_ROW and _SILENCE.issuperset(words) else Seen.NOT_SEEN


def _into(canary_id: str, canary: Greeted, peer: Greeted) -> list[tuple[str, Destination]]:
    found = []
    for protocol, ports in _listening(canary.hello):
        for asked, bound in ports.items():
            instead = f" (tried on {bound}: the canary may not listen there)" if bound != asked else ""
            words = f"{protocol.upper()} port {asked}{instead}, from {peer.words}"
            found.append((words, Destination(protocol, canary.address, bound, canary_id)))
    return found


def _listening(hello: Hello) -> tuple[tuple[Protocol, dict[int, int]], ...]:
    return (("tcp", hello.tcp), ("udp", hello.udp))


def _cluster_ips(services: Iterable[Json]) -> tuple[list[tuple[str, str, int]], list[str]]:
    """Name, address and first TCP port of each Service that has an address of its own; and what has none."""
    found: list[tuple[str, str, int]] = []
    left_out = []
    for service in services:
        spec = service.get("spec") or {}
        name, address = str(service["metadata"]["name"]), str(spec.get("clusterIP") or "None")
        ports = [int(port["port"]) for port in spec.get("ports") or () if port.get("protocol") in (None, "TCP")]
        if address != "None" and spec.get("type") != "ExternalName" and ports:
            found.append((name, address, ports[0]))
        elif spec.get("ports") and not ports:
            left_out.append(f"Service {printable(name)} has no TCP port and was not tried")
    return sorted(found), left_out


def _at(host: str, port: int) -> str:
    return f"[{printable(host)}]:{port}" if ":" in host else f"{printable(host)}:{port}"
