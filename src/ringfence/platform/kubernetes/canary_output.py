"""What a canary's pod wrote, read as if an attacker had written it: strict, bounded, all or nothing (pure).

The shape of its lines is told in ``canary_program``. A line that is not exactly so makes the whole output worthless:
who can write one line of his own can write all of them.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ringfence.errors import ExitCode, RingfenceError
from ringfence.platform.kubernetes.canaries import Phase

MAX_BYTES = 512 * 1024
_LONGEST_LINE = 4096
_PHASES: tuple[Phase, ...] = ("control", "fenced", "again")
WORDS = frozenset({"open", "refused", "silent", "wrong", "unresolved"})


class OutputError(RingfenceError):
    """What a canary's pod wrote is not what its program writes."""

    code = "canary-output"
    exit_code = ExitCode.INCOMPLETE


@dataclass(frozen=True)
class Hello:
    """The pod's first line: the API server and the resolvers that it was given, and port asked for → port bound."""

    api: tuple[str, int] | None
    resolvers: tuple[str, ...]
    tcp: dict[int, int]
    udp: dict[int, int]


@dataclass(frozen=True)
class Round:
    """One round of tries; ``results`` in the order of the pod's orders, each one of WORDS."""

    number: int
    phase: Phase
    results: tuple[str, ...]


@dataclass(frozen=True)
class Output:
    """Everything that a pod wrote so far. ``hello`` is None as long as it has not begun."""

    hello: Hello | None = None
    rounds: tuple[Round, ...] = ()

    def of(self, phase: Phase) -> tuple[Round, ...]:
        return tuple(one for one in self.rounds if one.phase == phase)


def collect(chunks: Iterable[bytes]) -> bytes:
    """A log, as long as it is not longer than the program could have made it. Raises OutputError."""
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > MAX_BYTES:
            raise _bad(f"it wrote more than {MAX_BYTES} bytes")
    return bytes(found)


def parse(raw: bytes, canary: str, tries: int) -> Output:
    """The lines of a log as the kubelet sends it (each behind its time). ``tries`` is the number of its orders.

    A last line without an end is still being written, and passed over. Raises OutputError.
    """
    lines = raw.split(b"\n")[:-1]
    if not lines:
        return Output()
    hello = _hello(_object(lines[0]), canary)
    rounds: list[Round] = []
    for line in lines[1:]:
        one = _round(_object(line), tries)
        before = rounds[-1] if rounds else None
        if one.number != (before.number if before else 0) + 1:
            raise _bad("its rounds are not counted one by one")
        if before and _PHASES.index(one.phase) < _PHASES.index(before.phase):
            raise _bad("its phases go backwards")
        rounds.append(one)
    return Output(hello, tuple(rounds))


def _object(line: bytes) -> dict[str, Any]:
    _, _, content = line.partition(b" ")  # the kubelet's timestamp
    if len(content) > _LONGEST_LINE:
        raise _bad("it wrote a line that is too long")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise _bad("it wrote a line that is not JSON") from None
    if not isinstance(value, dict):
        raise _bad("it wrote a line that is no JSON object")
    return value


def _hello(value: dict[str, Any], canary: str) -> Hello:
    if value.keys() != {"hello", "api", "resolvers", "tcp", "udp"} or value["hello"] != canary:
        raise _bad("its first line is another program's")
    resolvers = value["resolvers"]
    if not isinstance(resolvers, list) or len(resolvers) > 3:
        raise _bad("its resolvers are no short list")
    return Hello(
        api=_api(value["api"]),
        resolvers=tuple(dict.fromkeys(_address(one) for one in resolvers)),
        tcp=_ports(value["tcp"]),
        udp=_ports(value["udp"]),
    )


def _round(value: dict[str, Any], tries: int) -> Round:
    if value.keys() != {"round", "phase", "results"}:
        raise _bad("it wrote a line with other members than those of a round")
    number, phase, results = value["round"], value["phase"], value["results"]
    if type(number) is not int or phase not in _PHASES or not isinstance(results, list):
        raise _bad("it wrote a round with values of another type")
    if len(results) != tries or not all(isinstance(word, str) and word in WORDS for word in results):
        raise _bad("it wrote results that are not one word for each try")
    return Round(number, phase, tuple(results))


def _api(value: object) -> tuple[str, int] | None:
    if value == ":":
        return None
    if not isinstance(value, str):
        raise _bad("its API server is no address")
    host, _, port = value.rpartition(":")
    return _address(host), _port(port)


def _address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise _bad("it names something that is no address") from None


def _ports(value: object) -> dict[int, int]:
    if not isinstance(value, dict) or len(value) > 64:
        raise _bad("its ports are no short table")
    return {_port(asked): _port(str(bound) if type(bound) is int else "") for asked, bound in value.items()}


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and 0 < int(value) < 65536):
        raise _bad("it names something that is no port")
    return int(value)


def _bad(why: str) -> OutputError:
    return OutputError(
        "what the canary wrote is not to be trusted",
        why=why,
        next_step="see the image of canary.image, and who can write into that pod",
    )


def last(rounds: Sequence[Round], index: int, count: int) -> tuple[str, ...]:
    """The last ``count`` words about one try, fewer when there were fewer rounds."""
    return tuple(one.results[index] for one in rounds[-count:])
