"""Kyverno's real admission controller, as a daemon of the host beside the API server that asks it.

It has its own identity in the cluster: a service account with about the rights that its chart gives. In the cluster
are its CRDs (from its Go module, never copied here), a namespace with its configuration, and the webhook
configurations that it registers itself. ``stop`` removes all of it: a webhook whose server is gone would refuse
whatever it was asked about.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import time
from pathlib import Path

from lab import accounts, admission, certificates, definitions, processes, programs
from lab.errors import LabError
from lab.kube import Kube, NotFound, Object
from lab.layout import Lab
from lab.processes import Daemon

NAME = "kyverno"
NAMESPACE = "kyverno"
CONTROLLER = "kyverno-admission-controller"
SERVICE = "kyverno-svc"
CONFIGURATION = "kyverno"
METRICS = "kyverno-metrics"
CRD_FOLDERS = ("kyverno", "policies.kyverno.io")
GROUPS = ("kyverno.io", "policies.kyverno.io")
REPORTER = "kyverno-admission"
MANAGED = "webhook.kyverno.io/managed-by=kyverno"
WEBHOOKS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
READY_SECONDS = 90.0

_ALL = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_READ = ["get", "list", "watch"]
_CLUSTER_RULES: list[Object] = [
    {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": _READ},
    {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": _ALL},
    {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": _READ},
    {"apiGroups": list(GROUPS), "resources": ["*"], "verbs": _ALL},
    {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
    {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["configmaps", "namespaces", "pods"], "verbs": _READ},
]
_OWN_RULES: list[Object] = [
    {"apiGroups": [""], "resources": ["secrets", "serviceaccounts"], "verbs": _ALL},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": _ALL},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": _READ},
]


def start(lab: Lab) -> None:
    """Starts or heals it; returns when it enforces a policy.

    Raises:
        LabError: it cannot be built, or ends, or enforces nothing in time.
    """
    if _runs(lab):
        return
    kube = Kube.of(lab)
    try:
        processes.stop(lab, NAME, grace=0)
        definitions.apply(kube, _definitions(), GROUPS)
        for manifest in objects():
            kube.apply(manifest)
        accounts.write_kubeconfig(lab, kube, NAME, NAMESPACE, CONTROLLER)
        processes.ensure(lab, _daemon(lab))
        _wait_registered(lab, kube)
        admission.wait_service_account(kube, NAMESPACE)
        admission.install(kube, NAMESPACE, admission.REQUIRED_TEAM)
        admission.remove(kube, NAMESPACE, admission.REQUIRED_TEAM)
    except LabError as error:
        raise LabError(
            f"Kyverno does not work: {error}\nThe end of {processes.log_path(lab, NAME)}:\n"
            f"{processes.last_lines(lab, NAME)}\nTake it away by `python -m lab profile {NAME} off --name {lab.name}`."
        ) from error
    finally:
        kube.close()


def stop(lab: Lab) -> None:
    """Ends it and removes every object that came with it, policies of any kind included.

    Raises:
        LabError: the API server does not answer, or objects do not go.
    """
    # Killed, not asked: whatever it would tidy up is tidied up here, and it registers nothing again meanwhile.
    processes.stop(lab, NAME, grace=0)
    kube = Kube.of(lab)
    try:
        # First what could refuse something while nobody answers.
        for plural in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
            path = f"/apis/admissionregistration.k8s.io/v1/{plural}"
            kube.request("DELETE", path, query={"labelSelector": MANAGED})
        _forget_namespaces(kube)
        kube.delete("v1", "Namespace", NAMESPACE)  # It takes five seconds at least, so it comes early.
        definitions.delete(kube, GROUPS)
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            kube.delete("rbac.authorization.k8s.io/v1", kind, CONTROLLER)
        kube.delete("v1", "Namespace", NAMESPACE, wait=READY_SECONDS)
        definitions.wait_gone(kube, GROUPS)
    finally:
        kube.close()
    certificates.kubeconfig_of(lab, NAME).unlink(missing_ok=True)


def objects() -> list[Object]:
    """What Kyverno looks up in the cluster, and its rights, in the order to apply them."""
    subject = {"kind": "ServiceAccount", "name": CONTROLLER, "namespace": NAMESPACE}
    labels = {"app.kubernetes.io/part-of": "kyverno", "app.kubernetes.io/component": "admission-controller"}
    rbac = "rbac.authorization.k8s.io"
    # No pod runs: the Deployment is there because Kyverno asks for it, and for those who look for it by its labels.
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "kyverno", "image": "none", "imagePullPolicy": "Never"}]},
    }
    return [
        _object("v1", "Namespace", NAMESPACE, ""),
        _object("v1", "ServiceAccount", CONTROLLER),
        _object("v1", "ConfigMap", CONFIGURATION, data=_configuration()),
        _object("v1", "ConfigMap", METRICS, data={"namespaces": json.dumps({"include": [], "exclude": []})}),
        _object(
            "apps/v1",
            "Deployment",
            CONTROLLER,
            metadata={"labels": labels},
            spec={"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        ),
        _object(f"{rbac}/v1", "ClusterRole", CONTROLLER, "", rules=_CLUSTER_RULES),
        _object(
            f"{rbac}/v1",
            "ClusterRoleBinding",
            CONTROLLER,
            "",
            roleRef={"apiGroup": rbac, "kind": "ClusterRole", "name": CONTROLLER},
            subjects=[subject],
        ),
        _object(f"{rbac}/v1", "Role", CONTROLLER, rules=_OWN_RULES),
        _object(
            f"{rbac}/v1",
            "RoleBinding",
            CONTROLLER,
            roleRef={"apiGroup": rbac, "kind": "Role", "name": CONTROLLER},
            subjects=[subject],
        ),
    ]


def _object(
    api_version: str,
    kind: str,
    name: str,
    namespace: str = NAMESPACE,
    metadata: Object | None = None,
    **content: object,
) -> Object:
    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, **place, **(metadata or {})},
        **content,
    }


def _configuration() -> dict[str, str]:
    return {
        # As in Kyverno's chart: kubelet ends pods whose deletion was allowed, and no policy stands in its way.
        "excludeGroups": "system:nodes",
        "webhooks": json.dumps({"namespaceSelector": {"matchLabels": admission.LABEL}}),
    }


def _daemon(lab: Lab) -> Daemon:
    address = f"127.0.0.1:{lab.kyverno_port}"
    account = f"system:serviceaccount:{NAMESPACE}:{CONTROLLER}"
    secret = f"{SERVICE}.{NAMESPACE}.svc.kyverno-tls"
    argv = (
        str(programs.path(NAME)),
        f"--kubeconfig={certificates.kubeconfig_of(lab, NAME)}",
        f"--serverIP={address}",
        "--webhookServerHost=127.0.0.1",
        f"--webhookServerPort={lab.kyverno_port}",
        f"--caSecretName={secret}-ca",
        f"--tlsSecretName={secret}-pair",
        "--tlsKeyAlgorithm=ECDSA",
        # Policies become Ready only if these may read what the policies are about.
        f"--backgroundServiceAccountName={account}",
        f"--reportsServiceAccountName={account}",
        "--admissionReports=false",  # Nobody would make reports of them, or delete them.
        "--disableMetrics=true",
        "--otelConfig=none",  # Otherwise it listens on a port for metrics all the same.
        "--controllerRuntimeMetricsAddress=0",
        "--disableLogColor",
    )
    environment = {
        "KYVERNO_NAMESPACE": NAMESPACE,
        "KYVERNO_POD_NAME": CONTROLLER,
        "KYVERNO_SERVICEACCOUNT_NAME": CONTROLLER,
        "KYVERNO_ROLE_NAME": CONTROLLER,
        "KYVERNO_DEPLOYMENT": CONTROLLER,
        "KYVERNO_SVC": SERVICE,
        "INIT_CONFIG": CONFIGURATION,
        "METRICS_CONFIG": METRICS,
        "TUF_ROOT": str(lab.state / "kyverno-tuf"),
    }
    return Daemon(NAME, argv, environment, lab.state)


def _runs(lab: Lab) -> bool:
    if not processes.is_current(lab, _daemon(lab)):
        return False
    kube = Kube.of(lab)
    try:
        return _registered(kube) and _answers(lab)
    finally:
        kube.close()


def _registered(kube: Kube) -> bool:
    """Whether both kinds of webhook for policies and for resources are there."""
    found = [
        item["metadata"]["name"]
        for kind in WEBHOOKS
        for item in kube.list("admissionregistration.k8s.io/v1", kind, labels=MANAGED)
    ]
    return all(
        f"kyverno-{what}-{how}-webhook-cfg" in found
        for what in ("policy", "resource")
        for how in ("validating", "mutating")
    )


def _wait_registered(lab: Lab, kube: Kube) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not (_registered(kube) and _answers(lab)):
        if processes.running(lab, NAME) is None:
            raise LabError("it ended")
        if time.monotonic() > deadline:
            raise LabError(f"it registered no webhooks in {READY_SECONDS:.0f} s")
        time.sleep(0.2)


def _answers(lab: Lab) -> bool:
    """Whether its server says that it is ready: it registers its webhooks before it has its certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # The API server is who has to trust it.
    connection = http.client.HTTPSConnection("127.0.0.1", lab.kyverno_port, timeout=2.0, context=context)
    try:
        connection.request("GET", "/health/readiness")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _definitions() -> dict[str, Path]:
    """The file of each CRD; its name is that of the file: group_plural.yaml."""
    folder = programs.asset(programs.KYVERNO, "crds")
    found = {}
    for file in sorted(path for part in CRD_FOLDERS for path in (folder / part).glob("*.yaml")):
        group, _, plural = file.stem.partition("_")
        found[f"{plural}.{group}"] = file
    return found


def _forget_namespaces(kube: Kube) -> None:
    """Takes from the namespaces what made them Kyverno's business, and the events that it wrote."""
    labels = ",".join(f"{key}={value}" for key, value in admission.LABEL.items())
    bound = [item["metadata"]["name"] for item in kube.list("v1", "Namespace", labels=labels)]
    for namespace in bound:
        with contextlib.suppress(NotFound):  # Some may be going by themselves.
            kube.patch("v1", "Namespace", namespace, body={"metadata": {"labels": dict.fromkeys(admission.LABEL)}})
    # About policies of the whole cluster it writes to `default`.
    for namespace in {*bound, "default"}:
        query = {"fieldSelector": f"reportingComponent={REPORTER}"}
        kube.request("DELETE", f"/api/v1/namespaces/{namespace}/events", query=query)
