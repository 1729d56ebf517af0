"""Whether KEDA would bring back what was stopped, by what the objects themselves say."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.access.scaling import Scaler, Scaling, scaling_of
from ringfence.platform.kubernetes import keda
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import SCALED_OBJECT
from tests.simulator import Fault, Simulator

Json = dict[str, Any]
REPORTED = {"conditions": [{"type": "Paused", "status": "True"}]}


def workload(replicas: int, kind: str = "Deployment") -> Json:
    return {"kind": kind, "metadata": {"name": "cards", "namespace": "bank"}, "spec": {"replicas": replicas}}


@pytest.mark.parametrize(
    ("annotations", "status", "still", "reported"),
    [
        ({}, {}, False, False),
        ({}, REPORTED, False, True),
        ({keda.PAUSED: "true"}, {}, True, False),
        ({keda.PAUSED: "true"}, REPORTED, True, True),
        ({keda.PAUSED: "F"}, {}, False, False),
        ({keda.PAUSED_REPLICAS: "0"}, {}, True, False),
        # Held at a number, it is set to it again, whatever else is written there.
        ({keda.PAUSED: "true", keda.PAUSED_REPLICAS: "2"}, REPORTED, False, True),
    ],
)
def test_what_becomes_of_a_stopped_workload(
    cluster: Cluster, api: Simulator, annotations: Json, status: Json, still: bool, reported: bool
) -> None:
    spec = {"scaleTargetRef": {"name": "cards"}}
    api.add(SCALED_OBJECT, "bank", "cards\x1b[2J", {"spec": spec, "status": status}, annotations=annotations)
    found = scaling_of(cluster, [workload(0, "ReplicaSet"), workload(0)])
    (one,) = found.scalers
    assert (found.what, one.still, one.reported) == ("Deployment cards", still, reported)
    assert "\x1b" not in one.name


def test_keda_is_asked_for_only_where_something_that_it_can_scale_runs_no_pod(cluster: Cluster, wire: Any) -> None:
    for owners in ([], [workload(2)], [workload(0), workload(1)], [workload(0, "DaemonSet")]):
        assert scaling_of(cluster, owners) == Scaling()
    assert wire.requests == []


def test_where_it_is_not_installed_nothing_scales_and_a_denial_is_no_absence(cluster: Cluster, api: Simulator) -> None:
    api.faults.append(Fault("GET", "/scaledobjects", 404, "not found", times=1))
    assert scaling_of(cluster, [workload(0)]) == Scaling("Deployment cards")
    api.faults.append(Fault("GET", "/scaledobjects", 403, "no"))
    assert scaling_of(cluster, [workload(0)]).unread


def test_a_scaler_of_another_workload_is_none(cluster: Cluster, api: Simulator) -> None:
    api.add(SCALED_OBJECT, "bank", "b", {"spec": {"scaleTargetRef": {"name": "cards", "kind": "StatefulSet"}}})
    assert scaling_of(cluster, [workload(0)]).scalers == ()
    assert scaling_of(cluster, [workload(0, "StatefulSet")]).scalers == (Scaler("ScaledObject b", False, False),)
