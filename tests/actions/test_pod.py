"""``pod.delete``: only a fenced pod, only that one, and gone only when the object is gone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.network import FENCE_KEY
from ringfence.actions.pod import Delete
from ringfence.model.outcome import Applied, Refused
from ringfence.model.plan import Plan
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import POD, STATEFUL_SET
from ringfence.platform.kubernetes.surroundings import read_pod, read_surroundings, reference
from tests.simulator import Fault, Simulator, owner_reference
from tests.small_bank import add_pod, pod_body

Planning = Callable[[str], Plan | Refused]


@pytest.fixture
def action(cluster: Cluster) -> Delete:
    return Delete(cluster, Settings("f1", 1, delete_wait_seconds=0.5))


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


def test_a_pod_that_was_fenced_in_place_comes_back_and_that_is_said(planning: Planning, api: Simulator) -> None:
    """Its StatefulSet starts another from the same template: a deletion alone is no end of it."""
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "ledger", "uid": "o1"}}
    api.add(STATEFUL_SET, "bank", "ledger", {"spec": {"replicas": 1}}, uid="o1")
    add_pod(api, "ledger-0", labels={FENCE_KEY: "f1"}, ownerReferences=[owner_reference(owner)])
    plan = planned(planning, "ledger-0")
    assert plan.impact.replacement_expected
    assert any("StatefulSet ledger starts another" in caveat for caveat in plan.caveats)
    orphan = planned(planning)
    assert orphan.impact.replacement == "nobody: detached"
    assert not any("starts another" in caveat for caveat in orphan.caveats)
