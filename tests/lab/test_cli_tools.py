"""The tools around a response on a real cluster: rights that are enough and no more, a doctor that finds what really
stands in the way, kubectl's plugin, and plans that the real kubectl carries out.

Everything happens in a namespace of its own; what is cluster-wide is named after it and goes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import admission, bank, programs
from lab.images import PYTHON
from lab.kube import Kube, wait_until
from lab.layout import Lab
from ringfence.actions.base import Settings
from ringfence.actions.fence import FENCE_KEY
from ringfence.actions.network import Quarantine
from ringfence.actions.pod import Delete
from ringfence.actions.registry import ACTIONS
from ringfence.actions.tokens import DeleteTokens
from ringfence.cli import kubectl
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Applied
from ringfence.model.plan import Plan
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.identity import cluster_uid
from tests.lab import ground, program
from tests.lab.admission import BoundNamespace
from tests.lab.program import BIN, Json, Office, Responder, Ringfence

pytestmark = pytest.mark.lab
NETWORKING = "networking.k8s.io/v1"
USUAL = tuple(action for action in ACTIONS if action != DeleteTokens.name)
"""What may be used without opting in: to see Secrets, even their names, is asked for apart."""


@dataclass(frozen=True)
class Place:
    """A namespace with a Deployment behind a Service, a StatefulSet, and a policy for every pod."""

    lab: Lab
    kube: Kube
    name: str

    def pods(self, app: str = "web") -> list[str]:
        found = self.kube.list("v1", "Pod", self.name, labels=f"app={app}")
        return sorted(p["metadata"]["name"] for p in found if not p["metadata"].get("deletionTimestamp"))

    def pod(self, name: str) -> Json:
        return self.kube.get("v1", "Pod", name, self.name)

    def policies(self) -> dict[str, Json]:
        return {p["metadata"]["name"]: p["spec"] for p in self.kube.list(NETWORKING, "NetworkPolicy", self.name)}

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", *arguments], env=with_kubectl(self.lab), input=stdin, capture_output=True, text=True, timeout=60
        )


def with_kubectl(lab: Lab, **more: str) -> dict[str, str]:
    """An environment in which the lab's real kubectl and our programs are found, and the lab is the cluster."""
    path = os.pathsep.join([str(programs.path("kubectl").parent), str(BIN), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "KUBECONFIG": str(lab.kubeconfig), **more}


def template(app: str) -> Json:
    container = {
        "name": app,
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": [
            "python3",
            "-c",
            "import signal,sys,time; signal.signal(15, lambda *_: sys.exit()); time.sleep(9e5)",
        ],
    }
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]},
    }


def workload(kind: str, app: str, namespace: str, replicas: int) -> Json:
    spec: Json = {"replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": template(app)}
    if kind == "StatefulSet":
        spec["serviceName"] = app
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app, "namespace": namespace}, "spec": spec}


@pytest.fixture(scope="module")
def place(lab: Lab) -> Iterator[Place]:
    name = f"rf-cli-{uuid.uuid4().hex[:8]}"
    kube = Kube.of(lab)
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"rf-cli": name}}})
    try:
        admission.wait_service_account(kube, name)
        kube.create(
            {
                "apiVersion": NETWORKING,
                "kind": "NetworkPolicy",
                "metadata": {"name": "allow-dns", "namespace": name},
                "spec": {
                    "podSelector": {},
                    "policyTypes": ["Egress"],
                    "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
                },
            }
        )
        for port, app in ((80, "web"), (81, "db")):
            spec = {"selector": {"app": app}, "ports": [{"port": port}]}
            kube.create(
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app, "namespace": name}, "spec": spec}
            )
        kube.create(workload("Deployment", "web", name, 4))
        kube.create(workload("StatefulSet", "db", name, 1))
        found = Place(lab, kube, name)
        ready(found, {"web": 4, "db": 1})
        yield found
    finally:
        kube.delete("v1", "Namespace", name)
        kube.close()


def ready(place: Place, wanted: dict[str, int]) -> None:
    deadline = time.monotonic() + 60
    while any(len(place.pods(app)) < count for app, count in wanted.items()):
        assert time.monotonic() < deadline, "the pods were not made"
        time.sleep(0.2)
    place.kube.wait_ready([name for app in wanted for name in place.pods(app)], place.name)


@pytest.fixture
def ringfence(place: Place, tmp_path: Path, responders: tuple[Responder, Responder]) -> Ringfence:
    """With the rights that ``ringfence rbac`` renders, and no others."""
    return Ringfence(place.lab, tmp_path, responders[0].kubeconfig)


@pytest.fixture(scope="module")
def as_responder(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ringfence, Path]]:
    """Ringfence as a service account that has what ``ringfence rbac`` renders, and no more."""
    with contextlib.ExitStack() as stack:
        yield responder(place, tmp_path_factory.mktemp("responder"), stack)


def responder(place: Place, home: Path, stack: contextlib.ExitStack, *options: str) -> tuple[Ringfence, Path]:
    """One whose account lives where it responds, with the rights that these options render."""
    office = Office(place.lab, place.kube, place.name, home)
    stack.callback(office.close)
    person = office.appoint(f"responder-{uuid.uuid4().hex[:6]}", *options)
    return Ringfence(place.lab, home, person.kubeconfig), person.kubeconfig


def user_of(kubeconfig: Path) -> str:
    return program.user_of(yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"])


# --- rbac -----------------------------------------------------------------------------------------------------------
def test_the_rendered_rights_are_enough_for_a_whole_incident(
    place: Place, as_responder: tuple[Ringfence, Path]
) -> None:
    ringfence, kubeconfig = as_responder
    suspect = place.pods()[0]
    contained = ringfence.json("contain", f"pod/{suspect}", "-n", place.name, "--reason", "a test")
    assert contained["outcome"]["kind"] == "applied"
    incident = contained["incident"]["id"]
    denied = [item["id"] for item in contained["evidence"]["items"] if item["result"] == "denied"]
    assert denied == []
    ringfence.json("status", incident)
    ringfence.ok("note", incident, "seen")
    ringfence.json("handover", incident, "--to", "bob/soc")
    ringfence.ok("evidence", "collect", incident)
    assert ringfence.json("eradicate", incident)["outcome"]["kind"] == "applied"
    assert program.forbidden(place.lab, user_of(kubeconfig)) == []
    ready(place, {"web": 4})


def test_the_rendered_rights_are_enough_for_every_action_and_no_check_is_refused(
    place: Place, as_responder: tuple[Ringfence, Path]
) -> None:
    ringfence, kubeconfig = as_responder
    found = ringfence.json("doctor", "-n", place.name)
    assert [one for one in found if one["level"] == "fail"] == []
    assert {one["check"] for one in found if one["check"].startswith("rights")} >= {f"rights: {a}" for a in USUAL}
    assert [one["saw"] for one in found if one["check"].startswith("rights") and one["level"] != "ok"] == []
    assert program.forbidden(place.lab, user_of(kubeconfig)) == []


@pytest.mark.parametrize(
    "beyond",
    [
        "get secrets",
        "list secrets",
        "create pods --subresource=exec",
        "create pods --subresource=attach",
        "create deployments.apps",
        "delete deployments.apps",
        "patch services",
        "patch secrets",
        "escalate clusterroles",
        "bind clusterroles",
        "create clusterroles",
        "patch clusterroles",
        "impersonate users",
        "delete nodes",
        "delete namespaces",
        "get nodes --subresource=proxy",
    ],
)
def test_the_rendered_rights_reach_no_further(place: Place, as_responder: tuple[Ringfence, Path], beyond: str) -> None:
    _, kubeconfig = as_responder
    answer = place.kubectl("auth", "can-i", *beyond.split(" "), "-n", place.name, "--kubeconfig", str(kubeconfig))
    assert answer.stdout.strip() == "no", answer.stderr
    assert (
        place.kubectl("auth", "can-i", "patch", "pods", "-n", place.name, "--kubeconfig", str(kubeconfig)).stdout
        == "yes\n"
    )


def test_rights_for_one_namespace_end_there(place: Place, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        ringfence, kubeconfig = responder(place, tmp_path, stack, "-n", place.name)
        assert [one["saw"] for one in ringfence.json("doctor", "-n", place.name) if one["level"] == "fail"] == []
        elsewhere = ringfence.run("doctor", "-n", bank.NAMESPACE, "-o", "json")
        assert elsewhere.returncode == 3
        can = ["auth", "can-i", "patch", "pods", "--kubeconfig", str(kubeconfig)]
        assert place.kubectl(*can, "-n", place.name).stdout == "yes\n"
        assert place.kubectl(*can, "-n", bank.NAMESPACE).stdout == "no\n"


def test_an_action_that_is_not_enabled_has_no_rights(place: Place, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        ringfence, _ = responder(place, tmp_path, stack, "--actions", "network.quarantine")
        found = {
            one["check"]: one for one in json.loads(ringfence.run("doctor", "-n", place.name, "-o", "json").stdout)
        }
    assert found["rights: network.quarantine"]["level"] == "ok"
    assert found["rights: pod.delete"]["level"] == "fail"
    assert found[f"network.quarantine: {place.name}"]["level"] == "ok"
    assert found[f"pod.delete: {place.name}"]["saw"].startswith("RBAC refuses it")


# --- doctor ---------------------------------------------------------------------------------------------------------
def state_of(kube: Kube, namespace: str) -> dict[str, Json]:
    """What a write would change, of everything that actions write to."""
    kinds = (
        ("v1", "Pod"),
        (NETWORKING, "NetworkPolicy"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("v1", "Node"),
    )
    return {
        f"{kind}/{obj['metadata']['name']}": {
            **{key: obj["metadata"].get(key) for key in ("uid", "labels", "annotations", "deletionTimestamp")},
            "spec": obj["spec"],
        }
        for version, kind in kinds
        for obj in kube.list(version, kind, "" if kind == "Node" else namespace)
        if kind != "Node" or "unschedulable" not in obj["spec"]
    }


def test_the_real_bank_is_tried_and_left_as_it_was(lab: Lab, place: Place, ringfence: Ringfence) -> None:
    bank.reset(lab)
    ringfence.configure("audit", log=str(lab.audit_log))
    before = state_of(place.kube, bank.NAMESPACE)
    found = {one["check"]: one for one in ringfence.json("doctor", "-n", bank.NAMESPACE)}
    assert state_of(place.kube, bank.NAMESPACE) == before
    assert [one for one in found.values() if one["level"] == "fail"] == []
    assert found["audit id"]["level"] == found["audit log"]["level"] == "ok"
    assert found["network enforcement"]["level"] == "warn"
    tried = found[f"network.quarantine: {bank.NAMESPACE}"]
    assert tried["saw"].endswith(" and 4 more")
    for name in ("accounts", "cards", "gateway", "loans", "StatefulSet ledger"):
        assert [one for one in tried["each"] if name in one and one.endswith(": dry run passed")] != [], name
    for action in USUAL:
        assert found[f"{action}: {bank.NAMESPACE}"]["level"] == "ok"


def test_two_probe_pods_show_that_policies_are_enforced_and_go(
    place: Place, tmp_path: Path, canary_responder: Responder
) -> None:
    ringfence = Ringfence(place.lab, tmp_path, canary_responder.kubeconfig)
    ringfence.configure("canary", image=PYTHON, image_pull_policy="Never", seconds=10)
    found = {one["check"]: one for one in ringfence.json("doctor", "-n", place.name, "--probe")}
    assert found["network enforcement"]["level"] == "ok", found["network enforcement"]
    later = {one["check"]: one for one in ringfence.json("doctor", "-n", place.name)}["network enforcement"]
    assert later["level"] == "ok"
    assert later["saw"].startswith(
        f"a deny-all held on node {place.lab.node} (doctor --probe in namespace {place.name}"
    )
    assert found["network enforcement"]["saw"] in later["saw"]
    assert set(place.policies()) == {"allow-dns"}
    names = [p["metadata"]["name"] for p in place.kube.list("v1", "Pod", place.name)]
    assert not [name for name in names if name.startswith("ringfence-")]


@pytest.fixture
def fixed_labels(place: Place) -> Iterator[str]:
    """A ValidatingAdmissionPolicy of the API server itself, for this namespace: labels of pods are fixed."""
    name = f"{place.name}-labels-are-fixed"
    group = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    place.kube.create(
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [
                    {"expression": "object.metadata.labels == oldObject.metadata.labels", "message": "fixed"}
                ],
            },
        }
    )
    place.kube.create(
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"rf-cli": place.name}}},
            },
        }
    )
    try:
        yield name
    finally:
        place.kube.delete(group, "ValidatingAdmissionPolicyBinding", name)
        place.kube.delete(group, "ValidatingAdmissionPolicy", name)


def doctored(ringfence: Ringfence, namespace: str, *, until: str) -> dict[str, Json]:
    """The findings by check, as soon as the API server has its policies compiled: the quarantine has that level."""
    deadline = time.monotonic() + 30
    while True:
        found = {one["check"]: one for one in json.loads(ringfence.run("doctor", "-n", namespace, "-o", "json").stdout)}
        if found[f"network.quarantine: {namespace}"]["level"] == until or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def test_a_policy_of_the_api_server_is_named_and_its_exemption_lets_the_responder_through(
    place: Place, ringfence: Ringfence, fixed_labels: str
) -> None:
    found = doctored(ringfence, place.name, until="fail")[f"network.quarantine: {place.name}"]
    assert found["level"] == "fail"
    assert fixed_labels in found["saw"]
    exemption = yaml.safe_load(found["exemption"])
    place.kube.patch(
        exemption["apiVersion"], exemption["kind"], exemption["metadata"]["name"], body={"spec": exemption["spec"]}
    )
    assert doctored(ringfence, place.name, until="ok")[f"network.quarantine: {place.name}"]["level"] == "ok"


def test_kyvernos_policies_are_named_each_for_what_it_refuses(
    bound_namespace: BoundNamespace, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    team = {"team": "cards"}
    bound_namespace.run("suspect", team)
    bound_namespace.install(admission.FIXED_LABELS, admission.KEPT_PODS)
    ringfence = Ringfence(bound_namespace.lab, tmp_path, responders[0].kubeconfig)
    done = ringfence.run("doctor", "-n", bound_namespace.name, "-o", "json")
    assert done.returncode == 3
    found = {one["check"]: one for one in json.loads(done.stdout)}
    for action, policy in (("network.quarantine", admission.FIXED_LABELS), ("pod.delete", admission.KEPT_PODS)):
        one = found[f"{action}: {bound_namespace.name}"]
        assert one["level"] == "fail"
        assert one["saw"].startswith(f"NamespacedValidatingPolicy {policy.name} refuses it on Pod suspect")
        exception = yaml.safe_load(one["exemption"])
        assert exception["spec"]["policyRefs"] == [{"kind": admission.KIND, "name": policy.name}]
        # The real server knows the kind and takes every field of it.
        dry = bound_namespace.kube.request(
            "POST",
            f"/apis/policies.kyverno.io/v1/namespaces/{bound_namespace.name}/policyexceptions",
            exception,
            query={"dryRun": "All", "fieldValidation": "Strict"},
        )
        assert dry["metadata"]["name"] == exception["metadata"]["name"]


# --- kubectl --------------------------------------------------------------------------------------------------------
def test_kubectl_finds_us_as_a_plugin(place: Place, ringfence: Ringfence) -> None:
    ringfence.ok("declare", "namespace/" + place.name, "--reason", "a test")
    environment = with_kubectl(place.lab, RINGFENCE_CONFIG=str(ringfence.home / "config.yaml"))

    def plugin(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["kubectl", *arguments], env=environment, capture_output=True, text=True, timeout=60)

    assert "kubectl-ringfence" in plugin("plugin", "list").stdout
    listed = plugin("ringfence", "incidents", "-o", "json")
    assert json.loads(listed.stdout)[0]["target"]["name"] == place.name
    assert plugin("ringfence", "status", "INC-9").returncode == 4, "the exit code comes through"


@pytest.fixture
def cluster(place: Place) -> Iterator[Cluster]:
    connected = connect(str(place.lab.kubeconfig), None, 10.0)
    yield connected
    connected.close()


def planned(cluster: Cluster, place: Place, action: type[Any], name: str, fence: str) -> Plan:
    cluster_id = cluster_uid(cluster)
    target = ObjectRef.of(cluster_id, {**place.pod(name), "apiVersion": "v1", "kind": "Pod"})
    made = action(cluster, Settings(fence=fence, serving_floor=1))
    with ThreadPoolExecutor(8) as pool:
        plan = made.plan(target, made.look(cluster_id, target, pool))
    assert isinstance(plan, Plan), plan
    return plan


def typed(place: Place, plan: Plan) -> subprocess.CompletedProcess[str]:
    """The plan's commands in a shell, with the real kubectl."""
    return subprocess.run(
        ["sh"],
        input=kubectl.commands(plan),
        env=with_kubectl(place.lab),
        capture_output=True,
        text=True,
        timeout=60,
    )


def fenced(place: Place, name: str, fence: str) -> Json:
    """What a cut made, with the fence's own value taken out of it; as soon as the controller has let the pod go."""
    wait_until(lambda: not place.pod(name)["metadata"].get("ownerReferences"), 20, "the ReplicaSet to let go")
    meta = place.pod(name)["metadata"]
    made = {
        "labels": meta["labels"],
        "annotations": {k: v for k, v in meta["annotations"].items() if "ringfence" in k or "safe" in k or "karp" in k},
        "policies": place.policies(),
    }
    parsed: Json = json.loads(json.dumps(made).replace(fence, "FENCE"))
    return parsed


def test_typed_commands_make_the_same_objects_as_we_do(place: Place, cluster: Cluster) -> None:
    by_hand, by_us = place.pods()[:2]
    fences = [uuid.uuid4().hex[:16] for _ in range(2)]
    before = place.policies()

    plan = planned(cluster, place, Quarantine, by_hand, fences[0])
    done = typed(place, plan)
    assert done.returncode == 0, done.stderr
    theirs = fenced(place, by_hand, fences[0])
    place.kube.delete("v1", "Pod", by_hand, place.name, grace_seconds=0, wait=20)
    undo(place, before)

    plan = planned(cluster, place, Quarantine, by_us, fences[1])
    action = Quarantine(cluster, Settings(fence=fences[1], serving_floor=1))
    outcomes = [action.apply(change, str(uuid.uuid4())).outcome for change in plan.changes]
    assert all(isinstance(outcome, Applied) for outcome in outcomes), outcomes
    ours = fenced(place, by_us, fences[1])
    place.kube.delete("v1", "Pod", by_us, place.name, grace_seconds=0, wait=20)
    undo(place, before)

    assert theirs == ours
    assert theirs["labels"][FENCE_KEY] == "FENCE"
    ready(place, {"web": 4})


def undo(place: Place, before: dict[str, Json]) -> None:
    for name in place.policies():
        if name not in before:
            place.kube.delete(NETWORKING, "NetworkPolicy", name, place.name)
        else:
            body = [{"op": "replace", "path": "/spec", "value": before[name]}]
            place.kube.patch(
                NETWORKING, "NetworkPolicy", name, place.name, body=body, content_type="application/json-patch+json"
            )


def test_a_typed_delete_spares_another_pod_of_the_name(place: Place, cluster: Cluster) -> None:
    fence, name = uuid.uuid4().hex[:16], f"bare-{uuid.uuid4().hex[:6]}"
    place.kube.create(ground.pod(name, place.name, {FENCE_KEY: fence}))
    place.kube.wait_ready([name], place.name)
    stale = planned(cluster, place, Delete, name, fence)
    place.kube.delete("v1", "Pod", name, place.name, grace_seconds=0, wait=20)
    place.kube.create(ground.pod(name, place.name, {FENCE_KEY: fence}))
    place.kube.wait_ready([name], place.name)

    spared = typed(place, stale)
    assert spared.returncode != 0
    assert "uid" in spared.stderr.lower()
    assert not place.pod(name)["metadata"].get("deletionTimestamp")

    assert typed(place, planned(cluster, place, Delete, name, fence)).returncode == 0
    wait_until(lambda: place.kube.find("v1", "Pod", name, place.name) is None, 20, "the pod to be gone")
