"""``node.cordon``: one member of the node, there and back; nothing on it is touched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.node import Cordon
from ringfence.model.outcome import Already, Applied
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import NODE, POD
from tests.actions.planning import FENCE, answer, apply, planned, record, ref_of, refused, undone, without_server_fields
from tests.simulator import Fault, Simulator

READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.fixture
def action(cluster: Cluster, api: Simulator) -> Cordon:
    api.add(NODE, "", "node-1", {"spec": {"podCIDR": "10.1.0.0/24"}, **READY})
    api.add(NODE, "", "node-2", {"spec": {}, **READY})
    return Cordon(cluster, Settings(FENCE, 1))


def node(api: Simulator, name: str = "node-1") -> dict[str, object]:
    found = api.get(NODE, "", name)
    assert found is not None
    return found


def test_a_node_is_cordoned_and_comes_back_exactly(action: Cordon, api: Simulator, pool: ThreadPoolExecutor) -> None:
    before = without_server_fields(node(api))
    pods = len(api.all(POD))
    plan = planned(action, ref_of(api, NODE, "node-1", ""), pool)
    assert (plan.destroys, plan.impact.pods, action.destructive) == ((), 0, False)
    answers = apply(action, plan)
    assert node(api)["spec"] == {"podCIDR": "10.1.0.0/24", "unschedulable": True}
    assert len(api.all(POD)) == pods
    assert action.verify(plan.target, ()).level is Level.COMPUTED
    assert undone(action, plan, answers, "cordon").outcome == Applied()
    assert without_server_fields(node(api)) == before
    assert isinstance(action.undo(record(plan, "cordon", answers)), Already)
    assert action.verify(plan.target, ()).level is Level.REQUESTED


def test_a_cordoned_node_is_already_so(action: Cordon, api: Simulator, pool: ThreadPoolExecutor) -> None:
    apply(action, planned(action, ref_of(api, NODE, "node-1", ""), pool))
    writes = len(api.writes)
    assert isinstance(answer(action, ref_of(api, NODE, "node-1", ""), pool), Already)
    assert len(api.writes) == writes


@pytest.mark.parametrize(
    "other",
    [
        {"spec": {"unschedulable": True}, **READY},
        {"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
        {"spec": {"taints": [{"key": "control-plane", "effect": "NoSchedule"}]}, **READY},
    ],
)
def test_the_only_node_that_takes_pods_is_cordoned_with_a_warning(
    action: Cordon, api: Simulator, pool: ThreadPoolExecutor, other: dict[str, object]
) -> None:
    words = "only node that takes pods"
    target = ref_of(api, NODE, "node-1", "")
    assert not any(words in caveat for caveat in planned(action, target, pool).caveats)
    api.add(NODE, "", "node-2", other)
    assert any(words in caveat for caveat in planned(action, target, pool).caveats)


def test_nothing_is_drained_or_tainted(action: Cordon, api: Simulator, pool: ThreadPoolExecutor) -> None:
    plan = planned(action, ref_of(api, NODE, "node-1", ""), pool)
    paths = {operation["path"] for change in plan.changes for operation in change.body if operation["op"] != "test"}
    assert paths == {"/spec/unschedulable"}


def test_a_node_that_was_made_again_needs_no_undo(action: Cordon, api: Simulator, pool: ThreadPoolExecutor) -> None:
    plan = planned(action, ref_of(api, NODE, "node-1", ""), pool)
    answers = apply(action, plan)
    api.add(NODE, "", "node-1", {"spec": {"unschedulable": True}})
    assert isinstance(action.undo(record(plan, "cordon", answers)), Already)


def test_admission_is_heard(action: Cordon, api: Simulator, pool: ThreadPoolExecutor) -> None:
    api.faults.append(Fault("PATCH", "/nodes/node-1", 403, 'admission webhook "guard" denied it', dry=True))
    assert "guard" in refused(action, ref_of(api, NODE, "node-1", ""), pool).reason
