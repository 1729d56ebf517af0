"""The cluster's name service: Debian's dnsmasq in a pod, behind the Service kube-dns as every cluster has it.

Its records are a hosts file that the enforcer keeps true (lab/enforcer/records.py) and that dnsmasq reads anew by
itself. It has no upstream: a name of the cluster that does not exist is NXDOMAIN, any other name is refused.
"""

from __future__ import annotations

from typing import Any

from lab import images
from lab.kube import Kube, wait_until
from lab.layout import Lab

NAMESPACE = "kube-system"
SERVICE = "kube-dns"
LABELS = {"k8s-app": "kube-dns"}
RECORDS = "/records"
PORT = 53
USER_ID = 100  # dnsmasq, in the image's /etc/passwd
READY_SECONDS = 30.0


def deploy(lab: Lab, kube: Kube | None = None) -> None:
    """Applies Deployment and Service and waits until names can be asked for.

    Raises:
        LabError: the API server refused, or the pod is not Ready in time.
    """
    kube = kube or Kube.of(lab)
    lab.dns_hosts.mkdir(parents=True, exist_ok=True)
    for manifest in (service(lab), deployment(lab)):
        kube.apply(manifest)

    def available() -> bool:
        status = kube.get("apps/v1", "Deployment", SERVICE, NAMESPACE).get("status", {})
        return bool(status.get("readyReplicas"))

    wait_until(available, READY_SECONDS, f"the name service ({NAMESPACE}/{SERVICE}) to be Ready")


def service(lab: Lab) -> dict[str, Any]:
    ports = [{"name": f"dns-{name.lower()}", "port": PORT, "protocol": name} for name in ("UDP", "TCP")]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {"selector": LABELS, "clusterIP": lab.dns_service, "ports": ports},
    }


def deployment(lab: Lab) -> dict[str, Any]:
    container = {
        "name": "dnsmasq",
        "image": images.DNS,
        "imagePullPolicy": "Never",
        "command": ["/usr/sbin/dnsmasq"],
        "args": [
            "--keep-in-foreground",
            "--log-facility=-",
            "--log-queries=extra",
            "--no-resolv",
            "--no-hosts",
            "--local=/cluster.local/",
            f"--hostsdir={RECORDS}",
            "--pid-file=",
        ],
        "ports": [{"name": f"dns-{name.lower()}", "containerPort": PORT, "protocol": name} for name in ("UDP", "TCP")],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "records", "mountPath": RECORDS, "readOnly": True}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "dnsPolicy": "Default",
                    "priorityClassName": "system-cluster-critical",
                    # Port 53 without a capability; NetworkPolicies of the field name that port, so it has to be it.
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": USER_ID,
                        "runAsGroup": USER_ID,
                        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
                    },
                    "containers": [container],
                    "volumes": [{"name": "records", "hostPath": {"path": str(lab.dns_hosts), "type": "Directory"}}],
                },
            },
        },
    }
