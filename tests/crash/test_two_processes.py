"""Two processes on one store: one runs the engine, the other leaves word; the one that is left takes over."""

from __future__ import annotations

import os
import signal

import pytest

from ringfence.model.run import RunState
from ringfence.platform.kubernetes.resources import POD
from ringfence.store import commands, runs, timeline
from ringfence.store.database import open_store
from tests.crash.conftest import Place
from tests.crash.driver import DIED, Trouble
from tests.crash.moments import Moment
from tests.crash.scenarios import Order
from tests.crash.witness import Hold

pytestmark = pytest.mark.slow
FIRST = (Order("contain", target="pod/cards-1"),)
SECOND = (Order("contain", target="pod/cards-2"),)


def states(place: Place) -> dict[str, RunState]:
    """Every run of the store; their timelines verify, and no command is left."""
    store = open_store(f"sqlite:///{place.home.database}")
    try:
        with store.read() as session:
            found = {run.id: run.state for number in (1, 2) for run in runs.of_incident(session, f"INC-{number}")}
            for number in (1, 2):
                timeline.read(session, f"INC-{number}")
            assert commands.waiting(session) == ()
        return found
    finally:
        store.close()


def is_fenced(place: Place, name: str) -> bool:
    pod = place.api.get(POD, "bank", name)
    assert pod is not None
    return "ringfence.dev/fence" in pod["metadata"]["labels"]


def test_the_second_hands_its_run_to_the_first(place: Place) -> None:
    hold = Hold("PATCH", "/pods/cards-1")
    place.api.holds.append(hold)
    first = place.start(FIRST, resumes=False)
    hold.await_request()
    second = place.start(SECOND, resumes=False)
    second.says("runs the engine: INC-2/run/1 is handed to it")
    hold.release()
    assert (first.end(), second.end()) == (0, 0), place.said()
    assert states(place) == {"INC-1/run/1": RunState.DONE, "INC-2/run/1": RunState.DONE}
    assert is_fenced(place, "cards-1")
    assert is_fenced(place, "cards-2")
    assert len(place.api.effects) == len(set(place.api.effects))


def test_who_waits_takes_over_from_a_holder_that_was_killed(place: Place) -> None:
    hold = Hold("PATCH", "/pods/cards-1")
    place.api.holds.append(hold)
    first = place.start(FIRST, resumes=False)
    hold.await_request()
    second = place.start(SECOND, resumes=False)
    second.says("is handed to it")
    assert first.process.pid is not None
    os.kill(first.process.pid, signal.SIGKILL)
    assert first.end() == DIED
    hold.release()
    assert second.end() == 0, place.said()
    # It carried on what the dead one had left, too, before it let go of the engine.
    assert states(place) == {"INC-1/run/1": RunState.DONE, "INC-2/run/1": RunState.DONE}
    assert is_fenced(place, "cards-1")
    assert is_fenced(place, "cards-2")
    assert len(place.api.effects) == len(set(place.api.effects))


def test_a_second_command_for_the_same_pod_joins_and_nothing_is_done_twice(place: Place) -> None:
    hold = Hold("PATCH", "/pods/cards-1")
    place.api.holds.append(hold)
    first = place.start(FIRST, resumes=False)
    hold.await_request()
    second = place.start(FIRST, resumes=False)
    second.says("is handed to it")
    hold.release()
    assert (first.end(), second.end()) == (0, 0), place.said()
    ending, wrong = place.ending()
    assert not wrong
    assert ending.runs == [("INC-1/run/1", "done", "")], "it sees the run of the first to its end"


def test_an_approval_from_another_process_wakes_the_run_in_the_one_that_watches(place: Place) -> None:
    watcher = place.start((Order("watch"),), resumes=False)
    watcher.says("the engine runs")
    respond = (Order("respond", "compromised-workload", "pod/cards-1"),)
    assert place.run(respond, resumes=False) == 0, place.said()
    waiting, wrong = place.ending()
    assert not wrong
    assert (waiting.runs[0][1], waiting.approvals) == ("waiting", ["pending"])
    assert place.run((Order("approve"),), resumes=False) == 0, place.said()
    ending, wrong = place.ending()
    assert not wrong
    assert (ending.runs, ending.approvals) == ([("INC-1/run/1", "done", "")], ["approved"])
    assert place.api.get(POD, "bank", "cards-1") is None
    assert "pod.delete" in watcher.said(), "the watcher carried it out"
    watcher.process.kill()
    assert watcher.end() == DIED


def test_a_watcher_that_dies_while_it_carries_a_run_on_is_followed_by_who_asked_for_it(place: Place) -> None:
    watcher = place.start((Order("watch"),), resumes=False)
    watcher.says("the engine runs")
    hold = Hold("PATCH", "/pods/cards-1")
    place.api.holds.append(hold)
    asking = place.start(FIRST, resumes=False)
    hold.await_request()
    watcher.process.kill()
    assert watcher.end() == DIED
    hold.release()
    assert asking.end() == 0, place.said()
    ending, wrong = place.ending()
    assert not wrong
    assert ending.runs == [("INC-1/run/1", "done", "")]
    assert len(place.api.effects) == len(set(place.api.effects))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_watcher_that_dies_while_it_takes_the_word_is_followed_by_who_gave_it(place: Place, when: str) -> None:
    watcher = place.start((Order("watch"),), Trouble(at=Moment("commit", when, "response.conduct._obey", 1)))
    watcher.says("the engine runs")
    assert place.run(FIRST, resumes=False) == 0, place.said()
    assert watcher.end() == DIED
    ending, wrong = place.ending()
    assert not wrong
    assert ending.runs == [("INC-1/run/1", "done", "")]
    assert len(place.api.effects) == len(set(place.api.effects))
