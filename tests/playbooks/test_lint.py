"""The linter: the order of steps, and conditions that decide nothing."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.model.step_names import OUTSIDE_OF_RUNS
from ringfence.playbooks import Finding, PlaybookError, lint, load, require_clean
from tests.playbooks.pages import GOOD, spoil

CUT = {"action": "network.quarantine"}
SEAL = {"action": "evidence.seal"}
ASK = {"action": "human.approve", "params": {"reason": "May they go"}}
DELETE = {"action": "pod.delete"}
STOP = {"action": "workload.scale_to_zero"}


def move(state: str) -> dict[str, Any]:
    return {"action": "incident.move", "params": {"state": state}}


def findings(*steps: dict[str, Any], phase: str = "containing") -> list[tuple[str, str, str]]:
    """Severity, rule and step; steps are called s1, s2, …"""
    good = load(GOOD.encode(), "drill").to_json()
    full = [{"id": f"s{n}", "title": "x", "phase": phase, **step} for n, step in enumerate(steps, start=1)]
    playbook = type(load(GOOD.encode(), "drill")).model_validate({**good, "steps": full})
    return [(one.severity.value, one.rule, one.step) for one in lint(playbook)]


def when(step: dict[str, Any], text: str) -> dict[str, Any]:
    return {**step, "when": text}


HIGH = "incident.severity == 'high'"
LOW = "incident.severity == 'medium'"


@pytest.mark.parametrize(
    "steps",
    [
        (CUT, SEAL, ASK, DELETE),
        (CUT, SEAL, STOP),
        (CUT, {**SEAL, "on": {"failed": "continue"}}, ASK, DELETE),
        (CUT, SEAL, when(DELETE, HIGH)),
        (when(CUT, HIGH), when(SEAL, HIGH), when(DELETE, HIGH)),
        (SEAL,),
        (ASK, SEAL),
        (CUT, move("closed")),
        (CUT, when(SEAL, "target.name == 'a'")),
        (CUT, when(SEAL, "steps.s1.outcome in ['applied', 'already']")),
    ],
)
def test_sound_playbooks_have_no_finding(steps: tuple[dict[str, Any], ...]) -> None:
    assert findings(*steps) == []


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ((CUT, DELETE), ("error", "seal-first", "s2")),
        ((CUT, DELETE, SEAL), ("error", "seal-first", "s2")),
        ((CUT, STOP), ("error", "seal-first", "s2")),
        ((CUT, when(SEAL, HIGH), DELETE), ("error", "seal-first", "s3")),
        ((CUT, when(SEAL, HIGH), when(DELETE, LOW)), ("error", "seal-first", "s3")),
        ((CUT, {**SEAL, "on": {"failed": "continue"}}, DELETE), ("warning", "seal-first", "s2")),
        ((SEAL, DELETE), ("error", "cut-first", "s2")),
        ((SEAL, STOP), ("error", "cut-first", "s2")),
        ((when(CUT, HIGH), SEAL, DELETE), ("error", "cut-first", "s3")),
        ((ASK, CUT, SEAL), ("error", "cut-first", "s1")),
        ((SEAL, CUT), ("warning", "cut-first", "s1")),
        ((CUT, {**SEAL, "phase": "eradicating"}, SEAL), ("error", "phase-order", "s3")),
        ((CUT, move("closed"), SEAL), ("error", "closed-is-the-end", "s3")),
        ((CUT, move("declared")), ("error", "move", "s2")),
        ((when(CUT, "incident.severity == 'hihg'"),), ("error", "condition", "s1")),
        ((when(CUT, "target.kind == 'Node'"),), ("error", "condition", "s1")),
        ((CUT, when(SEAL, "steps.s1.outcome == 'done'")), ("error", "condition", "s2")),
        ((when(CUT, "false"),), ("error", "condition", "s1")),
        ((when(CUT, "1 == 2"),), ("error", "condition", "s1")),
        ((when(CUT, "true"),), ("warning", "condition", "s1")),
        ((when(CUT, "incident.severity != 'hihg'"),), ("warning", "condition", "s1")),
        ((when(CUT, "incident.severity == 'high' || incident.severity"),), ("error", "condition", "s1")),
        ((when(CUT, "nothing == 1"),), ("error", "condition", "s1")),
    ],
)
def test_what_is_wrong_is_found_once_and_at_its_step(
    steps: tuple[dict[str, Any], ...], found: tuple[str, str, str]
) -> None:
    assert findings(*steps) == [found]


def test_after_the_attacker_is_out_nothing_has_to_be_cut_again() -> None:
    assert findings(SEAL, DELETE, phase="recovering") == []
    assert findings(DELETE, phase="recovering") == [("error", "seal-first", "s1")]


def test_findings_stand_in_the_order_of_the_steps() -> None:
    assert [step for _severity, _rule, step in findings(DELETE, move("closed"), when(SEAL, "false"))] == [
        "s1",
        "s1",
        "s3",
        "s3",
    ]


@pytest.mark.parametrize("name", [*sorted(OUTSIDE_OF_RUNS), "undo-cut"])
def test_an_id_by_which_the_steps_of_commands_are_called_is_an_error_with_its_line(name: str) -> None:
    """``undo INC cut/1`` journals as undo-cut/1, and so would a step of that id in the first run."""
    text = spoil(("- id: delete", f"- id: {name}")).encode()
    line = text.splitlines().index(f"    - id: {name}".encode()) + 1
    with pytest.raises(PlaybookError, match=rf"drill\.yaml:{line}: step {name}: steps of commands are called {name}"):
        require_clean(load(text, "drill"), text, "drill.yaml")


@pytest.mark.parametrize("name", ["undo", "node", "node-cut-2", "guards"])
def test_an_id_that_is_only_like_one_is_none(name: str) -> None:
    text = spoil(("- id: delete", f"- id: {name}")).encode()
    require_clean(load(text, "drill"), text, "drill.yaml")


SPOILT = spoil(("action: evidence.seal", "action: access.retest")).encode()


def test_every_finding_says_where_and_what_to_do() -> None:
    (found,) = lint(load(SPOILT, "drill"), SPOILT)
    assert isinstance(found, Finding)
    assert found.step == "delete"
    assert found.line == SPOILT.splitlines().index(b"    - id: delete") + 1
    assert "sealed" in found.what
    assert "evidence.seal" in found.next_step


def test_an_error_keeps_the_playbook_from_being_started_and_a_warning_does_not() -> None:
    with pytest.raises(PlaybookError, match=r"drill\.yaml:26: step delete: pod\.delete destroys"):
        require_clean(load(SPOILT, "drill"), SPOILT, "drill.yaml")
    doubtful = spoil(("incident.severity == 'high'", "1 == 1")).encode()
    require_clean(load(doubtful, "drill"), doubtful, "drill.yaml")
