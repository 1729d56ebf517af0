"""KEDA scales up what a response stops, and leaves it alone once it is paused; then it scales as before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.kube import Object, wait_until
from lab.layout import Lab
from tests.lab.keda import API_VERSION, HELD, PAUSED, StandIn
from tests.lab.program import Responder, Ringfence, steps_on
from tests.lab.space import Space

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]
STEADY_SECONDS = 4.0


@pytest.fixture
def scaled(keda: Lab, space: Space) -> Iterator[Space]:
    """A Deployment with two pods, at least: whoever scales it down has it back at once."""
    space.workload("cart", 2)
    space.service("cart")
    with StandIn(keda, space.name) as scaling:
        yield space
    assert scaling.errors == []


def add_scaler(space: Space, **annotations: str) -> Object:
    meta = {"name": "cart", "namespace": space.name, "annotations": {"team": "cart", **annotations}}
    spec = {"scaleTargetRef": {"name": "cart"}, "minReplicaCount": 2, "triggers": []}
    return space.kube.create({"apiVersion": API_VERSION, "kind": "ScaledObject", "metadata": meta, "spec": spec})


def marks(space: Space) -> Any:
    return space.kube.get(API_VERSION, "ScaledObject", "cart", space.name)["metadata"]["annotations"]


def replicas(space: Space) -> int:
    found: int = space.kube.get("apps/v1", "Deployment", "cart", space.name)["spec"]["replicas"]
    return found


def stays(space: Space, number: int) -> None:
    deadline = time.monotonic() + STEADY_SECONDS
    while time.monotonic() < deadline:
        assert replicas(space) == number, "it was scaled"
        time.sleep(0.1)


@pytest.mark.parametrize("before", [{}, {HELD: "2"}], ids=["scaling", "held"])
def test_what_keda_scales_stays_stopped_and_scales_as_before_when_it_is_let_go(
    scaled: Space, before: dict[str, str], tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    add_scaler(scaled, **before)
    scaled.kube.patch("apps/v1", "Deployment", "cart", scaled.name, body={"spec": {"replicas": 0}})
    wait_until(lambda: replicas(scaled) == 2, 20, "the proof that the stand-in bites")
    scaled.wait_pods(2, app="cart")
    ringfence = Ringfence(scaled.lab, tmp_path, responders[0].kubeconfig)
    view = ringfence.json(
        *("respond", "stop-workload", "deployment/cart", "-n", scaled.name, "--accept-outage"), code=9
    )
    incident = view["incident"]["id"]
    assert [one["kind"] for one in steps_on(view, "hold").values()] == ["applied"]
    proof = next(one["proof"] for one in view["steps"] if one["step"] == "hold")
    assert (proof["level"], "KEDA's own report" in proof["by"]) == ("observed", True)
    assert marks(scaled) == {"team": "cart", PAUSED: "true"}

    ringfence.json("approve", incident, "--reason", "agreed")
    stays(scaled, 0)
    row = ringfence.rows(incident)["keda.scaling"]
    assert (row["state"], row["level"]) == ("dead", "observed"), row["why"]

    # Somebody lets it go: the workload comes back, and the statement says who brings it.
    scaled.kube.patch(
        API_VERSION, "ScaledObject", "cart", scaled.name, body={"metadata": {"annotations": {PAUSED: "false"}}}
    )
    wait_until(lambda: replicas(scaled) == 2, 20, "KEDA to scale it up")
    scaled.kube.patch("apps/v1", "Deployment", "cart", scaled.name, body={"spec": {"replicas": 0}})
    scaled.kube.patch(
        API_VERSION, "ScaledObject", "cart", scaled.name, body={"metadata": {"annotations": {PAUSED: "true"}}}
    )
    wait_until(lambda: replicas(scaled) == 0, 20, "it to be stopped again")

    ringfence.ok("undo", incident, "hold/1")
    assert marks(scaled) == {"team": "cart", **before}
    wait_until(lambda: replicas(scaled) == 2, 20, "KEDA to scale as before")


def test_where_there_is_no_scaler_the_step_has_nothing_to_do(
    keda: Lab, space: Space, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    space.workload("cart", 1)
    space.wait_pods(1, app="cart")
    ringfence = Ringfence(space.lab, tmp_path, responders[0].kubeconfig)
    view = ringfence.json(*("respond", "stop-workload", "deployment/cart", "-n", space.name, "--accept-outage"), code=9)
    assert [one["kind"] for one in steps_on(view, "hold").values()] == ["already"]
