"""A change through the journal: sent at most once, looked up when its answer was lost, and looked for once more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.pod import Delete
from ringfence.model.incident import Incident, Severity
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Problem, Unknown
from ringfence.model.plan import Change, Verb
from ringfence.model.timeline import ChangeResult
from ringfence.platform.kubernetes.resources import POD
from ringfence.response import steps
from ringfence.response.context import Context, now
from ringfence.store import incidents, journal, timeline
from tests.simulator import Fault, Simulator

STEP = "eradicate/1"
Json = dict[str, Any]


@pytest.fixture
def target(api: Simulator) -> ObjectRef:
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    return ObjectRef.of("cluster-1", pod)


@pytest.fixture
def incident(context: Context, target: ObjectRef) -> Incident:
    with context.store.write() as session:
        return incidents.declare(
            session,
            target=target,
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title="t",
            principal=context.principal,
            fence="f1",
            command="test",
            now=now(),
        )


def deletion(target: ObjectRef) -> Change:
    return Change(id="delete", ref=target, verb=Verb.DELETE, effect="e")


def act(context: Context, incident: Incident, step: str = STEP) -> ChangeRecord:
    action = Delete(context.cluster, Settings("f1", 0, delete_wait_seconds=0))
    return steps.apply_change(context, incident, step, action, 0, deletion(incident.target))


def results(context: Context, incident: Incident, step: str = STEP) -> list[ChangeResult]:
    with context.store.read() as session:
        events = [entry.event for entry in timeline.read(session, incident.id)]
    return [event for event in events if isinstance(event, ChangeResult) and event.step == step]


def found(context: Context, incident: Incident, step: str = STEP) -> ChangeRecord:
    with context.store.read() as session:
        record = journal.find(session, incident.id, step, "delete")
    assert record is not None
    return record


def test_a_change_that_failed_is_not_sent_again_in_its_step(
    context: Context, incident: Incident, api: Simulator
) -> None:
    api.faults.append(Fault("DELETE", "", 409, times=1))
    first = act(context, incident)
    assert isinstance(first.outcome, Failed)
    assert act(context, incident) == found(context, incident) == first
    assert (api.writes, len(results(context, incident))) == ([], 1)
    again = act(context, incident, "eradicate/2")
    assert again.outcome == Applied()
    assert again.audit_id != first.audit_id, "a new attempt is another request"


def test_a_change_that_a_crash_left_open_is_looked_up_and_has_no_time_of_sending(
    context: Context, incident: Incident, api: Simulator
) -> None:
    with context.store.write() as session:
        journal.intend(
            session,
            incident=incident.id,
            step=STEP,
            action="pod.delete",
            ordinal=0,
            change=deletion(incident.target),
            actor=context.actor,
            now=now(),
        )
    assert isinstance(act(context, incident).outcome, Failed), "it is still there"
    assert api.writes == []
    assert [result.sent_at for result in results(context, incident)] == [None]


def test_one_that_is_unknown_is_looked_up_before_anything_else(
    context: Context, incident: Incident, api: Simulator
) -> None:
    api.faults += [Fault("DELETE", "", lost=True, times=1), Fault("GET", "/pods/cards-1", 503, times=1)]
    assert isinstance(act(context, incident).outcome, Unknown)
    assert isinstance(act(context, incident).outcome, Already)
    assert len(api.writes) == 1
    assert [result.sent_at is None for result in results(context, incident)] == [False, True]


# --- looked for once more -------------------------------------------------------------------------------


@pytest.fixture
def lost(context: Context, incident: Incident, api: Simulator) -> ChangeRecord:
    """A deletion that is still under way: a gateway gave up on it, and the pod is there."""
    api.faults.append(Fault("DELETE", "", 504, times=1))
    record = act(context, incident)
    assert isinstance(record.outcome, Failed)
    assert record.outcome.problem.code == "not-applied"
    assert "504" in record.outcome.problem.why
    return record


def end_pod(api: Simulator) -> None:
    del api.objects["/api/v1", "pods", "bank", "cards-1"]


def test_what_shows_late_is_noticed(context: Context, incident: Incident, api: Simulator, lost: ChangeRecord) -> None:
    steps.reconcile(context, incident)
    assert len(results(context, incident)) == 1, "nothing new, nothing written"
    end_pod(api)
    steps.reconcile(context, incident)
    assert isinstance(found(context, incident).outcome, Already)
    assert results(context, incident)[-1].sent_at is None
    steps.reconcile(context, incident)
    assert len(results(context, incident)) == 2


def test_after_a_while_it_cannot_come_any_more(
    context: Context, incident: Incident, api: Simulator, lost: ChangeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "now", lambda: now() + timedelta(seconds=76))
    steps.reconcile(context, incident)
    assert isinstance(found(context, incident).outcome, Failed)
    assert len(results(context, incident)) == 2, "looked for one last time"
    end_pod(api)
    steps.reconcile(context, incident)
    assert isinstance(found(context, incident).outcome, Failed)
    assert len(results(context, incident)) == 2


def test_what_a_later_step_did_is_not_taken_for_it(
    context: Context, incident: Incident, api: Simulator, lost: ChangeRecord
) -> None:
    assert act(context, incident, "eradicate/2").outcome == Applied()
    steps.reconcile(context, incident)
    assert isinstance(found(context, incident).outcome, Failed)


@pytest.mark.parametrize("code", ["conflict", "denied", "reverted"])
def test_a_failure_that_is_certain_is_never_looked_for(
    context: Context, incident: Incident, api: Simulator, lost: ChangeRecord, code: str
) -> None:
    with context.store.write() as session:
        journal.finish(
            session,
            lost,
            Failed(problem=Problem(code=code, what="w")),
            result_uid="",
            actor="a",
            sent_at=None,
            now=now(),
        )
    end_pod(api)
    steps.reconcile(context, incident)
    assert isinstance(found(context, incident).outcome, Failed)


# --- the second witness -------------------------------------------------------------------------------


@pytest.fixture
def with_log(context: Context, tmp_path: Path) -> Callable[..., Context]:
    """The context with an audit log that has one line about the deletion."""

    def write(record_id: str, code: int, user: str) -> Context:
        line: Json = {
            "auditID": record_id,
            "stage": "ResponseComplete",
            "verb": "delete",
            "user": {"username": user},
            "objectRef": {"resource": "pods", "namespace": "bank", "name": "cards-1"},
            "responseStatus": {"code": code},
        }
        (tmp_path / "audit.jsonl").write_text(json.dumps(line) + "\n")
        return replace(context, policy=replace(context.policy, audit_log=tmp_path / "audit.jsonl"))

    return write


@pytest.mark.parametrize(
    ("code", "user", "kind"),
    [(200, "alice", Applied), (403, "alice", Failed), (500, "alice", Unknown), (200, "eve", Unknown)],
)
def test_the_audit_log_is_asked_about_what_we_sent(
    context: Context,
    incident: Incident,
    api: Simulator,
    with_log: Callable[..., Context],
    code: int,
    user: str,
    kind: type[object],
) -> None:
    api.faults += [Fault("DELETE", "", lost=True, times=1), Fault("GET", "/pods/cards-1", 503)]
    audit_id = deletion(incident.target).audit_id(incident.id, incident.fence, STEP)
    assert isinstance(act(with_log(audit_id, code, user), incident).outcome, kind)


def test_reconcile_asks_it_too(
    context: Context, incident: Incident, api: Simulator, with_log: Callable[..., Context]
) -> None:
    api.faults += [Fault("DELETE", "", lost=True, times=1), Fault("GET", "/pods/cards-1", 503)]
    record = act(context, incident)
    assert isinstance(record.outcome, Unknown)
    steps.reconcile(with_log(record.audit_id, 200, "alice"), incident)
    assert found(context, incident).outcome == Applied()
