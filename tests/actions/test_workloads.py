"""``workload.scale_to_zero`` and ``workload.restart_clean``: what dies, what is refused, what is put back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ringfence.actions.base import Settings
from ringfence.actions.network import FENCE_KEY
from ringfence.actions.perform import in_place
from ringfence.actions.restart import RESTARTED_KEY, RestartClean
from ringfence.actions.scale import STOPPED_KEY, ScaleToZero
from ringfence.errors import Denied, TargetError
from ringfence.model.outcome import Already, Applied, Failed, Refused
from ringfence.model.plan import Plan, Verb
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    JOB,
    NODE,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    SCALED_OBJECT,
    STATEFUL_SET,
    Resource,
)
from tests.actions.planning import (
    FENCE,
    answer,
    apply,
    planned,
    record,
    records,
    ref_of,
    refused,
    spec_of,
    undone,
    without_server_fields,
)
from tests.simulator import Fault, Simulator, owner_reference
from tests.small_bank import IMAGE, add_pod, pod_body

Json = dict[str, Any]
NAMED = "registry.test/cards:1.4"
FIXED = "registry.test/cards:1.5"
SETTINGS = Settings(
    FENCE,
    1,
    delete_wait_seconds=0.3,
    rollout_wait_seconds=0.3,
    now=lambda: datetime(2026, 11, 23, 3, 0, tzinfo=UTC),
)


@pytest.fixture
def stop(cluster: Cluster) -> ScaleToZero:
    return ScaleToZero(cluster, SETTINGS)


@pytest.fixture
def restart(cluster: Cluster) -> RestartClean:
    return RestartClean(cluster, SETTINGS)


def template(image: str = NAMED, **spec: Any) -> Json:
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def with_template(api: Simulator, image: str = FIXED, **spec: Any) -> None:
    """The Deployment's pod template, and more of its spec."""
    deployment = api.objects["/apis/apps/v1", "deployments", "bank", "cards"]
    deployment["spec"] = {**deployment["spec"], "template": template(image), **spec}


def workload(api: Simulator, resource: Resource, name: str = "ledger", pods: int = 2, **spec: Any) -> None:
    """A workload with pods of its own."""
    content = {"template": template(), **({"replicas": pods} if resource is STATEFUL_SET else {}), **spec}
    api.add(resource, "bank", name, {"spec": content}, uid=f"uid-{name}")
    owner = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "uid": f"uid-{name}"},
    }
    for number in range(pods):
        add_pod(api, f"{name}-{number}", labels={"app": name}, ownerReferences=[owner_reference(owner)])


def names(api: Simulator, start: str) -> list[str]:
    return sorted(p["metadata"]["name"] for p in api.all(POD) if p["metadata"]["name"].startswith(start))


def everything(api: Simulator) -> dict[str, Json]:
    return {str(key): without_server_fields(obj) for key, obj in api.objects.items() if key[1] != "pods"}


# --- scale to zero --------------------------------------------------------------------------------------------------


def test_a_deployment_is_scaled_by_its_subresource_and_every_pod_that_dies_is_named(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert api.writes == []
    assert sorted(ref.name for ref in plan.destroys) == ["cards-1", "cards-2"]
    assert all(ref.uid for ref in plan.destroys)
    (change,) = plan.changes
    assert (change.verb, change.subresource) == (Verb.PATCH, "scale")
    (cards,) = plan.impact.services
    assert (plan.impact.pods, cards.ready_before, cards.ready_after, cards.ready_with_replacement) == (2, 2, 0, 0)
    assert apply(stop, plan)["stop"].outcome == Applied()
    assert api.writes[0].path.endswith("/deployments/cards/scale")
    assert names(api, "cards") == []
    assert stop.verify(plan.target, ()).level is Level.OBSERVED


def test_a_detached_pod_is_not_among_those_that_die(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_pod(api, "orphan", labels={FENCE_KEY: FENCE})
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert "orphan" not in {ref.name for ref in plan.destroys}
    apply(stop, plan)
    assert names(api, "orphan") == ["orphan"]
    assert stop.verify(plan.target, ()).level is Level.OBSERVED


def test_a_pod_that_ends_by_itself_is_said_and_not_counted(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["deletionTimestamp"] = "2026-11-23T03:00:00Z"
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert [ref.name for ref in plan.destroys] == ["cards-2"]
    assert any("cards-1" in caveat and "terminating" in caveat for caveat in plan.caveats)


@pytest.mark.parametrize("resource", [STATEFUL_SET, DAEMON_SET], ids=lambda r: r.kind)
def test_other_workloads_are_stopped_and_come_back_exactly(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor, resource: Resource
) -> None:
    workload(api, resource)
    before = everything(api)
    plan = planned(stop, ref_of(api, resource, "ledger"), pool)
    assert sorted(ref.name for ref in plan.destroys) == ["ledger-0", "ledger-1"]
    answers = apply(stop, plan)
    assert names(api, "ledger") == []
    assert stop.verify(plan.target, records(plan, answers)).level is Level.OBSERVED
    assert everything(api) != before
    assert undone(stop, plan, answers, "stop").outcome == Applied()
    assert everything(api) == before
    assert isinstance(stop.undo(record(plan, "stop", answers)), Already)


def test_a_deployment_comes_back_exactly(stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor) -> None:
    before = everything(api)
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(stop, plan)
    assert undone(stop, plan, answers, "stop").outcome == Applied()
    assert spec_of(api, DEPLOYMENT, "cards") == {"replicas": 2}
    after = everything(api)
    slices = [key for key in before if "endpointslices" in key]
    assert {k: v for k, v in after.items() if k not in slices} == {k: v for k, v in before.items() if k not in slices}


@pytest.mark.parametrize("resource", [DEPLOYMENT, STATEFUL_SET, DAEMON_SET], ids=lambda r: r.kind)
def test_the_inverse_in_the_plan_takes_the_stop_back_alone(
    stop: ScaleToZero, api: Simulator, cluster: Cluster, pool: ThreadPoolExecutor, resource: Resource
) -> None:
    name = "cards" if resource is DEPLOYMENT else "ledger"
    if resource is not DEPLOYMENT:
        workload(api, resource)
    before = spec_of(api, resource, name)
    plan = planned(stop, ref_of(api, resource, name), pool)
    apply(stop, plan)
    change = plan.changes[0]
    assert change.inverse is not None
    cluster.patch(resource, "bank", name, change.inverse.body, subresource=change.subresource)
    assert spec_of(api, resource, name) == before


def test_a_daemon_sets_own_node_selector_stays(stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor) -> None:
    api.add(NODE, "", "node-2", labels={"disk": "ssd"})
    workload(api, DAEMON_SET, template=template(nodeSelector={"disk": "ssd"}))
    plan = planned(stop, ref_of(api, DAEMON_SET, "ledger"), pool)
    answers = apply(stop, plan)
    selector = spec_of(api, DAEMON_SET, "ledger")["template"]["spec"]["nodeSelector"]
    assert selector == {"disk": "ssd", STOPPED_KEY: FENCE}
    undone(stop, plan, answers, "stop")
    assert spec_of(api, DAEMON_SET, "ledger")["template"]["spec"]["nodeSelector"] == {"disk": "ssd"}


def test_a_replica_set_of_its_own_is_scaled(stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor) -> None:
    api.add(
        REPLICA_SET, "bank", "lone", {"spec": {"replicas": 1, "selector": {"matchLabels": {"app": "lone"}}}}, uid="l"
    )
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "lone", "uid": "l"}}
    add_pod(api, "lone-0", labels={"app": "lone"}, ownerReferences=[owner_reference(owner)])
    plan = planned(stop, ref_of(api, REPLICA_SET, "lone"), pool)
    apply(stop, plan)
    assert names(api, "lone") == []


def test_a_replica_set_of_a_deployment_is_refused_and_its_owner_named(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    words = refused(stop, ref_of(api, REPLICA_SET, "cards-6b7f"), pool)
    assert "Deployment cards" in words.reason
    assert "deployment/cards" in words.next_step


def test_a_job_is_refused_with_the_reason(stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor) -> None:
    workload(api, JOB)
    words = refused(stop, ref_of(api, JOB, "ledger"), pool)
    assert "deletes its pods" in words.reason
    assert words.next_step.endswith("ringfence contain job/ledger -n bank")


def test_a_stateful_set_that_deletes_its_volumes_when_it_shrinks_is_refused(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    workload(api, STATEFUL_SET, persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete"})
    assert "volumes" in refused(stop, ref_of(api, STATEFUL_SET, "ledger"), pool).reason
    api.objects["/apis/apps/v1", "statefulsets", "bank", "ledger"]["spec"]["persistentVolumeClaimRetentionPolicy"] = {
        "whenScaled": "Retain"
    }
    planned(stop, ref_of(api, STATEFUL_SET, "ledger"), pool)


def test_a_cron_job_is_suspended_kills_nothing_and_comes_back(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.add(CRON_JOB, "bank", "nightly", {"spec": {"schedule": "0 3 * * *", "suspend": False}}, uid="cj")
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "uid": "cj"}}
    api.add(JOB, "bank", "nightly-1", {"spec": {}}, uid="j1", ownerReferences=[owner_reference(owner)])
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    api.add(JOB, "bank", "nightly-0", {"spec": {}, "status": done}, ownerReferences=[owner_reference(owner)])
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "nightly-1", "uid": "j1"}}
    add_pod(api, "nightly-1-x", labels={"app": "n"}, ownerReferences=[owner_reference(job)])
    plan = planned(stop, ref_of(api, CRON_JOB, "nightly"), pool)
    assert (plan.destroys, plan.impact.pods) == ((), 0)
    (running,) = [caveat for caveat in plan.caveats if "nightly-" in caveat]
    assert "nightly-1" in running
    assert "nightly-0" not in running
    answers = apply(stop, plan)
    assert spec_of(api, CRON_JOB, "nightly")["suspend"] is True
    assert names(api, "nightly") == ["nightly-1-x"]
    assert stop.verify(plan.target, ()).level is Level.COMPUTED
    undone(stop, plan, answers, "stop")
    assert spec_of(api, CRON_JOB, "nightly")["suspend"] is False


def test_what_is_stopped_is_already_so(stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor) -> None:
    for resource, name in ((DEPLOYMENT, "cards"), (STATEFUL_SET, "ledger"), (DAEMON_SET, "agent"), (CRON_JOB, "night")):
        if resource is CRON_JOB:
            api.add(resource, "bank", name, {"spec": {"suspend": False}})
        elif resource is not DEPLOYMENT:
            workload(api, resource, name)
        apply(stop, planned(stop, ref_of(api, resource, name), pool))
        assert isinstance(answer(stop, ref_of(api, resource, name), pool), Already), resource.kind


def test_a_stop_whose_answer_was_lost_shows_in_live_state(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    """The patch goes to the subresource, the look goes to the object: the paths must mean the same."""
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    change = plan.changes[0]
    assert not in_place(change, api.get(DEPLOYMENT, "bank", "cards"))
    stop.apply(change, "a")
    assert in_place(change, api.get(DEPLOYMENT, "bank", "cards"))
    assert isinstance(stop.apply(change, "a").outcome, Already)


def test_a_workload_that_was_scaled_since_the_plan_is_not_stopped_by_it(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    """More pods would die than are sealed."""
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["replicas"] = 5
    assert isinstance(stop.apply(plan.changes[0], "a").outcome, Failed)


def test_a_size_that_somebody_set_since_is_not_overwritten_by_undo(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(stop, plan)
    api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["replicas"] = 5
    held = stop.undo(record(plan, "stop", answers))
    assert isinstance(held, Refused)
    assert "5 replicas" in held.reason
    assert "2 replicas" in held.next_step


def test_what_is_gone_needs_no_undo(stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor) -> None:
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(stop, plan)
    del api.objects["/apis/apps/v1", "deployments", "bank", "cards"]
    assert isinstance(stop.undo(record(plan, "stop", answers)), Already)


def test_a_pod_that_does_not_end_is_named_and_nothing_is_observed(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["finalizers"] = ["example.com/hold"]
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    apply(stop, plan)
    proof = stop.verify(plan.target, ())
    assert (proof.level, "cards-1" in proof.why_not_higher) == (Level.REQUESTED, True)


def test_a_workload_that_was_put_back_is_not_stopped(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    apply(stop, plan)
    api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["replicas"] = 2
    proof = stop.verify(plan.target, ())
    assert (proof.level, "2 replicas" in proof.why_not_higher) == (Level.REQUESTED, True)


def test_whoever_would_put_it_back_is_named(stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor) -> None:
    points = {"scaleTargetRef": {"kind": "Deployment", "name": "cards"}, "minReplicas": 3}
    api.add(HORIZONTAL_POD_AUTOSCALER, "bank", "cards-hpa", {"spec": points})
    elsewhere = {"scaleTargetRef": {"kind": "Deployment", "name": "other"}, "minReplicas": 9}
    api.add(HORIZONTAL_POD_AUTOSCALER, "bank", "other-hpa", {"spec": elsewhere})
    api.add(SCALED_OBJECT, "bank", "cards-keda", {"spec": {"scaleTargetRef": {"name": "cards"}}})
    api.add(POD_DISRUPTION_BUDGET, "bank", "cards-pdb", {"spec": {"selector": {"matchLabels": {"app": "cards"}}}})
    meta = api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["metadata"]
    meta["annotations"] = {"argocd.argoproj.io/tracking-id": "x"}
    meta["ownerReferences"] = [{"kind": "Bank", "name": "one", "uid": "b", "controller": True}]
    words = "\n".join(planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool).caveats)
    for expected in ("cards-hpa", "at least 3", "cards-keda", "cards-pdb", "Argo CD may put it back", "Bank one"):
        assert expected in words
    assert "other-hpa" not in words


@pytest.mark.parametrize(("status", "said"), [(404, False), (403, False)])
def test_a_cluster_without_keda_is_no_obstacle(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor, status: int, said: bool
) -> None:
    message = 'scaledobjects.keda.sh is forbidden: User "alice" cannot list resource "scaledobjects" in API group'
    api.faults.append(Fault("GET", "/scaledobjects", status, message if status == 403 else "not found"))
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert any("scaledobjects" in caveat for caveat in plan.caveats) is (status == 403)


def test_an_autoscaler_that_may_not_be_read_is_said(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    message = 'x is forbidden: User "alice" cannot list resource "horizontalpodautoscalers" in API group "autoscaling"'
    api.faults.append(Fault("GET", "/horizontalpodautoscalers", 403, message))
    plan = planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert any("horizontalpodautoscalers" in caveat for caveat in plan.caveats)


def test_without_the_pods_nothing_is_planned(stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor) -> None:
    api.faults.append(Fault("GET", "/pods", 403, 'User "alice" cannot list resource "pods" in API group ""'))
    with pytest.raises(Denied):
        planned(stop, ref_of(api, DEPLOYMENT, "cards"), pool)


def test_admission_is_heard_before_anything_is_written(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.faults.append(Fault("PATCH", "/deployments/cards/scale", 403, 'admission webhook "guard" denied it', dry=True))
    assert "guard" in refused(stop, ref_of(api, DEPLOYMENT, "cards"), pool).reason
    assert api.writes == []


def test_another_workload_of_the_name_is_not_stopped(
    stop: ScaleToZero, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    target = ref_of(api, DEPLOYMENT, "cards")
    api.add(DEPLOYMENT, "bank", "cards", {"spec": {"replicas": 1}})
    with pytest.raises(TargetError, match="another object"):
        stop.look("cluster-1", target, pool)


# --- restart --------------------------------------------------------------------------------------------------------


def test_a_restart_replaces_every_pod_and_is_observed(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    with_template(api)
    plan = planned(restart, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert sorted(ref.name for ref in plan.destroys) == ["cards-1", "cards-2"]
    answers = apply(restart, plan)
    assert spec_of(api, DEPLOYMENT, "cards")["template"]["metadata"]["annotations"] == {
        RESTARTED_KEY: "2026-11-23T03:00:00Z"
    }
    assert len(names(api, "cards")) == 2
    assert not {"cards-1", "cards-2"} & set(names(api, "cards"))
    assert restart.verify(plan.target, records(plan, answers)).level is Level.OBSERVED
    assert isinstance(restart.undo(record(plan, "restart", answers)), Refused)


@pytest.mark.parametrize("annotations", [None, {}, {"team": "cards"}])
def test_annotations_of_the_template_stay(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor, annotations: Json | None
) -> None:
    with_template(api)
    meta = api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["template"]["metadata"]
    if annotations is not None:
        meta["annotations"] = dict(annotations)
    plan = planned(restart, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(restart, plan)
    kept = spec_of(api, DEPLOYMENT, "cards")["template"]["metadata"]["annotations"]
    assert kept == {**(annotations or {}), RESTARTED_KEY: "2026-11-23T03:00:00Z"}
    assert restart.verify(plan.target, records(plan, answers)).level is Level.OBSERVED


def test_the_suspects_image_is_refused_unless_it_is_accepted(
    cluster: Cluster, restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_pod(api, "suspect", labels={FENCE_KEY: FENCE})
    with_template(api, NAMED)
    words = refused(restart, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert NAMED in words.reason
    assert "--accept-same-image" in words.next_step
    accepted = RestartClean(cluster, replace(SETTINGS, accept_same_image=True))
    plan = planned(accepted, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert any(NAMED in caveat for caveat in plan.caveats)


def test_the_suspects_digest_under_another_name_is_the_same_image(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    add_pod(api, "suspect", labels={FENCE_KEY: FENCE})
    with_template(api, "mirror.test/cards@sha256:" + "a" * 64)
    assert "same hole" in refused(restart, ref_of(api, DEPLOYMENT, "cards"), pool).reason


def test_the_suspect_counts_and_not_what_runs_by_now(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    """The suspect ran an older image than the pods that are to be replaced: their image is the fixed one."""
    suspect = pod_body(image="registry.test/cards@sha256:" + "b" * 64)
    suspect["spec"]["containers"][0]["image"] = "registry.test/cards:1.3"
    add_pod(api, "suspect", suspect, labels={FENCE_KEY: FENCE})
    with_template(api, NAMED)
    assert isinstance(answer(restart, ref_of(api, DEPLOYMENT, "cards"), pool), Plan)


def test_without_a_suspect_the_pods_that_run_are_compared(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    with_template(api, NAMED)
    assert "the suspect itself is gone" in refused(restart, ref_of(api, DEPLOYMENT, "cards"), pool).reason


def test_one_image_of_two_that_is_new_is_a_change_and_the_other_is_said(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    with_template(api, FIXED)
    containers = api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "sidecar", "image": NAMED})
    plan = planned(restart, ref_of(api, DEPLOYMENT, "cards"), pool)
    assert any(NAMED in caveat for caveat in plan.caveats)


@pytest.mark.parametrize(
    ("resource", "spec", "word"),
    [
        (DEPLOYMENT, {"paused": True}, "paused"),
        (DEPLOYMENT, {"replicas": 0}, "scaled to 0"),
        (STATEFUL_SET, {"updateStrategy": {"type": "OnDelete"}}, "OnDelete"),
        (DAEMON_SET, {"updateStrategy": {"type": "OnDelete"}}, "OnDelete"),
        (STATEFUL_SET, {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}, "partition"),
    ],
)
def test_what_would_not_replace_its_pods_is_refused(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor, resource: Resource, spec: Json, word: str
) -> None:
    if resource is DEPLOYMENT:
        with_template(api, **spec)
    else:
        workload(api, resource, "cards-set", template=template(FIXED), **spec)
    name = "cards" if resource is DEPLOYMENT else "cards-set"
    assert word in refused(restart, ref_of(api, resource, name), pool).reason


@pytest.mark.parametrize(
    ("strategy", "away"),
    [
        ({"type": "Recreate"}, 4),
        ({"rollingUpdate": {"maxUnavailable": "25%"}}, 1),
        ({"rollingUpdate": {"maxUnavailable": "60%"}}, 2),
        ({"rollingUpdate": {"maxUnavailable": 0}}, 0),
        ({"rollingUpdate": {"maxUnavailable": 9}}, 4),
        ({}, 1),
    ],
)
def test_customers_feel_what_the_strategy_takes_away_at_once(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor, strategy: Json, away: int
) -> None:
    api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["replicas"] = 4
    api.add(POD_DISRUPTION_BUDGET, "bank", "kick", {"spec": {}})  # any write lets the controllers run
    with_template(api, strategy=strategy)
    (cards,) = planned(restart, ref_of(api, DEPLOYMENT, "cards"), pool).impact.services
    assert (cards.ready_before, cards.ready_after, cards.ready_with_replacement) == (4, 4 - away, 4)


def test_a_pod_that_is_not_replaced_or_not_ready_is_named(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    with_template(api)
    plan = planned(restart, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(restart, plan)
    pod = api.objects["/api/v1", "pods", "bank", names(api, "cards")[0]]
    pod["status"]["conditions"] = []
    proof = restart.verify(plan.target, records(plan, answers))
    assert (proof.level, pod["metadata"]["name"] in proof.why_not_higher) == (Level.REQUESTED, True)
    pod["metadata"]["annotations"] = {}
    assert "not replaced yet" in restart.verify(plan.target, records(plan, answers)).why_not_higher


def test_pods_of_another_restart_are_no_proof_of_this_one(
    restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    with_template(api)
    plan = planned(restart, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(restart, plan)
    meta = api.objects["/apis/apps/v1", "deployments", "bank", "cards"]["spec"]["template"]["metadata"]
    meta["annotations"] = {RESTARTED_KEY: "2026-11-23T09:00:00Z"}
    assert restart.verify(plan.target, records(plan, answers)).level is Level.REQUESTED


def test_fewer_pods_than_wanted_are_no_end(restart: RestartClean, api: Simulator, pool: ThreadPoolExecutor) -> None:
    with_template(api)
    plan = planned(restart, ref_of(api, DEPLOYMENT, "cards"), pool)
    answers = apply(restart, plan)
    del api.objects["/api/v1", "pods", "bank", names(api, "cards")[0]]
    assert "1 of 2" in restart.verify(plan.target, records(plan, answers)).why_not_higher


def test_the_images_of_the_bank_are_what_the_tests_take_them_for(api: Simulator) -> None:
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    assert pod["spec"]["containers"][0]["image"] == NAMED
    assert IMAGE.endswith("a" * 64)
