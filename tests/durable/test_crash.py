"""What a process that died has left is carried on by the next: nothing that was recorded is done again."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from multiprocessing.context import ForkServerContext

import pytest

from ringfence.durable.port import EngineBusy
from tests.durable.conftest import Launch
from tests.durable.flows import POINTS, STEPS, WORKS, Place, die, hold, journey

pytestmark = pytest.mark.slow

RUN = "INC-1/run/1"


@pytest.mark.parametrize("point", POINTS)
def test_death_at_any_boundary(point: str, place: Place, launch: Launch, forks: ForkServerContext) -> None:
    process = forks.Process(target=die, args=(place, point), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 9
    engine = launch(journey(place))
    if place.lock is None:
        # Each process is an executor of its own there; its heartbeat says who died.
        assert engine.adopt(dead_executors(place)) >= 1
    result = engine.wait(RUN, 30)

    assert result is not None
    expected = [{"pair": [1, 2], "step": name, "7": None} for name in STEPS]
    works = [{"work": name} for name in WORKS]
    assert result["seen"] == [
        {"incident": "INC-1"},
        *expected[:2],
        *works,
        expected[2],
        "step fail failed: LookupError: no such pod",
        *expected[4:],
    ]
    phase, step = point.split(":")
    counts = Counter(place.effects())
    again = {name for name, count in counts.items() if count == 2}
    assert set(counts) == {*STEPS, *WORKS}
    if phase == "after":
        assert step in again, "the step in flight is the one thing that is done again"
    # Works that are recorded together may each be done again, for as long as that record is missing.
    assert again <= ({step} if phase == "after" else set()) | (set(WORKS) if step in WORKS else set())
    assert max(counts.values()) <= 2


def dead_executors(place: Place) -> list[str]:
    import psycopg

    with psycopg.connect(place.url) as connection:
        rows = connection.execute("SELECT DISTINCT executor_id FROM ringfence_engine.workflow_status")
        return [row[0] for row in rows]


def test_clock_that_jumped_back(
    sqlite_place: Place, launch_sqlite: Launch, forks: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = forks.Process(target=die, args=(sqlite_place, "after:cut"), daemon=True)
    process.start()
    process.join(60)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    engine = launch_sqlite(journey(sqlite_place))
    assert engine.wait(RUN, 30) is not None
    assert Counter(sqlite_place.effects()) == {**dict.fromkeys((*STEPS, *WORKS), 1), "cut": 2}


def test_one_process_at_a_time_and_death_frees_the_lock(
    sqlite_place: Place, launch_sqlite: Launch, forks: ForkServerContext
) -> None:
    ready = forks.Event()
    holder = forks.Process(target=hold, args=(sqlite_place, ready), daemon=True)
    holder.start()
    assert ready.wait(30)
    with pytest.raises(EngineBusy, match=rf"process {holder.pid} since \d{{4}}-"):
        launch_sqlite({})
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    launch_sqlite({})
