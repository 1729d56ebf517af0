"""Items, seals and custody as rows: numbering of captures, order, one event each."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ringfence.errors import StoreError, TargetError
from ringfence.evidence.sealing import append_custody
from ringfence.model.evidence import Blob, Collected, EvidenceItem, Seal
from ringfence.model.incident import Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.principal import Principal
from ringfence.model.timeline import EvidenceAcquired, EvidenceSealed
from ringfence.seal import custody
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WHO = Principal(issuer="kubernetes:c1", subject="alice", kind="kubernetes")
BLOB = Blob(stored_sha256="a" * 64, stored_size=3, raw_sha256="b" * 64, raw_size=9, encoding="zstd")


@pytest.fixture
def store(fresh_store: Store) -> Store:
    for number in (1, 2):
        target = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="c", uid=f"u{number}")
        with fresh_store.write() as session:
            incidents.declare(
                session,
                target=target,
                incident_type="compromised-workload",
                severity=Severity.CRITICAL,
                title="t",
                principal=WHO,
                fence=f"f{number}",
                command="contain",
                now=NOW,
            )
    return fresh_store


def item(name: str, result: Collected = Collected.COLLECTED) -> EvidenceItem:
    return EvidenceItem(
        id=name,
        kind="Pod",
        required=False,
        result=result,
        reason="" if result is Collected.COLLECTED else "the server said so",
        source="/api",
        method="get",
        operator=WHO.id,
        authority="incident INC-1",
        started_at=NOW,
        ended_at=NOW,
        volatility=2,
        blob=BLOB if result is Collected.COLLECTED else None,
    )


def seal(number: int, incident: str = "INC-1") -> Seal:
    return Seal(
        id=f"{incident}/seal/{number}",
        incident=incident,
        subject_uid="u1",
        path="/vault/x.tar",
        bundle_sha256="c" * 64,
        key_id="k",
        sealed_at=NOW + timedelta(minutes=number),
        items=1,
        collected=1,
        complete=True,
    )


def add_items(store: Store, capture: int, *items: EvidenceItem) -> None:
    with store.write() as session:
        evidence.add_items(session, "INC-1", capture, items, actor=WHO.id, now=NOW)


def add_seal(store: Store, number: int, incident: str = "INC-1") -> None:
    with store.write() as session:
        evidence.add_seal(session, seal(number, incident), number, actor=WHO.id, now=NOW)


def test_captures_are_numbered_per_incident(store: Store) -> None:
    with store.write() as session:
        assert [evidence.begin_capture(session, "INC-1", key) for key in ("seal/1", "seal/2", "seal/1")] == [1, 2, 1]
        assert evidence.begin_capture(session, "INC-2", "seal/1") == 1


def test_a_capture_that_was_sealed_says_so(store: Store) -> None:
    with store.write() as session:
        number = evidence.begin_capture(session, "INC-1", "seal/1")
        assert evidence.seal_of_capture(session, "INC-1", number) is None
    add_seal(store, number)
    with store.read() as session:
        found = evidence.seal_of_capture(session, "INC-1", number)
    assert found is not None
    assert found.incident == "INC-1"


def test_items_come_back_as_they_were_and_each_leaves_an_event(store: Store) -> None:
    items = (item("logs/cards/current"), item("pod"), item("secret", Collected.DENIED))
    add_items(store, 1, *items)
    with store.read() as session:
        assert evidence.items(session, "INC-1", 1) == items
        events = [e.event for e in timeline.read(session, "INC-1") if isinstance(e.event, EvidenceAcquired)]
    assert [(e.item, e.result, e.raw_size) for e in events] == [
        ("logs/cards/current", Collected.COLLECTED, 9),
        ("pod", Collected.COLLECTED, 9),
        ("secret", Collected.DENIED, 0),
    ]


def test_a_capture_that_was_never_sealed_is_replaced_and_its_events_stay(store: Store) -> None:
    add_items(store, 1, item("pod"), item("node"))
    add_items(store, 1, item("pod"))
    with store.read() as session:
        assert [i.id for i in evidence.items(session, "INC-1", 1)] == ["pod"]
        assert [e.event.type for e in timeline.read(session, "INC-1")].count("evidence.acquired") == 3


def test_items_of_a_sealed_capture_are_left_alone_by_the_next(store: Store) -> None:
    add_items(store, 1, item("pod"))
    add_seal(store, 1)
    add_items(store, 2, item("pod"), item("node"))
    with store.read() as session:
        assert [len(evidence.items(session, "INC-1", capture)) for capture in (1, 2)] == [1, 2]


def test_seals_are_oldest_first_and_leave_an_event(store: Store) -> None:
    add_seal(store, 2)
    add_seal(store, 1)
    add_seal(store, 1, "INC-2")
    with store.read() as session:
        assert evidence.seals(session, "INC-1") == (seal(1), seal(2))
        events = [e.event for e in timeline.read(session, "INC-1") if isinstance(e.event, EvidenceSealed)]
    assert [event.seal for event in events] == ["INC-1/seal/2", "INC-1/seal/1"]


def test_a_seal_is_recorded_once(store: Store) -> None:
    add_seal(store, 1)
    with pytest.raises(StoreError):
        add_seal(store, 1)
    with store.read() as session:
        assert len(evidence.seals(session, "INC-1")) == 1


def test_the_capture_of_a_seal_is_known_and_of_no_other(store: Store) -> None:
    add_seal(store, 2)
    with store.read() as session:
        assert evidence.capture_of(session, "INC-1/seal/2") == 2
        with pytest.raises(TargetError, match="INC-1/seal/9"):
            evidence.capture_of(session, "INC-1/seal/9")


def test_custody_grows_by_one_chain_per_incident(store: Store) -> None:
    for incident in ("INC-1", "INC-2", "INC-1"):
        with store.write() as session:
            facts = [(custody.Action.READ, "pod", "a look", None), (custody.Action.EXPORT, "pod", "to legal", "d" * 64)]
            append_custody(session, incident, facts, actor=WHO.id, now=NOW)
    with store.read() as session:
        chains = [
            [custody.CustodyEntry.from_json(json.loads(text)) for text in evidence.custody(session, incident)]
            for incident in ("INC-1", "INC-2")
        ]
    assert [len(chain) for chain in chains] == [4, 2]
    for chain in chains:
        assert [entry.seq for entry in chain] == list(range(1, len(chain) + 1))
        assert custody.strand(chain).head.hash == chain[-1].hash
