"""Real admission: each policy refuses what it says and nothing else, and the profile leaves no trace."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator

import pytest

from lab import admission, certificates, kyverno_controller, layout, processes
from lab.admission import FIXED_LABELS, KEPT_PODS, REQUIRED_TEAM
from lab.errors import LabError
from lab.kube import ApiError, Kube, wait_until
from lab.kyverno_controller import WEBHOOKS
from lab.layout import Lab
from tests.lab.admission import BoundNamespace, refusal
from tests.lab.conftest import run_lab

pytestmark = pytest.mark.lab

OWN_LAB = "rf-test-kyverno"
TEAM = {"team": "cards"}
POD = "sleeper"


def idle(namespace: str, labels: dict[str, str], name: str = POD) -> dict[str, object]:
    """A pod that no node runs: enough for admission."""
    return admission.idle_pod(name, namespace, labels)


def test_a_pod_without_the_required_label_is_refused(bound_namespace: BoundNamespace) -> None:
    kube, namespace = bound_namespace.kube, bound_namespace.name
    kube.create(idle(namespace, {}, "from-before"))
    bound_namespace.install(REQUIRED_TEAM)

    with pytest.raises(ApiError, match=REQUIRED_TEAM.message) as failure:
        kube.create(idle(namespace, {"app": "cards"}))
    # As every API server answers for a webhook that names no code: 400 without a reason, never 403.
    assert refusal(failure.value)[0] == 400
    assert failure.value.reason == ""
    with pytest.raises(ApiError, match=REQUIRED_TEAM.message):
        kube.create(idle(namespace, {"team": ""}))
    kube.create(idle(namespace, TEAM))

    with pytest.raises(ApiError, match=REQUIRED_TEAM.message):
        bound_namespace.relabel(POD, {"team": None})
    bound_namespace.relabel(POD, {"quarantine": "yes"})
    assert bound_namespace.labels(POD) == {**TEAM, "quarantine": "yes"}

    # An old pod that violates it can be changed in no way but towards what it asks for.
    with pytest.raises(ApiError, match=REQUIRED_TEAM.message):
        bound_namespace.relabel("from-before", {"quarantine": "yes"})
    bound_namespace.relabel("from-before", TEAM)

    bound_namespace.delete(POD, wait=5.0)


@pytest.mark.parametrize("change", [{"quarantine": "yes"}, {"team": "other"}, {"team": None}])
def test_no_label_of_a_pod_changes(bound_namespace: BoundNamespace, change: dict[str, str | None]) -> None:
    kube, namespace = bound_namespace.kube, bound_namespace.name
    kube.create(idle(namespace, TEAM))
    bound_namespace.install(FIXED_LABELS)
    with pytest.raises(ApiError, match=FIXED_LABELS.message):
        bound_namespace.relabel(POD, change)
    assert bound_namespace.labels(POD) == TEAM

    kube.patch("v1", "Pod", POD, namespace, body={"metadata": {"annotations": {"seen": "yes"}}})
    bound_namespace.delete(POD, wait=5.0)
    kube.create(idle(namespace, {}, "unlabelled"))


def test_no_pod_is_deleted_but_labels_change(bound_namespace: BoundNamespace) -> None:
    kube, namespace = bound_namespace.kube, bound_namespace.name
    kube.create(idle(namespace, TEAM))
    bound_namespace.install(KEPT_PODS)
    with pytest.raises(ApiError, match=KEPT_PODS.message):
        bound_namespace.delete(POD)
    with pytest.raises(ApiError, match=KEPT_PODS.message):
        kube.request("DELETE", f"/api/v1/namespaces/{namespace}/pods")
    bound_namespace.relabel(POD, {"quarantine": "yes"})
    kube.create(idle(namespace, {}, "another"))
    assert {pod["metadata"]["name"] for pod in kube.list("v1", "Pod", namespace)} == {POD, "another"}

    bound_namespace.remove(KEPT_PODS)
    assert not admission.LABEL.items() & kube.get("v1", "Namespace", namespace)["metadata"]["labels"].items()
    bound_namespace.delete(POD, wait=5.0)


def test_pods_run_and_end_under_all_policies(bound_namespace: BoundNamespace) -> None:
    """Kubelet writes their status and ends them: a policy that stood in its way would be no real cluster's."""
    bound_namespace.install(REQUIRED_TEAM, FIXED_LABELS, KEPT_PODS)
    bound_namespace.run(POD, TEAM)
    bound_namespace.remove(KEPT_PODS)
    bound_namespace.delete(POD, wait=20.0)


def test_a_policy_binds_no_other_namespace(bound_namespace: BoundNamespace) -> None:
    bound_namespace.install(REQUIRED_TEAM, FIXED_LABELS, KEPT_PODS)
    kube, other = bound_namespace.kube, f"{bound_namespace.name}-not"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other, "labels": admission.LABEL}})
    asked = kube.get("admissionregistration.k8s.io/v1", WEBHOOKS[0], "kyverno-resource-validating-webhook-cfg")[
        "webhooks"
    ]
    assert asked
    assert all(webhook["namespaceSelector"]["matchLabels"] == admission.LABEL for webhook in asked)
    try:
        admission.wait_service_account(kube, other)
        kube.create(idle(other, {}))
        kube.patch("v1", "Pod", POD, other, body={"metadata": {"labels": {"quarantine": "yes"}}})
        kube.delete("v1", "Pod", POD, other, grace_seconds=0, wait=5.0)
    finally:
        kube.delete("v1", "Namespace", other)


@pytest.fixture
def own_lab(kyverno: Lab) -> Iterator[tuple[Lab, Kube]]:
    """A bare lab of its own, beside the default one with its Kyverno: they share nothing."""
    run_lab("down", "--name", OWN_LAB)
    run_lab("up", "--bare", "--name", OWN_LAB)
    lab = layout.find(OWN_LAB)
    assert lab is not None
    with contextlib.closing(Kube.of(lab)) as kube:
        yield lab, kube
    run_lab("down", "--name", OWN_LAB)


def cluster_objects(kube: Kube) -> set[tuple[str, str]]:
    """Every object of the cluster that an admission controller could leave behind."""
    kinds = [
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("apiregistration.k8s.io/v1", "APIService"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("v1", "Namespace"),
    ]
    found = {(kind, item["metadata"]["name"]) for version, kind in kinds for item in kube.list(version, kind)}
    reporters = {item.get("reportingComponent", "") for item in kube.list("v1", "Event")}
    return found | {("Event", kyverno_controller.REPORTER)} if kyverno_controller.REPORTER in reporters else found


def test_the_profile_heals_and_goes_without_a_trace(own_lab: tuple[Lab, Kube]) -> None:
    lab, kube = own_lab
    bound, free = "bound", "free"
    for name in (bound, free):
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        admission.wait_service_account(kube, name)
    before = cluster_objects(kube)
    namespace_before = kube.get("v1", "Namespace", bound)["metadata"]["labels"]

    with pytest.raises(LabError, match="profile kyverno on"):
        admission.install(kube, bound, FIXED_LABELS)
    run_lab("up", "--bare", "--profile", "kyverno", "--name", OWN_LAB)
    run_lab("policy", "install", bound, FIXED_LABELS.name, "--name", OWN_LAB)
    pid = processes.running(lab, kyverno_controller.NAME)
    assert pid is not None
    status = json.loads(run_lab("status", "-o", "json", "--name", OWN_LAB).stdout)
    assert (status["profiles"], status["parts"]["kyverno"]) == (["kyverno"], pid)

    for name in (bound, free):
        kube.create(idle(name, {}))

    # Its death shuts what it was asked about, as it does everywhere, and nothing else.
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: processes.running(lab, kyverno_controller.NAME) is None, 5.0, "Kyverno to end")
    touch = {"metadata": {"annotations": {"touched": "yes"}}}
    with pytest.raises(ApiError, match="failed calling webhook"):
        kube.patch("v1", "Pod", POD, bound, body=touch)
    kube.patch("v1", "Pod", POD, free, body=touch)
    assert run_lab("status", "--name", OWN_LAB, check=False).returncode == 1

    run_lab("up", "--bare", "--name", OWN_LAB)
    assert run_lab("status", "--name", OWN_LAB).returncode == 0
    kube.patch("v1", "Pod", POD, bound, body=touch)
    with pytest.raises(ApiError, match=FIXED_LABELS.message):
        kube.patch("v1", "Pod", POD, bound, body={"metadata": {"labels": {"quarantine": "yes"}}})

    run_lab("profile", "kyverno", "off", "--name", OWN_LAB)
    kube.patch("v1", "Pod", POD, bound, body={"metadata": {"labels": {"quarantine": "yes"}}})
    wait_until(lambda: cluster_objects(kube) == before, 10.0, "the API services of Kyverno's CRDs to be gone")
    assert kube.get("v1", "Namespace", bound)["metadata"]["labels"] == namespace_before
    assert not certificates.kubeconfig_of(lab, kyverno_controller.NAME).exists()
    run_lab("profile", "kyverno", "off", "--name", OWN_LAB)  # Once more is no error.
    run_lab("up", "--bare", "--name", OWN_LAB)
    assert processes.running(lab, kyverno_controller.NAME) is None
