"""Kubeconfigs of programs that run on the host with a service account of the cluster as their identity."""

from __future__ import annotations

import yaml

from lab import certificates, files
from lab.kube import Kube
from lab.layout import Lab

TOKEN_SECONDS = 365 * 24 * 3600


def write_kubeconfig(lab: Lab, kube: Kube, name: str, namespace: str, account: str) -> None:
    """``certificates.kubeconfig_of(lab, name)``, for a service account that exists, with a token for a year.

    Raises:
        LabError: the API server gives no token.
    """
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    request["spec"] = {"expirationSeconds": TOKEN_SECONDS}
    token = kube.request("POST", path, request)["status"]["token"]
    authority = str(certificates.certificate(lab, "ca"))
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": lab.api_url, "certificate-authority": authority}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    files.write(certificates.kubeconfig_of(lab, name), yaml.safe_dump(content, sort_keys=False), mode=0o600)
