"""Which pods a workload owns, and what is read around it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.errors import NotFound
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import DEPLOYMENT, POD
from ringfence.platform.kubernetes.workloads import owned, read_pods_of, read_workload
from tests.simulator import Simulator

Json = dict[str, Any]


def obj(name: str, uid: str, owner: str = "", *, phase: str = "Running", controller: bool = True) -> Json:
    references = [{"uid": owner, "controller": controller}] if owner else []
    return {"metadata": {"name": name, "uid": uid, "ownerReferences": references}, "status": {"phase": phase}}


def names(objects: tuple[Json, ...]) -> list[str]:
    return [o["metadata"]["name"] for o in objects]


def test_a_deployments_pods_are_those_of_its_replica_sets_old_ones_too() -> None:
    middle = [obj("new", "r1", "d"), obj("old", "r2", "d"), obj("other", "r3", "e")]
    pods = [obj("a", "1", "r1"), obj("b", "2", "r2"), obj("c", "3", "r3"), obj("d", "4", "d"), obj("e", "5")]
    between, found = owned("Deployment", "d", middle, pods)
    assert (names(between), names(found)) == (["new", "old"], ["a", "b"])


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "ReplicaSet", "Job"])
def test_others_own_their_pods_themselves(kind: str) -> None:
    pods = [obj("a", "1", "s"), obj("b", "2", "t"), obj("c", "3", "s", controller=False)]
    assert names(owned(kind, "s", (), pods)[1]) == ["a"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_have_ended_are_none(phase: str) -> None:
    assert owned("Job", "j", (), [obj("a", "1", "j", phase=phase)])[1] == ()


def test_what_is_read_is_of_one_workload_and_kept_as_sent(
    cluster: Cluster, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    deployment = api.get(DEPLOYMENT, "bank", "cards")
    assert deployment is not None
    target = ObjectRef.of("cluster-1", deployment)
    around = read_workload(cluster, target, pool)
    assert (around.ref, names(around.between), names(around.pods)) == (target, ["cards-6b7f"], ["cards-1", "cards-2"])
    assert around.ref.uid in around.reading.raw[0].decode()
    assert {p["kind"] for p in around.pods} == {"Pod"}
    assert read_pods_of(cluster, target) == around.pods
    api.add(POD, "bank", "neighbour", {"spec": {"containers": []}})
    assert names(read_workload(cluster, target, pool).neighbours) == ["neighbour"]


def test_a_workload_that_is_gone_is_not_found(cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    gone = ObjectRef(cluster="c", api_version="apps/v1", kind="Deployment", namespace="bank", name="gone", uid="u")
    with pytest.raises(NotFound):
        read_workload(cluster, gone, pool)
