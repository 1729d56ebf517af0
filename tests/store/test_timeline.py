"""The append-only chain: order under concurrency, and every kind of forgery. The bundle's copy: tests/seal."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from ringfence.errors import ChainBroken, StoreError, TargetError
from ringfence.model.incident import Incident, Severity, State
from ringfence.model.objects import ObjectRef
from ringfence.model.principal import Principal
from ringfence.model.timeline import IncidentDeclared, NoteAdded, Refusal, ReportWritten, StateChanged
from ringfence.store import incidents, tables, timeline
from ringfence.store.database import HEAD, Store, open_store

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WHO = Principal(issuer="kubernetes:c1", subject="alice", kind="kubernetes")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/ringfence.db")


def declare(store: Store, name: str = "cards-1") -> Incident:
    target = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name=name, uid=f"uid-{name}")
    with store.write() as session:
        return incidents.declare(
            session,
            target=target,
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title="suspicious egress",
            principal=WHO,
            fence=f"fence-{name}",
            command="contain",
            now=NOW,
        )


def an_event() -> Refusal:
    return Refusal(occurred_at=NOW, actor=WHO.id, step="s", action="pod.delete", gate="seal", reason="no seal")


def test_first_incident_is_number_one_and_its_declaration_is_event_one(store: Store) -> None:
    incident = declare(store)
    assert (incident.id, incident.seq) == ("INC-1", 1)
    with store.read() as session:
        (entry,) = timeline.read(session, "INC-1")
    assert entry.event.type == "incident.declared"
    assert entry.prev_hash == timeline.GENESIS


def test_an_incident_number_is_never_given_twice_even_after_a_rollback(store: Store) -> None:
    declare(store)
    with pytest.raises(RuntimeError), store.write() as session:  # noqa: PT012
        timeline.append(session, "INC-1", an_event(), NOW)
        raise RuntimeError("the caller's transaction fails")
    assert declare(store, "cards-2").id == "INC-2"
    with store.read() as session:
        assert len(timeline.read(session, "INC-1")) == 1, "a rolled back event must not stay"


def test_appends_from_many_threads_keep_one_unbroken_chain(store: Store) -> None:
    declare(store)

    def work() -> None:
        for _ in range(25):
            with store.write() as session:
                timeline.append(session, "INC-1", an_event(), NOW)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as session:
        assert [entry.seq for entry in timeline.read(session, "INC-1")] == list(range(1, 102))


@pytest.mark.parametrize(
    ("forgery", "at"),
    [
        (sa.update(tables.event).where(tables.event.c.seq == 2).values(body=b"{}"), 2),
        (sa.update(tables.event).where(tables.event.c.seq == 2).values(body=b"{}", body_sha256="0" * 64), 2),
        (sa.delete(tables.event).where(tables.event.c.seq == 2), 2),
        (sa.delete(tables.event).where(tables.event.c.seq == 3), 3),
        (sa.update(tables.event).where(tables.event.c.seq == 3).values(prev_hash="1" * 64), 3),
        (sa.update(tables.incident).values(head_hash="2" * 64), 3),
    ],
)
def test_a_forged_timeline_is_refused_at_the_event_that_was_touched(store: Store, forgery: sa.Update, at: int) -> None:
    declare(store)
    with store.write() as session:
        timeline.append(session, "INC-1", an_event(), NOW)
        timeline.append(session, "INC-1", ReportWritten(occurred_at=NOW, actor="x", files=(), sha256=()), NOW)
    with store.write() as session:
        session.execute(forgery)
    with store.read() as session, pytest.raises(ChainBroken) as caught:
        timeline.read(session, "INC-1")
    assert caught.value.seq == at


def test_an_erased_body_keeps_the_chain_whole(store: Store) -> None:
    declare(store)
    with store.write() as session:
        timeline.append(session, "INC-1", an_event(), NOW)
        session.execute(sa.update(tables.event).where(tables.event.c.seq == 2).values(body=None))
    with store.read() as session:
        assert len(timeline.raw(session, "INC-1")) == 2


def test_events_of_an_unknown_incident_are_refused(store: Store) -> None:
    with store.write() as session, pytest.raises(TargetError, match="INC-9"):
        timeline.append(session, "INC-9", an_event(), NOW)


def test_state_moves_once_and_leaves_one_event(store: Store) -> None:
    incident = declare(store)
    for _ in range(2):
        with store.write() as session:
            incidents.move(session, incident, State.CONTAINING, actor=WHO.id, now=NOW)
    with store.read() as session:
        assert [entry.event.type for entry in timeline.read(session, "INC-1")] == [
            "incident.declared",
            "incident.state",
        ]


def test_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    open_store(f"sqlite:///{tmp_path}/a.db").close()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/a.db")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one() == HEAD
    engine.dispose()


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    open_store(url).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match="newer"):
        open_store(url)


def test_an_unusable_store_names_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/ringfence\.db"):
        open_store(f"sqlite:///{tmp_path}/file/ringfence.db")


def test_a_naive_time_never_reaches_the_store(store: Store) -> None:
    declare(store)
    with pytest.raises(ValueError, match="timezone"), store.write() as session:
        timeline.append(session, "INC-1", an_event(), datetime(2026, 1, 1))


def test_events_of_some_kinds_are_found_whatever_else_is_said_of_their_names(store: Store) -> None:
    incident = declare(store)
    with store.write() as session:
        for text in ('"type":"note.added"', "two"):
            timeline.append(session, incident.id, NoteAdded(occurred_at=NOW, actor="local/a", text=text), NOW)
    with store.read() as session:
        everything = [entry.event for entry in timeline.read(session, incident.id)]
        notes = timeline.events_of(session, incident.id, NoteAdded)
        assert notes == tuple(event for event in everything if isinstance(event, NoteAdded))
        assert timeline.events_of(session, incident.id, NoteAdded, IncidentDeclared) == tuple(everything)
        assert timeline.events_of(session, incident.id, StateChanged) == ()


def test_events_of_some_kinds_come_from_a_chain_that_holds(store: Store) -> None:
    incident = declare(store)
    with store.write() as session:
        timeline.append(session, incident.id, NoteAdded(occurred_at=NOW, actor="local/a", text="one"), NOW)
        session.execute(sa.update(tables.event).where(tables.event.c.seq == 1).values(body=b"{}"))
    with store.read() as session, pytest.raises(ChainBroken):
        timeline.events_of(session, incident.id, NoteAdded)
