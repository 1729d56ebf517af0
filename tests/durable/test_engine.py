"""The engine's promises, on SQLite and on Postgres."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from ringfence.durable import engine as implementation
from ringfence.durable.port import EngineBusy, EngineError, RunFailed, Scope
from ringfence.errors import StoreError
from tests.durable.conftest import Launch
from tests.durable.flows import Place

pytestmark = pytest.mark.slow  # the real engine, started for each

Json = dict[str, Any]


def echo(scope: Scope, payload: Json) -> Json:
    return scope.step("echo", lambda: payload)


def test_begun_once_however_often_it_is_started(place: Place, launch: Launch) -> None:
    def body(scope: Scope, payload: Json) -> Json:
        return scope.step("act", lambda: place.write("act") or payload)  # type: ignore[func-returns-value]

    engine = launch({"body": body})
    assert engine.state("INC-1") == "absent"
    starters = [threading.Thread(target=engine.start, args=("body", "INC-1", {"n": n})) for n in range(4)]
    for thread in starters:
        thread.start()
    for thread in starters:
        thread.join()
    first = engine.wait("INC-1", 10)
    engine.start("body", "INC-1", {"n": 99})
    assert engine.wait("INC-1", 10) == first
    engine = launch({"body": body})
    engine.start("body", "INC-1", {"n": 100})
    assert engine.wait("INC-1", 10) == first
    assert engine.state("INC-1") == "done"
    assert place.effects() == ["act"]


def test_payload_is_a_copy(launch: Launch) -> None:
    gate = threading.Event()

    def body(scope: Scope, payload: Json) -> Json:
        gate.wait(10)
        return payload

    engine = launch({"body": body})
    payload = {"pods": ["cards-1"]}
    engine.start("body", "r", payload)
    payload["pods"].append("cards-2")
    gate.set()
    assert engine.wait("r", 10) == {"pods": ["cards-1"]}


def test_works_overlap_and_keep_their_order(launch: Launch) -> None:
    together = threading.Barrier(8)

    def meet(n: int) -> Json:
        together.wait(10)
        return {"n": n}

    def body(scope: Scope, payload: Json) -> Json:
        return {"results": scope.each("meet", [partial(meet, n) for n in range(8)])}

    engine = launch({"body": body})
    engine.start("body", "r", {})
    assert engine.wait("r", 20) == {"results": [{"n": n} for n in range(8)]}


def test_width_bounds_works_and_a_slow_one_holds_up_nobody(launch: Launch) -> None:
    gate, lock = threading.Event(), threading.Lock()
    now: set[int] = set()
    most: list[int] = []

    def work(n: int) -> Json:
        with lock:
            now.add(n)
        time.sleep(0.05)  # long enough for one too many to begin beside it
        with lock:
            most.append(len(now))
        if n == 0:
            assert gate.wait(10), "the last work never began while the first was slow"
        if n == 5:
            gate.set()
        with lock:
            now.discard(n)
        return {"n": n}

    def body(scope: Scope, payload: Json) -> Json:
        return {"n": len(scope.each("work", [partial(work, n) for n in range(6)], width=2))}

    engine = launch({"body": body})
    engine.start("body", "r", {})
    assert engine.wait("r", 20) == {"n": 6}
    assert max(most) == 2


def test_a_failing_work_fails_the_step_after_all_others_ended(place: Place, launch: Launch) -> None:
    failed = threading.Event()

    def work(n: int) -> Json:
        if n == 0:
            failed.set()
            raise LookupError("no such pod")
        failed.wait(10)
        time.sleep(0.05)
        place.write(f"act{n}")
        return {}

    def body(scope: Scope, payload: Json) -> Json:
        scope.each("act", [partial(work, n) for n in range(3)])
        return {}

    engine = launch({"body": body})
    engine.start("body", "r", {})
    with pytest.raises(RunFailed, match=r"1 of 3 failed: LookupError: no such pod"):
        engine.wait("r", 20)
    assert sorted(place.effects()) == ["act1", "act2"]


def test_no_work_begins_while_the_engine_closes_and_all_are_done_by_the_next(
    place: Place, launch_sqlite: Launch
) -> None:
    begun, gate = threading.Event(), threading.Event()

    def first() -> Json:
        begun.set()
        assert gate.wait(10)
        return {}

    def body(scope: Scope, payload: Json) -> Json:
        works = [first, *(partial(write, n) for n in range(3))]
        return {"n": len(scope.each("act", works, width=1))}

    def write(n: int) -> Json:
        place.write(f"act{n}")
        return {}

    engine = launch_sqlite({"body": body})
    engine.start("body", "r", {})
    assert begun.wait(10)
    threading.Timer(0.1, gate.set).start()
    engine.close(10)
    assert place.effects() == [], "the engine closed, and other works were begun all the same"
    engine = launch_sqlite({"body": body})
    assert engine.wait("r", 10) == {"n": 4}
    assert place.effects() == ["act0", "act1", "act2"]


def test_failed_workflow_keeps_its_text(launch: Launch) -> None:
    def body(scope: Scope, payload: Json) -> Json:
        raise LookupError("no such pod: cards-\u001b[31m1")

    engine = launch({"body": body})
    engine.start("body", "r", {})
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"LookupError: no such pod: cards-") as failure:
            engine.wait("r", 10)
        assert failure.value.what == "run r failed"
        assert engine.state("r") == "failed"
        engine = launch({"body": body})


class _Broken(Exception):
    def __str__(self) -> str:
        raise ValueError("even the text fails")


@pytest.mark.parametrize(
    "value", [{"at": datetime(2026, 1, 1, tzinfo=UTC)}, {"n": float("nan")}, {"raw": b"x"}, {(1, 2): 3}]
)
def test_only_json(value: Json, launch: Launch) -> None:
    def stepping(scope: Scope, payload: Json) -> Json:
        return scope.step("look", lambda: value)

    engine = launch({"stepping": stepping, "ending": lambda scope, payload: value})
    engine.start("stepping", "s", {})
    with pytest.raises(RunFailed, match="step look failed: TypeError: the result of step look is not JSON"):
        engine.wait("s", 10)
    engine.start("ending", "e", {})
    with pytest.raises(RunFailed, match="the result of ending is not JSON"):
        engine.wait("e", 10)
    with pytest.raises(TypeError, match="the payload of p is not JSON"):
        engine.start("ending", "p", value)
    assert engine.state("p") == "absent"


def test_an_error_without_text_still_ends_the_run(launch: Launch) -> None:
    def body(scope: Scope, payload: Json) -> Json:
        raise _Broken

    engine = launch({"body": body})
    engine.start("body", "r", {})
    with pytest.raises(RunFailed, match="_Broken"):
        engine.wait("r", 10)


def test_wait_gives_up_in_time(launch: Launch) -> None:
    gate = threading.Event()

    def body(scope: Scope, payload: Json) -> Json:
        gate.wait(10)
        return {}

    engine = launch({"body": body})
    engine.start("body", "r", {})
    begun = time.monotonic()
    assert engine.wait("r", 0.1) is None
    assert time.monotonic() - begun < 5
    assert engine.wait("r", 0) is None
    assert engine.state("r") == "running"
    gate.set()
    assert engine.wait("r", 10) == {}
    with pytest.raises(EngineError, match="there is no run other"):
        engine.wait("other", 0)


def test_closing_halts_between_steps_and_the_next_launch_goes_on(place: Place, launch: Launch) -> None:
    begun, gate = threading.Event(), threading.Event()

    def first() -> Json:
        place.write("first")
        begun.set()
        gate.wait(10)
        return {}

    def body(scope: Scope, payload: Json) -> Json:
        try:
            scope.step("first", first)
            scope.step("second", lambda: place.write("second") or {})  # type: ignore[func-returns-value]
        except Exception:
            place.write("took-it-for-a-failure")
        return {}

    engine = launch({"body": body})
    engine.start("body", "r", {})
    assert begun.wait(10)
    closing = threading.Thread(target=engine.close, args=(10,))
    closing.start()
    while not engine.closing:
        time.sleep(0.001)
    gate.set()
    closing.join()
    assert place.effects() == ["first"]
    with pytest.raises(EngineError, match="not running"):
        engine.state("r")

    dead = engine.executor_id
    engine = launch({"body": body})
    if place.lock is None:
        assert engine.adopt([dead]) == 1
    assert engine.wait("r", 10) == {}
    assert place.effects() == ["first", "second"]


def test_a_step_that_outlives_closing_keeps_the_lock(place: Place, launch: Launch) -> None:
    begun, gate = threading.Event(), threading.Event()

    def body(scope: Scope, payload: Json) -> Json:
        def slow() -> Json:
            place.write("slow")
            begun.set()
            gate.wait(10)
            return {}

        scope.step("slow", slow)
        place.write("went-on")
        return {}

    engine = launch({"body": body})
    engine.start("body", "r", {})
    assert begun.wait(10)
    engine.close(0)
    with pytest.raises(EngineBusy):
        launch({"body": body})
    gate.set()
    deadline = time.monotonic() + 10
    dead = engine.executor_id
    while True:
        try:
            engine = launch({"body": body})
            break
        except EngineBusy:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    if place.lock is None:
        engine.adopt([dead])
    assert engine.wait("r", 10) == {}
    assert place.effects() == ["slow", "slow", "went-on"]


def test_code_that_asks_for_other_steps_is_an_error_not_a_guess(place: Place, launch: Launch) -> None:
    begun, gate = threading.Event(), threading.Event()

    def old(scope: Scope, payload: Json) -> Json:
        def look() -> Json:
            begun.set()
            gate.wait(10)
            return {}

        scope.step("look", look)
        return scope.step("cut", lambda: {})

    def new(scope: Scope, payload: Json) -> Json:
        try:
            return scope.step("destroy", lambda: place.write("destroy") or {})  # type: ignore[func-returns-value]
        except Exception:
            return {}

    engine = launch({"body": old})
    engine.start("body", "r", {})
    assert begun.wait(10)
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine.closing:
        time.sleep(0.001)
    gate.set()
    closing.join()
    dead = engine.executor_id
    engine = launch({"body": new})
    if place.lock is None:
        engine.adopt([dead])
    with pytest.raises(RunFailed, match="cannot be carried on"):
        engine.wait("r", 10)
    assert place.effects() == []


def test_scope_is_used_between_steps_only(launch: Launch) -> None:
    def nested(scope: Scope, payload: Json) -> Json:
        return scope.step("outer", lambda: scope.step("inner", lambda: {}))

    def elsewhere(scope: Scope, payload: Json) -> Json:
        caught: list[str] = []

        def use() -> None:
            try:
                scope.step("act", lambda: {})
            except RuntimeError as error:
                caught.append(str(error))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        return {"caught": caught}

    engine = launch({"nested": nested, "elsewhere": elsewhere})
    engine.start("nested", "n", {})
    with pytest.raises(RunFailed, match="between steps"):
        engine.wait("n", 10)
    engine.start("elsewhere", "e", {})
    result = engine.wait("e", 10)
    assert result is not None
    assert len(result["caught"]) == 1


def test_launch_on_another_thread(launch: Launch) -> None:
    engines: list[Any] = []
    thread = threading.Thread(target=lambda: engines.append(launch({"echo": echo})))
    thread.start()
    thread.join()
    engines[0].start("echo", "e", {"n": 1})
    assert engines[0].wait("e", 10) == {"n": 1}


def test_one_engine_in_a_process(place: Place, launch: Launch) -> None:
    launch({"echo": echo})
    with pytest.raises(EngineBusy):
        place.engine({"echo": echo}).launch()


def test_what_is_not_registered_is_an_error(launch: Launch) -> None:
    engine = launch({"echo": echo})
    with pytest.raises(ValueError, match="no workflow 'other'"):
        engine.start("other", "r", {})
    with pytest.raises(ValueError, match="twice, or after the launch"):
        engine.register("late", echo)


def test_a_run_of_another_engine_version_is_over(
    sqlite_place: Place, launch_sqlite: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def body(scope: Scope, payload: Json) -> Json:
        scope.step("look", lambda: {"waited": gate.wait(10)})
        return scope.step("cut", lambda: {})

    engine = launch_sqlite({"body": body})
    engine.start("body", "r", {})
    threading.Timer(0.1, gate.set).start()
    engine.close(10)
    monkeypatch.setattr(implementation, "ENGINE_VERSION", "next")
    engine = launch_sqlite({"body": body})
    assert engine.state("r") == "failed"
    with pytest.raises(RunFailed, match=r"begun by version \d of the engine, this is next"):
        engine.wait("r", 10)


def test_a_run_whose_workflow_is_gone_is_over(sqlite_place: Place, launch_sqlite: Launch) -> None:
    gate = threading.Event()

    def body(scope: Scope, payload: Json) -> Json:
        scope.step("look", lambda: {"waited": gate.wait(10)})
        return scope.step("cut", lambda: {})

    engine = launch_sqlite({"body": body})
    engine.start("body", "r", {})
    threading.Timer(0.1, gate.set).start()
    engine.close(10)
    engine = launch_sqlite({"echo": echo})
    with pytest.raises(RunFailed, match="begun as a workflow body, which is not known here"):
        engine.wait("r", 10)


def test_one_id_is_one_workflow(launch: Launch) -> None:
    engine = launch({"echo": echo, "other": echo})
    engine.start("echo", "r", {"n": 1})
    assert engine.wait("r", 10) == {"n": 1}
    with pytest.raises(EngineError, match="r"):
        engine.start("other", "r", {"n": 2})
    assert engine.wait("r", 10) == {"n": 1}


def test_what_is_done_under_the_lock_keeps_its_error_and_leaves_nothing_taken(place: Place, launch: Launch) -> None:
    def refuse() -> None:
        raise StoreError("the store is gone")

    with pytest.raises(StoreError, match="the store is gone"):
        place.engine({"echo": echo}).launch(before=refuse)
    launch({"echo": echo})


def test_what_ended_is_forgotten_in_batches_and_what_runs_is_not(launch: Launch) -> None:
    gate = threading.Event()

    def waits(scope: Scope, payload: Json) -> Json:
        return scope.step("wait", lambda: {"opened": gate.wait(20)})

    def fails(scope: Scope, payload: Json) -> Json:
        raise LookupError("no such pod")

    engine = launch({"echo": echo, "waits": waits, "fails": fails})
    for name in ("kept", "old", "old-1", "old-4"):
        engine.start("echo", name, {})
        engine.wait(name, 20)
    engine.start("fails", "old-2", {})
    with pytest.raises(RunFailed):
        engine.wait("old-2", 20)
    engine.start("waits", "old-3", {})
    old = lambda id_: id_.startswith("old")  # noqa: E731
    assert engine.prune(datetime.now(UTC) - timedelta(days=1), old) == 0, "they ended only now"
    later = datetime.now(UTC) + timedelta(seconds=5)
    assert engine.prune(later, old, most=3) == 3
    assert engine.prune(later, old, most=3) == 1
    assert engine.prune(later, old, most=3) == 0
    assert [engine.state(id_) for id_ in ("old", "old-1", "old-2", "old-4")] == ["absent"] * 4
    assert [engine.state(id_) for id_ in ("kept", "old-3")] == ["done", "running"]
    gate.set()
    assert engine.wait("old-3", 20) == {"opened": True}
    engine.start("echo", "old", {"again": True})
    assert engine.wait("old", 20) == {"again": True}, "nothing of the old one is left to replay"
