"""A cut on the node makes the network rows dead, as long as nothing says that packets may pass it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ringfence.access.facts import Facts
from ringfence.model.access import PathState
from ringfence.model.node_helper import Frames, NodeNetwork, NodeOrder, NodeReport
from ringfence.model.objects import ObjectRef
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.policies import Isolation
from tests.access.test_statement import NOW, a_pod, facts, row

ROWS = ("network.egress", "network.ingress", "network.dns", "network.established")
SHUT = Frames(out=False, into=False)
OPEN = Isolation(ingress_isolated=False, egress_isolated=False)


def network(**changes: Any) -> NodeNetwork:
    whole = {"in_force": True, "interfaces": ("veth1 (veth)",), "dropped_out": 7, "through": SHUT, **changes}
    return NodeNetwork(**whole)


def report(**changes: Any) -> NodeReport:
    target = ObjectRef(cluster="c", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")
    whole: dict[str, Any] = {
        "target": target,
        "order": NodeOrder.CUT,
        "run": "r",
        "image": "python",
        "node": "node-1",
        "addresses": ("10.0.0.7",),
        "started_at": NOW - timedelta(seconds=3),
        "ended_at": NOW,
        "done": True,
        "network": network(),
    }
    return NodeReport(**{**whole, **changes})


def open_pod(**changes: Any) -> Facts:
    """A pod that no policy isolates."""
    live = a_pod()
    live["status"]["podIPs"] = [{"ip": "10.0.0.7"}]
    return facts(live=live, isolation=OPEN, **changes)


def test_every_network_row_is_dead_and_says_who_saw_it() -> None:
    of = open_pod(node_cut=report())
    for path in ROWS:
        found = row(of, path)
        assert (found.state, found.level) == (PathState.DEAD, Level.OBSERVED)
        assert "veth1" in found.why
        assert "7 packets" in found.why
    assert row(of, "identity.kubernetes").state is PathState.ALIVE


@pytest.mark.parametrize(
    "changes",
    [
        {"network": None},
        {"network": network(in_force=False)},
        {"network": network(through=None)},
        {"network": network(through=Frames(out=True, into=False))},
        {"network": network(beyond=("eth1 (macvlan)",))},
        {"network": network(programs=("veth1: tcx ingress",))},
        {"on_node": 1},
        {"addresses": ("10.0.0.8",)},
        {"addresses": ()},
    ],
)
def test_a_cut_with_a_hole_or_of_another_sandbox_kills_no_row(changes: dict[str, Any]) -> None:
    of = open_pod(node_cut=report(**changes))
    assert {row(of, path).state for path in ROWS} == {PathState.ALIVE}
