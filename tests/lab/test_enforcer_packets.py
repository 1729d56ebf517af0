"""The enforcer's rules against real packets: three namespaces, a router and its nftables, no cluster.

Covered: what only the packet level can show: both directions, Service translation, ports and ranges of each protocol,
exceptions of address ranges, the node's own addresses, established flows kept or cut, spoofed sources, IPv6 around the
rules, counters that survive a replacement, a table of someone else that stays.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from lab.enforcer.kernel import Kernel
from lab.enforcer.model import ContainerPort, Object, Pod, parse_policy
from lab.enforcer.render import SPOOFED, Flows, chain_name, chain_names, render
from lab.enforcer.resolve import resolve

pytestmark = pytest.mark.lab

T = TypeVar("T")

GATEWAY = "10.244.200.1"
NODE = "10.99.200.2"
SERVICE = "10.96.200.9"
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
DROPPED = 0.25
NAMESPACES = {"bank": {"team": "bank"}, "evil": {}}
FOREIGN_TABLE = f"""
table ip someone_else {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr {SERVICE} tcp dport 80 dnat to 10.244.200.3:8080
    ip daddr {SERVICE} tcp dport 81 dnat to 10.244.200.2:8080
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.244.200.2 ip daddr 10.244.200.2 masquerade
  }}
}}
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def policy(name: str, spec: Object) -> Object:
    return {"metadata": {"namespace": "bank", "name": name}, "spec": spec}


def everyone(*types: str, **rules: object) -> Object:
    return policy("everyone", {"podSelector": {}, "policyTypes": list(types), **rules})


@dataclass
class Router:
    """A node that routes between pods ``a``, ``b`` (namespace bank) and ``c`` (namespace evil)."""

    prefix: str
    pods: dict[str, Pod]
    flows: Flows = Flows.KEPT
    installed: frozenset[str] = frozenset()
    open: list[socket.socket] = field(default_factory=list)

    @property
    def node(self) -> str:
        return f"{self.prefix}-node"

    @property
    def kernel(self) -> Kernel:
        return Kernel(self.node)

    def enforce(self, *policies: Object, flows: Flows | None = None) -> None:
        isolations = resolve(self.pods.values(), NAMESPACES, [parse_policy(entry) for entry in policies])
        self.kernel.replace(render(isolations, flows or self.flows, self.installed))
        self.installed = chain_names(isolations)

    def inside(self, name: str, work: Callable[[], T]) -> T:
        """Runs ``work`` in the namespace of a pod, or of ``node``; its sockets stay there."""

        def enter() -> T:
            handle = os.open(f"/var/run/netns/{self.prefix}-{name}", os.O_RDONLY)
            try:
                if LIBC.setns(handle, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(handle)
            return work()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def listen(self, name: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        """Echoes on that port of a pod until the router goes."""

        def bind() -> socket.socket:
            found = socket.socket(socket.AF_INET, kind)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(("0.0.0.0", port))
            return found

        server = self.inside(name, bind)
        self.open.append(server)
        if kind is socket.SOCK_STREAM:
            server.listen()
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
        else:
            threading.Thread(target=_echo_datagrams, args=(server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self.open.append(connection)
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()

    def connect(self, source: str, address: str, port: int) -> socket.socket | None:
        """An open TCP connection from a pod, or None if nothing answers."""

        def dial() -> socket.socket | None:
            try:
                return socket.create_connection((address, port), timeout=DROPPED)
            except TimeoutError:
                return None

        found = self.inside(source, dial)
        if found:
            self.open.append(found)
        return found

    def reaches(self, source: str, address: str, port: int) -> bool:
        found = self.connect(source, address, port)
        return found is not None and answers(found)

    def reaches_udp(self, source: str, address: str, port: int) -> bool:
        client = self.inside(source, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.open.append(client)
        client.settimeout(DROPPED)
        client.connect((address, port))
        return answers(client)

    def address(self, name: str) -> str:
        return self.pods[name].address

    def dropped(self, direction: str, name: str) -> int:
        assert direction in ("ingress", "egress")
        return self.kernel.drops()[chain_name(direction, self.pods[name].key)].packets


def answers(connection: socket.socket) -> bool:
    connection.settimeout(DROPPED)
    try:
        connection.send(b"ping")
        return connection.recv(16) == b"ping"
    except TimeoutError:
        return False


def hears(connection: socket.socket) -> bool:
    connection.settimeout(DROPPED)
    try:
        return bool(connection.recv(16))
    except TimeoutError:
        return False


def _echo(connection: socket.socket) -> None:
    try:
        while data := connection.recv(1024):
            connection.send(data)
    except OSError:
        return


def _echo_datagrams(server: socket.socket) -> None:
    try:
        while True:
            data, sender = server.recvfrom(1024)
            server.sendto(data, sender)
    except OSError:
        return


@pytest.fixture(scope="module")
def built() -> Iterator[Router]:
    prefix = f"rfenf-{os.getpid()}"
    pods = {
        "a": Pod("bank", "a", "uid-a", "2026-01-01T00:00:00Z", "10.244.200.2", {"app": "a"}),
        "b": Pod(
            "bank",
            "b",
            "uid-b",
            "2026-01-01T00:00:00Z",
            "10.244.200.3",
            {"app": "b"},
            (ContainerPort("http", "TCP", 8080),),
        ),
        "c": Pod("evil", "c", "uid-c", "2026-01-01T00:00:00Z", "10.244.200.4", {"app": "c"}),
    }
    router = Router(prefix, pods)
    names = [router.node, *(f"{prefix}-{name}" for name in pods)]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", router.node, "addr", "add", f"{NODE}/32", "dev", "lo")
        subprocess.run(
            ["nsenter", f"--net=/var/run/netns/{router.node}", "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True
        )
        for name, pod in pods.items():
            ip(
                "-n",
                router.node,
                "link",
                "add",
                f"veth{name}",
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                f"{prefix}-{name}",
            )
            ip("-n", router.node, "addr", "add", f"{GATEWAY}/32", "dev", f"veth{name}")
            ip("-n", router.node, "link", "set", f"veth{name}", "up")
            ip("-n", router.node, "route", "add", f"{pod.address}/32", "dev", f"veth{name}")
            ip("-n", f"{prefix}-{name}", "addr", "add", f"{pod.address}/32", "dev", "eth0")
            ip("-n", f"{prefix}-{name}", "link", "set", "eth0", "up")
            ip("-n", f"{prefix}-{name}", "route", "add", GATEWAY, "dev", "eth0")
            ip("-n", f"{prefix}-{name}", "route", "add", "default", "via", GATEWAY)
        router.kernel.replace(FOREIGN_TABLE)
        for name in pods:
            router.listen(name, 8080)
            router.listen(name, 9000)
            router.listen(name, 5300, socket.SOCK_DGRAM)
        router.listen("node", 10250)
        router.listen("node", 5300, socket.SOCK_DGRAM)
        yield router
    finally:
        for found in router.open:
            found.close()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def router(built: Router) -> Router:
    built.enforce()
    return built


def test_without_policies_everything_passes(router: Router) -> None:
    assert router.reaches("a", router.address("b"), 8080)
    assert router.reaches_udp("c", router.address("a"), 5300)
    assert router.reaches("a", NODE, 10250)
    assert router.reaches("a", SERVICE, 80)


def test_ports_and_ranges_match_the_destination_port_and_no_other(router: Router) -> None:
    ports = [{"port": 8080}, {"port": 5000, "endPort": 5400, "protocol": "UDP"}, {"port": 8081}]
    router.enforce(everyone("Ingress", ingress=[{"ports": ports}]))
    assert router.reaches("c", router.address("b"), 8080)
    assert router.reaches_udp("c", router.address("b"), 5300)
    assert not router.reaches("c", router.address("b"), 9000)


def test_a_port_of_one_protocol_does_not_open_the_other(router: Router) -> None:
    router.enforce(everyone("Ingress", ingress=[{"ports": [{"port": 5300}, {"port": 9000}]}]))
    assert not router.reaches_udp("c", router.address("b"), 5300)
    assert router.reaches("c", router.address("b"), 9000)


def test_an_excluded_part_of_a_range_stays_closed(router: Router) -> None:
    block = {"cidr": "10.244.200.0/24", "except": ["10.244.200.4/32", "10.244.200.4/31", "10.244.200.128/25"]}
    router.enforce(everyone("Ingress", ingress=[{"from": [{"ipBlock": block}]}]))
    assert router.reaches("a", router.address("b"), 8080)
    assert not router.reaches("c", router.address("b"), 8080)


def test_egress_rules_see_the_pod_behind_a_service(router: Router) -> None:
    router.enforce(
        everyone(
            "Egress", egress=[{"to": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": "http"}]}]
        )
    )
    assert router.reaches("a", SERVICE, 80)
    router.enforce(everyone("Egress", egress=[{"to": [{"ipBlock": {"cidr": f"{SERVICE}/32"}}]}]))
    assert not router.reaches("a", SERVICE, 80)


def test_an_isolated_pod_still_reaches_itself_through_a_service(router: Router) -> None:
    router.enforce(everyone("Ingress", "Egress"))
    assert router.reaches("a", SERVICE, 81)
    assert not router.reaches("a", SERVICE, 80)


@pytest.mark.parametrize("flows", Flows)
def test_the_node_reaches_an_isolated_pod_and_not_the_other_way(router: Router, flows: Flows) -> None:
    router.enforce(everyone("Ingress", "Egress"), flows=flows)
    assert router.reaches("node", router.address("a"), 8080)
    assert router.reaches_udp("node", router.address("a"), 5300)
    assert not router.reaches("a", NODE, 10250)
    assert not router.reaches("a", GATEWAY, 10250)
    assert not router.reaches_udp("a", GATEWAY, 5300)


def test_kept_flows_outlive_a_deny_all_and_new_ones_do_not_start(router: Router) -> None:
    connection = router.connect("a", router.address("c"), 8080)
    assert connection is not None
    assert answers(connection)
    router.enforce(everyone("Ingress", "Egress"))
    assert answers(connection)
    assert not router.reaches("a", router.address("c"), 8080)


@pytest.mark.parametrize("types", [("Ingress",), ("Egress",), ("Ingress", "Egress")])
def test_cut_flows_die_in_both_directions(router: Router, types: tuple[str, ...]) -> None:
    server = router.inside("a", lambda: socket.create_server((router.address("a"), 0)))
    client = router.inside("b", lambda: socket.create_connection(server.getsockname()))
    accepted, _ = server.accept()
    outgoing = router.connect("a", router.address("b"), 8080)
    service = router.connect("a", SERVICE, 80)
    assert outgoing is not None
    assert service is not None
    router.open += [server, client, accepted]
    client.send(b"x")
    assert hears(accepted)
    only_a = policy("only-a", {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": list(types)})
    router.enforce(only_a, flows=Flows.CUT)
    accepted.send(b"from the isolated pod")
    assert hears(client) is ("Ingress" not in types)
    client.send(b"to the isolated pod")
    assert hears(accepted) is ("Ingress" not in types)
    assert answers(outgoing) is ("Egress" not in types)
    assert answers(service) is ("Egress" not in types)


def test_cut_keeps_the_flows_that_the_new_rules_allow(router: Router) -> None:
    to_b, to_c = (router.connect("a", router.address(name), 8080) for name in "bc")
    through_service = router.connect("a", SERVICE, 80)
    assert to_b
    assert to_c
    assert through_service
    to_pods_of_b = {"to": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": 8080}]}
    router.enforce(everyone("Egress", egress=[to_pods_of_b]), flows=Flows.CUT)
    assert answers(to_b)
    assert answers(through_service)
    assert not answers(to_c)


def test_cut_stops_answers_to_a_datagram_that_went_out_before(router: Router) -> None:
    sink = router.inside("c", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = router.inside("a", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    router.open += [sink, client]
    sink.bind((router.address("c"), 6000))
    client.sendto(b"x", (router.address("c"), 6000))
    _, sender = sink.recvfrom(16)
    router.enforce(everyone("Egress"), flows=Flows.CUT)
    sink.sendto(b"late answer", sender)
    assert not hears(client)


def test_a_spoofed_source_is_dropped_and_counted(router: Router) -> None:
    router.enforce(everyone("Egress"))
    before = router.kernel.drops()[SPOOFED].packets
    ip("-n", f"{router.prefix}-a", "addr", "add", "10.244.200.77/32", "dev", "eth0")
    spoofer = router.inside("a", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    router.open.append(spoofer)
    spoofer.bind(("10.244.200.77", 0))
    sink = router.inside("c", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    router.open.append(sink)
    sink.bind((router.address("c"), 6001))
    spoofer.sendto(b"x", (router.address("c"), 6001))
    assert not hears(sink)
    assert router.kernel.drops()[SPOOFED].packets > before


def test_link_local_ipv6_does_not_go_around_the_rules(router: Router) -> None:
    found = subprocess.run(
        ["ip", "-n", router.node, "-6", "-o", "addr", "show", "dev", "vetha", "scope", "link"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    node_address = found[found.index("inet6") + 1].partition("/")[0]
    server = router.inside("node", lambda: socket.create_server(("::", 7001), family=socket.AF_INET6))
    router.open.append(server)

    def dial() -> bool:
        scope = socket.if_nametoindex("eth0")
        with socket.socket(socket.AF_INET6) as client:
            client.settimeout(DROPPED)
            try:
                client.connect((node_address, 7001, 0, scope))
            except TimeoutError:
                return False
            return True

    router.kernel.replace("delete table inet ringfence_lab")
    assert router.inside("a", dial), "the way round must exist, or this test shows nothing"
    router.enforce(everyone("Egress"))
    assert not router.inside("a", dial)


def test_drop_counters_outlive_a_replacement_and_go_with_their_pod(router: Router) -> None:
    router.enforce(everyone("Ingress"))
    assert not router.reaches("c", router.address("b"), 8080)
    counted = router.dropped("ingress", "b")
    assert counted > 0
    router.enforce(everyone("Ingress", "Egress"))
    assert router.dropped("ingress", "b") == counted
    router.enforce()
    assert chain_name("ingress", "bank/b") not in router.kernel.drops()


def test_replacing_heals_an_empty_kernel_and_leaves_other_tables_alone(router: Router) -> None:
    router.enforce(everyone("Ingress"))
    router.kernel.replace("delete table inet ringfence_lab")
    assert router.kernel.listing() is None
    router.enforce(everyone("Egress"))
    assert router.kernel.chains() == {"egress-bank/a", "egress-bank/b"}
    assert router.reaches("c", SERVICE, 80)


def test_a_listing_repeats_exactly_so_that_tampering_shows(router: Router) -> None:
    router.enforce(everyone("Ingress", "Egress", ingress=[{"from": [{"podSelector": {}}]}]))
    listing = router.kernel.listing()
    assert not router.reaches("c", router.address("b"), 8080)
    assert router.kernel.listing() == listing
    router.kernel.replace("flush chain inet ringfence_lab ingress-bank/b")
    assert router.kernel.listing() != listing


@pytest.fixture(autouse=True, scope="module")
def needs_root() -> None:
    assert os.geteuid() == 0, "run as root: the tests make network namespaces"
    assert Path("/var/run").is_dir()
