"""Whether pods can take a role of a cloud: sessions there outlive the pod, and this version does not reach them."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.errors import PlatformError
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.pods import cloud_identity, is_finished, service_account
from ringfence.platform.kubernetes.resources import POD, SERVICE_ACCOUNT
from ringfence.response.readiness.findings import Finding, ok, warn

_CHECK = "AWS identity"


def check_cloud(cluster: Cluster, namespaces: Sequence[str]) -> Finding:
    """Look at the pods of the namespaces and at their accounts. There is nothing to configure yet."""
    roles: dict[str, None] = {}
    try:
        for namespace in namespaces:
            pods = [pod for pod in cluster.list(POD, namespace) if not is_finished(pod)]
            accounts = {name: cluster.find(SERVICE_ACCOUNT, namespace, name) for name in map(service_account, pods)}
            for pod in pods:
                if role := cloud_identity(pod, accounts[service_account(pod)]):
                    roles[f"{role} ({namespace}/{service_account(pod)})"] = None
    except PlatformError as error:
        return warn(_CHECK, f"not configured, and whether a pod takes a role is not known: {error}", error.next_step)
    if roles:
        return warn(
            _CHECK,
            f"not configured, and pods take roles: {', '.join(list(roles)[:6])}",
            "who can revoke sessions of these roles at night must be among the contacts",
        )
    return ok(_CHECK, f"not configured; no pod in {', '.join(namespaces)} takes a role")
