"""What a person names, as pods: kinds and short names, pods that are gone, images, accounts; and never "all"."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ringfence.errors import Denied, TargetError
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Resource,
)
from ringfence.platform.kubernetes.targets import Targets, kind_of, pods_of_image, resolve, siblings
from tests.simulator import Fault, Simulator, owner_reference
from tests.small_bank import CARDS, IMAGE, add_pod, pod_body

Json = dict[str, Any]
OTHER = "sha256:" + "b" * 64


def found(cluster: Cluster, spec: str, **options: Any) -> Targets:
    return resolve(cluster, "cluster-1", spec, "bank", **options)


def names(targets: Targets) -> list[str]:
    return sorted(pod.ref.name for pod in targets.pods)


def owner_of(resource: Resource, name: str, uid: str) -> Json:
    meta = {"name": name, "uid": uid}
    return owner_reference({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta})


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_pod_is_itself_with_its_own_bytes(cluster: Cluster) -> None:
    targets = found(cluster, "pod/cards-1")
    (pod,) = targets.pods
    assert targets.named == pod.ref
    assert (targets.workload, targets.became) == (None, ())
    assert json.loads(pod.reading.raw[0])["metadata"]["uid"] == pod.ref.uid == pod.obj["metadata"]["uid"]
    assert pod.ref.cluster == "cluster-1"


@pytest.mark.parametrize("spec", ["deployment/cards", "deploy/cards", "Deployment/cards", "rs/cards-6b7f"])
def test_a_workload_means_the_pods_that_it_owns(cluster: Cluster, api: Simulator, spec: str) -> None:
    add_pod(api, "looks-alike")
    api.objects["/api/v1", "pods", "bank", "looks-alike"]["metadata"].pop("ownerReferences", None)
    targets = found(cluster, spec)
    assert names(targets) == ["cards-1", "cards-2"], "owners count, and not labels"
    assert targets.workload is not None
    assert targets.workload.uid
    assert [json.loads(pod.reading.raw[0])["metadata"]["name"] for pod in targets.pods] == ["cards-1", "cards-2"]


@pytest.mark.parametrize(
    ("resource", "short"), [(STATEFUL_SET, "sts"), (DAEMON_SET, "ds"), (JOB, "job")], ids=lambda x: str(x)
)
def test_short_names_are_kubectls(cluster: Cluster, api: Simulator, resource: Resource, short: str) -> None:
    api.add(resource, "bank", "ledger", {"spec": {}}, uid="o1")
    add_pod(api, "ledger-0", labels={"app": "l"}, ownerReferences=[owner_of(resource, "ledger", "o1")])
    targets = found(cluster, f"{short}/ledger")
    assert names(targets) == ["ledger-0"]
    assert targets.workload is not None
    assert targets.workload.kind == resource.kind


def test_a_cron_job_means_the_pods_of_its_running_jobs(cluster: Cluster, api: Simulator) -> None:
    api.add(CRON_JOB, "bank", "nightly", {"spec": {}}, uid="cj")
    api.add(JOB, "bank", "nightly-1", {"spec": {}}, uid="j1", ownerReferences=[owner_of(CRON_JOB, "nightly", "cj")])
    add_pod(api, "nightly-1-x", labels={}, ownerReferences=[owner_of(JOB, "nightly-1", "j1")])
    assert names(found(cluster, "cj/nightly")) == ["nightly-1-x"]


def test_an_account_means_every_pod_that_runs_as_it_in_its_namespace(cluster: Cluster, api: Simulator) -> None:
    other = pod_body()
    other["spec"]["serviceAccountName"] = "other"
    add_pod(api, "other", other, labels={})
    ended = pod_body()
    ended["status"]["phase"] = "Succeeded"
    add_pod(api, "ended", ended, labels={})
    api.add(POD, "shop", "cards-9", pod_body())
    targets = found(cluster, "sa/cards")
    assert names(targets) == ["cards-1", "cards-2"]
    assert targets.named is not None
    assert targets.named.kind == "ServiceAccount"
    assert targets.workload is None


def test_pods_that_have_ended_are_left_out_unless_they_are_named(cluster: Cluster, api: Simulator) -> None:
    api.objects["/api/v1", "pods", "bank", "cards-1"]["status"]["phase"] = "Failed"
    assert names(found(cluster, "deployment/cards")) == ["cards-2"]
    assert names(found(cluster, "pod/cards-1")) == ["cards-1"]


def test_a_workload_without_pods_is_a_target_all_the_same(cluster: Cluster, api: Simulator) -> None:
    api.add(DEPLOYMENT, "bank", "idle", {"spec": {"replicas": 0}})
    targets = found(cluster, "deployment/idle")
    assert (targets.pods, targets.workload is not None) == ((), True)


def test_a_node_means_the_pods_on_it(cluster: Cluster, api: Simulator) -> None:
    elsewhere = pod_body()
    elsewhere["spec"]["nodeName"] = "node-2"
    add_pod(api, "elsewhere", elsewhere, labels={})
    targets = found(cluster, "node/node-1")
    assert names(targets) == ["cards-1", "cards-2"]
    assert targets.named is not None
    assert (targets.named.kind, targets.named.namespace) == ("Node", "")


@pytest.mark.parametrize(
    "spec", ["", "/", "cards", "pod/", "/cards", "pods", "secret/x", "pod/a/b", "*/x", "pod\x1b[1m/x"]
)
def test_what_names_no_object_is_an_error_that_says_how(cluster: Cluster, wire: Any, spec: str) -> None:
    with pytest.raises(TargetError) as error:
        found(cluster, spec)
    assert "KIND/NAME" in error.value.next_step
    assert "\x1b" not in str(error.value)
    assert wire.requests == [], "nothing is asked for"


def test_the_kind_is_read_from_the_word() -> None:
    assert kind_of("sts/web") == (STATEFUL_SET, "web")


@pytest.mark.parametrize(
    ("spec", "alike"),
    [("deployment/card", "cards"), ("deployment/crads", "cards"), ("sa/card", "cards"), ("rs/cards", "6b7f")],
)
def test_a_name_that_is_nearly_right_is_answered_with_those_alike(cluster: Cluster, spec: str, alike: str) -> None:
    with pytest.raises(TargetError) as error:
        found(cluster, spec)
    assert alike in error.value.why


def test_a_name_like_none_says_so(cluster: Cluster) -> None:
    with pytest.raises(TargetError, match="none with a name like it"):
        found(cluster, "deployment/zzz")


def test_a_pod_that_goes_while_it_is_looked_for_is_left_out(cluster: Cluster, api: Simulator) -> None:
    api.faults.append(Fault("GET", "/pods/cards-1", 404, "gone"))
    assert names(found(cluster, "deployment/cards")) == ["cards-2"]


# --- pods that are gone ---------------------------------------------------------------------------------------------


def generated(api: Simulator, name: str, stem: str, owner: Json) -> None:
    add_pod(api, name, labels={"app": "web"}, ownerReferences=[owner], generateName=f"{stem}-")


def test_a_pod_that_is_gone_is_what_its_replica_set_runs_now(cluster: Cluster, api: Simulator) -> None:
    generated(api, "web-5d8c-aaaaa", "web-5d8c", owner_of(REPLICA_SET, "web-5d8c", "rs1"))
    generated(api, "web-77f4-bbbbb", "web-77f4", owner_of(REPLICA_SET, "web-77f4", "rs2"))
    targets = found(cluster, "pod/web-5d8c-zzzzz")
    assert targets.became == ("web-5d8c-aaaaa",)
    assert names(targets) == ["web-5d8c-aaaaa"]
    assert targets.named is None


def test_after_a_rollout_it_is_what_its_deployment_runs_now(cluster: Cluster, api: Simulator) -> None:
    api.add(DEPLOYMENT, "bank", "web", {"spec": {"replicas": 1}}, uid="d1")
    above = owner_of(DEPLOYMENT, "web", "d1")
    for name, uid in (("web-5d8c", "rs1"), ("web-77f4", "rs2")):
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}}
        api.add(REPLICA_SET, "bank", name, {"spec": spec}, uid=uid, ownerReferences=[above])
    add_pod(
        api, "web-77f4-bbbbb", labels={"app": "web-77f4"}, ownerReferences=[owner_of(REPLICA_SET, "web-77f4", "rs2")]
    )
    assert found(cluster, "pod/web-5d8c-zzzzz").became == ("web-77f4-bbbbb",)


def test_a_recorded_controller_finds_what_no_name_tells(cluster: Cluster) -> None:
    recorded = ObjectRef(
        cluster="cluster-1", api_version="apps/v1", kind="ReplicaSet", namespace="bank", name="x", uid="uid-cards-6b7f"
    )
    targets = found(cluster, "pod/renamed", controller=recorded)
    assert sorted(targets.became) == ["cards-1", "cards-2"]
    with pytest.raises(TargetError):
        found(cluster, "pod/renamed")


def test_a_gone_pod_that_nobody_replaced_is_an_error_with_those_alike(cluster: Cluster, api: Simulator) -> None:
    with pytest.raises(TargetError) as error:
        found(cluster, "pod/cards-9")
    assert "cards-1" in error.value.why
    assert "no pod cards-9" in str(error.value)


def test_an_orphan_of_the_same_stem_is_no_heir(cluster: Cluster, api: Simulator) -> None:
    """A detached suspect keeps its generated name: it has not become anything."""
    add_pod(api, "web-5d8c-aaaaa", labels={}, generateName="web-5d8c-")
    with pytest.raises(TargetError):
        found(cluster, "pod/web-5d8c-zzzzz")


# --- images ---------------------------------------------------------------------------------------------------------


def of_image(cluster: Cluster, image: str, namespace: str | None = None) -> list[str]:
    return names(pods_of_image(cluster, "cluster-1", image, namespace))


@pytest.fixture
def shop(api: Simulator) -> None:
    """Another namespace: the bank's image under another name, and another image."""
    mirrored = pod_body(image="docker-pullable://mirror.test/cards@" + IMAGE.partition("@")[2])
    mirrored["spec"]["containers"][0]["image"] = "mirror.test/cards:x"
    api.add(POD, "shop", "mirrored", mirrored)
    other = pod_body(image=f"registry.test/other@{OTHER}")
    other["spec"]["containers"][0]["image"] = "registry.test/other:1"
    api.add(POD, "shop", "other", other)


@pytest.mark.parametrize("image", [IMAGE, IMAGE.partition("@")[2], "registry.test/cards:1.4"])
def test_an_image_is_its_digest_wherever_it_runs_and_whatever_it_is_called(
    cluster: Cluster, shop: None, image: str
) -> None:
    assert of_image(cluster, image) == ["cards-1", "cards-2", "mirrored"]
    assert of_image(cluster, image, "bank") == ["cards-1", "cards-2"]


def test_an_init_container_counts(cluster: Cluster, api: Simulator) -> None:
    body = pod_body(image=f"registry.test/other@{OTHER}")
    body["spec"]["initContainers"] = [{"name": "setup", "image": "registry.test/setup:1"}]
    body["status"]["initContainerStatuses"] = [{"name": "setup", "imageID": "sha256:" + "c" * 64}]
    add_pod(api, "with-init", body, labels={})
    assert of_image(cluster, "sha256:" + "c" * 64) == ["with-init"]


def test_a_pod_that_only_starts_is_found_by_the_name_that_it_asks_for(cluster: Cluster, api: Simulator) -> None:
    starting = {**pod_body(image=""), "status": {"phase": "Pending"}}
    add_pod(api, "starting", starting, labels={})
    assert "starting" in of_image(cluster, "registry.test/cards:1.4")


@pytest.mark.parametrize("image", ["", " ", "sha256:", "sha256:ab", "sha256:" + "g" * 64, "x y", "*", "\x1b[1m"])
def test_what_is_no_image_never_means_all(cluster: Cluster, wire: Any, image: str) -> None:
    with pytest.raises(TargetError):
        of_image(cluster, image)
    assert wire.requests == []


def test_an_image_that_nobody_runs_is_an_error_with_those_alike(cluster: Cluster) -> None:
    with pytest.raises(TargetError) as error:
        of_image(cluster, "registry.test/cards")
    assert "registry.test/cards:1.4" in error.value.why


def test_where_not_all_namespaces_may_be_listed_that_is_the_answer(cluster: Cluster, api: Simulator) -> None:
    message = 'pods is forbidden: User "alice" cannot list resource "pods" in API group "" at the cluster scope'
    api.faults.append(Fault("GET", "/api/v1/pods", 403, message))
    with pytest.raises(Denied):
        of_image(cluster, IMAGE)
    assert of_image(cluster, IMAGE, "bank") == ["cards-1", "cards-2"]


# --- siblings -------------------------------------------------------------------------------------------------------


def test_siblings_share_image_or_account_and_each_counts_once(cluster: Cluster, api: Simulator, shop: None) -> None:
    account = pod_body(image=f"registry.test/other@{OTHER}")
    account["spec"]["containers"][0]["image"] = "registry.test/other:1"
    add_pod(api, "account", account, labels=dict(CARDS))
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    targets = siblings(cluster, "cluster-1", pod)
    assert names(targets) == ["account", "cards-2", "mirrored"]
    assert targets.narrow == ""


def test_where_siblings_were_not_looked_for_is_said(cluster: Cluster, api: Simulator) -> None:
    api.faults.append(Fault("GET", "/api/v1/pods", 403, 'User "alice" cannot list resource "pods"'))
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    targets = siblings(cluster, "cluster-1", pod)
    assert names(targets) == ["cards-2"]
    assert "namespace bank only" in targets.narrow


def test_an_account_that_is_not_there_names_those_that_are(cluster: Cluster, api: Simulator) -> None:
    api.add(SERVICE_ACCOUNT, "bank", "payments")
    with pytest.raises(TargetError, match="payments"):
        found(cluster, "sa/payment")
