"""The guard's policy: what it names, whom it lets through, and that it follows what is fenced. Admission itself:
tests/lab/test_colleague.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ringfence.model.incident import Incident
from ringfence.model.outcome import Applied, Refused
from ringfence.platform.kubernetes.resources import VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING
from ringfence.response.context import Context
from ringfence.response.watching.guarding import take_down, tend
from ringfence.store import incidents
from tests.response.steps_of import contained, released
from tests.simulator import Fault, Simulator

Json = dict[str, Any]
CALL = ("on-call: ada, 4711\nnext line",)


def incident(context: Context) -> Incident:
    with context.store.read() as session:
        return incidents.get(session, "INC-1")


def policies(api: Simulator) -> list[Json]:
    return [*api.all(VALIDATING_ADMISSION_POLICY), *api.all(VALIDATING_ADMISSION_POLICY_BINDING)]


def test_it_names_the_incident_and_whom_to_call_and_lets_the_responder_through(
    context: Context, api: Simulator
) -> None:
    contained(context)
    assert isinstance(tend(context, incident(context), CALL), Applied)
    (policy,) = api.all(VALIDATING_ADMISSION_POLICY)
    spec = policy["spec"]
    assert spec["failurePolicy"] == "Ignore"
    assert spec["validations"][0]["message"].startswith("Ringfence holds this for incident INC-1:")
    assert "on-call: ada, 4711 next line" in spec["validations"][0]["message"]
    conditions = {one["name"]: one["expression"] for one in spec["matchConditions"]}
    assert json.dumps(context.principal.subject) in conditions["nobody-who-may"]
    assert "generic-garbage-collector" in conditions["nobody-who-may"]
    assert "system:nodes" in conditions["not-a-node"]
    assert '"bank/cards-1"' in conditions["is-fenced"]
    assert "cards-2" not in conditions["is-fenced"]
    (binding,) = api.all(VALIDATING_ADMISSION_POLICY_BINDING)
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


def test_asked_again_it_does_nothing_and_a_new_responder_is_let_through(context: Context, api: Simulator) -> None:
    contained(context)
    tend(context, incident(context), CALL)
    writes = len(api.writes)
    assert tend(context, incident(context), CALL) is None
    assert len(api.writes) == writes
    with context.store.write() as session:
        incidents.remember(
            session, context.principal.model_copy(update={"subject": "bo"}), incident(context).declared_at
        )
    assert isinstance(tend(context, incident(context), CALL), Applied)
    (policy,) = api.all(VALIDATING_ADMISSION_POLICY)
    assert '"bo"' in str(policy["spec"]["matchConditions"])


def test_it_goes_with_the_fence(context: Context, api: Simulator) -> None:
    contained(context)
    tend(context, incident(context), CALL)
    tend(context, incident(context), ())  # changed once: what made it is still what takes it down
    released(context)
    assert policies(api) == []
    assert take_down(context, incident(context)) is None


def test_where_admission_policies_may_not_be_written_it_says_so_and_changes_nothing(
    context: Context, api: Simulator
) -> None:
    contained(context)
    api.faults.append(Fault("POST", "/validatingadmissionpolicies", status=422, dry=True))
    assert isinstance(tend(context, incident(context), CALL), Refused)
    assert policies(api) == []


@pytest.mark.parametrize("name", ['a"] || true || "', "x\\", "line\nbreak"])
def test_a_user_name_cannot_break_out_of_the_expression(context: Context, api: Simulator, name: str) -> None:
    contained(context)
    other = replace(context, principal=context.principal.model_copy(update={"subject": name}))
    tend(other, incident(context), CALL)
    (policy,) = api.all(VALIDATING_ADMISSION_POLICY)
    expression = policy["spec"]["matchConditions"][1]["expression"]
    listed = expression.removeprefix("!(request.userInfo.username in ").removesuffix(")")
    assert name in json.loads(listed)
