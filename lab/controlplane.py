"""etcd, API server, controller manager and scheduler, as daemons of the host.

The audit log is real and whole enough to investigate with: who did what by which address, bodies for changes of
workloads, network policies and RBAC, never bodies of Secrets or tokens; the components' own watching is left out.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import yaml

from lab import api, certificates, files, processes, programs
from lab.errors import LabError
from lab.layout import Lab
from lab.processes import Daemon

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
DAEMONS = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER)
READY_SECONDS = 60.0

# Order matters: the first rule that fits decides.
AUDIT_RULES: list[dict[str, Any]] = [
    {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*", "/metrics"]},
    {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
    {
        "level": "None",
        "verbs": ["create", "patch", "update"],
        "resources": [{"group": "", "resources": ["events"]}, {"group": "events.k8s.io", "resources": ["events"]}],
    },
    {
        "level": "None",
        "verbs": ["watch"],
        "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"],
    },
    {
        "level": "None",
        "verbs": ["get", "list", "watch"],
        "users": [
            "system:apiserver",
            "system:kube-controller-manager",
            "system:kube-scheduler",
            "system:kube-proxy",
        ],
    },
    # Never with bodies: they hold secrets.
    {
        "level": "Metadata",
        "resources": [
            {"group": "", "resources": ["secrets", "configmaps", "serviceaccounts/token"]},
            {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
        ],
    },
    {
        "level": "RequestResponse",
        "verbs": ["create", "update", "patch", "delete", "deletecollection"],
        "resources": [
            {
                "group": "",
                "resources": [
                    "pods",
                    "pods/eviction",
                    "pods/ephemeralcontainers",
                    "services",
                    "serviceaccounts",
                    "namespaces",
                    "replicationcontrollers",
                ],
            },
            {"group": "networking.k8s.io", "resources": ["networkpolicies"]},
            {
                "group": "apps",
                "resources": [
                    "deployments",
                    "deployments/scale",
                    "replicasets",
                    "replicasets/scale",
                    "statefulsets",
                    "statefulsets/scale",
                    "daemonsets",
                ],
            },
            {"group": "batch", "resources": ["jobs", "cronjobs"]},
            {"group": "rbac.authorization.k8s.io"},
            {"group": "certificates.k8s.io"},
            {"group": "admissionregistration.k8s.io"},
        ],
    },
    {"level": "Metadata"},
]


def audit_policy() -> dict[str, Any]:
    """The API server's audit policy (audit.k8s.io/v1)."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": AUDIT_RULES,
    }


def ensure(lab: Lab) -> None:
    """Starts etcd and the API server; the other two need its answers, so ``ensure_controllers`` comes after."""
    policy = lab.configuration / "audit-policy.yaml"
    text = yaml.safe_dump(audit_policy(), sort_keys=False)
    files.write(policy, text)
    processes.ensure(lab, _etcd(lab))
    processes.ensure(lab, _api_server(lab, policy, hashlib.sha256(text.encode()).hexdigest()))


def ensure_controllers(lab: Lab) -> None:
    """Starts controller manager and scheduler; the API server has to be ready."""
    processes.ensure(lab, _controller_manager(lab))
    processes.ensure(lab, _scheduler(lab))


def wait_ready(lab: Lab) -> None:
    """Waits for the API server's /readyz.

    Raises:
        LabError: it ended, or it is not ready in time; with the end of its log.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not api.ready(lab):
        for name in (ETCD, API_SERVER):
            if processes.running(lab, name) is None:
                raise LabError(_not_ready(lab, name, "ended"))
        if time.monotonic() > deadline:
            raise LabError(_not_ready(lab, API_SERVER, f"was not ready after {READY_SECONDS:.0f} s"))
        time.sleep(0.1)


def wait_controllers(lab: Lab) -> None:
    """Waits for the ``default`` ServiceAccount: the controllers work, and bare pods can be created.

    Raises:
        LabError: it does not appear in time; with the end of the controller manager's log.
    """
    deadline = time.monotonic() + READY_SECONDS
    while api.get(lab, "/api/v1/namespaces/default/serviceaccounts/default") is None:
        if processes.running(lab, CONTROLLER_MANAGER) is None:
            raise LabError(_not_ready(lab, CONTROLLER_MANAGER, "ended"))
        if time.monotonic() > deadline:
            raise LabError(_not_ready(lab, CONTROLLER_MANAGER, f"made no service account in {READY_SECONDS:.0f} s"))
        time.sleep(0.1)


def _not_ready(lab: Lab, name: str, what: str) -> str:
    return (
        f"{name} {what}. The end of {processes.log_path(lab, name)}:\n{processes.last_lines(lab, name)}\n"
        f"If it does not heal, start from nothing: `python -m lab down --name {lab.name}`, then `up`."
    )


def _etcd(lab: Lab) -> Daemon:
    client = f"https://127.0.0.1:{lab.etcd_port}"
    peer = f"http://127.0.0.1:{lab.etcd_port + 1}"
    return _daemon(
        lab,
        ETCD,
        f"--data-dir={lab.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--cert-file={certificates.certificate(lab, 'etcd')}",
        f"--key-file={certificates.key(lab, 'etcd')}",
        f"--trusted-ca-file={certificates.certificate(lab, 'ca')}",
        "--client-cert-auth",
        # A lab needs no data after a power cut, and fsync is most of etcd's time on a small disk.
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def _api_server(lab: Lab, audit_policy_file: Path, audit_policy_hash: str) -> Daemon:
    certificate, key = certificates.certificate, certificates.key
    return _daemon(
        lab,
        API_SERVER,
        "--bind-address=0.0.0.0",
        f"--secure-port={lab.api_port}",
        f"--advertise-address={lab.host_address}",
        f"--tls-cert-file={certificate(lab, 'apiserver')}",
        f"--tls-private-key-file={key(lab, 'apiserver')}",
        f"--client-ca-file={certificate(lab, 'ca')}",
        f"--etcd-servers=https://127.0.0.1:{lab.etcd_port}",
        f"--etcd-cafile={certificate(lab, 'ca')}",
        f"--etcd-certfile={certificate(lab, 'etcd-client')}",
        f"--etcd-keyfile={key(lab, 'etcd-client')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        # Without it the API server refuses privileged pods before any policy sees them.
        "--allow-privileged=true",
        f"--service-cluster-ip-range={lab.service_cidr}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={lab.pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={lab.pki / 'service-account.key'}",
        f"--kubelet-certificate-authority={certificate(lab, 'ca')}",
        f"--kubelet-client-certificate={certificate(lab, 'apiserver-kubelet-client')}",
        f"--kubelet-client-key={key(lab, 'apiserver-kubelet-client')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--audit-policy-file={audit_policy_file}",
        f"--audit-log-path={lab.audit_log}",
        "--audit-log-format=json",
        "--audit-log-maxsize=200",
        "--audit-log-maxbackup=2",
        "--profiling=false",
        version=audit_policy_hash,
    )


def _controller_manager(lab: Lab) -> Daemon:
    kubeconfig = certificates.kubeconfig_of(lab, "controller-manager")
    return _daemon(
        lab,
        CONTROLLER_MANAGER,
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={lab.pki / 'service-account.key'}",
        f"--root-ca-file={certificates.certificate(lab, 'ca')}",
        f"--cluster-signing-cert-file={certificates.certificate(lab, 'ca')}",
        f"--cluster-signing-key-file={certificates.key(lab, 'ca')}",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={lab.pod_cidr}",
        "--node-cidr-mask-size=24",
    )


def _scheduler(lab: Lab) -> Daemon:
    kubeconfig = certificates.kubeconfig_of(lab, "scheduler")
    return _daemon(lab, SCHEDULER, f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0")


def _daemon(lab: Lab, name: str, *arguments: str, version: str = "") -> Daemon:
    return Daemon(name, (str(programs.path(name)), *arguments), working_directory=lab.state, version=version)
