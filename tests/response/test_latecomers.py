"""A pod that starts between a group's survey and its cut is cut as well; a replacement never is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from ringfence.errors import RingfenceError, TargetError, Unanswered
from ringfence.model.incident import Incident
from ringfence.model.outcome import Applied, Refused
from ringfence.model.playbook import Phase
from ringfence.model.run import Decision, Group, RunState
from ringfence.platform.kubernetes.resources import DEPLOYMENT, POD, REPLICA_SET
from ringfence.playbooks import find
from ringfence.response import consent, orders, verbs
from ringfence.response.context import Context
from ringfence.response.orders import Order
from ringfence.response.results import Result
from ringfence.response.verbs import Wish
from ringfence.store import incidents, runs
from tests.response.steps_of import changes, conductor, eradicated, found, is_fenced
from tests.simulator import Fault, Simulator, _key

pytestmark = pytest.mark.slow  # whole responses, one after the other


def scale_up(api: Simulator, *, seconds_ago: float) -> str:
    """Somebody asks for one pod more: its name."""
    before = {pod["metadata"]["name"] for pod in api.all(POD)}
    api.objects[_key(REPLICA_SET, "bank", "cards-6b7f")]["spec"]["replicas"] = 3
    api.objects[_key(DEPLOYMENT, "bank", "cards")]["spec"]["replicas"] = 3
    api._controllers()
    (name,) = {pod["metadata"]["name"] for pod in api.all(POD)} - before
    pod: Any = api.objects[_key(POD, "bank", name)]
    pod["metadata"]["creationTimestamp"] = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    return name


PHASES = (Phase.CONTAINING.value,)
GROUP = Group(names=("deployment/cards",), namespace="bank")


def wish(command: str) -> Wish:
    return Wish(reason="x", command=command, accept_outage=True, group=GROUP)


def cut(context: Context, late: Callable[[], object]) -> tuple[Result, list[str]]:
    """``contain deployment/cards``; ``late`` happens once the group was looked up."""
    group = found(context, "deployment/cards")
    late()
    said: list[str] = []
    return verbs.contain(context, conductor(context, say=said.append), group, wish("contain")), said


def incident_of(context: Context) -> Incident:
    with context.store.read() as session:
        return incidents.get(session, "INC-1")


def answers(monkeypatch: pytest.MonkeyPatch, error: RingfenceError) -> None:
    """What the second look up ends in."""

    def raises(*_arguments: object) -> NoReturn:
        raise error

    monkeypatch.setattr("ringfence.response.latecomers.meant", raises)


def test_a_pod_that_started_in_between_is_cut_and_the_replacements_are_named(context: Context, api: Simulator) -> None:
    names: list[str] = []
    result, said = cut(context, lambda: names.append(scale_up(api, seconds_ago=30)))
    assert result.outcome == Applied()
    assert {step.target_uid for step in result.steps if step.action == "network.quarantine"} >= {
        api.objects[_key(POD, "bank", name)]["metadata"]["uid"] for name in ("cards-1", "cards-2", *names)
    }
    fenced = {pod["metadata"]["name"] for pod in api.all(POD) if is_fenced(api, pod["metadata"]["name"])}
    assert fenced == {"cards-1", "cards-2", *names}
    assert {record.incident for record in changes(context).values()} == {"INC-1"}, "it is one incident"
    replacements = {pod["metadata"]["name"] for pod in api.all(POD)} - fenced
    assert replacements
    (words,) = [words for words in said if "as replacements or not" in words]
    assert not any(name in words for name in fenced)
    assert [words for words in said if words.startswith(f"started before the first was cut: Pod bank/{names[0]}")]
    assert len(result.seals) == 3
    with context.store.read() as session:
        first, second = runs.of_incident(session, "INC-1")
    # Whoever resumed the second one would take the replacements for pods of before, and cut them.
    assert (first.order.group, second.order.group) == (GROUP, None)


def test_replacements_alone_are_no_reason_for_a_second_run(context: Context, api: Simulator) -> None:
    """Else each cut would be chased by the next, and the service never come back."""
    result, said = cut(context, lambda: None)
    assert result.run.id == "INC-1/run/1"
    assert {pod["metadata"]["name"] for pod in api.all(POD) if is_fenced(api, pod["metadata"]["name"])} == {
        "cards-1",
        "cards-2",
    }
    assert [words for words in said if "as replacements or not" in words]


def test_one_that_started_as_the_cut_began_may_be_a_replacement(context: Context, api: Simulator) -> None:
    names: list[str] = []
    _, said = cut(context, lambda: names.append(scale_up(api, seconds_ago=0)))
    assert not is_fenced(api, names[0])
    assert [words for words in said if f"bank/{names[0]}" in words and "as replacements or not" in words]


def test_one_that_cannot_be_cut_makes_the_whole_command_incomplete(context: Context, api: Simulator) -> None:
    def late() -> None:
        name = scale_up(api, seconds_ago=30)
        api.faults.append(Fault("PATCH", f"/pods/{name}", 403, "no label may change", dry=None))

    result, _ = cut(context, late)
    assert not isinstance(result.outcome, Applied)


def test_a_protected_latecomer_is_not_touched_and_keeps_the_command_from_success(
    context: Context, api: Simulator
) -> None:
    names: list[str] = []

    def late() -> None:
        names.append(scale_up(api, seconds_ago=30))
        pod: Any = api.objects[_key(POD, "bank", names[0])]
        pod["metadata"]["labels"]["ringfence.dev/protected"] = "yes"

    result, _ = cut(context, late)
    assert isinstance(result.outcome, Refused)
    assert not is_fenced(api, names[0])
    assert is_fenced(api, "cards-2"), "the group's own cut stands"


def test_a_cluster_that_falls_silent_is_said_and_the_cut_stands(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, Unanswered("no answer", system="kubernetes", verb="list", target="pods"))
    result, said = cut(context, lambda: None)
    assert result.outcome == Applied()
    assert [words for words in said if "is not known: no answer" in words]


def test_a_workload_that_is_gone_by_then_has_no_latecomers(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, TargetError("there is no Deployment cards any more"))
    result, said = cut(context, lambda: None)
    assert (result.outcome, [words for words in said if "started" in words]) == (Applied(), [])


def test_a_whole_playbook_looks_as_well_and_still_waits_for_its_person(context: Context, api: Simulator) -> None:
    """The pod that nobody knew is cut and sealed; it is not deleted by an answer that was given about others."""
    group = found(context, "deployment/cards")
    name = scale_up(api, seconds_ago=30)
    said: list[str] = []
    result = verbs.respond(
        context, conductor(context, say=said.append), verbs.COMPROMISED, group, wish("respond deployment/cards")
    )
    assert (result.run.id, result.run.state) == ("INC-1/run/1", RunState.WAITING)
    assert is_fenced(api, name)
    assert [words for words in said if words.startswith(f"started before the first was cut: Pod bank/{name}")]
    said.clear()
    decided = consent.decide(context, "INC-1", Decision.APPROVED, reason="it is time")
    after = verbs.carry_on(context, conductor(context, say=said.append), decided.run)
    assert not [words for words in said if "the first was cut" in words], "that was looked at before the question"
    names = {pod["metadata"]["name"] for pod in api.all(POD)}
    assert name in names
    assert not {"cards-1", "cards-2"} & names
    assert after.run.why == "lift was refused", "the fence holds one that nobody has decided about"
    assert eradicated(context).outcome == Applied()
    assert name not in {pod["metadata"]["name"] for pod in api.all(POD)}


def test_a_cut_that_waited_for_a_person_looks_once_it_was_made(
    context: Context, api: Simulator, with_policy: Callable[..., Context]
) -> None:
    """Nothing was cut when the command ended; whoever says yes is the one who cuts."""
    held = with_policy(serving_floor=2, blast_radius_pods=0)
    group = found(held, "deployment/cards")
    result = verbs.contain(held, conductor(held), group, wish("contain deployment/cards"))
    assert (result.run.state, is_fenced(api, "cards-1")) == (RunState.WAITING, False)
    name = scale_up(api, seconds_ago=30)
    other = replace(held, principal=held.principal.model_copy(update={"subject": "bob"}))
    decided = consent.decide(other, "INC-1", Decision.APPROVED, reason="both of them")
    said: list[str] = []
    verbs.carry_on(other, conductor(other, say=said.append), decided.run)
    assert is_fenced(api, "cards-1")
    assert [words for words in said if words.startswith(f"started before the first was cut: Pod bank/{name}")]


def test_a_run_that_died_is_looked_after_by_whoever_resumes_it(context: Context, api: Simulator) -> None:
    """Its words are kept with it: the command that knew them is gone."""
    content, source = find(verbs.COMPROMISED)
    order = Order(
        content, source, found(context, "deployment/cards"), "x", verbs._how(wish("contain"), PHASES, decided=False)
    )
    orders.place(context, order)
    name = scale_up(api, seconds_ago=30)
    (result,) = verbs.resume(context, conductor(context), incident_of(context))
    assert result.outcome == Applied()
    assert is_fenced(api, name)


def test_a_run_that_was_cancelled_looks_for_nobody(context: Context, api: Simulator) -> None:
    """Who said stop did not ask for another cut."""
    group = found(context, "deployment/cards")
    name = scale_up(api, seconds_ago=30)

    def stop(*_about: object) -> None:
        with context.store.read() as session:
            (run,) = runs.of_incident(session, "INC-1")
        if not run.state.ended:
            orders.cancel(context, run, reason="it was a drill")

    result = verbs.respond(
        context, conductor(context, on_cut=stop), verbs.COMPROMISED, group, wish("respond deployment/cards")
    )
    assert result.run.state is RunState.CANCELLED
    assert is_fenced(api, "cards-1")
    assert not is_fenced(api, name)
