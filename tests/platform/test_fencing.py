"""Cutting one pod off by policies and labels: whole clusters before, between and after the edits, judged by the oracle.

Covered: the detach and the fence in place (victim shut, everybody else untouched, at every step), the way back, what a
label change removes and reports. The exact patches and their guards are in ``test_fencing_patches.py``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.platform.kubernetes import fencing
from ringfence.platform.kubernetes.policies import PolicyError, evaluate
from tests.platform.network_worlds import (
    FENCE,
    KEYS,
    Grant,
    Json,
    Party,
    World,
    beyond_policies,
    examples,
    key,
    labels_of,
    maps,
    oracle,
    patched,
    picks,
    selectors,
    worlds,
)

pytestmark = pytest.mark.slow  # many generated worlds each

VALUE = "8f2c"


@dataclass(frozen=True)
class Bystanders:
    """Other objects of the victim's namespace that select pods."""

    controllers: tuple[Json, ...]
    services: tuple[Json, ...]
    budgets: tuple[Json, ...]


def objects(kind: str, selector: st.SearchStrategy[Json]) -> st.SearchStrategy[tuple[Json, ...]]:
    def named(drawn: list[Json]) -> tuple[Json, ...]:
        return tuple(
            {"kind": kind, "metadata": {"namespace": "bank", "name": f"{kind}-{i}"}, "spec": {"selector": s}}
            for i, s in enumerate(drawn)
        )

    return st.lists(selector, max_size=2).map(named)


bystanders = st.builds(
    Bystanders,
    objects("ReplicaSet", selectors),
    objects("Service", maps),
    objects("PodDisruptionBudget", selectors),
)


def victim_of(world: World) -> Json:
    return world.pods[0]


def detached(world: World, others: Bystanders, **options: object) -> fencing.LabelChange:
    victim = victim_of(world)
    return fencing.detached_labels(
        victim["metadata"]["namespace"],
        labels_of(victim),
        fence_key=FENCE,
        fence_value=VALUE,
        controllers=others.controllers,
        services=others.services,
        budgets=others.budgets,
        policies=world.policies,
        **options,  # type: ignore[arg-type]
    )


def raw_selector(obj: Json) -> Json:
    """The object's selector, a plain map as ``matchLabels``."""
    if "kind" not in obj:
        return obj["spec"].get("podSelector", {})
    selector = obj["spec"]["selector"]
    return {"matchLabels": selector} if obj["kind"] == "Service" else selector


def positive_keys(selector: Json) -> set[str]:
    return set(selector.get("matchLabels", {})) | {
        e["key"] for e in selector.get("matchExpressions", []) if e["operator"] in ("In", "Exists")
    }


def in_place(world: World) -> fencing.LabelChange:
    victim = victim_of(world)
    return fencing.fenced_labels(
        victim["metadata"]["namespace"],
        labels_of(victim),
        fence_key=FENCE,
        fence_value=VALUE,
        policies=world.policies,
    )


def steps(world: World, change: fencing.LabelChange) -> list[World]:
    """The world before, and after each request of the cut in the documented order."""
    victim = victim_of(world)
    states = [world]
    deny = fencing.deny_all("ringfence-8f2c", victim["metadata"]["namespace"], key=FENCE, value=VALUE, labels={})
    states.append(states[-1].adding(deny))
    for policy in change.to_exclude:
        states.append(states[-1].with_policy(patched(policy, fencing.exclusion(policy, FENCE))))
    states.append(states[-1].with_pod(patched(victim, fencing.relabel(victim, change.labels))))
    return states


def touching(flows: frozenset[Grant], parties: set[Party]) -> set[Grant]:
    return {grant for grant in flows if parties & set(grant[:2])}


def assert_cut_and_nothing_else_changed(world: World, change: fencing.LabelChange) -> None:
    victim = victim_of(world)
    own = {key(victim)}
    fenced_before = {key(pod) for pod in world.pods if FENCE in labels_of(pod)}
    before = oracle(world)
    *between, after = [oracle(state) for state in steps(world, change)]
    assert touching(after, own) == beyond_policies(world, victim), "the victim is not cut exactly"
    for state in between:
        # Until the label is on, the victim's own flows stay as they were, but those with pods that are fenced already.
        assert touching(state, own) - touching(state, fenced_before) == (
            touching(before, own) - touching(before, fenced_before)
        )
    for state in (*between, after):
        others_before, others = before - touching(before, own), state - touching(state, own)
        assert others - touching(others, fenced_before) == others_before - touching(others_before, fenced_before)
        assert others <= others_before, "a pod that was fenced earlier gained a flow"


@examples(60)
@given(worlds(fenced_before=True), bystanders)
def test_a_detach_cuts_the_victim_and_changes_no_other_flow(world: World, others: Bystanders) -> None:
    assert_cut_and_nothing_else_changed(world, detached(world, others))


@examples(50)
@given(worlds(fenced_before=True))
def test_a_fence_in_place_cuts_the_victim_and_changes_no_other_flow(world: World) -> None:
    change = in_place(world)
    assert change.labels == {**labels_of(victim_of(world)), FENCE: VALUE}
    assert_cut_and_nothing_else_changed(world, change)


@examples(50)
@given(worlds(fenced_before=True), bystanders)
def test_the_evaluation_calls_a_pod_cut_exactly_when_the_exclusions_are_made(world: World, others: Bystanders) -> None:
    change = detached(world, others)
    states = steps(world, change)
    victim = victim_of(states[-1])
    assert evaluate(victim, states[-1].policies).cut
    for skipped in change.to_exclude:
        assert not evaluate(victim, states[-1].with_policy(skipped).policies).cut


@examples(60)
@given(worlds(), bystanders, st.sets(st.sampled_from(KEYS), max_size=1))
def test_what_still_selects_a_detached_pod_is_named(world: World, others: Bystanders, keep: set[str]) -> None:
    victim = victim_of(world)
    change = detached(world, others, keep=keep)
    home = victim["metadata"]["namespace"]

    def still(candidates: tuple[Json, ...]) -> tuple[str, ...]:
        return tuple(
            f"{obj['kind']} {obj['metadata']['name']}"
            for obj in candidates
            if obj["metadata"]["namespace"] == home
            and (obj["kind"] != "Service" or obj["spec"]["selector"])
            and picks(raw_selector(obj), dict(change.labels))
        )

    assert change.controllers == still(others.controllers)
    assert change.services == still(others.services)
    assert change.budgets == still(others.budgets)
    assert change.detaches == (not change.controllers and not change.services)
    if not keep:
        assert not change.services, "a Service selects by labels that can be taken off"


@examples(60)
@given(worlds(), bystanders, st.sets(st.sampled_from(KEYS), max_size=1))
def test_only_labels_that_something_needs_are_removed(world: World, others: Bystanders, keep: set[str]) -> None:
    before = labels_of(victim_of(world))
    change = detached(world, others, keep=keep)
    removed = {label.key: label for label in change.removed}
    assert change.labels == {k: v for k, v in {**before, FENCE: VALUE}.items() if k not in removed}
    assert not removed.keys() & {FENCE, *keep}
    everything = [*others.controllers, *others.services, *others.budgets, *world.policies]
    selector_of = {obj["metadata"]["name"]: raw_selector(obj) for obj in everything}
    for label in change.removed:
        assert before[label.key] == label.value
        for name in label.needed_by:
            assert label.key in positive_keys(selector_of[name.split()[1]])


@examples(50)
@given(worlds(), bystanders)
def test_the_way_back_restores_every_object_exactly(world: World, others: Bystanders) -> None:
    change = detached(world, others)
    cut = steps(world, change)[-1]
    victim = victim_of(cut)
    excluded = {key(policy): policy for policy in cut.policies}
    for original in change.to_exclude:
        live, prior = excluded[key(original)], original["spec"].get("podSelector")
        with pytest.raises(PolicyError, match="not to be put back yet"):
            fencing.without_exclusion(live, FENCE, prior=prior, pods=cut.pods)
    released = cut.with_pod(patched(victim, fencing.relabel(victim, labels_of(victim_of(world)))))
    assert [labels_of(pod) for pod in released.pods] == [labels_of(pod) for pod in world.pods]
    for original in change.to_exclude:
        live, prior = excluded[key(original)], original["spec"].get("podSelector")
        restored = patched(live, fencing.without_exclusion(live, FENCE, prior=prior, pods=released.pods))
        assert restored == original
        assert fencing.without_exclusion(restored, FENCE, prior=prior, pods=released.pods) == ()


@examples(50)
@given(worlds(), bystanders)
def test_nothing_that_is_passed_in_is_changed(world: World, others: Bystanders) -> None:
    snapshot = copy.deepcopy((world, others))
    steps(world, detached(world, others))
    assert (world, others) == snapshot
