"""The program of the canary's pods, run as they run it, on this machine's own sockets; its output, read strictly."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringfence.platform.kubernetes import canary_program
from ringfence.platform.kubernetes.canary_output import MAX_BYTES, Output, OutputError, collect, parse

pytestmark = pytest.mark.slow  # a program that waits for packets

Json = dict[str, Any]
ID = "3f1c9a70de"
PROGRAM = Path(canary_program.__file__)


class Pod:
    """The program with its orders in a file, as the kubelet keeps it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.orders = folder / f"orders-{id(self)}"
        self.orders.write_text("")
        given = {"id": ID, "tcp": [], "udp": [], "seconds": 20, "timeout": 0.5, **settings}
        command = [sys.executable, "-I", "-c", PROGRAM.read_text(), json.dumps(given), str(self.orders)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.hello = self.line()

    def line(self) -> Json:
        assert self.process.stdout is not None
        words: Json = json.loads(self.process.stdout.readline())
        return words

    def told(self, phase: str, *to: Json) -> list[str]:
        """Give orders; the results of the first round that heard them."""
        self.orders.write_text(json.dumps({"phase": phase, "to": list(to)}))
        while (said := self.line())["phase"] != phase:
            pass
        results: list[str] = said["results"]
        return results


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Pod]:
    pod = Pod(folder, **settings)
    try:
        yield pod
    finally:
        pod.process.kill()
        pod.process.communicate()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def order(proto: str, port: int, expect: str = "", host: str = "127.0.0.1") -> Json:
    return {"proto": proto, "host": host, "port": port, "expect": expect}


def test_two_of_them_find_each_other_and_nobody_else(tmp_path: Path) -> None:
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
    with running(tmp_path, tcp=[tcp], udp=[udp]) as listener, running(tmp_path) as dialer:
        assert (listener.hello["tcp"], listener.hello["udp"]) == ({str(tcp): tcp}, {str(udp): udp})
        tried = [order("tcp", tcp, ID), order("udp", udp, ID), order("tcp", tcp, "another"), order("tcp", free_port())]
        assert dialer.told("control", *tried) == ["open", "open", "wrong", "refused"]


def test_a_stranger_who_accepts_is_not_the_peer(tmp_path: Path) -> None:
    """A sidecar or a proxy accepts every connection: that is no way through."""
    with socket.create_server(("127.0.0.1", 0)) as server, running(tmp_path) as dialer:
        port = server.getsockname()[1]
        assert dialer.told("control", order("tcp", port, ID), order("tcp", port)) == ["wrong", "open"]


@pytest.mark.parametrize(("flags", "said"), [(0x80, "open"), (0x00, "wrong")])
def test_any_answer_of_a_name_server_will_do_but_not_an_echo(tmp_path: Path, flags: int, said: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, running(tmp_path) as dialer:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    question, sender = server.recvfrom(512)
                    server.sendto(question[:2] + bytes([question[2] | flags]) + question[3:], sender)

        threading.Thread(target=serve, daemon=True).start()
        assert dialer.told("control", order("dns-udp", server.getsockname()[1])) == [said]


def test_silence_is_silence(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf, running(tmp_path) as dialer:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        assert dialer.told("control", order("udp", port, ID), order("dns-udp", port)) == ["silent", "silent"]


def test_a_name_is_resolved_once_and_kept(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, running(tmp_path) as dialer:
        named = order("tcp", server.getsockname()[1], host="localhost")
        results = dialer.told("control", named, order("tcp", 1, host="no-such-name.invalid"))
        while results[0] == "unresolved":
            results = dialer.line()["results"]
        assert results == ["open", "unresolved"]


def test_a_taken_port_is_stood_in_for_and_said(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path, tcp=[port]) as pod:
            assert pod.hello["tcp"] == ({str(port): port + 20000} if port + 20000 < 65536 else {})


def test_a_new_phase_is_heard_and_the_end_is_kept(tmp_path: Path) -> None:
    with running(tmp_path, seconds=2) as pod:
        assert pod.told("control") == []
        assert pod.told("fenced") == []
        assert pod.process.wait(10) == 0


def test_it_goes_at_once_when_it_is_told_to(tmp_path: Path) -> None:
    """As process 1 of a pod it would otherwise ignore SIGTERM, and be waited for."""
    with running(tmp_path) as pod:
        pod.process.send_signal(signal.SIGTERM)
        assert pod.process.wait(5) == 0


def test_orders_that_are_no_json_are_passed_over(tmp_path: Path) -> None:
    with running(tmp_path) as pod:
        pod.orders.write_text("{")
        assert pod.told("control") == []


def test_what_it_writes_is_what_is_read(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, tcp=[port]) as pod:
        pod.orders.write_text(json.dumps({"phase": "control", "to": [order("tcp", port, ID)]}))
        said = [pod.hello, pod.line(), pod.line()]
    output = read(*said)
    assert output.hello is not None
    assert output.hello.tcp == {port: port}
    assert [one.results for one in output.of("control")] == [("open",), ("open",)]


# --- reading --------------------------------------------------------------------------------------------------------

HELLO: Json = {"hello": ID, "api": "10.96.0.1:443", "resolvers": ["10.96.0.10"], "tcp": {"80": 20080}, "udp": {}}


def raw(*lines: Json | bytes) -> bytes:
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return b"".join(b"2026-11-23T03:00:00.123456789Z " + text + b"\n" for text in texts)


def read(*lines: Json | bytes) -> Output:
    return parse(raw(*lines), ID, 1)


def a_round(number: Any = 1, phase: Any = "control", results: Any = ("open",)) -> Json:
    return {"round": number, "phase": phase, "results": results}


def test_a_line_that_is_still_being_written_is_passed_over() -> None:
    assert parse(raw(HELLO, a_round())[:-9], ID, 1).rounds == ()
    assert parse(b"", ID, 1) == Output()


def test_without_an_api_server_in_its_environment_there_is_none() -> None:
    assert (hello := read({**HELLO, "api": ":"}).hello) is not None
    assert hello.api is None


@pytest.mark.parametrize(
    "lines",
    [
        (b"words",),
        (b"[1]",),
        (b"\xff",),
        (b"[" * 4000,),
        (b'{"a":"' + b"x" * 5000 + b'"}',),
        ({**HELLO, "hello": "another"},),
        ({**HELLO, "more": 1},),
        ({**HELLO, "api": "evil.example:443"},),
        ({**HELLO, "api": "10.0.0.1:99999"},),
        ({**HELLO, "api": 5},),
        ({**HELLO, "resolvers": "10.96.0.10"},),
        ({**HELLO, "resolvers": ["10.96.0.10\x1b[31m"]},),
        ({**HELLO, "resolvers": ["10.0.0.1"] * 4},),
        ({**HELLO, "tcp": {"80": "80"}},),
        ({**HELLO, "tcp": {"80": True}},),
        ({**HELLO, "tcp": {"-1": 80}},),
        ({**HELLO, "tcp": [80]},),
        (HELLO, HELLO),
        (HELLO, a_round(2)),
        (HELLO, a_round(), a_round()),
        (HELLO, a_round(True)),
        (HELLO, a_round("1")),
        (HELLO, a_round(phase="over")),
        (HELLO, a_round(phase=["control"])),
        (HELLO, a_round(1, "fenced"), a_round(2, "control")),
        (HELLO, a_round(results=[])),
        (HELLO, a_round(results=["open", "open"])),
        (HELLO, a_round(results=["OPEN"])),
        (HELLO, a_round(results=[["open"]])),
        (HELLO, a_round(results="o")),
        (HELLO, {**a_round(), "more": 1}),
    ],
)
def test_a_line_of_another_shape_makes_everything_worthless(lines: tuple[Json | bytes, ...]) -> None:
    with pytest.raises(OutputError):
        read(*lines)


def test_an_endless_log_is_not_taken_in() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 65536

    with pytest.raises(OutputError):
        collect(endless())
    assert taken <= MAX_BYTES // 65536 + 1
