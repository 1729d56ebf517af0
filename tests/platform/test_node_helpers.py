"""The node helper's pod, and what it wrote: read as if an attacker had written it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from typing import Any

import pytest

from ringfence.model.node_helper import Frames, NodeOrder
from ringfence.platform.kubernetes import node_helpers
from ringfence.platform.kubernetes.node_helpers import HelperOutputError, HelperRun
from ringfence.platform.kubernetes.node_program import MODULES, bundle

NETWORK = {
    "already": False,
    "in_force": True,
    "table": True,
    "interfaces": ["veth1 (veth)"],
    "beyond": [],
    "programs": [],
    "dropped": {"out": 3, "in": 1},
    "through": {"out": False, "in": False},
    "before": {"out": True, "in": True},
}


def run(**changes: Any) -> HelperRun:
    whole: dict[str, Any] = {
        "id": "abc",
        "of": "def",
        "order": NodeOrder.CUT,
        "uid": "u1",
        "node": "node-1",
        "image": "python",
        "pull_policy": "Never",
        "seconds": 30,
        "room": 1024,
    }
    return HelperRun(**{**whole, **changes})


def result(**changes: Any) -> dict[str, Any]:
    return {"result": {"order": "cut", "ok": True, "why": "", "on_node": 0, "network": NETWORK, **changes}}


def log(*values: Any) -> bytes:
    return b"".join(b"2026-11-25T00:00:00Z " + json.dumps(value).encode() + b"\n" for value in values)


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def test_the_pod_has_no_token_no_volume_and_an_end() -> None:
    pod = node_helpers.helper_pod(run(), "helpers")
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert "volumes" not in spec
    assert spec["activeDeadlineSeconds"] == 60
    assert spec["nodeName"] == "node-1"
    assert spec["restartPolicy"] == "Never"


def test_its_size_is_far_below_what_an_argument_may_have() -> None:
    assert len(bundle()) < 100_000


def test_the_program_starts_without_any_package_and_refuses_an_order_that_is_none() -> None:
    """In an interpreter that finds nothing of ours: what it needs must be in it."""
    order = json.dumps({"order": "dance", "uid": "u", "id": "x", "seconds": 5, "bytes": 0})
    done = subprocess.run([sys.executable, "-I", "-S", "-c", bundle(), order], capture_output=True, text=True, cwd="/")
    assert done.stdout.splitlines()[:1] == ['{"hello":"x"}']
    assert done.returncode != 0
    assert "ModuleNotFoundError" not in done.stderr


def test_every_module_of_the_program_is_in_it() -> None:
    from pathlib import Path

    from ringfence.platform.kubernetes import node_program

    found = {path.stem for path in Path(node_program.__file__).parent.glob("*.py")} - {"__init__"}
    assert found == set(MODULES)


def test_what_it_says_is_understood() -> None:
    (last,) = node_helpers.lines([log({"hello": "abc"}, result())], "abc")
    found = node_helpers.answer(last, NodeOrder.CUT)
    assert found.done
    assert found.network is not None
    assert (found.network.dropped_out, found.network.dropped_in) == (3, 1)
    assert found.network.before == Frames(out=True, into=True)
    assert found.network.through == Frames(out=False, into=False)


def test_a_log_in_chunks_of_any_size_is_the_same() -> None:
    raw = log({"hello": "abc"}, result())
    (last,) = node_helpers.lines((raw[at : at + 7] for at in range(0, len(raw), 7)), "abc")
    assert last == result()


@pytest.mark.parametrize(
    "raw",
    [
        log({"hello": "another"}),
        log(result()),
        log({"hello": "abc"}) + b"x not json\n",
        log({"hello": "abc"}, [1]),
        log({"hello": "abc"}) + b"x " + b"a" * 20_000,
    ],
)
def test_lines_that_are_not_of_this_run_are_refused(raw: bytes) -> None:
    with pytest.raises(HelperOutputError):
        list(node_helpers.lines([raw], "abc"))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"result": []},
        result(order="status"),
        result(ok="yes"),
        result(on_node=-1),
        result(on_node=True),
        result(network={**NETWORK, "in_force": None}),
        result(network={**NETWORK, "through": {"out": False}}),
        result(network={**NETWORK, "through": {"out": 0, "in": 0}}),
        result(network={**NETWORK, "interfaces": ["x"] * 65}),
        result(network={**NETWORK, "dropped": {"out": 1.5, "in": 0}}),
        result(frozen=True),
        {**result(), "more": 1},
    ],
)
def test_a_result_of_another_shape_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(HelperOutputError):
        node_helpers.answer(value, NodeOrder.CUT)


def test_words_lose_what_a_terminal_would_obey() -> None:
    found = node_helpers.answer(result(ok=False, why="\x1b[2Jall is well"), NodeOrder.CUT)
    assert "\x1b" not in found.why


def test_parts_come_one_after_the_other() -> None:
    assert node_helpers.part({"begin": "a", "media": "text/plain"}, 0).begin == "a"
    assert node_helpers.part({"n": 2, "z": packed(b"x")}, 2).data == b"x"
    with pytest.raises(HelperOutputError, match="rotated"):
        node_helpers.part({"n": 3, "z": packed(b"x")}, 2)


@pytest.mark.parametrize("text", ["%%%", base64.b64encode(b"no zlib").decode(), packed(b"\0" * 8193), packed(b"x")[:8]])
def test_a_part_that_cannot_be_unpacked_or_swells_is_refused(text: str) -> None:
    with pytest.raises(HelperOutputError):
        node_helpers.part({"n": 0, "z": text}, 0)
