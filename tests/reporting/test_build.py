"""What the view says: every fact of the store once, grouped as people think of it, and nothing made up."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from ringfence.errors import ChainBroken, TargetError
from ringfence.model.access import Acceptance, PathState, Verdict
from ringfence.model.incident import Severity
from ringfence.model.outcome import Already, Applied, Refused, Unknown
from ringfence.model.principal import Principal
from ringfence.model.proof import Level
from ringfence.reporting.build import build
from ringfence.reporting.view import Report, StepView
from ringfence.store import access, incidents, tables
from ringfence.store.database import Store
from tests.reporting.sample import GENERATED, START, Sample, at


def rebuilt(store: Store) -> Report:
    with store.read() as session:
        return build(session, "inc-1", generated_at=GENERATED)


def steps_of(report: Report, step: str, action: str) -> list[StepView]:
    return [one for one in report.steps if (one.step, one.action) == (step, action)]


# --- steps -------------------------------------------------------------------------------
def test_a_refused_attempt_and_the_next_one_of_the_same_name_stay_apart(report: Report) -> None:
    refused, done = steps_of(report, "contain/1", "network.quarantine")
    assert isinstance(refused.outcome, Refused)
    assert [one.gate for one in refused.refusals] == ["serving-floor"]
    assert refused.changes == ()
    assert isinstance(done.outcome, Applied)
    assert [change.id for change in done.changes] == ["deny-all", "detach"]
    assert done.refusals == ()


def test_taking_the_fence_down_is_not_counted_to_the_deletion_it_is_journalled_under(report: Report) -> None:
    _, deletion = steps_of(report, "eradicate/1", "pod.delete")
    (fence,) = steps_of(report, "eradicate/1", "network.quarantine")
    assert [change.id for change in deletion.changes] == ["delete"]
    assert [change.id for change in fence.changes] == ["undo-deny-all"]
    assert fence.plan is None
    assert fence.outcome is None


def test_every_change_of_the_journal_is_in_exactly_one_step(report: Report) -> None:
    found = [(step.step, change.id) for step in report.steps for change in step.changes]
    assert sorted(found) == [
        ("contain/1", "deny-all"),
        ("contain/1", "detach"),
        ("eradicate/1", "delete"),
        ("eradicate/1", "undo-deny-all"),
        ("extra/1", "label"),
        ("extra/1", "label-2"),
    ]


def test_a_later_refusal_is_not_counted_to_an_unfinished_step_of_the_same_action(store: Store) -> None:
    with store.write() as session:
        sample = Sample(session)
        refused = Refused(reason="no")
        sample.refuse(40, "contain/2", "network.quarantine", "plan", "no")
        sample.finish(40, "contain", "network.quarantine", refused)
    report = rebuilt(store)
    (fence,) = steps_of(report, "eradicate/1", "network.quarantine")
    assert fence.refusals == ()
    assert fence.outcome is None
    (last,) = steps_of(report, "contain/2", "network.quarantine")
    assert last.outcome == refused
    assert last.plan is None


def test_a_change_whose_events_were_erased_by_law_is_still_reported(store: Store) -> None:
    with store.write() as session:
        session.execute(sa.update(tables.event).where(tables.event.c.type.like("change.%")).values(body=None))
    report = rebuilt(store)
    assert [change.id for step in report.steps for change in step.changes if step.step == "contain/1"] == [
        "deny-all",
        "detach",
    ]
    assert any("Erased by law" in line.text for line in report.timeline)
    assert any("11 events" in limit for limit in report.limits)


def test_a_change_says_its_audit_id_its_times_and_that_it_was_undone(report: Report) -> None:
    deny, detach = steps_of(report, "contain/1", "network.quarantine")[1].changes
    assert (deny.verb, str(deny.ref), deny.undone) == ("create", "NetworkPolicy bank/ringfence-fence1", True)
    assert deny.intended_at == at(1.2)
    assert deny.answered_at == at(1.25)
    assert not detach.undone
    assert len({deny.audit_id, detach.audit_id}) == 2


def test_a_request_without_a_result_stays_without_one(report: Report) -> None:
    label, other = next(step for step in report.steps if step.step == "extra/1").changes
    assert isinstance(label.outcome, Unknown)
    assert other.outcome is None
    assert any("not known whether these requests took effect: label, label-2" in limit for limit in report.limits)


def test_break_glass_says_who_why_what_was_missing_and_how_it_ended(report: Report) -> None:
    (broken,) = report.break_glass
    assert broken.person == "kubernetes:c1/carol"
    assert broken.reason == "card data is leaving now"
    assert broken.missing == "logs of container cards"
    assert isinstance(broken.outcome, Applied)


# --- milestones --------------------------------------------------------------------------
def test_milestones_are_measured_from_the_declaration_by_what_the_events_say(report: Report) -> None:
    assert [(one.name, one.after) for one in report.milestones] == [
        ("Declared", timedelta(0)),
        ("Cut applied", timedelta(seconds=1.4)),
        ("Evidence sealed in part", timedelta(seconds=3)),
        ("Pod deleted", timedelta(seconds=16.9)),
    ]
    assert "computed" in report.milestones[1].note
    assert "logs/cards/current: failed" in report.milestones[2].note


def test_a_milestone_that_was_not_reached_has_no_time_and_says_how_far_it_came(fresh_store: Store) -> None:
    with fresh_store.write() as session:
        sample = Sample(session)
        sample.declare()
        sample.plan(1, "eradicate/1", "pod.delete", ("x",), destroys=True)
        sample.finish(2, "eradicate/1", "pod.delete", Applied(), sample.proof(Level.REQUESTED, "it is terminating", 2))
    report = rebuilt(fresh_store)
    _, cut, sealed, deleted = report.milestones
    assert [one.at for one in (cut, sealed, deleted)] == [None] * 3
    assert cut.note == "no such step was recorded"
    assert sealed.note == "no seal was recorded"
    assert "requested: it is terminating" in deleted.note


def test_a_deletion_that_only_the_api_accepted_is_no_milestone_but_a_pod_found_gone_is(report: Report) -> None:
    late = next(step for step in report.steps if step.step == "late/1")
    assert isinstance(late.outcome, Already)
    assert report.milestones[-1].at == at(16.9), "the first deletion that was observed counts"


# --- statement, evidence, persons -----------------------------------------------------------
def test_the_verdict_is_the_statements(report: Report) -> None:
    assert report.verdict is Verdict.NOT_FULLY_CONTAINED
    assert report.counts == {PathState.ALIVE: 0, PathState.UNSEEN: 1, PathState.DEAD: 3, PathState.ACCEPTED: 1}


def test_an_acceptance_says_what_was_accepted_and_whether_it_still_stands(store: Store) -> None:
    (before,) = rebuilt(store).acceptances
    assert (before.person, before.was, before.stands) == ("kubernetes:c1/bob", PathState.UNSEEN, True)
    with store.write() as session:
        rows = [Sample(session).row("siblings.image", PathState.ALIVE, Level.COMPUTED)]
        access.save(session, "INC-1", rows, actor="ringfence", now=at(40))
    (after,) = rebuilt(store).acceptances
    assert (after.was, after.stands) == (PathState.UNSEEN, False)


def test_a_second_acceptance_does_not_lend_its_standing_to_the_first(store: Store) -> None:
    with store.write() as session:
        sample = Sample(session)
        access.save(
            session,
            "INC-1",
            [sample.row("siblings.image", PathState.ALIVE, Level.COMPUTED)],
            actor="ringfence",
            now=at(40),
        )
        (row,) = [row for row in access.rows(session, "INC-1") if row.path == "siblings.image"]
        acceptance = Acceptance(principal=sample.actor("bob"), reason="again", at=at(41), state=PathState.ALIVE)
        access.accept(session, "INC-1", row, acceptance)
    assert [(one.was, one.stands) for one in rebuilt(store).acceptances] == [
        (PathState.UNSEEN, False),
        (PathState.ALIVE, True),
    ]


def test_items_that_were_acquired_and_never_sealed_are_not_left_out(report: Report) -> None:
    sealed, unsealed = report.evidence
    assert sealed.seal is not None
    assert [item.id for item in sealed.items] == [
        "logs/cards/current",
        "logs/cards/previous",
        "memory",
        "pod",
        "rbac/rolebindings",
    ]
    assert unsealed.seal is None
    assert [item.id for item in unsealed.items] == ["pod"]


def test_a_run_of_acquisitions_is_one_line_and_no_event_is_missing(report: Report) -> None:
    covered = [seq for line in report.timeline for seq in range(line.first, line.last + 1)]
    assert covered == list(range(1, report.head.seq + 1))
    (run,) = [line for line in report.timeline if line.last > line.first]
    assert "5 items, until 2026-11-23T03:00:01Z: 1 collected, 1 absent, 1 denied, 1 failed, 1 not-taken" in run.text
    assert run.at == at(0.6)


def test_only_a_subject_that_the_incidents_own_cluster_vouches_for_goes_by_its_short_name(fresh_store: Store) -> None:
    with fresh_store.write() as session:
        sample = Sample(session)
        impostor = Principal(issuer="local", subject="alice", kind="local")
        incidents.declare(
            session,
            target=sample.target,
            incident_type="t",
            severity=Severity.HIGH,
            title="t",
            principal=impostor,
            fence="f",
            command="c",
            now=START,
        )
        sample.refuse(1, "s", "a", "g", "r")
    report = rebuilt(fresh_store)
    assert [(one.name, one.vouched) for one in report.persons] == [
        ("local/alice", "nobody: a user of the machine that Ringfence ran on"),
        ("alice", "the API server of cluster c1"),
    ]
    assert report.name("kubernetes:other/alice") == "kubernetes:other/alice"


def test_the_suspect_is_described_from_the_object_that_was_saved_before_the_cut(report: Report) -> None:
    assert report.affected.suspect == (
        ("Controller", "ReplicaSet cards-7d9, uid u"),
        ("Service account", "cards-account"),
        ("Node", "node-3"),
        ("Image of container cards", "bank/cards:1 (sha256:feed)"),
    )


def test_an_object_that_the_response_touched_lists_all_that_was_done_to_it(report: Report) -> None:
    done = {str(one.ref): one.done for one in report.affected.objects}
    assert done["NetworkPolicy bank/ringfence-fence1"] == ("create: applied (undone later)", "delete: applied")
    assert done["Pod bank/cards-7d9f"] == ("patch: applied", "delete: applied")
    assert done["Node bank/node-3"][1] == "patch: no result was recorded"


# --- what follows, and what does not ------------------------------------------------------------
def test_measures_follow_from_open_and_accepted_rows_and_never_from_dead_ones(report: Report) -> None:
    facts = [fact for measure in report.measures for fact in measure.facts]
    assert any(fact.startswith("Way node (unseen)") for fact in facts)
    assert any(fact.startswith("Way siblings.image (accepted as unseen)") for fact in facts)
    assert not any("network.egress" in fact for fact in facts)


def test_without_recorded_facts_there_is_no_measure(fresh_store: Store) -> None:
    with fresh_store.write() as session:
        Sample(session).declare()
    report = rebuilt(fresh_store)
    assert report.measures == ()
    assert report.verdict is Verdict.NOT_CONTAINED
    assert "which ways are open is not known" in report.limits[0]


def test_the_root_cause_is_not_determined_and_only_evidence_with_bytes_is_pointed_to(report: Report) -> None:
    assert report.root_cause[0].startswith("Not determined by Ringfence")
    assert not any("logs/cards/previous" in sentence for sentence in report.root_cause)


def test_evidence_that_does_not_exist_is_not_called_missing(report: Report) -> None:
    (missing,) = [limit for limit in report.limits if limit.startswith("Evidence that Ringfence does not have")]
    assert "logs/cards/current, memory, rbac/rolebindings" in missing
    assert "previous" not in missing


# --- refusals to report ---------------------------------------------------------------------------
def test_there_is_no_report_of_a_timeline_that_does_not_verify(store: Store) -> None:
    with store.write() as session:
        session.execute(sa.update(tables.event).where(tables.event.c.seq == 3).values(body=b"{}"))
    with pytest.raises(ChainBroken):
        rebuilt(store)


def test_an_unknown_incident_is_said_to_be_unknown(store: Store) -> None:
    with store.read() as session, pytest.raises(TargetError, match="INC-9"):
        build(session, "INC-9", generated_at=GENERATED)
