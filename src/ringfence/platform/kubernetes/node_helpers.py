"""The node helper's pod, and what it wrote (pure).

The pod is privileged, in the node's PID and network namespaces, and mounts nothing: the node's files are reached
through its first process. It has no token, and ends by itself. What it wrote is read as if an attacker had written it:
strict, bounded, all or nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ringfence.errors import ExitCode, RingfenceError
from ringfence.model.base import Json
from ringfence.model.node_helper import Frames, NodeNetwork, NodeOrder
from ringfence.platform.kubernetes.node_program import bundle

HELPER_KEY = "ringfence.dev/node-helper"
"""The label of a run's pod; its value is the run's opaque id."""
HELPER_OF_KEY = "ringfence.dev/node-helper-of"
"""The label that finds what a run left behind: a hash of the fence and the victim's uid."""
HELPER_UID_KEY = "ringfence.dev/node-helper-uid"
"""The annotation with the uid of the pod that the run is about."""
CONTAINER = "helper"

_GRACE_SECONDS = 1
_SLACK_SECONDS = 30
_LONGEST_LINE = 15 * 1024
_LONGEST_PART = 8192
_MOST_WORDS = 64
_LONGEST_WORD = 2000


class HelperOutputError(RingfenceError):
    """What the node helper wrote is not what its program writes."""

    code = "node-helper-output"
    exit_code = ExitCode.INCOMPLETE


@dataclass(frozen=True)
class HelperRun:
    """One run. ``seconds`` bounds the program, ``room`` (bytes) what it collects."""

    id: str
    of: str
    order: NodeOrder
    uid: str
    node: str
    image: str
    pull_policy: str
    seconds: int
    room: int


@dataclass(frozen=True)
class Answer:
    """The helper's last line."""

    done: bool
    why: str
    network: NodeNetwork | None = None
    on_node: int = 0
    frozen: bool | None = None
    processes: int = 0
    already: bool = False


def of_target(fence: str, uid: str) -> str:
    """The value of HELPER_OF_KEY: it names neither the incident nor the pod to whoever reads it."""
    return hashlib.sha256(f"node/{fence}/{uid}".encode()).hexdigest()[:16]


def helper_pod(run: HelperRun, namespace: str) -> Json:
    """The manifest: on the victim's node, past the scheduler and every taint."""
    order = {
        "order": run.order.value,
        "uid": run.uid,
        "id": run.id,
        "seconds": run.seconds,
        "bytes": run.room,
    }
    container = {
        "name": CONTAINER,
        "image": run.image,
        "imagePullPolicy": run.pull_policy,
        "command": ["python3", "-c", bundle(), json.dumps(order)],
        "resources": {"requests": {"cpu": "50m", "memory": "48Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"privileged": True, "readOnlyRootFilesystem": True, "runAsUser": 0},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"ringfence-node-{run.id}",
            "namespace": namespace,
            "labels": {
                HELPER_KEY: run.id,
                HELPER_OF_KEY: run.of,
                "app.kubernetes.io/managed-by": "ringfence",
                "sidecar.istio.io/inject": "false",
            },
            "annotations": {"linkerd.io/inject": "disabled", HELPER_UID_KEY: run.uid},
        },
        "spec": {
            "nodeName": run.node,
            "tolerations": [{"operator": "Exists"}],
            "hostPID": True,
            "hostNetwork": True,
            "dnsPolicy": "Default",
            "restartPolicy": "Never",
            "activeDeadlineSeconds": run.seconds + _SLACK_SECONDS,
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [container],
        },
    }


# --- reading what it wrote --------------------------------------------------------
def lines(chunks: Iterable[bytes], run: str) -> Iterator[dict[str, Any]]:
    """The lines after the first, which must be this run's, without the kubelet's times. Raises HelperOutputError."""
    held, first = bytearray(), True
    for chunk in chunks:
        held += chunk
        *whole, rest = bytes(held).split(b"\n")
        held = bytearray(rest)
        for line in whole:
            value = _object(line)
            if first and value != {"hello": run}:
                raise _bad("its first line is another program's")
            if not first:
                yield value
            first = False
        if len(held) > _LONGEST_LINE:
            raise _bad("it wrote a line that is too long")


def answer(value: dict[str, Any], order: NodeOrder) -> Answer:
    """The last line. Raises HelperOutputError."""
    result = value.get("result")
    if value.keys() != {"result"} or not isinstance(result, dict) or result.get("order") != order.value:
        raise _bad("its last line is no result of this order")
    frozen = result.get("frozen")
    if frozen is not None and not isinstance(frozen, dict):
        raise _bad("what it says of the cgroup is no object")
    network = result.get("network")
    return Answer(
        done=_truth(result, "ok"),
        why=_word(result.get("why", "")) or _word(result.get("gone", "")),
        network=_network(network) if network is not None else None,
        on_node=_count(result.get("on_node", 0)),
        frozen=_truth(frozen, "frozen") if frozen is not None else None,
        processes=_count(frozen.get("processes", 0)) if frozen is not None else 0,
        already=any(_truth({"already": False, **said}, "already") for said in (frozen, network) if said is not None),
    )


@dataclass(frozen=True)
class Part:
    """An item's begin, data or end, as the collecting program tells them."""

    begin: str = ""
    media: str = ""
    data: bytes = b""
    end: str = ""
    sha256: str = ""
    size: int = 0
    why: str = ""


def part(value: dict[str, Any], expected: int) -> Part:
    """One line of a collection; ``expected`` is the number of the next data line. Raises HelperOutputError."""
    match value:
        case {"begin": str(name), "media": str(media)} if len(value) == 2:
            return Part(begin=_word(name), media=media[:80])
        case {"n": int(number), "z": str(text)} if len(value) == 2:
            if number != expected:
                raise _bad(f"part {expected} of an item is missing: the log was rotated faster than it was read")
            return Part(data=_unpacked(text))
        case {"end": str(name), "sha256": str(digest), "size": int(size), "why": str(why)} if len(value) == 4:
            return Part(end=_word(name), sha256=digest, size=size, why=_word(why))
    raise _bad("it wrote a line that is no part of an item")


def _unpacked(text: str) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), _LONGEST_PART)
    except (ValueError, zlib.error):
        raise _bad("a part of an item cannot be unpacked") from None
    if not unpacker.eof:
        raise _bad("a part of an item is longer than it may be")
    return data


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


def _network(value: Any) -> NodeNetwork:
    if not isinstance(value, dict):
        raise _bad("what it says of the network is no object")
    dropped = value.get("dropped") or {}
    return NodeNetwork(
        in_force=_truth(value, "in_force"),
        interfaces=_words(value.get("interfaces", [])),
        beyond=_words(value.get("beyond", [])),
        programs=_words(value.get("programs", [])),
        dropped_out=_count(dropped.get("out", 0)),
        dropped_in=_count(dropped.get("in", 0)),
        before=_frames(value.get("before")),
        through=_frames(value.get("through")),
        why=_word(value.get("why", "")),
    )


def _frames(value: Any) -> Frames | None:
    if not value:
        return None
    if not isinstance(value, dict) or value.keys() != {"out", "in"}:
        raise _bad("what it says of its frames is not one word for each direction")
    return Frames(out=_truth(value, "out"), into=_truth(value, "in"))


def _truth(value: dict[str, Any], name: str) -> bool:
    found = value.get(name)
    if not isinstance(found, bool):
        raise _bad(f"{name} is neither true nor false")
    return found


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise _bad("it counts with something that is no number")
    return value


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_WORDS:
        raise _bad("it wrote something that is no short list")
    return tuple(map(_word, value))


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise _bad("it wrote something else where words are")
    return "".join(char if char.isprintable() else " " for char in value)[:_LONGEST_WORD]


def _bad(why: str) -> HelperOutputError:
    return HelperOutputError(
        "what the node helper wrote is not to be trusted",
        why=why,
        next_step="see the image of node_helper.image, and who can write into that pod",
    )
