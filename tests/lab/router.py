"""A router in network namespaces with three pods behind it: the node's packet path without a cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from lab.enforcer.kernel import Kernel
from lab.enforcer.model import ContainerPort, Direction, Object, Pod, parse_policy
from lab.enforcer.render import Flows, chain_name, chain_names, render
from lab.enforcer.resolve import resolve
from tests.lab import ground

T = TypeVar("T")

GATEWAY = "10.244.200.1"
NODE = "10.99.200.2"
SERVICE = "10.96.200.9"
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
        return ground.inside(f"{self.prefix}-{name}", work)

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

    def dropped(self, direction: Direction, name: str) -> int:
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


@contextmanager
def running() -> Iterator[Router]:
    """A router with its pods, each echoing on TCP 8080 and 9000 and UDP 5300; gone afterwards."""
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
