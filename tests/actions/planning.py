"""What tests of the actions share: planning on the simulated API, carrying out, and the record of a change."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ringfence.actions.base import Action
from ringfence.actions.perform import Answer
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.plan import Change, Plan
from ringfence.platform.kubernetes.resources import Resource
from tests.simulator import Simulator

Json = dict[str, Any]
FENCE = "9f2ce1d00a5b4c77"


def ref_of(api: Simulator, resource: Resource, name: str, namespace: str = "bank") -> ObjectRef:
    obj = api.get(resource, namespace, name)
    assert obj is not None, f"no {resource.kind} {name}"
    return ObjectRef.of("cluster-1", obj)


def answer(action: Action[Any], target: ObjectRef, pool: ThreadPoolExecutor) -> Plan | Already | Refused:
    return action.plan(target, action.look("cluster-1", target, pool))


def planned(action: Action[Any], target: ObjectRef, pool: ThreadPoolExecutor) -> Plan:
    plan = answer(action, target, pool)
    assert isinstance(plan, Plan), plan
    return plan


def refused(action: Action[Any], target: ObjectRef, pool: ThreadPoolExecutor) -> Refused:
    found = answer(action, target, pool)
    assert isinstance(found, Refused), found
    assert found.next_step
    return found


def apply(action: Action[Any], plan: Plan) -> dict[str, Answer]:
    return {change.id: action.apply(change, f"audit-{change.id}") for change in plan.changes}


def record(plan: Plan, change_id: str, answers: Mapping[str, Answer]) -> ChangeRecord:
    (change,) = [change for change in plan.changes if change.id == change_id]
    return ChangeRecord(
        incident="INC-1",
        step="contain/1",
        action=plan.action,
        ordinal=0,
        change=change,
        audit_id="a",
        intended_at="2026-11-23T03:00:00Z",  # type: ignore[arg-type]
        outcome=answers[change_id].outcome,
        result_uid=answers[change_id].uid,
    )


def records(plan: Plan, answers: Mapping[str, Answer]) -> tuple[ChangeRecord, ...]:
    return tuple(record(plan, change.id, answers) for change in plan.changes)


def undone(action: Action[Any], plan: Plan, answers: Mapping[str, Answer], change_id: str) -> Answer:
    """Take one change back, as the engine does."""
    change = action.undo(record(plan, change_id, answers))
    assert isinstance(change, Change), change
    return action.apply(change, f"audit-{change.id}")


def spec_of(api: Simulator, resource: Resource, name: str, namespace: str = "bank") -> Json:
    obj = api.get(resource, namespace, name)
    assert obj is not None, f"no {resource.kind} {name}"
    return dict(obj["spec"])


def without_server_fields(obj: Json) -> Json:
    """An object less what the server counts."""
    counted = ("resourceVersion", "generation", "managedFields", "creationTimestamp")
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in counted}}
