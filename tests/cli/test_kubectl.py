"""A plan as kubectl commands: what a real shell makes of them, with names and texts that want to break out.

The same commands with the real kubectl on a real cluster: tests/lab/test_cli_tools.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.cli.kubectl import commands
from ringfence.errors import TargetError
from ringfence.model.objects import ObjectRef
from ringfence.model.plan import Change, Impact, Plan, Verb

NASTY = (
    "'; touch PWNED; '",
    "$(touch PWNED)",
    "`touch PWNED`",
    "\nRINGFENCE_END\ntouch PWNED\n",
    "-n kube-system",
    "\x1b[2J\u202egnp",
    "a\\'b\"c",
)
FAKE = """#!{python}
import json, os, sys
stdin = sys.stdin.read() if "-f" in sys.argv else ""
with open(os.environ["CALLS"], "a") as log:
    log.write(json.dumps([sys.argv[1:], stdin]) + chr(10))
sys.exit(1 if os.environ.get("FAIL") == sys.argv[1] else 0)
"""


def ref(kind: str = "Pod", name: str = "cards-1", namespace: str = "bank", api: str = "v1") -> ObjectRef:
    return ObjectRef(cluster="c", api_version=api, kind=kind, namespace=namespace, name=name, uid="u-1")


def plan(*changes: Change) -> Plan:
    impact = Impact(pods=1, replacement="nobody", replacement_expected=False)
    return Plan(action="network.quarantine", target=ref(), changes=changes, impact=impact)


def run(text: str, folder: Path, **environment: str) -> tuple[int, list[tuple[list[str], str]]]:
    """What a POSIX shell calls kubectl with, and its exit code."""
    fake = folder / "kubectl"
    fake.write_text(FAKE.format(python=sys.executable))
    fake.chmod(0o755)
    calls = folder / "calls"
    calls.write_text("")
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh"],
        input=text,
        text=True,
        cwd=folder,
        env={**os.environ, "PATH": path, "CALLS": str(calls), **environment},
        capture_output=True,
        timeout=60,
    )
    assert not (folder / "PWNED").exists(), text
    return done.returncode, [tuple(json.loads(line)) for line in calls.read_text().splitlines()]


POLICY = ref("NetworkPolicy", "deny", api="networking.k8s.io/v1")


def create(body: Any, *, needed: bool = True) -> Change:
    return Change(id="create", ref=POLICY, verb=Verb.CREATE, body=body, needed=needed, effect="made")


def patch(operations: Any, target: ObjectRef | None = None, **more: Any) -> Change:
    return Change(id="patch", ref=target or ref(), verb=Verb.PATCH, body=operations, effect="changed", **more)


@pytest.mark.parametrize("nasty", NASTY)
def test_a_shell_reads_hostile_text_as_data(nasty: str, tmp_path: Path) -> None:
    body = {"kind": "NetworkPolicy", "metadata": {"name": "deny", "annotations": {"x": nasty}}}
    operations = [{"op": "add", "path": "/metadata/labels/x", "value": nasty}]
    # What cannot be typed as a name at all has a test of its own.
    name = nasty if nasty.isascii() and nasty.isprintable() else "cards-1"
    hostile = ref(name=name, namespace=name)
    changes = (
        create(body).model_copy(update={"effect": nasty}),
        patch(operations, hostile),
        Change(id="delete", ref=hostile, verb=Verb.DELETE, effect=nasty),
    )
    code, calls = run(commands(plan(*changes)), tmp_path)
    assert code == 0
    (created, manifest), (patched, _), (deleted, options) = calls
    assert created[0] == "create"
    assert json.loads(manifest) == body
    assert patched[:4] == ["patch", f"pods/{name}", "-n", name]
    assert json.loads(patched[-1]) == operations
    assert deleted[:2] == ["delete", "--raw"]
    assert json.loads(options)["preconditions"] == {"uid": "u-1"}


@given(st.text(), st.text())
def test_what_is_printed_orders_no_terminal_around(name: str, words: str) -> None:
    change = patch([{"op": "add", "path": "/x", "value": words}], ref(name=name)).model_copy(update={"effect": words})
    try:
        printed = commands(plan(change, create({"kind": words})))
    except TargetError:
        assert not (name.isascii() and name.isprintable())
        return
    assert all(c.isprintable() for c in printed.replace("\n", ""))


def test_a_name_that_cannot_be_typed_is_refused() -> None:
    with pytest.raises(TargetError, match="cannot be named"):
        commands(plan(patch([], ref(namespace="bank\x1b[2J"))))


def test_a_needed_command_that_fails_stops_the_block_and_another_does_not(tmp_path: Path) -> None:
    first, second = create({"kind": "x"}), patch([])
    assert [call[0][0] for call in run(commands(plan(first, second)), tmp_path, FAIL="create")[1]] == ["create"]
    passed_over = create({"kind": "x"}, needed=False)
    code, calls = run(commands(plan(passed_over, second)), tmp_path, FAIL="create")
    assert [call[0][0] for call in calls] == ["create", "patch"]
    assert code == 0


def test_the_same_kind_of_another_group_cannot_be_meant(tmp_path: Path) -> None:
    scaled = ref("Deployment", "cards", api="apps/v1")
    _, [(words, _)] = run(commands(plan(patch([], scaled, subresource="scale"))), tmp_path)
    assert words[:4] == ["patch", "deployments.v1.apps/cards", "-n", "bank"]
    assert "--subresource=scale" in words
    assert "--type=json" in words


def test_a_node_has_no_namespace(tmp_path: Path) -> None:
    _, [(words, _)] = run(commands(plan(patch([], ref("Node", "n1", "")))), tmp_path)
    assert "-n" not in words


def test_a_delete_dies_on_another_object_of_the_name_and_keeps_its_grace(tmp_path: Path) -> None:
    change = Change(id="delete", ref=ref(), verb=Verb.DELETE, grace_seconds=0, effect="ended")
    _, [(words, options)] = run(commands(plan(change)), tmp_path)
    assert words == ["delete", "--raw", "/api/v1/namespaces/bank/pods/cards-1", "-f", "-"]
    assert json.loads(options)["gracePeriodSeconds"] == 0
    assert json.loads(options)["preconditions"]["uid"] == "u-1"
