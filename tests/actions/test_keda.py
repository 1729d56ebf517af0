"""``keda.pause``: what would scale a workload stands still, and comes back exactly; on the simulated API."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.keda import PauseScaling
from ringfence.errors import Denied
from ringfence.model.outcome import Already, Applied, Refused
from ringfence.model.proof import Level
from ringfence.platform.kubernetes import keda
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    SCALED_JOB,
    SCALED_OBJECT,
    Resource,
)
from tests.actions.planning import FENCE, answer, apply, planned, record, records, ref_of, refused, undone
from tests.actions.planning import without_server_fields as plain
from tests.simulator import Fault, Simulator, owner_reference

Json = dict[str, Any]
HELD = {keda.PAUSED_REPLICAS: "3"}


@pytest.fixture
def action(cluster: Cluster) -> PauseScaling:
    return PauseScaling(cluster, Settings(FENCE, 1, rollout_wait_seconds=0.0))


def add_scaler(api: Simulator, name: str = "cards", annotations: Mapping[str, str] | None = None, **spec: Any) -> Json:
    meta = {"annotations": dict(annotations)} if annotations else {}
    return api.add(SCALED_OBJECT, "bank", name, {"spec": {"scaleTargetRef": {"name": "cards"}, **spec}}, **meta)


def annotations(api: Simulator, name: str = "cards", resource: Resource = SCALED_OBJECT) -> Json | None:
    found = api.get(resource, "bank", name)
    assert found is not None
    return found["metadata"].get("annotations")


def report(api: Simulator, name: str = "cards") -> None:
    """As KEDA does once it has paused one."""
    obj = api.objects["/apis/keda.sh/v1alpha1", "scaledobjects", "bank", name]
    obj["status"] = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Paused", "status": "True"}]}


@pytest.mark.parametrize(
    ("before", "during"),
    [
        ({}, {keda.PAUSED: "true"}),
        ({"team": "cards"}, {"team": "cards", keda.PAUSED: "true"}),
        ({keda.PAUSED: "false"}, {keda.PAUSED: "true"}),
        # Held at a number, KEDA would set the stopped workload to it again, whatever else is written there.
        (HELD, {keda.PAUSED: "true"}),
        ({**HELD, keda.PAUSED: "true", "team": "cards"}, {keda.PAUSED: "true", "team": "cards"}),
    ],
)
def test_what_scales_the_workload_is_paused_and_comes_back_exactly(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor, before: Json, during: Json
) -> None:
    add_scaler(api, annotations=before)
    add_scaler(api, "other", scaleTargetRef={"name": "payments"})
    was = [plain(one) for one in api.all(SCALED_OBJECT)]
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert (action.destructive, plan.destroys, plan.impact.pods) == (False, (), 0)
    answers = apply(action, plan)
    assert (annotations(api), annotations(api, "other")) == (during, None)
    assert action.verify(plan.target, records(plan, answers)).level is Level.COMPUTED
    assert undone(action, plan, answers, "pause-cards").outcome == Applied()
    assert [plain(one) for one in api.all(SCALED_OBJECT)] == was
    assert isinstance(action.undo(record(plan, "pause-cards", answers)), Already)


@pytest.mark.parametrize("before", [{keda.PAUSED: "true"}, {keda.PAUSED: "since Tuesday"}, {keda.PAUSED_REPLICAS: "0"}])
def test_one_that_stands_still_is_left_alone(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor, before: Json
) -> None:
    add_scaler(api, annotations=before)
    said = answer(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert isinstance(said, Already)
    assert "ScaledObject cards: paused already" in said.reason


def test_kedas_own_report_is_what_makes_it_observed(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_scaler(api)
    add_scaler(api, "second")
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    made = records(plan, apply(action, plan))
    report(api)
    assert action.verify(plan.target, made).level is Level.COMPUTED
    report(api, "second")
    assert action.verify(plan.target, made).level is Level.OBSERVED
    # What KEDA reported before somebody set it back is worth nothing.
    del api.objects["/apis/keda.sh/v1alpha1", "scaledobjects", "bank", "second"]["metadata"]["annotations"]
    proof = action.verify(plan.target, made)
    assert (proof.level, "ScaledObject second" in proof.why_not_higher) == (Level.REQUESTED, True)


def test_the_scaled_job_of_a_job_is_paused_and_not_that_of_a_namesake(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    maker = api.add(SCALED_JOB, "bank", "exports", {"spec": {}})
    api.add(JOB, "bank", "exports-1", {"spec": {}}, ownerReferences=[owner_reference(maker)])
    plan = planned(action, ref_of(api, JOB, "exports-1"), pool)
    assert "starts no Job" in " ".join(plan.caveats)
    answers = apply(action, plan)
    assert annotations(api, "exports", SCALED_JOB) == {keda.PAUSED: "true"}
    undone(action, plan, answers, "pause-exports")
    assert annotations(api, "exports", SCALED_JOB) is None
    gone = {**owner_reference(maker), "uid": "another"}
    api.add(JOB, "bank", "exports-2", {"spec": {}}, ownerReferences=[gone])
    assert isinstance(answer(action, ref_of(api, JOB, "exports-2"), pool), Already)


def test_where_there_is_no_keda_nothing_is_to_be_done(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.faults.append(Fault("GET", "/scaledobjects", 404, "the server could not find the requested resource"))
    assert isinstance(answer(action, ref_of(api, DEPLOYMENT, "cards"), pool), Already)


def test_what_keda_cannot_scale_is_not_asked_about(
    action: PauseScaling, api: Simulator, wire: Any, pool: ThreadPoolExecutor
) -> None:
    api.add(DAEMON_SET, "bank", "agent", {"spec": {}})
    api.add(CRON_JOB, "bank", "nightly", {"spec": {}})
    api.add(JOB, "bank", "nightly-1", {"spec": {}})
    for resource, name in ((DAEMON_SET, "agent"), (CRON_JOB, "nightly"), (JOB, "nightly-1")):
        assert isinstance(answer(action, ref_of(api, resource, name), pool), Already)
    assert not any("keda.sh" in request.path for request in wire.requests)


def test_a_denial_is_no_absence(action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor) -> None:
    message = 'scaledobjects.keda.sh is forbidden: User "alice" cannot list resource "scaledobjects" in API group'
    api.faults.append(Fault("GET", "/scaledobjects", 403, message))
    with pytest.raises(Denied):
        answer(action, ref_of(api, DEPLOYMENT, "cards"), pool)


def test_admission_that_says_no_is_a_refusal_before_anything_is_sent(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_scaler(api)
    api.faults.append(Fault("PATCH", "/scaledobjects/cards", 422, "policy says no", dry=True))
    assert "policy says no" in refused(action, ref_of(api, DEPLOYMENT, "cards"), pool).reason
    assert api.writes == []


def test_a_pause_that_somebody_set_otherwise_since_is_theirs(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_scaler(api, annotations=HELD)
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(action, plan)
    theirs = {keda.PAUSED: "true", keda.PAUSED_REPLICAS: "0"}
    api.objects["/apis/keda.sh/v1alpha1", "scaledobjects", "bank", "cards"]["metadata"]["annotations"] = dict(theirs)
    said = action.undo(record(plan, "pause-cards", answers))
    assert isinstance(said, Refused)
    assert annotations(api) == theirs


def test_an_annotation_that_came_meanwhile_is_not_lost(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    """Between plan and request, and between pause and undo."""
    scaler = add_scaler(api)
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    meta = api.objects["/apis/keda.sh/v1alpha1", "scaledobjects", "bank", "cards"]["metadata"]
    meta.update({"annotations": {"theirs": "1"}, "resourceVersion": f"{scaler['metadata']['resourceVersion']}0"})
    assert apply(action, plan)["pause-cards"].outcome.kind == "failed"
    assert annotations(api) == {"theirs": "1"}
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(action, plan)
    api.objects["/apis/keda.sh/v1alpha1", "scaledobjects", "bank", "cards"]["metadata"]["annotations"]["more"] = "2"
    undone(action, plan, answers, "pause-cards")
    assert annotations(api) == {"theirs": "1", "more": "2"}


def test_a_scaler_that_is_gone_needs_no_undo(action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor) -> None:
    add_scaler(api)
    plan = planned(action, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(action, plan)
    del api.objects["/apis/keda.sh/v1alpha1", "scaledobjects", "bank", "cards"]
    assert isinstance(action.undo(record(plan, "pause-cards", answers)), Already)
    assert action.verify(plan.target, records(plan, answers)).level is Level.OBSERVED


def test_the_plan_says_what_it_blocks_for_others(
    action: PauseScaling, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_scaler(api, annotations={"argocd.argoproj.io/tracking-id": "x"})
    scaler = api.objects["/apis/keda.sh/v1alpha1", "scaledobjects", "bank", "cards"]
    scaler["status"] = {"hpaName": "keda-hpa-cards"}
    words = "\n".join(planned(action, ref_of(api, DEPLOYMENT, "cards"), pool).caveats)
    for expected in ("does not follow its load", "deletes HorizontalPodAutoscaler keda-hpa-cards", "Argo CD may put"):
        assert expected in words
