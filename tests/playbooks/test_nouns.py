"""The nouns and the schema: canonical JSON, reactions, and a catalogue that is the only way to a step."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ringfence.model.catalogue import CATALOGUE, Scope, UnknownAction, parse_params
from ringfence.model.outcome import Already, Applied, Failed, Problem, Refused, Skipped, Unknown
from ringfence.model.playbook import Playbook, Reaction, Step
from ringfence.playbooks import load, schema
from tests.playbooks.pages import GOOD

PLAYBOOK = load(GOOD.encode(), "drill.yaml")
PROBLEM = Problem(code="x", what="x")


def test_a_playbook_survives_json() -> None:
    body = PLAYBOOK.to_json()
    assert Playbook.model_validate(json.loads(json.dumps(body, allow_nan=False))) == PLAYBOOK
    assert Playbook.model_validate(body).to_json() == body


def test_the_same_playbook_written_otherwise_is_the_same_json() -> None:
    other = GOOD.replace("with: {shape: fence}", "with:\n        shape: 'fence'").replace(
        "{reason: May they go}", "{expires_minutes: 60, reason: May they go}"
    )
    assert load(other.encode(), "drill.yaml").to_json() == PLAYBOOK.to_json()


def test_a_playbook_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        PLAYBOOK.name = "x"
    with pytest.raises(ValidationError):
        PLAYBOOK.steps[0].action = "pod.delete"


def step(**fields: Any) -> Step:
    return Step.model_validate({"id": "a", "title": "A", "action": "fence.lift", "phase": "containing", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "shell"},
        {"action": None},
        {"params": {"x": 1}},
        {"action": "human.approve"},
        {"action": "incident.move", "params": {"state": "eradicated"}},
        {"id": "A"},
        {"phase": "later"},
        {"on": {"unknown": "continue"}},
        {"extra": 1},
    ],
)
def test_a_step_outside_the_catalogue_cannot_be_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        step(**fields)


def test_two_steps_of_one_name_cannot_be_made() -> None:
    body = PLAYBOOK.to_json()
    body["steps"][1]["id"] = "cut"
    with pytest.raises(ValidationError, match="two steps are called cut"):
        Playbook.model_validate(body)


def test_what_is_not_done_stops_unless_the_playbook_says_otherwise() -> None:
    outcomes = [
        (Applied(), Reaction.CONTINUE),
        (Already(reason="x"), Reaction.CONTINUE),
        (Skipped(reason="x"), Reaction.CONTINUE),
        (Refused(reason="x"), Reaction.STOP),
        (Failed(problem=PROBLEM), Reaction.STOP),
        (Unknown(problem=PROBLEM), Reaction.STOP),
    ]
    assert [(outcome, step().reaction(outcome.kind)) for outcome, _reaction in outcomes] == outcomes


def test_a_write_that_may_have_happened_counts_as_failed() -> None:
    lenient = step(on={"failed": "continue"})
    assert lenient.reaction("unknown") is Reaction.CONTINUE
    assert lenient.reaction("refused") is Reaction.STOP
    assert step(on={"skipped": "stop"}).reaction("skipped") is Reaction.STOP


@pytest.mark.parametrize("word", ["", "ok", "done", "Applied"])
def test_a_word_that_is_no_outcome_is_never_a_success(word: str) -> None:
    with pytest.raises(ValueError, match="is no outcome"):
        step().reaction(word)


def test_the_catalogue_is_keyed_by_name_and_says_what_is_destroyed() -> None:
    assert all(kind.name == name for name, kind in CATALOGUE.items())
    destructive = {name for name, kind in CATALOGUE.items() if kind.destructive}
    assert destructive == {
        *("pod.delete", "pod.release", "workload.scale_to_zero", "workload.restart_clean"),
        *("identity.recreate_account", "identity.delete_tokens"),
    }
    assert {name for name, kind in CATALOGUE.items() if kind.waits} == {"human.approve"}
    assert all(kind.scope is not Scope.INCIDENT for kind in CATALOGUE.values() if kind.destructive)


def test_parameters_are_strict_and_name_their_keys() -> None:
    with pytest.raises(UnknownAction, match=r"no action 'rm'.*pod\.delete"):
        parse_params("rm", {})
    with pytest.raises(ValidationError) as caught:
        parse_params("human.approve", {"expires_minutes": "5", "who": "x"})
    assert {error["loc"] for error in caught.value.errors()} == {("reason",), ("expires_minutes",), ("who",)}


def test_the_schema_tells_of_every_key_action_and_limit() -> None:
    told = json.loads(json.dumps(schema(), allow_nan=False))
    assert set(told) == {"document", "actions", "when", "limits"}
    assert set(told["actions"]) == set(CATALOGUE)
    assert set(told["document"]["$defs"]["StepEntry"]["properties"]) == {
        *("id", "title", "action", "phase", "with", "when", "on")
    }
    assert told["actions"]["human.approve"]["with"]["required"] == ["reason"]
    assert told["actions"]["pod.delete"]["with"]["additionalProperties"] is False
    assert told["when"]["variables"]["target"] == ["target.kind", "target.namespace", "target.name"]
    assert all(isinstance(limit, int) for limit in told["limits"].values())
