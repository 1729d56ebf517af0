"""The statement over time: retested, kept when the cluster is silent, and accepted by a person."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ringfence.errors import TargetError
from ringfence.model.access import AccessPath, PathState, Verdict, verdict
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.response import statement, verbs
from ringfence.response.context import Context
from ringfence.response.statement import Statement
from ringfence.response.verbs import Wish
from tests.response.steps_of import conductor, contained, found, types
from tests.simulator import Fault, Simulator
from tests.small_bank import add_pod
from tests.wire import Answer, Wire

pytestmark = pytest.mark.slow  # whole responses, one after the other


def state_of(rows: Iterable[AccessPath], path: str) -> PathState:
    return next(row.state for row in rows if row.path == path)


def test_a_silent_cluster_leaves_the_last_statement_and_says_why(context: Context, wire: Wire) -> None:
    done = contained(context)
    wire.responder = lambda _request: Answer(503, b"")
    now = statement.retest(context, done.incident)
    assert now.rows == done.statement.rows
    assert now.facts == ()
    assert "503" in now.why


def test_a_policy_that_opens_later_turns_the_row_and_leaves_an_event(context: Context, api: Simulator) -> None:
    done = contained(context)
    turned = types(context).count("access.turned")
    open_all = {"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]}
    api.add(NETWORK_POLICY, "bank", "oops", {"spec": open_all})
    now = statement.retest(context, done.incident)
    assert state_of(now.rows, "network.egress") is PathState.ALIVE
    assert verdict(now.rows) is Verdict.NOT_CONTAINED
    assert types(context).count("access.turned") == turned + 2, "egress and DNS"


def test_an_accepted_unseen_row_that_turns_alive_is_open_again(context: Context, api: Simulator) -> None:
    done = contained(context)
    accepted = statement.accept(context, done.incident, "network.egress", "no canary here")
    assert accepted.acceptance is not None
    assert accepted.acceptance.principal == context.actor
    assert state_of(statement.retest(context, done.incident).rows, "network.egress") is PathState.ACCEPTED
    open_all = {"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]}
    api.add(NETWORK_POLICY, "bank", "oops", {"spec": open_all})
    assert state_of(statement.retest(context, done.incident).rows, "network.egress") is PathState.ALIVE


def test_only_with_every_row_accepted_or_dead_is_it_contained(context: Context) -> None:
    done = contained(context)
    open_rows = [row.path for row in done.statement.rows if row.is_open]
    for path in open_rows:
        now = statement.retest(context, done.incident)
        assert verdict(now.rows) is not Verdict.CONTAINED
        statement.accept(context, done.incident, path, "known")
    assert verdict(statement.retest(context, done.incident).rows) is Verdict.CONTAINED


def test_a_second_acceptance_is_for_the_same_state_as_the_first(context: Context) -> None:
    done = contained(context)
    for reason in ("first", "second"):
        accepted = statement.accept(context, done.incident, "node", reason)
    assert accepted.acceptance is not None
    assert (accepted.acceptance.reason, accepted.acceptance.state) == ("second", PathState.UNSEEN)


def test_a_row_that_does_not_exist_or_is_dead_is_not_accepted(context: Context, api: Simulator) -> None:
    for name in ("cards-2", "cards-1"):  # cards-1 alone: nobody else runs the image
        done = contained(context, name, accept_outage=True)
    with pytest.raises(TargetError, match=r"network\.egress"):
        statement.accept(context, done.incident, "network.telepathy", "x")
    del api.objects["/api/v1", "pods", "bank", "cards-1"]
    statement.retest(context, done.incident)
    with pytest.raises(TargetError, match="dead"):
        statement.accept(context, done.incident, "network.egress", "x")


def test_the_suspect_is_remembered_when_it_is_gone(context: Context, api: Simulator) -> None:
    before = api.get(POD, "bank", "cards-1")
    done = contained(context)
    del api.objects["/api/v1", "pods", "bank", "cards-1"]
    assert statement.suspect(context, done.incident, done.incident.target) == before


def test_a_sibling_that_starts_later_is_seen_at_the_next_retest(context: Context, api: Simulator) -> None:
    done = contained(context)
    add_pod(api, "late")
    now = statement.retest(context, done.incident)
    (row,) = [row for row in now.rows if row.path == "siblings.image"]
    assert "late" in row.why


def test_what_a_command_shows_is_what_its_last_step_saw(context: Context, wire: Wire) -> None:
    """The cluster is not read twice for one statement."""

    def looks() -> int:
        return sum(request.path.endswith("/roles/cards") for request in wire.requests)

    done = contained(context)
    during = looks()
    now = statement.retest(context, done.incident)
    assert [(row.path, row.state) for row in now.rows] == [(row.path, row.state) for row in done.statement.rows]
    assert (during, looks()) == (1, 2)


def test_what_was_seen_before_a_later_step_is_not_shown_after_it(context: Context, api: Simulator) -> None:
    at_work = conductor(context)

    def cut(_incident: object) -> None:
        at_work.live.looked = ("INC-1/run/1", Statement((), ()))
        api.faults.append(Fault("GET", "/networkpolicies", status=503))

    at_work.live.on_cut = cut
    done = verbs.contain(context, at_work, found(context, "cards-1"), Wish(reason="drill"))
    assert done.statement.facts == ()
    assert "503" in done.statement.why


def test_a_statement_is_shown_once_and_for_its_own_run(context: Context) -> None:
    live = conductor(context).live
    seen = Statement((), ())
    live.looked = ("INC-1/run/1", seen)
    assert live.take_look("INC-1/run/1") is seen
    assert live.take_look("INC-1/run/1") is None
    live.looked = ("INC-1/run/1", seen)
    assert live.take_look("INC-1/run/2") is None
