"""A pod that starts between a group's survey and its cut is cut as well; a replacement never is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringfence.errors import TargetError, Unanswered
from ringfence.model.outcome import Applied, Refused
from ringfence.platform.kubernetes.resources import DEPLOYMENT, POD, REPLICA_SET
from ringfence.response import verbs
from ringfence.response.context import Context
from ringfence.response.latecomers import Again
from ringfence.response.results import Result
from ringfence.response.verbs import Wish
from tests.response.steps_of import changes, conductor, found, is_fenced
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


def cut(context: Context, late: Any, again: Again | None = None) -> tuple[Result, list[str]]:
    """``contain deployment/cards``; ``late`` happens once the group was looked up."""
    group = found(context, "deployment/cards")
    late()
    said: list[str] = []
    wish = Wish(reason="x", command="contain", accept_outage=True)
    look = again or (lambda: found(context, "deployment/cards"))
    return verbs.contain(context, conductor(context, say=said.append), group, wish, again=look), said


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


def test_a_cluster_that_falls_silent_is_said_and_the_cut_stands(context: Context) -> None:
    def silent() -> Any:
        raise Unanswered("no answer", system="kubernetes", verb="list", target="pods")

    result, said = cut(context, lambda: None, silent)
    assert result.outcome == Applied()
    assert [words for words in said if "is not known: no answer" in words]


def test_a_workload_that_is_gone_by_then_has_no_latecomers(context: Context) -> None:
    def gone() -> Any:
        raise TargetError("there is no Deployment cards any more")

    result, said = cut(context, lambda: None, gone)
    assert (result.outcome, [words for words in said if "started" in words]) == (Applied(), [])
