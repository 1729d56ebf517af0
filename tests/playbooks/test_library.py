"""The library: every playbook in it loads, has no finding and does what its name says; files that a person names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.playbooks import PlaybookError, builtin, builtin_names, find, lint, load
from ringfence.playbooks.tree import MAX_BYTES
from tests.playbooks.pages import GOOD

ACTIONS = {
    "compromised-workload": [
        *("argocd.suspend_sync", "network.quarantine", "node.cut", "evidence.seal", "network.canary"),
        *("access.retest", "human.approve", "pod.delete", "fence.lift", "access.retest"),
    ],
    "stop-workload": [
        *("argocd.suspend_sync", "keda.pause", "network.quarantine", "evidence.seal", "access.retest"),
        *("human.approve", "workload.scale_to_zero", "fence.lift", "access.retest"),
    ],
    "restart-clean": ["evidence.seal", "human.approve", "workload.restart_clean", "access.retest"],
    "cut-identity": ["identity.cut", "identity.unbind", "access.retest"],
    "delete-tokens": [
        *("identity.cut", "evidence.seal", "access.retest"),
        *("human.approve", "identity.delete_tokens", "access.retest"),
    ],
    "recreate-account": [
        *("identity.cut", "evidence.seal", "access.retest"),
        *("human.approve", "identity.recreate_account", "access.retest"),
    ],
    "recover": [
        *("recovery.clean", "recovery.hole", "recovery.source", "workload.restore", "recovery.check"),
        *("recovery.rebind", "workload.restore", "argocd.resume_sync", "workload.restore", "recovery.check"),
        *("keda.resume", "recovery.watch", "access.retest", "incident.move"),
    ],
    "cordon-node": ["node.cordon", "access.retest"],
    "release": [
        *("evidence.seal", "pod.release", "fence.lift", "argocd.resume_sync", "keda.resume", "access.retest"),
        "incident.move",
    ],
}


def test_the_library_is_complete() -> None:
    assert builtin_names() == tuple(sorted(ACTIONS))


@pytest.mark.parametrize("name", builtin_names())
def test_a_playbook_of_the_library_loads_and_has_no_finding(name: str) -> None:
    content, source = find(name)
    playbook = load(content, source)
    assert playbook.name == name
    assert lint(playbook) == ()
    assert [step.action for step in playbook.steps] == ACTIONS[name]


def test_only_who_would_undo_the_cut_is_dealt_with_before_it() -> None:
    for name in ("compromised-workload", "stop-workload"):
        steps = load(*find(name)).steps
        cut = next(step for step in steps if step.action == "network.quarantine")
        freeze, *others = steps[: steps.index(cut)]
        assert freeze.action == "argocd.suspend_sync"
        assert [step.action for step in others] in ([], ["keda.pause"])
        for step in (freeze, *others):
            assert {step.reaction(kind).value for kind in ("refused", "failed", "unknown", "skipped")} == {"continue"}
        assert freeze.params.get("shape", "auto") == cut.params.get("shape", "auto")


def test_the_cut_comes_first_and_one_that_is_not_done_does_not_cost_the_evidence() -> None:
    for name in ("compromised-workload", "stop-workload"):
        beside = ("argocd.suspend_sync", "keda.pause", "node.cut")
        steps = [step for step in load(*find(name)).steps if step.action not in beside]
        first, second = steps[:2]
        assert (first.action, second.action) == ("network.quarantine", "evidence.seal")
        assert {first.reaction(kind).value for kind in ("refused", "failed", "unknown")} == {"continue"}


def test_what_stands_in_for_a_cut_costs_nothing_where_it_cannot() -> None:
    steps = load(*find("compromised-workload")).steps
    (there,) = (step for step in steps if step.action == "node.cut")
    assert steps[steps.index(there) - 1].action == "network.quarantine"
    assert {there.reaction(kind).value for kind in ("refused", "failed", "unknown", "skipped")} == {"continue"}


@pytest.mark.parametrize("name", builtin_names())
def test_a_person_is_asked_before_anything_is_destroyed(name: str) -> None:
    """But for a release, which is the order of a person."""
    waited = False
    for step in load(*find(name)).steps:
        waited = waited or step.kind.waits
        assert waited or not step.kind.destructive or step.action == "pod.release"


@pytest.mark.parametrize(
    "name", ["", "nothing", "../library/release", "release.yml", "/etc/passwd", "release\x00", "RELEASE"]
)
def test_a_name_that_is_not_in_the_library_is_no_path(name: str) -> None:
    with pytest.raises(PlaybookError, match="there is no such playbook") as caught:
        find(name)
    assert "compromised-workload" in str(caught.value)
    with pytest.raises(PlaybookError):
        builtin(name)


def test_a_near_miss_is_told_the_name() -> None:
    with pytest.raises(PlaybookError, match="did you mean compromised-workload"):
        find("compromised-workloads")


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "drill.yaml"
    path.write_text(GOOD)
    content, source = find(str(path))
    assert (content, source) == (GOOD.encode(), str(path))
    assert load(content, source).name == "drill"


def test_what_is_no_file_or_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, said in (("folder", "it is no file"), ("pipe", "it is no file"), ("none", "there is no such file")):
        with pytest.raises(PlaybookError, match=said):
            find(str(tmp_path / f"{name}.yaml"))
    with pytest.raises(PlaybookError):
        find("a\x00b.yaml")
    with pytest.raises(PlaybookError):
        find(f"{'a' * 5000}.yaml")


def test_no_more_is_read_than_a_playbook_can_have(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as file:
        file.truncate(10 * MAX_BYTES)
    content, source = find(str(path))
    assert len(content) == MAX_BYTES + 1
    with pytest.raises(PlaybookError, match="keep it under 256 KiB"):
        load(content, source)
