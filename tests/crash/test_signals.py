"""The program itself, interrupted: Ctrl-C, a closed terminal, a polite and an impolite kill; then ``resume``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.crash.conftest import Place, Undisturbed
from tests.crash.scenarios import Order, Scenario
from tests.crash.witness import Hold

pytestmark = pytest.mark.slow
CONTAIN = Scenario("contain", (Order("contain", target="pod/cards-1"),))
INTERRUPTED, INCOMPLETE = 128 + signal.SIGINT, 9
HOLDS = {"before its first write": ("POST", "/networkpolicies"), "in the cut": ("PATCH", "/pods/cards-1")}


def ringfence(place: Place, *arguments: str) -> subprocess.Popen[str]:
    """``ringfence ARGUMENTS`` as a process of its own, in a group of its own as a terminal would have it."""
    config = place.home.folder / "config.json"
    config.write_text(json.dumps(place.home.sections()))
    environment = {**os.environ, "RINGFENCE_CONFIG": str(config), "NO_PROXY": "*", "no_proxy": "*"}
    return subprocess.Popen(
        [sys.executable, "-c", "from ringfence.cli import main; main()", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ends(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def resumed(place: Place) -> None:
    code, out, err = ends(ringfence(place, "resume", "INC-1"))
    assert code in (0, INCOMPLETE), f"{code}\n{out}\n{err}"


@pytest.mark.parametrize("where", HOLDS)
def test_ctrl_c_says_what_to_type_and_that_goes_on(
    where: str, place: Place, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    hold = Hold(*HOLDS[where])
    place.api.holds.append(hold)
    process = ringfence(place, "contain", "pod/cards-1", "-n", "bank", "--accept-outage", "--reason", "a crash test")
    hold.await_request()
    process.send_signal(signal.SIGINT)
    hold.release()
    code, _, err = ends(process)
    assert code == INTERRUPTED, err
    assert "next: ringfence resume INC-1" in err
    assert "Traceback" not in err
    resumed(place)
    ending, wrong = place.ending()
    assert not [*wrong, *undisturbed(CONTAIN).ending.differences(ending)]


def test_two_ctrl_c_are_no_worse_than_one(place: Place, undisturbed: Callable[[Scenario], Undisturbed]) -> None:
    hold = Hold("PATCH", "/pods/cards-1")
    place.api.holds.append(hold)
    process = ringfence(place, "contain", "pod/cards-1", "-n", "bank", "--accept-outage")
    hold.await_request()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "resume INC-1" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)  # while it waits for the step in flight
    code, _, err = ends(process)
    assert code == INTERRUPTED, err
    assert "Traceback" not in err
    hold.release()
    resumed(place)
    ending, wrong = place.ending()
    assert not [*wrong, *undisturbed(CONTAIN).ending.differences(ending)]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_closed_terminal_or_a_kill_is_resumed(
    number: signal.Signals, place: Place, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    hold = Hold("PATCH", "/pods/cards-1")
    place.api.holds.append(hold)
    process = ringfence(place, "contain", "pod/cards-1", "-n", "bank", "--accept-outage")
    hold.await_request()
    process.send_signal(number)
    code, _, err = ends(process)
    assert code == -number, err
    hold.release()
    resumed(place)
    ending, wrong = place.ending()
    assert not [*wrong, *undisturbed(CONTAIN).ending.differences(ending)]


def test_a_terminal_that_is_gone_does_not_stop_what_goes_on(
    place: Place, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    """With ``nohup`` the process lives on and can print nowhere."""
    hold = Hold("PATCH", "/pods/cards-1")
    place.api.holds.append(hold)
    process = ringfence(place, "contain", "pod/cards-1", "-n", "bank", "--accept-outage")
    hold.await_request()
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    hold.release()
    assert process.wait(60) in (0, INCOMPLETE)
    ending, wrong = place.ending()
    assert not [*wrong, *undisturbed(CONTAIN).ending.differences(ending)]
