"""What a pod's own object says: containers, images, references, tokens, ways into its node, probes, cloud roles."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.platform.kubernetes import pods

Json = dict[str, Any]


def pod(*containers: Json, **spec: Any) -> Json:
    return {"metadata": {"name": "x", "namespace": "bank"}, "spec": {"containers": list(containers), **spec}}


def with_context(**context: Any) -> Json:
    return pod({"name": "c", "securityContext": context})


def running(image_id: str, image: str = "cards:1", name: str = "c") -> Json:
    return {
        **pod({"name": name, "image": image}),
        "status": {"containerStatuses": [{"name": name, "imageID": image_id, "state": {"running": {}}}]},
    }


def test_containers_of_all_three_kinds_are_seen_with_their_status() -> None:
    obj = pod({"name": "main"}, initContainers=[{"name": "init"}], ephemeralContainers=[{"name": "debug"}])
    obj["status"] = {"initContainerStatuses": [{"name": "init", "imageID": "i", "state": {"terminated": {}}}]}
    found = {c.name: (c.list, c.image_id, c.started) for c in pods.containers(obj)}
    assert found == {
        "init": ("initContainers", "i", True),
        "main": ("containers", "", False),
        "debug": ("ephemeralContainers", "", False),
    }


@pytest.mark.parametrize(
    ("status", "started"),
    [
        ({}, False),
        ({"state": {"waiting": {"reason": "ImagePullBackOff"}}}, False),
        ({"state": {"waiting": {}}, "lastState": {}}, False),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {}}}, True),
        ({"state": {"running": {}}}, True),
        ({"state": {"terminated": {}}}, True),
    ],
)
def test_a_container_was_started_when_it_runs_or_has_run(status: Json, started: bool) -> None:
    obj = {**pod({"name": "c"}), "status": {"containerStatuses": [{"name": "c", **status}]}}
    assert [c.started for c in pods.containers(obj)] == [started]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (running("sha256:a"), running("sha256:a", image="other:2"), True),  # the digest decides, not the tag
        (running("sha256:a"), running("sha256:b"), False),  # the tag was moved between the two
        (running("sha256:a"), running(""), True),  # it is starting: the name is all there is
        (running(""), running("sha256:a"), True),
        (running(""), running(""), True),
        (running("sha256:a"), running("", image="other:2"), False),
        (running(""), running("", image="other:2"), False),
    ],
)
def test_pods_share_an_image_by_digest_or_by_name_while_a_digest_is_unknown(one: Json, other: Json, same: bool) -> None:
    assert pods.sharing_image(one)(other) is same
    assert pods.sharing_image(other)(one) is same


def test_an_init_containers_image_makes_no_siblings() -> None:
    obj = pod(initContainers=[{"name": "i", "image": "busybox"}])
    obj["status"] = {"initContainerStatuses": [{"name": "i", "imageID": "sha256:a"}]}
    assert not pods.sharing_image(obj)(obj)


@pytest.mark.parametrize(("spec", "account"), [({}, "default"), ({"serviceAccountName": "cards"}, "cards")])
def test_a_pod_without_an_account_has_the_default_one(spec: Json, account: str) -> None:
    assert pods.service_account(pod(**spec)) == account


def projected(*sources: Json) -> Json:
    return pod(volumes=[{"name": "v", "projected": {"sources": list(sources)}}])


@pytest.mark.parametrize(
    ("obj", "mounted"),
    [
        (pod(), False),
        (pod(volumes=[{"name": "v", "emptyDir": {}}]), False),
        (projected(), False),
        (projected({"configMap": {"name": "kube-root-ca.crt"}}), False),
        (projected({"serviceAccountToken": {"path": "token"}}), True),
        (projected({"serviceAccountToken": {"path": "token", "audience": ""}}), True),
        (projected({"serviceAccountToken": {"path": "token", "audience": "https://kubernetes.default.svc"}}), True),
        (projected({"serviceAccountToken": {"path": "token", "audience": "sts.amazonaws.com"}}), False),
        (
            projected(
                {"serviceAccountToken": {"path": "t", "audience": "vault"}}, {"serviceAccountToken": {"path": "u"}}
            ),
            True,
        ),
    ],
)
def test_a_token_is_mounted_when_the_api_server_is_its_audience(obj: Json, mounted: bool) -> None:
    assert pods.mounts_token(obj) is mounted


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, False),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, True),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, False),
        ({"conditions": [{"type": "Initialized", "status": "True"}]}, False),
        ({"conditions": [{"type": "Ready", "status": "Unknown"}]}, False),
    ],
)
def test_ready_is_the_ready_condition(status: Json, ready: bool) -> None:
    assert pods.is_ready({**pod(), "status": status}) is ready


@pytest.mark.parametrize(
    ("phase", "finished"),
    [("Pending", False), ("Running", False), ("Unknown", False), ("Succeeded", True), ("Failed", True)],
)
def test_a_pod_is_finished_when_all_its_containers_have_ended(phase: str, finished: bool) -> None:
    assert pods.is_finished({**pod(), "status": {"phase": phase}}) is finished


def test_references_are_every_name_that_the_pod_refers_to() -> None:
    obj = pod(
        {
            "name": "c",
            "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s-env", "key": "k"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c-env", "key": "k"}}},
                {"name": "C", "value": "literal"},
                {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            ],
            "envFrom": [{"secretRef": {"name": "s-from"}}, {"configMapRef": {"name": "c-from"}}],
        },
        initContainers=[{"name": "i", "envFrom": [{"secretRef": {"name": "s-init"}}]}],
        imagePullSecrets=[{"name": "s-pull"}],
        volumes=[
            {"name": "1", "secret": {"secretName": "s-volume"}},
            {"name": "2", "configMap": {"name": "c-volume"}},
            {"name": "3", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "4", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s-csi"}}},
            {
                "name": "5",
                "projected": {"sources": [{"secret": {"name": "s-proj"}}, {"configMap": {"name": "c-proj"}}]},
            },
            {"name": "6", "emptyDir": {}},
        ],
    )
    assert pods.references(obj) == {
        "secrets": ("s-csi", "s-env", "s-from", "s-init", "s-proj", "s-pull", "s-volume"),
        "configMaps": ("c-env", "c-from", "c-proj", "c-volume"),
        "persistentVolumeClaims": ("data",),
    }


def test_a_literal_value_is_never_among_the_references() -> None:
    obj = pod({"name": "c", "env": [{"name": "PASSWORD", "value": "hunter2"}]})
    assert "hunter2" not in str(pods.references(obj))


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (pod(hostNetwork=True), "hostNetwork is on"),
        (pod(hostPID=True), "hostPID is on"),
        (pod(hostIPC=True), "hostIPC is on"),
        (with_context(privileged=True), "container c is privileged"),
        (
            with_context(capabilities={"add": ["SYS_ADMIN", "NET_RAW"]}),
            "container c adds capabilities NET_RAW, SYS_ADMIN",
        ),
        (with_context(procMount="Unmasked"), "unmasked /proc"),
        (with_context(windowsOptions={"hostProcess": True}), "Windows host process"),
        (pod({"name": "c", "volumeDevices": [{"devicePath": "/dev/sda", "name": "d"}]}), "device /dev/sda"),
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "volume v is the node's folder /"),
        (pod(initContainers=[{"name": "i", "securityContext": {"privileged": True}}]), "container i is privileged"),
        (
            pod(ephemeralContainers=[{"name": "e", "securityContext": {"privileged": True}}]),
            "container e is privileged",
        ),
    ],
)
def test_each_way_into_the_node_is_said(obj: Json, words: str) -> None:
    (found,) = pods.node_access(obj)
    assert words in found


def test_an_ordinary_pod_has_no_way_into_its_node() -> None:
    obj = pod(
        {"name": "c", "securityContext": {"privileged": False, "capabilities": {"drop": ["ALL"]}}},
        hostNetwork=False,
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    assert pods.node_access(obj) == ()


def test_hostile_text_of_a_specification_is_escaped() -> None:
    hostile = "\x1b]0;pwned\x07"
    obj = pod(
        {
            "name": "c",
            "securityContext": {"capabilities": {"add": [hostile]}},
            "volumeDevices": [{"devicePath": f"/dev/{hostile}"}],
        },
        volumes=[{"name": "v", "hostPath": {"path": f"/{hostile}"}}],
    )
    account = {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": hostile}}}
    assert "\x1b" not in "".join([*pods.node_access(obj), pods.cloud_identity(obj, account)])


def test_a_probe_says_when_it_will_kill_at_the_soonest() -> None:
    obj = pod(
        {"name": "web", "livenessProbe": {"httpGet": {}, "periodSeconds": 5, "failureThreshold": 2}},
        {"name": "side", "livenessProbe": {"exec": {}}},
        {"name": "quiet", "readinessProbe": {"httpGet": {}}},
    )
    first, second = pods.liveness_probes(obj)
    assert "container web: liveness by httpGet, killed after 10 s" in first
    assert "container side: liveness by exec, killed after 30 s" in second


@pytest.mark.parametrize(
    ("account", "env", "words"),
    [
        (None, [], ""),
        ({"metadata": {}}, [], ""),
        ({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/cards"}}}, [], "role/cards"),
        (None, [{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23"}], "Pod Identity"),
        (None, [{"name": "AWS_ROLE_ARN", "value": "arn"}], "AWS_ROLE_ARN"),
        (None, [{"name": "OTHER", "value": "x"}], ""),
    ],
)
def test_a_cloud_role_is_seen_on_the_account_or_in_the_environment(
    account: Json | None, env: list[Json], words: str
) -> None:
    found = pods.cloud_identity(pod({"name": "c", "env": env}), account)
    assert (words in found) if words else found == ""
