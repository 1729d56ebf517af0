"""The chains that go into bundles: read on from where they were read to, and never otherwise than from the start."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from ringfence.errors import ChainBroken
from ringfence.evidence import chains as implementation
from ringfence.evidence.chains import Chains, Known
from ringfence.evidence.sealing import append_custody
from ringfence.model.timeline import NoteAdded
from ringfence.seal.custody import Action
from ringfence.store import tables, timeline
from ringfence.store.database import Store
from tests.evidence.furniture import declare

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def add(store: Store, incident: str, *texts: str) -> None:
    with store.write() as session:
        for text in texts:
            timeline.append(session, incident, NoteAdded(occurred_at=NOW, actor="local/a", text=text), NOW)
            append_custody(session, incident, [(Action.READ, text, "a test", None)], actor="local/a", now=NOW)


def read(chains: Chains, store: Store, incident: str) -> Known:
    return chains.read(store, incident)


def same(one: Known, other: Known) -> bool:
    return (one.custody, one.timeline) == (other.custody, other.timeline)


def test_read_on_is_as_read_from_the_start_and_only_new_rows_are_read(
    fresh_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident, kept = declare(fresh_store).id, Chains()
    seen: list[int] = []
    raw = implementation.events.raw

    def counted(session: object, incident: str, **where: object) -> object:
        rows = raw(session, incident, **where)  # type: ignore[arg-type]
        seen.append(len(rows))
        return rows

    monkeypatch.setattr(implementation.events, "raw", counted)
    for texts in (("one", "two"), ("three",), ()):
        add(fresh_store, incident, *texts)
        seen.clear()
        known = read(kept, fresh_store, incident)
        assert seen == [len(texts) + (1 if texts == ("one", "two") else 0)]  # its declaration is an event, too
        assert same(known, read(Chains(), fresh_store, incident))


def test_a_timeline_that_was_cut_behind_what_is_known_is_found(fresh_store: Store) -> None:
    incident, kept = declare(fresh_store).id, Chains()
    add(fresh_store, incident, "one")
    with fresh_store.read() as session:
        (_, last) = timeline.raw(session, incident)
    add(fresh_store, incident, "two")
    read(kept, fresh_store, incident)
    with fresh_store.write() as session:
        session.execute(sa.delete(tables.event).where(tables.event.c.seq > last.seq))
        session.execute(sa.update(tables.incident).values(seq=last.seq, head_hash=last.hash))
    read(Chains(), fresh_store, incident)  # in itself it is whole
    with pytest.raises(ChainBroken, match="the incident's head is at 2"):
        read(kept, fresh_store, incident)


def test_what_was_erased_by_law_is_in_no_later_bundle(fresh_store: Store) -> None:
    incident, kept = declare(fresh_store).id, Chains()
    add(fresh_store, incident, "customer", "two")
    assert b"customer" in b"".join(read(kept, fresh_store, incident).timeline.lines)
    with fresh_store.write() as session:
        session.execute(sa.update(tables.event).where(tables.event.c.seq == 2).values(body=None))
    known = read(kept, fresh_store, incident)
    assert b"customer" not in b"".join(known.timeline.lines)
    assert known.timeline.erased == 1
    add(fresh_store, incident, "three")
    assert same(read(kept, fresh_store, incident), read(Chains(), fresh_store, incident))


def test_a_row_behind_what_is_known_that_was_changed_is_found(fresh_store: Store) -> None:
    incident, kept = declare(fresh_store).id, Chains()
    add(fresh_store, incident, "one")
    read(kept, fresh_store, incident)
    add(fresh_store, incident, "two", "three")
    with fresh_store.write() as session:
        session.execute(sa.update(tables.event).where(tables.event.c.seq == 3).values(body=b'{"text":"other"}'))
    with pytest.raises(ChainBroken, match="its text is not the one that was hashed"):
        read(kept, fresh_store, incident)


def test_the_chains_of_few_incidents_are_kept(fresh_store: Store) -> None:
    kept = Chains()
    names = [declare(fresh_store, f"u{number}").id for number in range(6)]
    for name in names:
        read(kept, fresh_store, name)
    assert list(kept._known) == names[-4:]
