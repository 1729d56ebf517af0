"""The native admission policy that refuses what a pod's bound tokens may still write.

A token that the kubelet or a TokenRequest binds to a pod carries that pod's uid, and the API server hands it to
admission as ``request.userInfo.extra`` (``authentication.kubernetes.io/pod-uid``). The policy looks at nothing else, so
that siblings, which have the same account, go on. admissionregistration.k8s.io/v1, Kubernetes 1.30 and later.
"""

from __future__ import annotations

import json
from typing import Any

from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import VALIDATING_ADMISSION_POLICY, VALIDATING_ADMISSION_POLICY_BINDING

POD_UID = "authentication.kubernetes.io/pod-uid"
"""The member of ``userInfo.extra`` in which the API server names the pod that a token is bound to."""

FENCE_KEY = "ringfence.dev/fence"
MESSAGE = "the pod that this token is bound to is cut off in a security incident"
"""What a refused caller reads. The attacker reads it too: it names no incident and nobody to call."""


def policy_name(fence: str, pod_uid: str) -> str:
    """One policy for each pod of an incident; both parts are of a name's characters."""
    return f"ringfence-{fence}-{pod_uid}"


def policy(fence: str, pod_uid: str) -> Json:
    """The ValidatingAdmissionPolicy. Every default is spelled out, so that it can be compared when it is read back.

    The condition is total: it has no error that ``failurePolicy: Fail`` would turn on everybody's requests.
    """
    key, uid = json.dumps(POD_UID), json.dumps(pod_uid)
    extra = "request.userInfo.extra"
    return {
        "apiVersion": VALIDATING_ADMISSION_POLICY.api_version,
        "kind": VALIDATING_ADMISSION_POLICY.kind,
        "metadata": _meta(fence, pod_uid),
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {},
                "objectSelector": {},
                "resourceRules": [
                    {
                        "apiGroups": ["*"],
                        "apiVersions": ["*"],
                        "operations": ["CREATE", "UPDATE", "DELETE", "CONNECT"],
                        "resources": ["*/*"],
                        "scope": "*",
                    }
                ],
            },
            "matchConditions": [
                {
                    "name": "bound-to-the-pod",
                    "expression": f"has({extra}) && {key} in {extra} && {uid} in {extra}[{key}]",
                }
            ],
            "validations": [{"expression": "false", "message": MESSAGE, "reason": "Forbidden"}],
        },
    }


def binding(fence: str, pod_uid: str) -> Json:
    """The binding that puts it in force. ``Audit``: the audit log names the policy beside each refused call."""
    return {
        "apiVersion": VALIDATING_ADMISSION_POLICY_BINDING.api_version,
        "kind": VALIDATING_ADMISSION_POLICY_BINDING.kind,
        "metadata": _meta(fence, pod_uid),
        "spec": {"policyName": policy_name(fence, pod_uid), "validationActions": ["Deny", "Audit"]},
    }


def not_in_force(cluster: Cluster, fence: str, pod_uid: str) -> str:
    """Why the policy of a pod does not hold; empty when both objects read back as they were made. Raises PlatformError.

    What the API server does with it is not shown by that.
    """
    pair = (
        (VALIDATING_ADMISSION_POLICY, policy(fence, pod_uid)),
        (VALIDATING_ADMISSION_POLICY_BINDING, binding(fence, pod_uid)),
    )
    for resource, wanted in pair:
        name = wanted["metadata"]["name"]
        live = cluster.find(resource, "", name)
        if live is None:
            return f"there is no {resource.kind} {name}"
        if _lean(live.get("spec")) != _lean(wanted["spec"]) or live["metadata"].get("deletionTimestamp"):
            return f"{resource.kind} {name} is not as it was made: somebody has changed it"
        checked = (live.get("status") or {}).get("typeChecking") or {}
        if checked.get("expressionWarnings"):
            return f"the API server cannot make sense of an expression of {name}"
    return ""


def _lean(value: Any) -> Any:
    """Without members that are empty, which the server may write or leave out."""
    if isinstance(value, dict):
        lean = {name: _lean(member) for name, member in value.items()}
        return {name: member for name, member in lean.items() if member not in (None, {}, [])}
    return [_lean(one) for one in value] if isinstance(value, list) else value


def _meta(fence: str, pod_uid: str) -> Json:
    labels = {"app.kubernetes.io/managed-by": "ringfence", FENCE_KEY: fence}
    return {"name": policy_name(fence, pod_uid), "labels": labels}
