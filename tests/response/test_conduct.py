"""Who carries a run on, and which segment of it may say how it ended. On the real engine: tests/crash."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ringfence.errors import StoreError
from ringfence.model.run import Run, RunOrder, RunState
from ringfence.platform.kubernetes.resources import POD
from ringfence.playbooks import find
from ringfence.response import attempts, orders, performer
from ringfence.response.conduct import CARRY_ON, conducting
from ringfence.response.context import Context, now
from ringfence.response.live import Live
from ringfence.response.orders import Order
from ringfence.response.performer import Performer
from ringfence.response.scene import Answer, Scene
from ringfence.response.stages.table import STAGES
from ringfence.response.verbs import COMPROMISED, Wish, respond
from ringfence.store import commands, incidents, runs
from tests.response.inline_engine import InlineEngine
from tests.response.steps_of import changes, conductor, contained, found, types
from tests.simulator import Simulator


def send(context: Context, kind: str, **body: str) -> None:
    with context.store.write() as session:
        commands.send(session, kind, body, sent_by="somebody", now=now())


def waiting(context: Context) -> list[str]:
    with context.store.read() as session:
        return [str(command.body.get("run")) for command in commands.waiting(session)]


def run_of(context: Context, run_id: str = "INC-1/run/1") -> Run:
    with context.store.read() as session:
        return runs.get(session, run_id)


def test_a_word_about_another_clusters_run_is_left_to_its_engine_and_nobody_waits_for_it(context: Context) -> None:
    contained(context)
    elsewhere = replace(context, cluster_id="cluster-2")
    send(context, CARRY_ON, run="INC-1/run/1")
    with conducting(elsewhere, InlineEngine) as other:
        other.launch()
    assert waiting(context) == ["INC-1/run/1"]
    with conducting(context, InlineEngine) as ours:
        ours.launch()
    assert waiting(context) == []


def test_a_word_that_nobody_knows_is_put_away(context: Context) -> None:
    send(context, "dance", run="x")
    send(context, CARRY_ON, run="INC-9/run/1")
    with conducting(context, InlineEngine) as ours:
        ours.launch()
    assert waiting(context) == []


def test_a_segment_that_was_left_behind_does_not_put_the_run_back(context: Context, api: Simulator) -> None:
    """A crash right before the record of ``end``: the old segment comes to its end again, beside the next one."""
    respond(context, conductor(context), COMPROMISED, found(context, "cards-1"), Wish())
    waits = run_of(context)
    assert waits.state is RunState.WAITING
    orders.requeue(context, waits)
    with context.store.write() as session:
        taken = runs.take(session, run_of(context), "me", actor=context.actor, now=now(), new_segment=True)
    old = Performer(context, Live(), "me")
    old.end(waits.id, {"waits": waits.why}, workflow=waits.workflow_id)
    assert run_of(context).state is RunState.RUNNING
    assert "superseded" in old.perform(waits.id, "delete", waits.targets[0].uid, workflow=waits.workflow_id, held="")
    assert api.get(POD, "bank", "cards-1") is not None
    old.end(waits.id, {}, workflow=taken.workflow_id)
    assert run_of(context).state is RunState.DONE


def test_a_store_that_fails_says_so_and_how_to_go_on(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_scene: Scene) -> Answer:
        raise StoreError("the store cannot be used", why="disk full", next_step="make room")

    monkeypatch.setattr(performer, "STAGES", {**STAGES, "evidence.seal": full})
    with pytest.raises(StoreError) as caught:
        contained(context)
    assert "disk full" in caught.value.why
    assert caught.value.next_step == "make room; then: ringfence resume INC-1"
    assert run_of(context).state is RunState.RUNNING


def test_who_interrupts_is_told_what_to_type(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    content, source = find(COMPROMISED)
    order = Order(content, source, found(context, "cards-1"), "", RunOrder(phases=("containing",), command="contain"))
    orders.place(context, order)
    with pytest.raises(KeyboardInterrupt), conducting(context, InlineEngine, Live(say=said.append)):
        raise KeyboardInterrupt
    assert said == ["INC-1/run/1 is not over; next: ringfence resume INC-1"]


def test_a_plan_that_took_effect_is_not_made_again(context: Context, api: Simulator) -> None:
    """Dead after the last change and before the end of the step: planned anew it would be about what is there now."""
    contained(context)
    with context.store.read() as session:
        incident = incidents.get(session, "INC-1")
    assert {record.change.id for record in attempts.take_up(context, incident, "cut/1")[1]} == {
        name.partition(":")[2] for name in changes(context)
    }
    assert attempts.take_up(context, incident, "cut/2")[1] == ()
    assert attempts.begin(context, incident, "cut/1") == "cut/1"
    plans = types(context).count("plan.made")
    with context.store.write() as session:
        runs.reopen_step(session, "INC-1/run/1", "cut")
    run = run_of(context)
    with context.store.write() as session:
        taken = runs.take(session, run, "me", actor=context.actor, now=now(), new_segment=True)
    again = Performer(context, Live(), "me").perform(
        run.id, "cut", run.targets[0].uid, workflow=taken.workflow_id, held=""
    )
    assert again["outcome"]["kind"] == "applied"
    assert types(context).count("plan.made") == plans


def test_the_engine_forgets_runs_that_are_long_over_and_no_others(context: Context) -> None:
    """A run that waits for a person for longer than that still needs its segments; the store keeps both."""
    over = contained(context).run
    waiting = respond(context, conductor(context), COMPROMISED, found(context, "cards-1"), Wish(command="respond")).run
    assert (over.state, waiting.state) == (RunState.DONE, RunState.WAITING)
    engine = InlineEngine()
    for one in (over, waiting):
        engine.register(f"of {one.id}", lambda _scope, payload: payload)
        engine.start(f"of {one.id}", one.workflow_id, {})
        engine.start(f"of {one.id}", f"{one.workflow_id}/cut/uid", {})
    engine.register("strange", lambda _scope, payload: payload)
    engine.start("strange", "INC-99/run/1/1", {})
    with conducting(context, lambda: engine) as keeper:
        assert keeper.prune(timedelta(days=1)) == 0
        assert keeper.prune(timedelta(0)) == 2
    assert engine.state(over.workflow_id) == "absent"
    assert engine.state(waiting.workflow_id) == "done"
    assert engine.state("INC-99/run/1/1") == "done"
    with context.store.read() as session:
        assert runs.get(session, over.id).state is RunState.DONE
