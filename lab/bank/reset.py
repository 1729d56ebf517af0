"""Puts the bank back as its manifests have it, whatever an incident, a test or an attack left behind."""

from __future__ import annotations

from lab import attacker
from lab.bank.deploy import NAMESPACE, SECRETS, apply, deploy, manifests
from lab.kube import FIELD_MANAGER, JSON_PATCH, Kube, Object, wait_until
from lab.layout import Lab

# Kinds an incident or an attacker may have added objects of; what the manifests do not have is deleted.
KINDS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("v1", "ConfigMap"),
    ("v1", "LimitRange"),
    ("v1", "ResourceQuota"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
)
# Made by Kubernetes itself in every namespace.
BUILT_IN = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
# Who may have written fields of the bank's objects without having changed what the manifests say.
OWN_MANAGERS = {FIELD_MANAGER, "kube-controller-manager"}
# Labels that controllers give to pods beside those of the template.
CONTROLLER_LABELS = {
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
}
GONE_SECONDS = 30.0


def reset(lab: Lab) -> None:
    """A pristine bank: extra objects deleted, changed ones restored, foreign and hostile pods replaced, all ready.

    Raises:
        LabError: a pod does not go away within 30 s, or the bank does not come up (see ``deploy``).
    """
    kube = Kube.of(lab)
    try:
        _delete_extras(kube)
        apply(kube)
        _restore_changed(kube)
        _replace_pods(kube, attacker.victims(lab))
    finally:
        kube.close()
    deploy(lab)


def _delete_extras(kube: Kube) -> None:
    ours = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests()}
    ours |= {("Secret", name) for name in SECRETS} | BUILT_IN
    for api_version, kind in KINDS:
        for item in kube.list(api_version, kind, NAMESPACE):
            name = item["metadata"]["name"]
            # What has an owner goes with it.
            if (kind, name) not in ours and not item["metadata"].get("ownerReferences"):
                kube.delete(api_version, kind, name, NAMESPACE)


def _restore_changed(kube: Kube) -> None:
    """Takes out what others added: an apply gives back our fields, but leaves fields that it never had."""
    for manifest in manifests():
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace", "")
        live = kube.get(manifest["apiVersion"], manifest["kind"], metadata["name"], namespace)
        if manifest["kind"] == "Namespace" or not _foreign_managers(live):
            continue
        content = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
        patch = [{"op": "add", "path": f"/{key}", "value": value} for key, value in content.items()]
        for field in ("labels", "annotations"):
            patch.append({"op": "add", "path": f"/metadata/{field}", "value": metadata.get(field, {})})
        kube.patch(
            manifest["apiVersion"],
            manifest["kind"],
            metadata["name"],
            namespace,
            body=patch,
            content_type=JSON_PATCH,
        )


def _foreign_managers(live: Object) -> bool:
    return any(
        entry["manager"] not in OWN_MANAGERS
        for entry in live["metadata"].get("managedFields", ())
        if not entry.get("subresource")
    )


def _replace_pods(kube: Kube, victims: set[str]) -> None:
    templates = _template_labels(kube)
    going = {
        pod["metadata"]["uid"]: pod["metadata"]["name"]
        for pod in kube.list("v1", "Pod", NAMESPACE)
        if pod["metadata"]["uid"] in victims or not _belongs(pod, templates)
    }
    for name in going.values():
        kube.delete("v1", "Pod", name, NAMESPACE, grace_seconds=1)

    def gone() -> bool:
        # By uid: a StatefulSet's new pod has the old one's name.
        return not going.keys() & {pod["metadata"]["uid"] for pod in kube.list("v1", "Pod", NAMESPACE)}

    wait_until(gone, GONE_SECONDS, f"pods {', '.join(going.values())} of namespace {NAMESPACE} to be gone")


def _template_labels(kube: Kube) -> dict[str, dict[str, str]]:
    """uid of each ReplicaSet and StatefulSet of ours → the labels that its pods are made with."""
    found = {}
    for kind in ("ReplicaSet", "StatefulSet"):
        for workload in kube.list("apps/v1", kind, NAMESPACE):
            found[workload["metadata"]["uid"]] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def _belongs(pod: Object, templates: dict[str, dict[str, str]]) -> bool:
    """Whether a controller of the bank made this pod and nobody has relabelled it or gone into it since."""
    owner = next((entry for entry in pod["metadata"].get("ownerReferences", ()) if entry.get("controller")), None)
    if owner is None or owner["uid"] not in templates or pod["spec"].get("ephemeralContainers"):
        return False
    labels = {key: value for key, value in pod["metadata"]["labels"].items() if key not in CONTROLLER_LABELS}
    template = {key: value for key, value in templates[owner["uid"]].items() if key not in CONTROLLER_LABELS}
    return labels == template
