"""The watcher: what others do to what is fenced is told once, put back where that is law, and never our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ringfence.model.fence_events import FencedChanged, FenceRestored
from ringfence.model.page import PageKind
from ringfence.platform.kubernetes.resources import DEPLOYMENT, NETWORK_POLICY, POD
from ringfence.response.context import Context
from ringfence.response.watching.watcher import Options, Watcher
from ringfence.store import pages
from tests.response.steps_of import (
    FENCE_KEY,
    changes,
    contained,
    deny_policies,
    eradicated,
    events,
    is_fenced,
    labels,
    released,
    types,
)
from tests.simulator import Simulator

pytestmark = pytest.mark.slow  # whole responses, and a watcher that waits

Json = dict[str, Any]
Start = Callable[..., Watcher]


@pytest.fixture
def start(context: Context) -> Iterator[Start]:
    """A watcher on the simulated server, which refuses watches: it looks at intervals."""
    running: list[Watcher] = []

    def begin(looked: list[str] | None = None, own: Context | None = None, **options: Any) -> Watcher:
        seen: list[str] = [] if looked is None else looked
        watcher = Watcher(own or context, lambda _: None, seen.append, Options(poll_seconds=0.05, **options))
        running.append(watcher)
        watcher.start()
        return watcher

    yield begin
    for one in running:
        one.close()


def settle(context: Context, number: int, *, seconds: float = 10.0) -> list[FencedChanged]:
    """What was told, as soon as it is that many."""
    end = time.monotonic() + seconds
    while len(found := told(context)) < number and time.monotonic() < end:
        time.sleep(0.02)
    return found


def quiet(context: Context, seconds: float = 0.6) -> list[FencedChanged]:
    time.sleep(seconds)
    return told(context)


def told(context: Context) -> list[FencedChanged]:
    return [event for event in events(context) if isinstance(event, FencedChanged)]


def gone(api: Simulator, resource: Any, name: str) -> None:
    with api._lock:
        key = next(key for key, obj in api.objects.items() if obj["kind"] == resource.kind and key[3] == name)
        del api.objects[key]


def altered(api: Simulator, resource: Any, name: str, change: Callable[[Json], None], by: Json | None = None) -> None:
    """As somebody else's kubectl does it."""
    kubectl = {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-24T03:00:00Z"}
    with api._lock:
        key = next(key for key, obj in api.objects.items() if obj["kind"] == resource.kind and key[3] == name)
        fresh = api.get(resource, key[2], name)
        assert fresh is not None
        change(fresh)
        fresh["metadata"]["managedFields"] = [by or kubectl]
        api._store(key, fresh)


def watch_until_seen(start: Start, context: Context, **options: Any) -> list[str]:
    """Started, and what is held was looked at once."""
    looked: list[str] = []
    start(looked, **options)
    time.sleep(0.4)
    assert told(context) == []
    return looked


def test_what_nobody_touches_is_not_spoken_of(context: Context, start: Start) -> None:
    contained(context)
    before = types(context)
    start()
    assert quiet(context) == []
    assert types(context) == before


def test_a_deleted_pod_is_told_once_paged_and_looked_at_again(context: Context, api: Simulator, start: Start) -> None:
    contained(context)
    looked = watch_until_seen(start, context)
    gone(api, POD, "cards-1")
    found = settle(context, 1)
    assert [(one.ref.name, one.what) for one in found] == [("cards-1", "was deleted")]
    assert len(quiet(context)) == 1
    assert "INC-1" in looked
    with context.store.read() as session:
        titles = [one.title for one in pages.of_incident(session, "INC-1") if one.kind is PageKind.FENCE_CHANGED]
    assert titles == ["INC-1: Pod bank/cards-1 was deleted"]


def test_it_is_told_also_when_it_happened_while_nobody_watched_and_once_over_two_watchers(
    context: Context, api: Simulator, start: Start
) -> None:
    contained(context)
    gone(api, POD, "cards-1")
    first = start()
    assert len(settle(context, 1)) == 1
    first.close()
    start()
    assert len(quiet(context)) == 1


def test_what_was_changed_and_changed_back_while_nobody_watched_is_told_once_for_each_time(
    context: Context, api: Simulator, start: Start
) -> None:
    contained(context)
    fields = {"f:metadata": {"f:labels": {f"f:{FENCE_KEY}": {}}}}
    kubectl = {"manager": "kubectl-label", "operation": "Update", "fieldsV1": fields}
    altered(api, POD, "cards-1", lambda _pod: None, {**kubectl, "time": "2026-11-24T03:00:00Z"})
    first = start()
    (found,) = settle(context, 1)
    assert (found.what, found.who, found.ref.name) == ("was changed", "kubectl-label", "cards-1")
    assert "and changed back, while nobody watched" in found.words
    with context.store.read() as session:
        titles = [one.title for one in pages.of_incident(session, "INC-1") if one.kind is PageKind.FENCE_CHANGED]
    assert titles == ["INC-1: Pod bank/cards-1 was changed"]
    first.close()
    start()
    assert len(quiet(context)) == 1
    altered(api, POD, "cards-1", lambda _pod: None, {**kubectl, "time": "2026-11-24T04:00:00Z"})
    assert len(settle(context, 2)) == 2
    assert is_fenced(api)
    assert "put-back/1:detach" not in changes(context), "there is nothing to put back"


def test_who_puts_back_what_he_had_changed_before_our_eyes_is_told_of_as_that(
    context: Context, api: Simulator, start: Start
) -> None:
    contained(context)
    held = labels(api)[FENCE_KEY]
    watch_until_seen(start, context, put_back=False)
    altered(api, POD, "cards-1", lambda pod: pod["metadata"]["labels"].pop(FENCE_KEY))
    settle(context, 1)
    fields = {"f:metadata": {"f:labels": {f"f:{FENCE_KEY}": {}}}}
    kubectl = {"manager": "kubectl-label", "operation": "Update", "fieldsV1": fields, "time": "2026-11-24T03:00:00Z"}
    altered(api, POD, "cards-1", lambda pod: pod["metadata"]["labels"].update({FENCE_KEY: held}), kubectl)
    assert len(quiet(context)) == 1
    assert [event.why for event in events(context) if isinstance(event, FenceRestored)] == ["somebody else put it back"]


def test_a_label_that_was_taken_off_is_put_back_as_the_pod_was_cut(
    context: Context, api: Simulator, start: Start
) -> None:
    contained(context)
    held = labels(api)
    watch_until_seen(start, context)
    altered(api, POD, "cards-1", lambda pod: pod["metadata"]["labels"].pop(FENCE_KEY))
    found = settle(context, 1)
    assert [(one.what, one.who) for one in found] == [("was changed", "kubectl-edit")]
    assert "managedFields" in found[0].how_known
    end = time.monotonic() + 10
    while not is_fenced(api) and time.monotonic() < end:
        time.sleep(0.02)
    assert labels(api) == held
    assert len(quiet(context)) == 1
    assert "put-back/1:detach" in changes(context)
    assert any(isinstance(event, FenceRestored) for event in events(context))


def test_a_deleted_policy_is_put_back_and_goes_with_the_fence(context: Context, api: Simulator, start: Start) -> None:
    contained(context)
    (name,) = deny_policies(api)
    watch_until_seen(start, context)
    gone(api, NETWORK_POLICY, name)
    assert [(one.ref.name, one.what) for one in settle(context, 1)] == [(name, "was deleted")]
    quiet(context)
    assert deny_policies(api) == [name]
    released(context)
    assert deny_policies(api) == []
    assert len(quiet(context)) == 1


def test_an_edited_policy_is_only_told(context: Context, api: Simulator, start: Start) -> None:
    contained(context)
    (name,) = deny_policies(api)
    watch_until_seen(start, context)
    altered(api, NETWORK_POLICY, name, lambda policy: policy["spec"].update(egress=[{}]))
    assert [one.what for one in settle(context, 1)] == ["was changed"]
    quiet(context)
    live = api.get(NETWORK_POLICY, "bank", name)
    assert live is not None
    assert live["spec"]["egress"] == [{}]


def test_who_takes_it_off_again_and_again_is_told_of_and_not_fought(
    context: Context, api: Simulator, start: Start
) -> None:
    contained(context)
    (name,) = deny_policies(api)
    watch_until_seen(start, context, put_back_hourly=1)
    for number in (1, 2):
        gone(api, NETWORK_POLICY, name)
        assert len(settle(context, number)) == number
        time.sleep(0.4)
    assert deny_policies(api) == []
    assert [event.gate for event in events(context) if event.type == "refusal"] == ["put-back"]


@pytest.mark.parametrize("how", ["configured", "action"])
def test_nothing_is_put_back_where_that_is_switched_off(
    context: Context, api: Simulator, start: Start, how: str
) -> None:
    contained(context)
    (name,) = deny_policies(api)
    policy = replace(context.policy, disabled=frozenset({"network.quarantine"}))
    start(own=replace(context, policy=policy) if how == "action" else None, put_back=how == "action")
    time.sleep(0.4)
    gone(api, NETWORK_POLICY, name)
    assert len(settle(context, 1)) == 1
    quiet(context)
    assert deny_policies(api) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda one: one["spec"].update(replicas=5), "was scaled"),
        (lambda one: one["spec"].update(template={"spec": {"containers": [{"image": "x"}]}}), "has a new template"),
        (
            lambda one: one["spec"].update(
                template={"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
            ),
            "was restarted",
        ),
    ],
)
def test_what_the_pod_came_from_is_watched(
    context: Context, api: Simulator, start: Start, change: Callable[[Json], None], what: str
) -> None:
    contained(context)
    watch_until_seen(start, context)
    altered(api, DEPLOYMENT, "cards", change)
    assert [(one.ref.kind, one.what) for one in settle(context, 1)] == [("Deployment", what)]
    altered(api, DEPLOYMENT, "cards", lambda one: one["spec"].update(replicas=9))
    assert [one.what for one in settle(context, 2)][1:] == ["was scaled"]


def test_an_autoscaler_is_nobody(context: Context, api: Simulator, start: Start) -> None:
    contained(context)
    watch_until_seen(start, context)
    by = {"manager": "kube-controller-manager", "subresource": "scale", "time": "2026-11-24T03:00:00Z"}
    altered(api, DEPLOYMENT, "cards", lambda one: one["spec"].update(replicas=7), by=by)
    assert quiet(context) == []


@pytest.mark.parametrize("end", [eradicated, released])
def test_what_we_do_ourselves_is_no_news(
    context: Context, api: Simulator, start: Start, end: Callable[[Context], object]
) -> None:
    contained(context)
    watch_until_seen(start, context)
    end(context)
    assert api.get(POD, "bank", "cards-1") is None
    assert quiet(context) == []


def test_a_note_on_the_pod_is_nobodys_business(context: Context, api: Simulator, start: Start) -> None:
    contained(context)
    watch_until_seen(start, context)
    altered(api, POD, "cards-1", lambda pod: pod["metadata"].setdefault("annotations", {}).update(note="seen"))
    assert quiet(context) == []


def test_what_a_watcher_told_of_and_then_died_is_put_back_by_the_next(
    context: Context, api: Simulator, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    contained(context)
    (name,) = deny_policies(api)
    with monkeypatch.context() as patch:
        patch.setattr("ringfence.response.watching.watcher.put_back", _die)
        first = start()
        time.sleep(0.4)
        gone(api, NETWORK_POLICY, name)
        assert len(settle(context, 1)) == 1
        first.close()
    assert deny_policies(api) == []
    start()
    end = time.monotonic() + 10
    while not deny_policies(api) and time.monotonic() < end:
        time.sleep(0.02)
    assert deny_policies(api) == [name]
    assert len(told(context)) == 1


def _die(*_arguments: object, **_named: object) -> None:
    raise RuntimeError("the process is gone")
