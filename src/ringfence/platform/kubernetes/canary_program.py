"""Runs in the canary's pods, and nowhere else: listens, tries what its orders say, tells in JSON lines what happened.

Standard library only, one file, sent as ``python3 -c``. ``argv``: its settings as JSON (``id``, ``tcp`` and ``udp``
ports to listen on, ``seconds`` to live, ``timeout`` of a try), and the file of its orders, which the kubelet keeps
(downward API). Both are data: nothing of them is ever run.

First line: ``{"hello": ID, "api": "HOST:PORT", "resolvers": [...], "tcp": {"80": 20080}, "udp": {}}`` (port that was
asked for → bound one; what cannot be bound is left out). Then a line for each round: ``{"round": N, "phase": P,
"results": [...]}``, a word for each of the orders: open, refused, silent, wrong (somebody else answers), unresolved.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

PAUSE = 0.2
SUBSTITUTE = 20000
LONGEST = 64


def say(**words: Any) -> None:
    print(json.dumps(words, separators=(",", ":")), flush=True)


# --- listening: every caller is told the id, nobody is listened to ---------------------------
def bind(kind: int, port: int) -> socket.socket | None:
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "")):
        try:
            server = socket.socket(family, kind)
        except OSError:
            continue
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind((host, port))
            if kind == socket.SOCK_STREAM:
                server.listen(64)
        except OSError:
            server.close()
        else:
            return server
    return None


def greet(server: socket.socket, greeting: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(1.0)
                connection.sendall(greeting)
        except OSError:
            time.sleep(0.01)


def echo(server: socket.socket, greeting: bytes) -> None:
    while True:
        with contextlib.suppress(OSError):
            data, sender = server.recvfrom(LONGEST)
            if data == greeting:
                server.sendto(data, sender)


def listen(ports: list[int], kind: int, work: Any, greeting: bytes) -> dict[str, int]:
    bound = {}
    for port in ports:
        # A port below 1024 may need a right that the canary does not have.
        for number in (port, port + SUBSTITUTE):
            server = bind(kind, number) if number < 65536 else None
            if server is not None:
                bound[str(port)] = number
                threading.Thread(target=work, args=(server, greeting), daemon=True).start()
                break
    return bound


# --- trying ----------------------------------------------------------------------------------
def tcp(host: str, port: int, expect: bytes, timeout: float) -> str:
    end = time.monotonic() + 2 * timeout
    try:
        connection = socket.create_connection((host, port), timeout)
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"
    with connection:
        heard = b""
        with contextlib.suppress(OSError):
            while len(heard) < len(expect) and time.monotonic() < end:
                data = connection.recv(LONGEST)
                if not data:
                    break
                heard += data
        return "open" if heard == expect else "wrong"


def udp(host: str, port: int, question: bytes, timeout: float, *, whole: bool) -> str:
    """``whole``: the answer is the question itself; else it is a DNS answer to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(timeout)
            client.connect((host, port))
            client.send(question)
            data = client.recv(4096)
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"
    good = data == question if whole else answers(data, question)
    return "open" if good else "wrong"


def dns_over_tcp(host: str, port: int, timeout: float) -> str:
    question = dns_question()
    try:
        connection = socket.create_connection((host, port), timeout)
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"
    with connection:
        try:
            connection.sendall(struct.pack("!H", len(question)) + question)
            data = connection.recv(4096)
        except OSError:
            return "wrong"
        return "open" if answers(data[2:], question) else "wrong"


def dns_question() -> bytes:
    """Any answer will do: a name of the cluster is asked for so that the question stays in it."""
    labels = b"".join(bytes([len(part)]) + part for part in b"kubernetes.default.svc.cluster.local".split(b"."))
    return os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def answers(data: bytes, question: bytes) -> bool:
    return len(data) >= 12 and data[:2] == question[:2] and bool(data[2] & 0x80)


class Names:
    """Names are resolved once, beside the rounds, and kept: behind the fence there may be no DNS."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self._asked: set[str] = set()

    def address(self, host: str) -> str | None:
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                socket.inet_pton(family, host)
                return host
        if host not in self._asked:
            self._asked.add(host)
            threading.Thread(target=self._ask, args=(host,), daemon=True).start()
        return self.known.get(host)

    def _ask(self, host: str) -> None:
        while host not in self.known:
            with contextlib.suppress(OSError, UnicodeError):
                self.known[host] = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
            time.sleep(1.0)


def attempt(order: dict[str, Any], names: Names, timeout: float) -> str:
    host, port, expect = names.address(order["host"]), order["port"], order["expect"].encode()
    if host is None:
        return "unresolved"
    if order["proto"] == "tcp":
        return tcp(host, port, expect, timeout)
    if order["proto"] == "udp":
        return udp(host, port, expect, timeout, whole=True)
    if order["proto"] == "dns-udp":
        return udp(host, port, dns_question(), timeout, whole=False)
    return dns_over_tcp(host, port, timeout)


def read_orders(path: str) -> dict[str, Any]:
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8") or "{}"))
    except (OSError, ValueError):
        return {}


def resolvers() -> list[str]:
    with contextlib.suppress(OSError, UnicodeError):
        lines = [line.split() for line in Path("/etc/resolv.conf").read_text(encoding="utf-8").splitlines()]
        return [line[1] for line in lines if len(line) > 1 and line[0] == "nameserver"][:3]
    return []


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    settings = json.loads(sys.argv[1])
    greeting = settings["id"].encode()
    end = time.monotonic() + settings["seconds"]
    say(
        hello=settings["id"],
        api="{}:{}".format(
            os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "")
        ),
        resolvers=resolvers(),
        tcp=listen(settings["tcp"], socket.SOCK_STREAM, greet, greeting),
        udp=listen(settings["udp"], socket.SOCK_DGRAM, echo, greeting),
    )
    names = Names()
    number = 0
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        while time.monotonic() < end:
            orders = read_orders(sys.argv[2])
            if orders:
                number += 1
                tried = [pool.submit(attempt, order, names, settings["timeout"]) for order in orders["to"]]
                say(round=number, phase=orders["phase"], results=[one.result() for one in tried])
            time.sleep(PAUSE)
    os._exit(0)


if __name__ == "__main__":
    main()
