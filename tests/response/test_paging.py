"""Pages: written with the event that asks for them, sent once to each receiver, tried again when it fails."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from ringfence.errors import ConfigError
from ringfence.model.fence_events import FencedChanged
from ringfence.model.incident import Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Refused
from ringfence.model.page import Page, PageKind
from ringfence.model.timeline import StepFinished
from ringfence.platform.kubernetes.resources import NETWORK_POLICY
from ringfence.response import statement
from ringfence.response.context import Context, now
from ringfence.response.paging import Pager, Receiver, Rota, try_out, undelivered
from ringfence.response.verbs import COMPROMISED, Wish, respond
from ringfence.store import commands, incidents, pages, timeline
from ringfence.store.pages import MOST_AN_HOUR
from tests.response.steps_of import conductor, contained, found
from tests.simulator import Fault, Simulator
from tests.wire import Answer, Wire

pytestmark = pytest.mark.slow  # whole responses, and pages that wait

SECRET = "s3cr3tt0ken"


def receiver(wire: Wire, name: str = "pager", **more: Any) -> Receiver:
    return Receiver(name, lambda: f"{wire.url.replace('http://', 'json://')}/{SECRET}/{name}", **more)


def pager(context: Context, *receivers: Receiver, said: list[str] | None = None, **rota: Any) -> Pager:
    told = said if said is not None else []
    return Pager(context.store, Rota(receivers=receivers, **rota), told.append)


def outbox(context: Context, incident: str = "INC-1") -> list[Page]:
    with context.store.read() as session:
        return list(pages.of_incident(session, incident))


def bodies(wire: Wire, name: str = "pager") -> list[dict[str, str]]:
    return [json.loads(request.body) for request in wire.requests if request.path.endswith(f"/{name}")]


def lease_ran_out(context: Context) -> datetime:
    contained(context)
    moment = now()
    with context.store.write() as session:
        commands.grant(session, "INC-1", moment, actor="alice", now=moment)
        commands.expire_leases(session, moment)
    return moment


def changed(context: Context, words: str = "", times: int = 1) -> None:
    ref = ObjectRef(cluster="c", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u")
    with context.store.write() as session:
        for _ in range(times):
            event = FencedChanged(
                occurred_at=now(),
                actor="ringfence",
                ref=ref,
                what="was deleted",
                who=words,
                how_known="x",
                seen_by="watch",
            )
            timeline.append(session, "INC-1", event, now())


def test_a_cut_that_worked_wakes_nobody(context: Context) -> None:
    contained(context)
    assert [page.kind for page in outbox(context)] in ([], [PageKind.ROW_TURNED])  # that the verdict changed


def test_a_lease_that_ran_out_pages_once_whoever_asks_again(context: Context) -> None:
    moment = lease_ran_out(context)
    with Wire(Answer()) as wire:
        engine = pager(context, receiver(wire))
        assert engine.round(moment + timedelta(seconds=1)) >= 1
        sent = [body for body in bodies(wire) if "looked again" in body["title"]]
        assert len(sent) == 1
        assert "INC-1" in sent[0]["title"]
        assert "ringfence status INC-1" in sent[0]["message"]
        assert engine.round(moment + timedelta(hours=1)) == 0
        assert pager(context, receiver(wire)).round(moment + timedelta(hours=1)) == 0
    assert {page.closed for page in outbox(context)} == {pages.SENT}


def test_a_page_survives_the_process_and_two_engines_do_not_both_send_it(context: Context) -> None:
    moment = lease_ran_out(context)
    with context.store.write() as session:  # one that took it and died before it said what came of it
        taken = pages.take_due(session, moment, held_for=timedelta(seconds=60), most=5)
    assert taken
    with Wire(Answer()) as wire:
        assert pager(context, receiver(wire)).round(moment + timedelta(seconds=30)) == 0
        assert pager(context, receiver(wire)).round(moment + timedelta(seconds=61)) == len(taken)
        assert len(bodies(wire)) == len(taken)


def test_an_event_that_is_rolled_back_leaves_no_page(context: Context) -> None:
    contained(context)
    before = outbox(context)
    failed = StepFinished(
        occurred_at=now(), actor="a", step="cut/9", action="network.quarantine", outcome=Refused(reason="no")
    )

    class Boom(Exception):
        pass

    def write_and_fail() -> None:
        with context.store.write() as session:
            timeline.append(session, "INC-1", failed, now())
            raise Boom

    with pytest.raises(Boom):
        write_and_fail()
    assert outbox(context) == before
    with context.store.write() as session:
        timeline.append(session, "INC-1", failed, now())
    assert [page.kind for page in outbox(context)[len(before) :]] == [PageKind.CUT_FAILED]


def test_a_receiver_that_fails_is_tried_later_and_later_and_the_one_that_took_it_is_left_alone(
    context: Context,
) -> None:
    moment = lease_ran_out(context)
    said: list[str] = []
    with Wire(Answer()) as good, Wire(Answer(status=500)) as bad:
        engine = pager(context, receiver(good, "good"), receiver(bad, "bad"), said=said)
        engine.round(moment)
        number = len(bodies(good, "good"))
        assert number == len(bodies(bad, "bad")) > 0
        assert engine.round(moment + timedelta(seconds=2)) == 0
        engine.round(moment + timedelta(seconds=6))
        assert len(bodies(bad, "bad")) == 2 * number
        assert engine.round(moment + timedelta(seconds=12)) == 0  # ten seconds this time
        assert len(bodies(good, "good")) == number
        left = undelivered(context.store, "INC-1")
        assert left
        assert left[0].problem.startswith("bad: ")
        bad.responder = lambda _request: Answer()
        engine.round(moment + timedelta(seconds=60))
        assert undelivered(context.store) == ()
    assert said
    assert SECRET not in "".join(said) + left[0].problem


def test_it_is_given_up_after_a_day(context: Context) -> None:
    moment = lease_ran_out(context)
    with Wire(Answer(status=500)) as bad:
        engine = pager(context, receiver(bad))
        engine.round(moment + timedelta(hours=25))
        count = len(bad.requests)
        assert engine.round(moment + timedelta(hours=50)) == 0
        assert len(bad.requests) == count
    assert "given up" in outbox(context)[-1].closed


def test_a_lease_goes_on_to_the_next_contact_until_somebody_looks(context: Context) -> None:
    moment = lease_ran_out(context)
    with Wire(Answer()) as wire:
        first, second = (receiver(wire, name, roles=frozenset({name})) for name in ("ada", "bo"))
        engine = pager(context, first, second, contacts=("ada", "bo"), escalate_after=timedelta(minutes=15))
        engine.round(moment)
        engine.round(moment + timedelta(minutes=14))
        assert bodies(wire, "bo") == []
        engine.round(moment + timedelta(minutes=16))
        assert [body["title"] for body in bodies(wire, "bo")] == [
            "INC-1: nobody has looked again in time (still nobody has looked again)"
        ]
        count = len(bodies(wire, "ada"))
        engine.round(moment + timedelta(hours=5))
        assert (len(bodies(wire, "ada")), len(bodies(wire, "bo"))) == (count, 1)


def test_a_lease_that_somebody_renewed_goes_no_further(context: Context) -> None:
    moment = lease_ran_out(context)
    with Wire(Answer()) as wire:
        first, second = (receiver(wire, name, roles=frozenset({name})) for name in ("ada", "bo"))
        engine = pager(context, first, second, contacts=("ada", "bo"))
        engine.round(moment)
        with context.store.write() as session:
            commands.grant(session, "INC-1", moment + timedelta(hours=8), actor="alice", now=now())
        engine.round(moment + timedelta(hours=1))
        assert bodies(wire, "bo") == []


def test_an_approval_that_waits_pages_and_says_what_to_type(context: Context) -> None:
    respond(context, conductor(context), COMPROMISED, found(context, "cards-1"), Wish())
    waits = [page for page in outbox(context) if page.kind is PageKind.APPROVAL_WAITS]
    assert len(waits) == 1
    assert "ringfence approve INC-1/approval/1" in waits[0].body


def test_a_cut_that_is_refused_pages(context: Context, api: Simulator) -> None:
    api.faults.append(Fault("POST", "/networkpolicies", status=403, dry=None))
    contained(context)
    failed = [page for page in outbox(context) if page.kind is PageKind.CUT_FAILED]
    assert [page.title for page in failed] == ["INC-1: network.quarantine is not done"]


def test_a_row_that_turns_back_pages(context: Context, api: Simulator) -> None:
    contained(context)
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    count = len(outbox(context))
    api.add(
        NETWORK_POLICY, "bank", "open-all", {"spec": {"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]}}
    )
    statement.retest(context, incident)
    titles = [page.title for page in outbox(context)[count:]]
    assert titles == ["INC-1: NOT CONTAINED"]
    statement.retest(context, incident)
    assert len(outbox(context)) == count + 1


def test_somebody_who_works_at_it_cannot_page_all_night(context: Context) -> None:
    contained(context)
    changed(context, times=MOST_AN_HOUR + 15)
    sent = [page for page in outbox(context) if page.kind is PageKind.FENCE_CHANGED]
    assert len(sent) == MOST_AN_HOUR
    assert "not paged within the hour" in sent[-1].body


def test_hostile_words_arrive_as_plain_text(context: Context) -> None:
    contained(context)
    changed(context, words="<!channel> @everyone \x1b[31m\u202e `x` http://evil.example/a [b](c)\nnext")
    with Wire(Answer()) as wire:
        pager(context, receiver(wire)).round(now() + timedelta(seconds=1))
        message = bodies(wire)[-1]["message"]
    assert not set("<>@`[]\x1b\n\u202e") & set(message)
    assert "http://" not in message
    assert "evil.example" in message


@pytest.mark.parametrize(
    ("kinds", "least", "expected"),
    [
        (frozenset(), Severity.MEDIUM, True),
        (frozenset({PageKind.LEASE_OVERDUE}), Severity.MEDIUM, True),
        (frozenset({PageKind.CUT_FAILED}), Severity.MEDIUM, False),
        (frozenset(), Severity.CRITICAL, False),
    ],
)
def test_who_wants_which_pages(kinds: frozenset[PageKind], least: Severity, expected: bool) -> None:
    one = Receiver("x", lambda: "", kinds=kinds, min_severity=least)
    assert one.takes(PageKind.LEASE_OVERDUE, Severity.HIGH) is expected


def test_a_page_that_nobody_wants_is_put_away_and_not_sent_when_somebody_is_configured(context: Context) -> None:
    moment = lease_ran_out(context)
    pager(context).round(moment)
    assert {page.closed for page in outbox(context)} == {"nobody is configured to be paged about it"}
    assert undelivered(context.store) == ()
    with Wire(Answer()) as wire:
        pager(context, receiver(wire)).round(moment + timedelta(hours=1))
        assert wire.requests == []


def test_trying_it_out_says_of_each_receiver_what_came_of_it() -> None:
    def unreadable() -> str:
        raise ConfigError("the URL of the receiver gone cannot be read", location="notify.to gone")

    with Wire(Answer()) as wire:
        rota = Rota(
            receivers=(
                receiver(wire, "here", roles=frozenset({"ada"})),
                Receiver("wrong", lambda: f"nosuchservice://{SECRET}"),
                Receiver("gone", unreadable),
            ),
            contacts=("ada", "bo"),
        )
        tried = {one.receiver: one.problem for one in try_out(rota, "")}
        assert tried["here"] == ""
        assert "no such service" in tried["wrong"]
        assert "cannot be read" in tried["gone"]
        assert SECRET not in str(tried)
        assert [one.receiver for one in try_out(rota, "ada")] == ["here"]
        assert rota.unreachable() == ("bo",)
        with pytest.raises(ConfigError, match="nobody can be paged as bo"):
            try_out(rota, "bo")
