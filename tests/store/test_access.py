"""The statement in the store: every turn leaves one event, and an acceptance holds for what was accepted only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ringfence.model.access import Acceptance, AccessPath, PathState, Verdict, verdict
from ringfence.model.incident import Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.principal import Principal
from ringfence.model.proof import Level
from ringfence.model.timeline import AccessAccepted, AccessTurned
from ringfence.store import access, incidents, timeline
from ringfence.store.database import Store

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WHO = Principal(issuer="kubernetes:c1", subject="alice", kind="kubernetes")
INC = "INC-1"
LEVELS = {PathState.ALIVE: Level.COMPUTED, PathState.UNSEEN: Level.COMPUTED, PathState.DEAD: Level.OBSERVED}


@pytest.fixture
def store(fresh_store: Store) -> Store:
    target = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")
    with fresh_store.write() as session:
        incidents.declare(
            session,
            target=target,
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title="t",
            principal=WHO,
            fence="f1",
            command="contain",
            now=NOW,
        )
    return fresh_store


def row(path: str, state: PathState, *, why: str = "because", level: Level | None = None) -> AccessPath:
    return AccessPath(path=path, title=path, state=state, level=level or LEVELS[state], why=why, as_of=NOW)


def save(store: Store, *rows: AccessPath) -> tuple[AccessPath, ...]:
    with store.write() as session:
        returned = access.save(session, INC, rows, actor="ringfence", now=NOW)
    with store.read() as session:
        assert access.rows(session, INC) == returned, "what is returned is what is kept"
    return returned


def accept(store: Store, path: str, reason: str = "known") -> AccessPath:
    with store.write() as session:
        old = next(row for row in access.rows(session, INC) if row.path == path)
        acceptance = Acceptance(principal=WHO.id, reason=reason, at=NOW, state=old.state)
        return access.accept(session, INC, old, acceptance)


def turns(store: Store) -> list[tuple[str, PathState | None, PathState]]:
    with store.read() as session:
        return [
            (entry.event.path, entry.event.before, entry.event.after)
            for entry in timeline.read(session, INC)
            if isinstance(entry.event, AccessTurned)
        ]


def test_rows_keep_the_order_in_which_they_were_computed(store: Store) -> None:
    rows = [row(path, PathState.ALIVE) for path in ("z", "a", "m")]
    assert [r.path for r in save(store, *rows)] == ["z", "a", "m"]


def test_each_turn_leaves_one_event_and_an_unchanged_row_leaves_none(store: Store) -> None:
    save(store, row("node", PathState.ALIVE))
    save(store, row("node", PathState.ALIVE, why="in other words"))
    save(store, row("node", PathState.DEAD))
    assert turns(store) == [("node", None, PathState.ALIVE), ("node", PathState.ALIVE, PathState.DEAD)]


def test_a_row_that_is_better_shown_is_a_turn_too(store: Store) -> None:
    save(store, row("node", PathState.DEAD))
    save(store, row("node", PathState.DEAD, level=Level.PROVEN))
    assert len(turns(store)) == 2


def test_a_row_that_is_not_computed_any_more_is_kept_as_it_was(store: Store) -> None:
    save(store, row("identity.cloud", PathState.ALIVE), row("node", PathState.ALIVE))
    standing = save(store, row("node", PathState.DEAD))
    assert {r.path: r.state for r in standing} == {"identity.cloud": PathState.ALIVE, "node": PathState.DEAD}
    assert verdict(standing) is not Verdict.CONTAINED


def test_an_acceptance_is_on_the_timeline_with_its_person_and_reason(store: Store) -> None:
    save(store, row("node", PathState.ALIVE))
    accepted = accept(store, "node", "the node is drained tonight")
    assert accepted.state is PathState.ACCEPTED
    with store.read() as session:
        event = timeline.read(session, INC)[-1].event
        assert access.rows(session, INC) == (accepted,)
    assert isinstance(event, AccessAccepted)
    assert (event.actor, event.path, event.reason) == (WHO.id, "node", "the node is drained tonight")


@pytest.mark.parametrize(
    ("accepted_as", "turns_to", "holds"),
    [
        (PathState.ALIVE, PathState.ALIVE, True),
        (PathState.ALIVE, PathState.UNSEEN, True),
        (PathState.UNSEEN, PathState.UNSEEN, True),
        (PathState.UNSEEN, PathState.ALIVE, False),  # worse than what was accepted
        (PathState.ALIVE, PathState.DEAD, False),  # nothing to accept any more
        (PathState.UNSEEN, PathState.DEAD, False),
    ],
)
def test_an_acceptance_holds_while_the_row_is_open_and_not_worse(
    store: Store, accepted_as: PathState, turns_to: PathState, holds: bool
) -> None:
    save(store, row("node", accepted_as))
    accept(store, "node")
    (after,) = save(store, row("node", turns_to, why="later"))
    assert after.why == "later", "the facts are the new ones"
    if holds:
        assert after.state is PathState.ACCEPTED
        assert after.acceptance is not None
        assert after.acceptance.principal == WHO.id
    else:
        assert (after.state, after.acceptance) == (turns_to, None)
        assert turns(store)[-1] == ("node", PathState.ACCEPTED, turns_to)


def test_an_acceptance_holds_over_many_retests(store: Store) -> None:
    save(store, row("node", PathState.ALIVE))
    accept(store, "node")
    for _ in range(3):
        save(store, row("node", PathState.UNSEEN))
        (after,) = save(store, row("node", PathState.ALIVE))
    assert after.state is PathState.ACCEPTED, "alive was accepted, and alive it is again"


def test_a_lapsed_acceptance_does_not_come_back_by_itself(store: Store) -> None:
    save(store, row("network.egress", PathState.UNSEEN))
    accept(store, "network.egress")
    save(store, row("network.egress", PathState.ALIVE))
    (after,) = save(store, row("network.egress", PathState.UNSEEN))
    assert after.state is PathState.UNSEEN


def test_a_row_that_opens_again_takes_back_the_word_contained(store: Store) -> None:
    save(store, row("network.egress", PathState.UNSEEN), row("network.ingress", PathState.DEAD))
    accept(store, "network.egress")
    with store.read() as session:
        assert verdict(access.rows(session, INC)) is Verdict.CONTAINED
    after = save(store, row("network.egress", PathState.ALIVE), row("network.ingress", PathState.DEAD))
    assert verdict(after) is Verdict.NOT_CONTAINED


def test_accepting_one_row_leaves_the_others(store: Store) -> None:
    save(store, row("node", PathState.ALIVE), row("siblings.image", PathState.UNSEEN))
    accept(store, "node")
    with store.read() as session:
        assert [r.state for r in access.rows(session, INC)] == [PathState.ACCEPTED, PathState.UNSEEN]


def test_a_second_acceptance_replaces_the_first_and_both_are_on_the_timeline(store: Store) -> None:
    save(store, row("node", PathState.ALIVE))
    first = accept(store, "node", "first")
    assert first.acceptance is not None
    again = first.acceptance.model_copy(update={"reason": "second", "at": NOW + timedelta(hours=1)})
    with store.write() as session:
        access.accept(session, INC, first, again)
    with store.read() as session:
        reasons = [e.event.reason for e in timeline.read(session, INC) if isinstance(e.event, AccessAccepted)]
        (kept,) = access.rows(session, INC)
    assert reasons == ["first", "second"]
    assert kept.acceptance == again


def test_a_failed_transaction_keeps_the_old_statement(store: Store) -> None:
    save(store, row("node", PathState.ALIVE))

    def failing() -> None:
        with store.write() as session:
            access.save(session, INC, [row("node", PathState.DEAD)], actor="ringfence", now=NOW)
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        failing()
    with store.read() as session:
        assert [r.state for r in access.rows(session, INC)] == [PathState.ALIVE]
    assert turns(store) == [("node", None, PathState.ALIVE)]
