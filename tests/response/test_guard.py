"""Guardrails: what no response may touch, and when customers would fall below the serving floor."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.model.plan import Impact, ServiceImpact
from ringfence.response.context import Policy
from ringfence.response.guard import below_floor, protected

POLICY = Policy(
    serving_floor=1,
    pre_cut_wait_ms=200,
    seal_max_age_seconds=900,
    delete_wait_seconds=1,
    token_canary=True,
    protected_namespaces=("kube-system", "vault"),
    protected_label="ringfence.dev/protected",
)


def pod(namespace: str = "bank", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "cards-1", "namespace": namespace, **meta}}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (pod("kube-system"), "kube-system"),
        (pod("vault"), "vault"),
        (pod(labels={"ringfence.dev/protected": "true"}), "ringfence.dev/protected"),
        (pod(labels={"ringfence.dev/protected": "false"}), "ringfence.dev/protected"),  # there is there
        (pod(labels={"ringfence.dev/protected": ""}), "ringfence.dev/protected"),
        (pod(annotations={"kubernetes.io/config.mirror": "x"}), "static pod"),
    ],
)
def test_a_protected_target_is_refused_with_a_way_on(target: dict[str, Any], words: str) -> None:
    refusal = protected(target, POLICY)
    assert refusal is not None
    assert words in refusal.reason
    assert refusal.next_step


@pytest.mark.parametrize(
    "target",
    [
        pod(),
        pod(labels=None, annotations=None),
        pod("kube-system-2"),
        pod("KUBE-SYSTEM"),
        pod(labels={"protected": "true"}),
        pod(annotations={"ringfence.dev/protected": "true"}),
    ],
)
def test_anything_else_may_be_contained(target: dict[str, Any]) -> None:
    assert protected(target, POLICY) is None


def service(name: str, before: int, after: int, floor: int = 1) -> ServiceImpact:
    return ServiceImpact(
        service=name, ready_before=before, ready_after=after, ready_with_replacement=before, floor=floor
    )


def impact(*services: ServiceImpact) -> Impact:
    return Impact(pods=1, services=services, replacement="nobody", replacement_expected=False)


def test_each_service_that_would_fall_below_its_floor_is_named() -> None:
    words = below_floor(impact(service("cards", 1, 0), service("ledger", 3, 2), service("auth", 3, 2, floor=3)))
    assert words == "cards would have 0 of 1 serving (floor 1); auth would have 2 of 3 serving (floor 3)"


def test_nothing_is_said_when_every_service_keeps_its_floor() -> None:
    assert below_floor(impact()) == ""
    assert below_floor(impact(service("cards", 2, 1), service("idle", 0, 0))) == ""
