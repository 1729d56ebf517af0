"""The node helper's actions on the simulated API: what is refused, what is sent, and that nothing stays behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.actions import node_helper
from ringfence.actions.base import Settings
from ringfence.actions.node_helper import NODE_ACTIONS, PERMISSIONS, NodeAction, NodeCut, NodeFreeze, Options
from ringfence.actions.node_proof import proof_of
from ringfence.actions.perform import perform
from ringfence.model.node_helper import Frames, NodeNetwork, NodeOrder, NodeReport
from ringfence.model.outcome import Already, Outcome, Refused
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.node_helpers import HELPER_OF_KEY
from ringfence.platform.kubernetes.resources import NAMESPACE, POD
from tests.actions.planning import FENCE, apply, record, ref_of, refused
from tests.simulator import Simulator
from tests.small_bank import add_pod, pod_body

Json = dict[str, Any]
HELPERS = "helpers"
OPTIONS = Options(image="python", namespace=HELPERS, seconds=10)
PROBE = {"httpGet": {"port": 80}, "periodSeconds": 10}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, api: Simulator) -> None:
    api.add(NAMESPACE, "", HELPERS)
    for name in ("_POLL_SECONDS", "_GONE_SECONDS", "_START_SECONDS"):
        monkeypatch.setattr(node_helper, name, 0.01 if name.startswith("_P") else 1.0)


def settings() -> Settings:
    return Settings(FENCE, 1)


def pod_with(api: Simulator, **spec: Any) -> None:
    body = pod_body()
    body["spec"].update(spec)
    add_pod(api, "odd", body)


def with_probe(api: Simulator) -> None:
    pod_with(api, containers=[{"name": "cards", "image": "x", "livenessProbe": PROBE}])


class World:
    """Journals nothing, applies everything, and lets a started pod say what it is told to say."""

    def __init__(self, api: Simulator, cluster: Cluster, said: Callable[[str], list[Json]], state: Json) -> None:
        self.api, self.cluster, self.said, self.state = api, cluster, said, state
        self.sent: list[Change] = []

    def send(self, change: Change) -> Outcome:
        self.sent.append(change)
        outcome = perform(self.cluster, change, f"audit-{change.id}").outcome
        if change.verb is Verb.CREATE:
            live = self.api.objects["/api/v1", "pods", HELPERS, change.ref.name]
            live["status"] = {"phase": "Running", "containerStatuses": [{"name": "helper", "state": self.state}]}
            run = json.loads(change.body["spec"]["containers"][0]["command"][3])["id"]
            lines = [b"2026-11-25T00:00:00Z " + json.dumps(one).encode() + b"\n" for one in self.said(run)]
            self.api.logs[change.ref.name, "helper", False] = b"".join(lines)
        return outcome


NETWORK = {"in_force": True, "interfaces": ["veth1 (veth)"], "through": {"out": False, "in": False}}


def done(run: str) -> list[Json]:
    before = {"out": True, "in": True}
    return [
        {"hello": run},
        {"result": {"order": "cut", "ok": True, "why": "", "network": {**NETWORK, "before": before}}},
    ]


def carried_out(
    api: Simulator,
    cluster: Cluster,
    pool: ThreadPoolExecutor,
    said: Callable[[str], list[Json]] = done,
    state: Json | None = None,
) -> tuple[NodeReport, World]:
    action = NodeCut(cluster, settings(), OPTIONS)
    target = ref_of(api, POD, "cards-1")
    around = action.look("cluster-1", target, pool)
    plan = action.plan(target, around)
    assert isinstance(plan, Plan), plan
    world = World(api, cluster, said, state or {"running": {}})
    return action.run(plan, around, world.send), world


# --- planning ---------------------------------------------------------------------
def test_without_a_configuration_nothing_is_done(api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    assert "configured" in refused(NodeCut(cluster, settings()), ref_of(api, POD, "cards-1"), pool).reason


@pytest.mark.parametrize(
    ("spec", "word"), [({"hostNetwork": True}, "network"), ({"nodeName": ""}, "node"), ({"nodeName": None}, "node")]
)
def test_a_pod_that_cannot_be_cut_is_refused(
    spec: Json, word: str, api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    pod_with(api, **spec)
    assert word in refused(NodeCut(cluster, settings(), OPTIONS), ref_of(api, POD, "odd"), pool).reason
    assert api.writes == []


def test_a_pod_with_a_liveness_probe_is_frozen_only_if_one_insists(
    api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    with_probe(api)
    target = ref_of(api, POD, "odd")
    assert "liveness" in refused(NodeFreeze(cluster, settings(), OPTIONS), target, pool).reason
    insisting = NodeFreeze(cluster, settings(), OPTIONS, despite_liveness=True)
    around = insisting.look("cluster-1", target, pool)
    plan = insisting.plan(target, around)
    assert isinstance(plan, Plan)
    assert any("insisted" in caveat for caveat in plan.caveats)
    # It is thawed without a question, and a cut needs none: it says what will come.
    assert isinstance(NodeFreeze(cluster, settings(), OPTIONS).plan(target, around, NodeOrder.THAW), Plan)
    cut = NodeCut(cluster, settings(), OPTIONS).plan(target, around)
    assert isinstance(cut, Plan)
    assert any("liveness" in caveat for caveat in cut.caveats)


@pytest.mark.parametrize("kind", NODE_ACTIONS.values())
def test_a_plan_is_one_pod_on_the_victims_node_and_destroys_nothing(
    kind: type[NodeAction], api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    action = kind(cluster, settings(), OPTIONS)
    target = ref_of(api, POD, "cards-1")
    plan = action.plan(target, action.look("cluster-1", target, pool))
    assert isinstance(plan, Plan)
    (change,) = plan.changes
    assert (change.ref.namespace, change.body["spec"]["nodeName"]) == (HELPERS, "node-1")
    assert json.loads(change.body["spec"]["containers"][0]["command"][3])["uid"] == target.uid
    assert plan.destroys == ()
    assert api.writes == []


def test_two_plans_are_two_runs(api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    action = NodeCut(cluster, settings(), OPTIONS)
    target = ref_of(api, POD, "cards-1")
    around = action.look("cluster-1", target, pool)
    first, second = action.plan(target, around), action.plan(target, around)
    assert isinstance(first, Plan)
    assert isinstance(second, Plan)
    assert first.changes[0].id != second.changes[0].id


def test_its_rights_are_of_one_namespace_and_reach_no_secret() -> None:
    assert not any(one.everywhere for one in PERMISSIONS)
    assert {one.plural for one in PERMISSIONS} == {"pods", "pods/log"}


def test_an_order_is_taken_back_by_a_run_and_by_no_request(
    api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    action = NodeCut(cluster, settings(), OPTIONS)
    target = ref_of(api, POD, "cards-1")
    around = action.look("cluster-1", target, pool)
    plan, status = action.plan(target, around), action.plan(target, around, NodeOrder.STATUS)
    assert isinstance(plan, Plan)
    assert isinstance(status, Plan)
    found = action.undo(record(plan, plan.changes[0].id, apply(action, plan)))
    assert isinstance(found, Refused)
    assert found.next_step.endswith("uncut")
    assert isinstance(action.undo(record(status, status.changes[0].id, apply(action, status))), Already)


# --- a run ------------------------------------------------------------------------
def test_a_run_says_what_the_helper_found_and_leaves_nothing(
    api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    report, world = carried_out(api, cluster, pool)
    assert report.done, report
    assert report.holes == ()
    assert proof_of(report).level is Level.PROVEN
    assert [change.verb for change in world.sent] == [Verb.CREATE, Verb.DELETE]
    assert [pod for pod in api.all(POD) if pod["metadata"]["namespace"] == HELPERS] == []


def test_what_a_crash_left_behind_goes_first(api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    action = NodeCut(cluster, settings(), OPTIONS)
    target = ref_of(api, POD, "cards-1")
    plan = action.plan(target, action.look("cluster-1", target, pool))
    assert isinstance(plan, Plan)
    apply(action, plan)  # and then it died
    other = add_pod_of_another(api)
    report, world = carried_out(api, cluster, pool)
    assert report.done
    assert [change.verb for change in world.sent] == [Verb.DELETE, Verb.CREATE, Verb.DELETE]
    assert world.sent[0].ref.name == plan.changes[0].ref.name
    assert api.get(POD, HELPERS, other) is not None


def add_pod_of_another(api: Simulator) -> str:
    api.add(POD, HELPERS, "of-another", {**pod_body()}, labels={HELPER_OF_KEY: "another"})
    return "of-another"


@pytest.mark.parametrize(
    ("said", "state", "why"),
    [
        (done, {"waiting": {"reason": "ErrImageNeverPull", "message": "no such image"}}, "ErrImageNeverPull"),
        (lambda run: [{"hello": "another"}, *done(run)[1:]], None, "another program"),
        (lambda run: done(run)[:1], None, "no result"),
        (
            lambda run: [{"hello": run}, {"result": {"order": "cut", "ok": False, "why": "no such pod"}}],
            None,
            "no such",
        ),
    ],
)
def test_a_run_that_goes_wrong_is_not_done_says_why_and_leaves_nothing(
    said: Callable[[str], list[Json]],
    state: Json | None,
    why: str,
    api: Simulator,
    cluster: Cluster,
    pool: ThreadPoolExecutor,
) -> None:
    report, _ = carried_out(api, cluster, pool, said, state)
    assert not report.done
    assert why in report.why
    assert report.left_behind == ()
    assert proof_of(report).level is Level.NONE
    assert [pod for pod in api.all(POD) if pod["metadata"]["namespace"] == HELPERS] == []


def test_a_helper_that_does_not_go_is_named(api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    def held(run: str) -> list[Json]:
        for key, pod in api.objects.items():
            if key[1:3] == ("pods", HELPERS):
                pod["metadata"]["finalizers"] = ["example.com/held"]
        return done(run)

    report, _ = carried_out(api, cluster, pool, held)
    assert report.done
    (left,) = report.left_behind
    assert report.run in left


# --- proofs -----------------------------------------------------------------------
def report_of(**changes: Any) -> NodeNetwork:
    return NodeNetwork(**{"in_force": True, "through": Frames(out=False, into=False), **changes})


@pytest.mark.parametrize(
    ("network", "level"),
    [
        (report_of(before=Frames(out=True, into=True)), Level.PROVEN),
        (report_of(before=Frames(out=True, into=False)), Level.OBSERVED),
        (report_of(), Level.OBSERVED),
        (report_of(before=Frames(out=True, into=True), programs=("veth1: xdp",)), Level.OBSERVED),
    ],
)
def test_a_cut_is_proven_only_by_frames_that_came_through_before(
    network: NodeNetwork, level: Level, api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor
) -> None:
    report, _ = carried_out(api, cluster, pool)
    found = proof_of(report.model_copy(update={"network": network}))
    assert found.level is level
    assert bool(found.why_not_higher) is (level is not Level.PROVEN)
