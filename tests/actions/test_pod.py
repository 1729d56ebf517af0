"""``pod.delete``: only a fenced pod, only that one, and gone only when the object is gone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ringfence.actions.network import FENCE_KEY
from ringfence.actions.pod import Delete
from ringfence.model.outcome import Applied, Refused
from ringfence.model.plan import Plan
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.surroundings import read_pod, read_surroundings, reference
from tests.simulator import Fault, Simulator
from tests.small_bank import add_pod, pod_body

Planning = Callable[[str], Plan | Refused]


@pytest.fixture
def action(cluster: Cluster) -> Delete:
    return Delete(cluster, serving_floor=1, wait_seconds=0.5)


@pytest.fixture
def planning(cluster: Cluster, action: Delete, pool: ThreadPoolExecutor, api: Simulator) -> Planning:
    add_pod(api, "fenced", labels={FENCE_KEY: "f1"})

    def plan(name: str) -> Plan | Refused:
        pod, reading = read_pod(cluster, "bank", name)
        around = read_surroundings(cluster, "cluster-1", pod, reading, pool)
        return action.plan(reference("cluster-1", pod), around)

    return plan


def planned(planning: Planning, name: str = "fenced") -> Plan:
    plan = planning(name)
    assert isinstance(plan, Plan), plan
    return plan


def test_a_pod_that_is_not_fenced_is_refused(planning: Planning) -> None:
    refused = planning("cards-1")
    assert isinstance(refused, Refused)
    assert refused.next_step == "ringfence contain pod/cards-1 -n bank"


def test_the_plan_names_what_dies(planning: Planning, api: Simulator) -> None:
    plan = planned(planning)
    assert plan.destroys == (plan.target,)
    assert plan.changes[0].inverse is None
    assert any("30 s of notice" in caveat for caveat in plan.caveats)
    assert api.writes == []


def test_the_pod_is_gone_when_its_object_is(planning: Planning, action: Delete, api: Simulator) -> None:
    plan = planned(planning)
    assert action.verify(plan.target, ()).level is Level.REQUESTED
    assert action.apply(plan.changes[0], "a-1").outcome == Applied()
    proof = action.verify(plan.target, ())
    assert (proof.level, proof.claim) == (Level.OBSERVED, "the pod is gone")
    assert api.get(POD, "bank", "cards-1") is not None


def test_another_pod_under_the_name_means_that_ours_is_gone(planning: Planning, action: Delete, api: Simulator) -> None:
    plan = planned(planning)
    api.add(POD, "bank", "fenced", pod_body())
    assert action.verify(plan.target, ()).level is Level.OBSERVED
    action.apply(plan.changes[0], "a-1")
    assert api.get(POD, "bank", "fenced") is not None, "the other one is not touched"


def test_a_finalizer_is_named_and_never_taken_off(planning: Planning, action: Delete, api: Simulator) -> None:
    add_pod(api, "held", labels={FENCE_KEY: "f1"}, finalizers=["example.com/hold"])
    plan = planned(planning, "held")
    assert any("example.com/hold" in caveat for caveat in plan.caveats)
    action.apply(plan.changes[0], "a-1")
    proof = action.verify(plan.target, ())
    assert proof.level is Level.REQUESTED
    assert "example.com/hold" in proof.why_not_higher


def test_admission_that_refuses_the_delete_is_heard_before_it(planning: Planning, api: Simulator) -> None:
    api.faults.append(Fault("DELETE", "/pods/fenced", 403, 'admission webhook "guard" denied the request', dry=True))
    assert isinstance(planning("fenced"), Refused)
