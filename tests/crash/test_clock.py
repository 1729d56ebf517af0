"""The clock jumps by an hour between two steps: nothing hangs, the chain verifies, the gates take no age on trust."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringfence.platform.kubernetes.resources import POD
from tests.crash.conftest import Place, Undisturbed
from tests.crash.driver import Trouble
from tests.crash.moments import Moment
from tests.crash.scenarios import Order, Scenario

pytestmark = pytest.mark.slow
HOUR = 3600.0
JUMPS = pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["forward", "back"])
CONTAIN = Order("contain", target="pod/cards-1")
SCENARIO = Scenario("contain-eradicate", (CONTAIN, Order("eradicate")))
RELEASED = Scenario("contain-release", (CONTAIN, Order("release")))
DELETE = "INC-1/run/2/delete/Pod/cards-1"


def step(name: str, when: str = "before") -> Moment:
    return Moment("step", when, name, 1)


@JUMPS
@pytest.mark.parametrize("name", ["cut", "lift", "look-again"])
def test_where_no_age_counts_a_jump_changes_nothing(
    name: str, seconds: float, place: Place, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    assert place.run(SCENARIO.orders, Trouble("jump", at=step(name), seconds=seconds)) == 0, place.said()
    ending, wrong = place.ending()
    assert not [*wrong, *undisturbed(SCENARIO).ending.differences(ending)], place.said()


@JUMPS
@pytest.mark.parametrize("verb", ["create networkpolicies", "patch pods"])
def test_a_jump_in_the_middle_of_a_cut_is_no_other_cut(
    verb: str, seconds: float, place: Place, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    """What was changed last is taken back first, whatever the clock says of the order."""
    moment = Moment("request", "after", verb, 1)
    assert place.run(RELEASED.orders, Trouble("jump", at=moment, seconds=seconds)) == 0, place.said()
    ending, wrong = place.ending()
    assert not [*wrong, *undisturbed(RELEASED).ending.differences(ending)], place.said()


@pytest.mark.parametrize(("seconds", "words"), [(HOUR, " s old, 900 s allowed"), (-HOUR, "is from the future")])
def test_a_seal_whose_age_is_not_known_keeps_the_gate_shut(seconds: float, words: str, place: Place) -> None:
    trouble = Trouble("jump", at=step("look"), seconds=seconds)
    assert place.run(SCENARIO.orders, trouble) == 0, place.said()
    ending, wrong = place.ending()
    assert not wrong
    assert ending.steps[DELETE] == "refused"
    assert words in ending.why[DELETE]
    assert place.api.get(POD, "bank", "cards-1") is not None
    # A fresh seal, by the same clock, opens it: nobody has to wait for the clock to come right.
    orders = (Order("collect"), Order("eradicate"))
    assert place.run(orders, Trouble("jump", seconds=seconds), resumes=False) == 0, place.said()
    assert place.api.get(POD, "bank", "cards-1") is None, place.said()
    assert place.ending()[1] == []


@pytest.mark.parametrize(("seconds", "decision"), [(2 * HOUR, "expired"), (-HOUR, "approved")])
def test_an_approval_after_a_jump(seconds: float, decision: str, place: Place) -> None:
    respond = (Order("respond", "compromised-workload", "pod/cards-1"),)
    assert place.run(respond, resumes=False) == 0, place.said()
    code = place.run((Order("approve"),), Trouble("jump", seconds=seconds), resumes=False)
    assert (code == 0) is (decision == "approved"), place.said()
    if code:  # the run ends with the next engine, whoever starts one
        assert place.run((), Trouble("jump", seconds=seconds)) == 0, place.said()
    ending, wrong = place.ending()
    assert not wrong
    assert ending.approvals == [decision], place.said()
    assert ending.runs[0][1] == "failed"
    # Approved, it came to the gate: the seal is from the future then.
    assert ending.steps.get("INC-1/run/1/delete/Pod/cards-1", "") == ("refused" if decision == "approved" else "")
    assert place.api.get(POD, "bank", "cards-1") is not None


@JUMPS
def test_a_lease_that_runs_out_is_said_and_reverts_nothing(seconds: float, place: Place) -> None:
    assert place.run((CONTAIN,), resumes=False) == 0, place.said()
    watcher = place.start((Order("watch"),), Trouble("jump", seconds=9 * seconds), resumes=False)
    watcher.says("the engine runs")
    watcher.process.kill()
    watcher.end()
    ending, wrong = place.ending()
    assert not wrong
    assert ending.facts["lease.expired"] == (1 if seconds > 0 else 0)
    pod = place.api.get(POD, "bank", "cards-1")
    assert pod is not None
    assert "ringfence.dev/fence" in pod["metadata"]["labels"]
