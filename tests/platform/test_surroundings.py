"""What is read around a pod: what may be missing, what may not, and where siblings are looked for."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.errors import Denied, NotFound, PlatformError, Unanswered
from ringfence.platform.kubernetes import surroundings
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.snapshot import Snapshot
from ringfence.platform.kubernetes.surroundings import (
    Surroundings,
    read_pod,
    read_siblings,
    read_surroundings,
    reference,
)
from ringfence.platform.kubernetes.tokens import request_token
from tests.simulator import Fault, Simulator
from tests.small_bank import add_pod, pod_body
from tests.wire import Answer, Wire

Json = dict[str, Any]


def forbidden(path: str) -> Fault:
    return Fault("GET", path, 403, 'x is forbidden: User "alice" cannot list resource "x" in API group ""')


def read(cluster: Cluster, pool: ThreadPoolExecutor) -> Surroundings:
    pod, reading = read_pod(cluster, "bank", "cards-1")
    return read_surroundings(cluster, "cluster-1", pod, reading, pool)


def test_everything_is_read_and_kept_as_sent(cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    around = read(cluster, pool)
    assert {p["metadata"]["name"] for p in around.policies} == {"allow-cards", "allow-dns", "default-deny"}
    assert [owner.ref.kind for owner in around.owners] == ["ReplicaSet", "Deployment"]
    assert around.adopters[0]["kind"] == "ReplicaSet", "an item of a list has its kind put back"
    assert (around.missing, len(around.services), len(around.endpoint_slices)) == ((), 1, 1)
    for plural, reading in around.readings.items():
        assert reading.source.endswith(f"/namespaces/bank/{plural}")
        assert [len(json.loads(page)["items"]) for page in reading.raw] == [len(around.collections[plural])]
        assert reading.started_at <= reading.ended_at


@pytest.mark.parametrize("plural", ["poddisruptionbudgets", "resourcequotas"])
def test_what_only_sharpens_the_forecast_may_be_refused(
    cluster: Cluster, api: Simulator, pool: ThreadPoolExecutor, plural: str
) -> None:
    api.faults.append(forbidden(f"/{plural}"))
    around = read(cluster, pool)
    assert around.collections[plural] == ()
    assert around.missing[0].startswith(f"{plural}: ")
    assert "cannot list" in around.readings[plural].why


@pytest.mark.parametrize("plural", ["networkpolicies", "services", "endpointslices", "replicasets", "statefulsets"])
def test_nothing_is_planned_without_what_a_plan_needs(
    cluster: Cluster, api: Simulator, pool: ThreadPoolExecutor, plural: str
) -> None:
    api.faults.append(forbidden(f"/bank/{plural}"))
    with pytest.raises(Denied):
        read(cluster, pool)


def test_a_pod_that_is_gone_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(NotFound):
        read_pod(cluster, "bank", "nobody")


def test_a_proxys_page_is_no_pod(cluster: Cluster, wire: Wire) -> None:
    wire.responder = lambda _request: Answer(body=b"<html>sign in</html>")
    with pytest.raises(Unanswered):
        read_pod(cluster, "bank", "cards-1")


def test_siblings_share_image_or_account_and_the_suspect_is_not_among_them(cluster: Cluster, api: Simulator) -> None:
    add_pod(api, "other-image", pod_body(image="registry.test/other@sha256:" + "b" * 64))
    same = pod_body()
    same["spec"]["serviceAccountName"] = "other"
    add_pod(api, "other-account", same)
    finished = pod_body()
    finished["status"]["phase"] = "Succeeded"
    add_pod(api, "finished", finished)
    found = read_siblings(cluster, read_pod(cluster, "bank", "cards-1")[0])
    names = [{p["metadata"]["name"] for p in group} for group in (found.by_image, found.by_account)]
    assert names == [{"cards-2", "other-account"}, {"cards-2", "other-image"}]
    assert (found.scope, found.why_narrow) == ("all namespaces", "")


def test_the_siblings_of_pods_of_one_group_are_chosen_once(
    cluster: Cluster, api: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred pods, each compared with every pod of the cluster, took more than the list itself."""
    for number in range(3, 13):
        add_pod(api, f"cards-{number}", pod_body())
    view = Snapshot(cluster)
    group = [read_pod(cluster, "bank", f"cards-{number}")[0] for number in range(3, 13)]
    first = [read_siblings(view, pod) for pod in group]
    asked: list[str] = []
    monkeypatch.setattr(surroundings, "sharing_image", lambda pod: asked.append(pod["metadata"]["name"]))
    assert [read_siblings(view, pod) for pod in group] == first
    assert asked == []
    for pod, found in zip(group, first, strict=True):
        names = {other["metadata"]["name"] for other in found.by_image}
        assert pod["metadata"]["name"] not in names
        assert len(names) >= 10
        assert {other["metadata"]["name"] for other in found.by_account} >= names - {"cards-2"}


def test_a_pod_that_is_only_starting_is_a_sibling_by_the_image_that_it_asks_for(
    cluster: Cluster, api: Simulator
) -> None:
    starting = {**pod_body(image=""), "status": {"phase": "Pending"}}
    add_pod(api, "starting", starting)
    found = read_siblings(cluster, read_pod(cluster, "bank", "cards-1")[0])
    assert "starting" in {pod["metadata"]["name"] for pod in found.by_image}


def test_an_account_of_the_same_name_elsewhere_is_another_account(cluster: Cluster, api: Simulator) -> None:
    api.add(POD, "shop", "cards-9", pod_body())
    found = read_siblings(cluster, read_pod(cluster, "bank", "cards-1")[0])
    assert {p["metadata"]["namespace"] for p in found.by_account} == {"bank"}
    assert {p["metadata"]["namespace"] for p in found.by_image} == {"bank", "shop"}


def test_siblings_are_looked_for_at_home_when_not_everywhere_and_that_is_said(cluster: Cluster, api: Simulator) -> None:
    api.faults.append(forbidden("/api/v1/pods"))
    found = read_siblings(cluster, read_pod(cluster, "bank", "cards-1")[0])
    assert [pod["metadata"]["name"] for pod in found.by_image] == ["cards-2"]
    assert found.scope == "namespace bank only"
    assert "cannot list" in found.why_narrow


def test_siblings_that_cannot_be_listed_at_all_are_an_error(cluster: Cluster, api: Simulator) -> None:
    pod, _ = read_pod(cluster, "bank", "cards-1")
    api.faults.append(forbidden("/pods"))
    with pytest.raises(PlatformError):
        read_siblings(cluster, pod)


def test_the_reference_of_a_pod_holds_uid_and_cluster(cluster: Cluster) -> None:
    pod, _ = read_pod(cluster, "bank", "cards-1")
    ref = reference("cluster-1", pod)
    assert (ref.cluster, ref.kind, ref.uid) == ("cluster-1", "Pod", pod["metadata"]["uid"])


# --- the token canary -----------------------------------------------------------------------------------------------


def test_a_minted_token_is_bound_to_the_pod_and_dies_with_it(cluster: Cluster, api: Simulator, wire: Wire) -> None:
    pod, _ = read_pod(cluster, "bank", "cards-1")
    token = request_token(cluster, pod, "a-1")
    asked = json.loads(wire.requests[-1].body)["spec"]
    assert asked["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "cards-1", "uid": token.pod_uid}
    assert wire.requests[-1].headers["audit-id"] == "a-1"
    assert "dryRun" not in wire.requests[-1].query, "the dry run of a TokenRequest mints a working token"
    assert token.accepted_by(cluster, "a-2")
    assert wire.requests[-1].headers["audit-id"] == "a-2"
    cluster.delete(POD, "bank", "cards-1", uid=token.pod_uid)
    assert not token.accepted_by(cluster)


def test_a_token_is_never_shown(cluster: Cluster) -> None:
    token = request_token(cluster, read_pod(cluster, "bank", "cards-1")[0], "")
    assert "minted" not in f"{token} {token!r}"


def test_no_clear_answer_about_a_token_is_no_refusal(cluster: Cluster, api: Simulator) -> None:
    token = request_token(cluster, read_pod(cluster, "bank", "cards-1")[0], "")
    for status in (403, 500):
        api.faults[:] = [Fault("POST", "/selfsubjectreviews", status)]
        with pytest.raises(PlatformError):
            token.accepted_by(cluster)


@pytest.mark.parametrize("body", [b"{}", b'{"status": {}}', b'{"status": {"token": ""}}', b'{"status": {"token": 7}}'])
def test_an_answer_without_a_token_is_an_error_of_ours(cluster: Cluster, wire: Wire, body: bytes) -> None:
    pod, _ = read_pod(cluster, "bank", "cards-1")
    wire.responder = lambda _request: Answer(201, body)
    with pytest.raises(Unanswered, match="no token"):
        request_token(cluster, pod, "")
