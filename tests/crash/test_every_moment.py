"""kill -9 at every moment, then ``resume``: what is left is what an undisturbed run leaves, and nothing happened twice.

The moments are recorded from a run of each scenario (every playbook of the library, the short commands), never listed
by hand: whatever a playbook or an action comes to do is tried from then on. Each state of contain, eradicate, release
and the checkpoint is tried, and each around a person's decision; of the other scenarios every third (of the canary and
the node helper, which make many changes of one kind, fewer): about 290 deaths.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ringfence.actions.checkpoint import Checkpoint
from ringfence.actions.node_helper import NODE_ACTIONS
from ringfence.actions.registry import ACTIONS
from ringfence.model.catalogue import CATALOGUE
from ringfence.playbooks import builtin_names
from tests.crash.conftest import MakePlace, Undisturbed
from tests.crash.driver import DIED, Trouble
from tests.crash.moments import Moment, states
from tests.crash.scenarios import Scenario, all_of_them

SCENARIOS = all_of_them()
PARTS = 6


def chosen(scenario: Scenario, moments: list[Moment]) -> list[Moment]:
    """What the scenario says of its states, and each one around a question to a person and its answer."""
    found = states(moments)
    if scenario.since:
        first = next(moment for moment in moments if moment.where == scenario.since)
        found = states(moments[moments.index(first) :])
    return [
        moment
        for number, moment in enumerate(found)
        if number % scenario.share == 0 or any(word in moment.where for word in ("consent", "approve", "requeue"))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_death_and_resume(
    scenario: Scenario, part: int, make_place: MakePlace, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    expected = undisturbed(scenario)
    problems = []
    for moment in chosen(scenario, expected.moments)[part::PARTS]:
        with make_place() as place:
            first = place.run(scenario.orders, Trouble(at=moment))
            assert first == DIED, f"{moment} did not come: {first}\n{place.said()}"
            second = place.run(scenario.orders)
            ending, wrong = place.ending()
            wrong += expected.ending.differences(ending)
            if second or wrong:
                problems.append(f"death {moment}, then exit {second}:\n  " + "\n  ".join([*wrong, place.said()]))
    assert not problems, "\n".join(problems)


@pytest.mark.slow
@pytest.mark.parametrize("chosen_by", range(10))
def test_death_during_resume(
    chosen_by: int, make_place: MakePlace, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    """Whoever resumes dies as well, somewhere; the third one brings it to the same end."""
    chance = random.Random(chosen_by)
    scenario = SCENARIOS[chosen_by % len(SCENARIOS)]
    expected = undisturbed(scenario)
    moment = chance.choice(states(expected.moments))
    with make_place() as place:
        assert place.run(scenario.orders, Trouble(at=moment)) == DIED
        after = chance.randrange(1, 30)
        assert place.run(scenario.orders, Trouble(after=after)) in (DIED, 0)
        assert place.run(scenario.orders) == 0, place.said()
        ending, wrong = place.ending()
        problems = [*wrong, *expected.ending.differences(ending)]
        assert not problems, f"death {moment}, then after {after} moments: {problems}\n{place.said()}"


@pytest.mark.slow
def test_every_action_is_among_them(undisturbed: Callable[[Scenario], Undisturbed]) -> None:
    """The catalogue grew: then a playbook of the library, or a scenario, has to use the new action."""
    deaths = [moment for scenario in SCENARIOS for moment in chosen(scenario, undisturbed(scenario).moments)]
    assert {moment.kind for moment in deaths} == {"commit", "request", "step", "file"}
    assert {moment.when for moment in deaths} == {"before", "worked", "after"}
    tried = {action for scenario in SCENARIOS for action in undisturbed(scenario).ending.actions}
    assert tried == set(CATALOGUE)
    sent = {action for scenario in SCENARIOS for action in undisturbed(scenario).ending.journalled}
    assert sent >= {*ACTIONS, *NODE_ACTIONS, Checkpoint.name}


def test_every_playbook_is_among_them() -> None:
    ordered = {order.playbook for scenario in SCENARIOS for order in scenario.orders}
    names = {scenario.name.removeprefix("playbook-") for scenario in SCENARIOS}
    assert set(builtin_names()) <= ordered | names


def test_moments_between_two_changes_are_one_state() -> None:
    def moment(when: str, kind: str = "commit") -> Moment:
        return Moment(kind, when, "x", 1)

    recorded = [moment("before"), moment("after"), moment("before", "step"), moment("worked", "step"), moment("after")]
    kept = states(recorded)
    assert len(kept) == 3
    assert [one for one in kept if one in recorded] == kept
