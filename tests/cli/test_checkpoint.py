"""``node INC checkpoint`` and ``rbac --checkpoint`` as they are typed. What is recorded: tests/response."""

from __future__ import annotations

import json

import pytest
import yaml

from ringfence.cli.checkpoint_view import _code
from ringfence.errors import ExitCode
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Applied
from ringfence.response.checkpoint import Asked, Checkpointed
from tests.cli.console import Console
from tests.simulator import Simulator
from tests.wire import Answer

ARCHIVE = "/var/lib/kubelet/checkpoints/checkpoint-cards-1.tar"
FORGED = "/var/\x1b[2J\u202e\nnode-1: 9 archives"


@pytest.fixture
def declared(console: Console) -> Console:
    assert console("declare", "pod/cards-1", "-n", "bank", "--reason", "odd egress").code == 0
    console.settings["checkpoint"] = {"enabled": True, "seconds": 5}
    return console


def made(path: str) -> Answer:
    return Answer(body=json.dumps({"items": [path]}).encode())


def test_the_right_is_rendered_by_itself_whatever_is_enabled(declared: Console) -> None:
    """Who applies the usual role must not get root on every node with it."""
    (role,) = yaml.safe_load_all(declared("rbac", "--checkpoint").out)
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["create"]}]
    assert "nodes/proxy" not in declared("rbac").out
    assert declared("rbac", "--checkpoint", "--node-helper").code == ExitCode.USAGE


def test_off_unless_the_configuration_says_so(declared: Console) -> None:
    del declared.settings["checkpoint"]
    assert declared("node", "INC-1", "checkpoint").code == ExitCode.REFUSED


def test_the_path_is_shown_with_what_is_in_it(declared: Console, api: Simulator) -> None:
    api.kubelet["cards"] = made(ARCHIVE)
    done = declared("node", "INC-1", "checkpoint")
    assert done.code == ExitCode.OK
    assert f"cards: {ARCHIVE} on node-1" in done.out
    assert "every secret" in done.out
    (one,) = declared("node", "INC-1", "checkpoint", "-o", "json").data
    assert one["containers"][0]["archives"] == [ARCHIVE]


def test_no_archive_is_no_success(declared: Console, api: Simulator) -> None:
    api.kubelet["cards"] = Answer(500, b"checkpointing of bank/cards-1/cards failed (Unimplemented)")
    done = declared("node", "INC-1", "checkpoint")
    assert done.code == ExitCode.INCOMPLETE
    assert "cards: no archive: failed: the container runtime of node-1 makes no checkpoints" in done.out
    assert "next: it needs CRIU" in done.out
    assert "every secret" not in done.out


def test_an_answer_that_nobody_understands_is_not_called_none(declared: Console, api: Simulator) -> None:
    api.kubelet["cards"] = Answer(200, b"<title>Sign in</title>")
    done = declared("node", "INC-1", "checkpoint")
    assert done.code == ExitCode.INCOMPLETE
    assert "cards: not known: " in done.out


def test_an_archive_whose_path_never_came_is_no_success() -> None:
    """The audit log alone says that it was written: nobody can fetch it."""
    target = ObjectRef(cluster="c", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u")
    done = Checkpointed(target, "node-checkpoint/1", Applied(), "node-1", (Asked("cards", Applied()),), seal="x")
    assert _code([done]) is ExitCode.INCOMPLETE


def test_a_node_that_lies_draws_nothing_on_the_screen(declared: Console, api: Simulator) -> None:
    api.kubelet["cards"] = made(FORGED)
    out = declared("node", "INC-1", "checkpoint").out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert not [line for line in out.splitlines() if line.startswith("node-1: 9")]
