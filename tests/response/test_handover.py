"""The hand-over says what store and statement say: five lines, every open row, what waits, and what to type next."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ringfence.model.access import Verdict
from ringfence.model.incident import Determination, Incident, OcsfStatus, Severity, State
from ringfence.model.outcome import Applied, Refused
from ringfence.model.proof import Level, Proof
from ringfence.model.run import Ceiling, RunOrder
from ringfence.model.timeline import GlassBroken, HandedOver, NodeHelperSwitched, StepFinished
from ringfence.response import handover, record
from ringfence.response.context import Context, now
from ringfence.response.handover import Handover
from ringfence.response.record import Declaration, Verdicts
from ringfence.response.statement import retest
from ringfence.store import approvals, commands, incidents, runs, timeline
from tests.response.steps_of import contained

ALICE = "kubernetes:cluster-1/alice"


@pytest.fixture
def incident(context: Context) -> Incident:
    said = Declaration("pod/cards-1", "bank", "compromised-workload", Severity.HIGH, "odd egress", "declare")
    return record.declare(context, said)[0]


def gathered(context: Context, incident: Incident) -> Handover:
    with context.store.read() as session:
        return handover.gather(session, incident.id, at=now())


def add(context: Context, incident: Incident, *events: StepFinished | GlassBroken) -> None:
    with context.store.write() as session:
        for event in events:
            timeline.append(session, incident.id, event, now())


def finished(step: str, action: str, outcome: Applied | Refused, proof: Proof | None = None) -> StepFinished:
    return StepFinished(occurred_at=now(), actor=ALICE, step=step, action=action, outcome=outcome, proof=proof)


def test_five_lines_even_when_nothing_happened(context: Context, incident: Incident) -> None:
    page = gathered(context, incident)
    assert len(page.story) == 5
    assert "declared by alice: odd egress" in page.story[0]
    assert page.story[1:] == (
        "nothing was cut",
        "nothing is sealed",
        "nothing was deleted or stopped",
        "nobody has left a note",
    )
    assert page.verdict is Verdict.NOT_CONTAINED
    assert page.status is OcsfStatus.NEW


def test_the_lines_are_of_the_last_of_each_kind(context: Context, incident: Incident) -> None:
    proof = Proof(claim="no policy allows it", level=Level.COMPUTED, by="us", at=now(), why_not_higher="not tried")
    glass = GlassBroken(
        occurred_at=now(), actor=ALICE, step="delete/1", action="pod.delete", reason="it encrypts", missing="a seal"
    )
    add(
        context,
        incident,
        finished("cut/1", "network.quarantine", Refused(reason="below the floor")),
        finished("cut/2", "network.quarantine", Applied(), proof),
        glass,
        finished("delete/1", "pod.delete", Applied()),
    )
    record.note(context, incident, "first words")
    record.classify(context, incident, Verdicts("it is one", determination=Determination.SECURITY_INCIDENT))
    _, cut, _, ended, words = gathered(context, incident).story
    assert "cut/2, the last of 2 steps: network.quarantine: applied (computed: no policy allows it)" in cut
    assert "BREAK-GLASS by alice: it encrypts" in ended
    assert words.endswith("alice: it is security-incident: it is one")


def test_what_waits_has_its_deadline_and_comes_first_in_what_to_type(context: Context, incident: Incident) -> None:
    soon, later = now() + timedelta(minutes=10), now() + timedelta(hours=8)
    with context.store.write() as session:
        run = runs.start(
            session,
            incident.id,
            playbook="compromised-workload",
            playbook_bytes=b"x",
            targets=[incident.target],
            order=RunOrder(phases=("containing",)),
            principal=ALICE,
            now=now(),
        )
        commands.grant(session, incident.id, later, actor=ALICE, now=now())
        asked = approvals.ask(
            session,
            run,
            "delete",
            reason="delete 1 pod?",
            ceiling=Ceiling(actions=("pod.delete",), targets=("Pod bank/cards-1",), pods=1),
            second_person=True,
            requested_by=ALICE,
            expires_at=soon,
            now=now(),
        )
    page = gathered(context, incident)
    assert [(one.at, one.what.split(" ")[0]) for one in page.deadlines] == [(soon, asked.id), (later, "the")]
    assert page.waiting == (run.id, asked.id)
    assert page.next_commands[0] == f"ringfence approve {asked.id}"
    assert len(page.next_commands) == 3


def test_awareness_corrects_the_declaration(context: Context, incident: Incident) -> None:
    assert gathered(context, incident).aware_at == incident.declared_at
    early = now() - timedelta(hours=3)
    record.classify(context, incident, Verdicts("the SIEM knew", aware_at=early))
    assert gathered(context, incident).aware_at == early


@pytest.mark.parametrize(
    ("state", "determination", "command"),
    [
        (State.DECLARED, Determination.UNDETERMINED, "ringfence contain pod/cards-1 -n bank"),
        (State.CONTAINING, Determination.UNDETERMINED, "ringfence eradicate INC-1"),
        (State.CONTAINING, Determination.FALSE_POSITIVE, "ringfence release INC-1"),
        (State.CLOSED, Determination.UNDETERMINED, "ringfence evidence verify INC-1"),
    ],
)
def test_the_next_commands_fit_the_state(
    context: Context, incident: Incident, state: State, determination: Determination, command: str
) -> None:
    with context.store.write() as session:
        incidents.move(session, incident, state, actor=ALICE, now=now())
        incidents.determine(session, incident, determination, reason="x", actor=ALICE, now=now())
    assert command in gathered(context, incident).next_commands


def test_what_shuts_the_ways_that_live_on_is_offered_until_it_was_done(context: Context) -> None:
    contained(context)
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    node, identity = "ringfence node INC-1 on --reason …", "ringfence cut-identity INC-1"
    commands = gathered(context, incident).next_commands
    assert commands.index(node) < commands.index(identity) < commands.index("ringfence eradicate INC-1")
    switched = NodeHelperSwitched(occurred_at=now(), actor=ALICE, on=True, reason="x")
    with context.store.write() as session:
        timeline.append(session, "INC-1", switched, now())
    commands = gathered(context, incident).next_commands
    assert ("ringfence node INC-1 cut" in commands, node in commands) == (True, False)


def test_the_event_keeps_what_was_open(context: Context, incident: Incident) -> None:
    retest(context, incident)
    page = gathered(context, incident)
    assert "network.egress" in [row.path for row in page.open_rows]
    handover.record(context, page, to="bob/secops", note="mind the lease")
    with context.store.read() as session:
        last = timeline.read(session, incident.id)[-1].event
    assert isinstance(last, HandedOver)
    assert (last.actor, last.to, last.note) == (ALICE, "bob/secops", "mind the lease")
    assert last.open_rows == tuple(row.path for row in page.open_rows)
