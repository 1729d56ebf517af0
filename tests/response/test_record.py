"""What persons add to an incident: in the name that the cluster vouches for, legally, and never claiming too much."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ringfence.errors import Guarded, TargetError
from ringfence.model.access import Acceptance
from ringfence.model.incident import Determination, Incident, Severity, State
from ringfence.model.run import RunOrder, RunState
from ringfence.model.timeline import AwarenessRecorded, Classified, DeterminationMade, Event, NoteAdded, StateChanged
from ringfence.platform.kubernetes.resources import NODE, POD
from ringfence.reporting.story import sentence
from ringfence.response import record
from ringfence.response.context import Context, now
from ringfence.response.record import BadRecord, Declaration, Verdicts
from ringfence.store import access, incidents, runs, timeline
from tests.simulator import Simulator

ALICE = "kubernetes:cluster-1/alice"


def said(target: str = "pod/cards-1", **more: object) -> Declaration:
    facts = {
        "namespace": "bank",
        "incident_type": "compromised-workload",
        "severity": Severity.HIGH,
        "reason": "odd egress",
        "command": "ringfence declare",
    }
    return Declaration(target=target, **{**facts, **more})  # type: ignore[arg-type]


@pytest.fixture
def incident(context: Context) -> Incident:
    return record.declare(context, said())[0]


def events(context: Context, incident: Incident) -> list[Event]:
    with context.store.read() as session:
        return [entry.event for entry in timeline.read(session, incident.id)]


def current(context: Context, incident: Incident) -> Incident:
    with context.store.read() as session:
        return incidents.get(session, incident.id)


def accept_everything(context: Context, incident: Incident) -> None:
    with context.store.write() as session:
        for row in [row for row in access.rows(session, incident.id) if row.is_open]:
            taken = Acceptance(principal=context.actor, reason="known", at=now(), state=row.state)
            access.accept(session, incident.id, row, taken)


# --- declare --------------------------------------------------------------------------------------------------------
def test_declaring_changes_nothing_in_the_cluster(context: Context, api: Simulator) -> None:
    declared, joined = record.declare(context, said())
    assert (declared.state, joined) == (State.DECLARED, False)
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    assert declared.target.uid == pod["metadata"]["uid"]
    assert declared.declared_by == ALICE
    assert api.writes == []


def test_the_same_pod_again_joins_and_keeps_what_was_said(context: Context, incident: Incident) -> None:
    again, joined = record.declare(context, said(reason="seen by the SIEM too"))
    assert (again.id, joined) == (incident.id, True)
    assert [event.text for event in events(context, incident) if isinstance(event, NoteAdded)] == [
        "declared again: seen by the SIEM too"
    ]


def test_another_pod_is_another_incident(context: Context, incident: Incident) -> None:
    assert record.declare(context, said("cards-2"))[0].id != incident.id


def test_a_closed_incident_is_not_joined(context: Context, incident: Incident) -> None:
    record.classify(context, incident, Verdicts("a test", determination=Determination.FALSE_POSITIVE))
    record.move(context, current(context, incident), State.CLOSED, "a test")
    assert record.declare(context, said())[1] is False


def test_more_than_pods_can_be_what_it_is_about(context: Context) -> None:
    kinds = {
        word: record.declare(context, said(f"{word}/{name}"))[0].target
        for word, name in (("deploy", "cards"), ("sa", "cards"), ("node", "node-1"), ("namespace", "bank"))
    }
    assert {word: ref.kind for word, ref in kinds.items()} == {
        "deploy": "Deployment",
        "sa": "ServiceAccount",
        "node": NODE.kind,
        "namespace": "Namespace",
    }
    assert kinds["node"].namespace == ""


@pytest.mark.parametrize("target", ["", "pod/", "secret/x", "pod/a/b", "pods/none"])
def test_what_is_no_target_is_an_error_and_no_incident(context: Context, target: str) -> None:
    with pytest.raises(TargetError):
        record.declare(context, said(target))
    with context.store.read() as session:
        assert incidents.newest_first(session) == ()


@pytest.mark.parametrize("word", ["", "Two Words", "a--b", "x\n"])
def test_a_type_is_a_slug(context: Context, word: str) -> None:
    with pytest.raises(BadRecord, match="incident type"):
        record.declare(context, said(incident_type=word))


# --- note, classify -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["", " \n\t", "x" * (record.LONGEST_NOTE + 1)])
def test_a_note_says_something_and_not_everything(context: Context, incident: Incident, text: str) -> None:
    before = len(events(context, incident))
    with pytest.raises(BadRecord):
        record.note(context, incident, text)
    assert len(events(context, incident)) == before


def test_each_verdict_is_an_event_with_its_author(context: Context, incident: Incident) -> None:
    aware = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    record.classify(
        context,
        incident,
        Verdicts(
            "looked at",
            aware_at=aware,
            determination=Determination.SECURITY_INCIDENT,
            severity=Severity.CRITICAL,
            scheme="DORA",
            value="major",
        ),
    )
    added = events(context, incident)[1:]
    assert [type(event) for event in added] == [AwarenessRecorded, DeterminationMade, Classified]
    assert {event.actor for event in added} == {ALICE}
    assert isinstance(added[0], AwarenessRecorded)
    assert added[0].aware_at == aware
    after = current(context, incident)
    assert (after.determination, after.severity) == (Determination.SECURITY_INCIDENT, Severity.CRITICAL)


def test_a_scheme_alone_leaves_the_severity(context: Context, incident: Incident) -> None:
    record.classify(context, incident, Verdicts("art. 19", scheme="DORA", value="major"))
    assert current(context, incident).severity is Severity.HIGH


def test_awareness_is_not_in_the_future_and_nothing_is_half_written(context: Context, incident: Incident) -> None:
    before = len(events(context, incident))
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    with pytest.raises(BadRecord, match="future"):
        record.classify(context, incident, Verdicts("x", aware_at=ahead, determination=Determination.FALSE_POSITIVE))
    assert len(events(context, incident)) == before
    assert current(context, incident).determination is Determination.UNDETERMINED


@pytest.mark.parametrize("verdicts", [Verdicts("x"), Verdicts("x", scheme="DORA"), Verdicts("x", value="major")])
def test_half_a_verdict_is_none(context: Context, incident: Incident, verdicts: Verdicts) -> None:
    with pytest.raises(BadRecord):
        record.classify(context, incident, verdicts)


# --- states ---------------------------------------------------------------------------------------------------------
def test_an_illegal_transition_names_the_legal_ones(context: Context, incident: Incident) -> None:
    with pytest.raises(TargetError, match="cannot go") as raised:
        record.move(context, incident, State.RECOVERING, "no")
    assert "containing" in raised.value.why


def test_closing_waits_for_every_open_row(context: Context, incident: Incident) -> None:
    with pytest.raises(Guarded) as raised:
        record.move(context, incident, State.CLOSED, "enough")
    assert "network.egress" in raised.value.why
    accept_everything(context, incident)
    assert record.move(context, incident, State.CLOSED, "taken on").state is State.CLOSED
    last = events(context, incident)[-1]
    assert isinstance(last, StateChanged)
    assert (last.actor, last.reason) == (ALICE, "taken on")
    assert "taken on" in sentence(last), "the timeline and the report say why"


def test_rows_are_looked_at_again_before_it_is_over(context: Context, incident: Incident) -> None:
    """No row was ever computed: that is no reason to believe that none is open."""
    with context.store.read() as session:
        assert access.rows(session, incident.id) == ()
    with pytest.raises(Guarded):
        record.move(context, incident, State.CLOSED, "nothing seen")


def test_a_false_positive_closes_with_open_rows(context: Context, incident: Incident) -> None:
    record.classify(context, incident, Verdicts("a scan of ours", determination=Determination.FALSE_POSITIVE))
    assert record.move(context, current(context, incident), State.CLOSED, "x").state is State.CLOSED


@pytest.mark.parametrize("determination", [None, Determination.FALSE_POSITIVE])
def test_no_incident_closes_over_a_run(
    context: Context, incident: Incident, determination: Determination | None
) -> None:
    if determination:
        record.classify(context, incident, Verdicts("x", determination=determination))
    with context.store.write() as session:
        run = runs.start(
            session,
            incident.id,
            playbook="p",
            playbook_bytes=b"p",
            targets=[incident.target],
            order=RunOrder(phases=("containing",)),
            principal=ALICE,
            now=now(),
        )
    with pytest.raises(Guarded, match="cannot be closed") as raised:
        record.move(context, current(context, incident), State.CLOSED, "x")
    assert run.id in raised.value.why
    with context.store.write() as session:
        runs.end(session, run, RunState.CANCELLED, why="", actor=ALICE, now=now())
    accept_everything(context, incident)
    record.move(context, current(context, incident), State.CLOSED, "x")


def test_the_author_is_who_the_cluster_says_it_is(context: Context, incident: Incident) -> None:
    bob = replace(context, principal=context.principal.model_copy(update={"subject": "bob"}))
    record.note(bob, incident, "mine")
    assert events(context, incident)[-1].actor == "kubernetes:cluster-1/bob"
