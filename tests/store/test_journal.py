"""The journal: the intent with its prior state is written once, before the result; what stands, and what was undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringfence.errors import StoreError
from ringfence.model.incident import Incident, Severity
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Refused, Skipped, Unknown
from ringfence.model.plan import Change, Impact, Inverse, Verb
from ringfence.model.principal import Principal
from ringfence.model.timeline import PlanMade
from ringfence.store import incidents, journal, tables, timeline
from ringfence.store.database import Store

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WHO = Principal(issuer="kubernetes:c1", subject="alice", kind="kubernetes")
PROBLEM = Problem(code="x", what="it broke")


@pytest.fixture
def store(fresh_store: Store) -> Store:
    declare(fresh_store)
    return fresh_store


def declare(store: Store, cluster: str = "c1", fence: str = "f1") -> Incident:
    target = ObjectRef(cluster=cluster, api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid=fence)
    with store.write() as session:
        return incidents.declare(
            session,
            target=target,
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title="t",
            principal=WHO,
            fence=fence,
            command="contain",
            now=NOW,
        )


def change(name: str = "allow-dns", **members: Any) -> Change:
    ref = ObjectRef(
        cluster="c1",
        api_version="networking.k8s.io/v1",
        kind=members.pop("kind", "NetworkPolicy"),
        namespace=members.pop("namespace", "bank"),
        name=name,
        uid=f"uid-{name}",
    )
    defaults = {"prior": {"spec": {"podSelector": {}}}, "inverse": Inverse(verb=Verb.PATCH), "body": []}
    return Change(id=f"exclude-{name}", ref=ref, verb=Verb.PATCH, effect="e", **{**defaults, **members})


def intend(
    store: Store,
    of: Change,
    *,
    incident: str = "INC-1",
    step: str = "contain/1",
    ordinal: int = 0,
    after: int = 0,
    by: str = "network.quarantine",
) -> ChangeRecord:
    with store.write() as session:
        return journal.intend(
            session,
            incident=incident,
            step=step,
            action=by,
            ordinal=ordinal,
            change=of,
            actor=WHO.id,
            now=NOW + timedelta(seconds=after),
        )


def finish(store: Store, record: ChangeRecord, outcome: Outcome, *, uid: str = "") -> ChangeRecord:
    with store.write() as session:
        return journal.finish(
            session, record, outcome, result_uid=uid, actor=WHO.id, sent_at=NOW, now=NOW + timedelta(seconds=1)
        )


def found(store: Store, record: ChangeRecord) -> ChangeRecord:
    with store.read() as session:
        again = journal.find(session, record.incident, record.step, record.change.id)
    assert again is not None
    return again


def standing(store: Store, **where: str) -> list[str]:
    with store.read() as session:
        records = journal.standing(session, **{"cluster": "c1", "kind": "NetworkPolicy", "namespace": "bank", **where})
    return [record.change.ref.name for record in records]


def types(store: Store) -> list[str]:
    with store.read() as session:
        return [str(entry.event.type) for entry in timeline.read(session, "INC-1")][1:]


def test_a_second_intent_keeps_the_first_prior_state(store: Store) -> None:
    first = intend(store, change(prior={"spec": {"podSelector": {}}}))
    second = intend(store, change(prior={"spec": {"podSelector": {"ours": "already"}}}), after=60)
    assert second == first
    assert found(store, first).change.prior == {"spec": {"podSelector": {}}}
    assert types(store) == ["change.intended"], "one intent, one event"


def test_the_prior_state_survives_the_result(store: Store) -> None:
    record = finish(store, intend(store, change()), Applied(), uid="u9")
    again = found(store, record)
    assert again == record
    assert (again.change.prior, again.result_uid) == ({"spec": {"podSelector": {}}}, "u9")
    assert intend(store, change(prior=None)).change.prior is not None


def test_an_intent_has_no_outcome_until_there_is_one(store: Store) -> None:
    record = intend(store, change())
    assert found(store, record).outcome is None
    assert found(store, record).answered_at is None


def test_the_intent_is_on_the_timeline_before_the_result_and_both_carry_the_audit_id(store: Store) -> None:
    record = finish(store, intend(store, change()), Applied())
    with store.read() as session:
        _, intended, result = (entry.event for entry in timeline.read(session, "INC-1"))
    assert (intended.type, result.type) == ("change.intended", "change.result")
    assert intended.audit_id == result.audit_id == record.audit_id  # type: ignore[union-attr]
    assert record.audit_id == change().audit_id("INC-1", "f1", "contain/1")


def test_a_rolled_back_intent_leaves_neither_record_nor_event(store: Store) -> None:
    facts = {"incident": "INC-1", "step": "contain/1", "action": "a", "ordinal": 0, "actor": WHO.id, "now": NOW}

    def failing() -> None:
        with store.write() as session:
            journal.intend(session, change=change(), **facts)  # type: ignore[arg-type]
            raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError):
        failing()
    assert types(store) == []
    with store.read() as session:
        assert journal.of_incident(session, "INC-1") == ()


@pytest.mark.parametrize(
    "outcome",
    [
        Applied(),
        Already(reason="so"),
        Skipped(reason="so"),
        Refused(reason="so", next_step="n"),
        Failed(problem=PROBLEM),
        Unknown(problem=PROBLEM),
    ],
    ids=lambda outcome: str(outcome.kind),
)
def test_every_outcome_is_kept_and_only_what_was_made_stands(store: Store, outcome: Outcome) -> None:
    record = finish(store, intend(store, change()), outcome)
    assert found(store, record).outcome == outcome
    assert (standing(store) == ["allow-dns"]) is isinstance(outcome, Applied | Already)


def test_an_open_intent_does_not_stand(store: Store) -> None:
    intend(store, change())
    assert standing(store) == []


def test_what_was_taken_back_does_not_stand(store: Store) -> None:
    record = finish(store, intend(store, change()), Applied())
    with store.write() as session:
        journal.mark_undone(session, record)
    assert standing(store) == []
    assert found(store, record).undone


def test_what_has_no_inverse_does_not_stand(store: Store) -> None:
    finish(store, intend(store, change(inverse=None)), Applied())
    assert standing(store) == []


@pytest.mark.parametrize("where", [{"cluster": "c2"}, {"kind": "Pod"}, {"namespace": "shop"}])
def test_standing_asks_for_one_kind_in_one_namespace_of_one_cluster(store: Store, where: dict[str, str]) -> None:
    finish(store, intend(store, change()), Applied())
    assert standing(store) == ["allow-dns"]
    assert standing(store, **where) == []


def test_standing_is_newest_first_over_all_incidents(store: Store) -> None:
    declare(store, fence="f2")
    for number, (incident, name) in enumerate([("INC-1", "a"), ("INC-2", "b"), ("INC-1", "c")]):
        finish(store, intend(store, change(name), incident=incident, after=number), Applied())
    for ordinal, name in enumerate(["d", "e"]):  # of one plan: the same moment
        finish(store, intend(store, change(name), ordinal=ordinal, after=9), Applied())
    assert standing(store) == ["e", "d", "c", "b", "a"]


def test_the_journal_is_in_the_order_of_the_intents(store: Store) -> None:
    for ordinal, name in [(1, "b"), (0, "a")]:
        intend(store, change(name), ordinal=ordinal)
    intend(store, change("c"), step="contain/2", after=5)
    with store.read() as session:
        assert [record.change.ref.name for record in journal.of_incident(session, "INC-1")] == ["a", "b", "c"]


def test_the_same_change_in_another_step_is_another_record(store: Store) -> None:
    first, second = intend(store, change()), intend(store, change(prior=None), step="contain/2", after=1)
    assert first.audit_id != second.audit_id
    assert (found(store, first).change.prior, found(store, second).change.prior) == (first.change.prior, None)


def test_large_numbers_and_odd_texts_of_a_pod_come_back_unchanged(store: Store) -> None:
    prior = {"spec": {"tolerationSeconds": 2**63 - 1}, "metadata": {"annotations": {"x": "\x1b[31m\u202e\0é😀"}}}
    assert found(store, intend(store, change(prior=prior))).change.prior == prior


def test_a_record_that_cannot_be_read_is_an_error_and_not_skipped(store: Store) -> None:
    record = intend(store, change())
    with store.write() as session:
        session.execute(tables.change.update().values(body={"id": "x"}))
    with store.read() as session, pytest.raises(StoreError, match="INC-1"):
        journal.find(session, record.incident, record.step, record.change.id)


def pod_ref(name: str) -> ObjectRef:
    return ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name=name, uid=f"uid-{name}")


def stop(store: Store, step: str, *pods: str, sent: bool = True, after: int = 0) -> None:
    """A workload is stopped as the engine does it: the plan that names what ends by it, then one change."""
    moment = NOW + timedelta(seconds=after)
    plan = PlanMade(
        occurred_at=moment,
        actor=WHO.id,
        step=step,
        action="workload.scale_to_zero",
        plan_sha256="0" * 64,
        rationale="",
        changes=("scaled to 0",),
        destroys=tuple(pod_ref(name) for name in pods),
        impact=Impact(pods=len(pods), replacement="nobody", replacement_expected=False),
        caveats=(),
    )
    with store.write() as session:
        timeline.append(session, "INC-1", plan, moment)
    if sent:
        finish(
            store, intend(store, change("web", kind="Deployment"), step=step, after=after, by=plan.action), Applied()
        )


def taken(store: Store, *, after: int = 10) -> int:
    with store.read() as session:
        return journal.pods_taken(session, since_seconds=3600, now=NOW + timedelta(seconds=after))


def test_pods_that_a_stopped_workload_took_with_it_count_for_the_breaker(store: Store) -> None:
    stop(store, "run/1", "web-1", "web-2", "web-3")
    stop(store, "run/2", "api-1", "api-2", sent=False)
    assert taken(store) == 3, "a plan that was never sent took nothing away"
    assert taken(store, after=3700) == 0


def test_a_pod_that_is_cut_and_then_ends_with_its_workload_counts_once(store: Store) -> None:
    cut = change("web-1", kind="Pod")
    finish(store, intend(store, cut, step="cut/1"), Applied())
    stop(store, "run/1", "web-1", "web-2")
    assert taken(store) == 2


def test_of_a_step_that_was_planned_anew_the_last_plan_counts(store: Store) -> None:
    """It waited for an approval: what had run before it did was never ended by us."""
    stop(store, "run/1", "web-1", "web-2", sent=False)
    stop(store, "run/1", "web-3", after=5)
    assert taken(store) == 1
