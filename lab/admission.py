"""Three policies for Kyverno that bind whoever responds to an incident, each in one namespace and nowhere else.

They need the profile ``kyverno`` (lab/profiles.py). Each is a NamespacedValidatingPolicy, so it cannot bind another
namespace, and goes when its namespace goes; Kyverno is asked only about namespaces that bear ``LABEL``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial

from lab.errors import LabError
from lab.kube import ApiError, Kube, NotFound, Object, wait_until

# Kyverno's webhooks are called for these namespaces only, so no other part of the lab depends on it.
LABEL = {"lab.ringfence.dev/admission": "kyverno"}
API_VERSION = "policies.kyverno.io/v1"
KIND = "NamespacedValidatingPolicy"
REQUIRED_LABEL = "team"
PROBE = "admission-probe"
IN_FORCE_SECONDS = 30.0
DENIED = "denied the request"

_LABELS = "metadata.?labels.orValue({})"


@dataclass(frozen=True)
class Policy:
    """What Kyverno refuses about pods: ``operations`` for which ``expression`` (CEL) is false, with ``message``."""

    name: str
    operations: tuple[str, ...]
    expression: str
    message: str

    def manifest(self, namespace: str) -> Object:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": list(self.operations)}
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": self.name, "namespace": namespace},
            "spec": {
                "validationActions": ["Deny"],
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": self.expression, "message": self.message}],
                # By default Kyverno extends a policy for pods to whatever makes pods.
                "autogen": {"podControllers": {"controllers": []}},
            },
        }


REQUIRED_TEAM = Policy(
    name="pods-need-a-team",
    operations=("CREATE", "UPDATE"),
    expression=f"object.{_LABELS}[?'{REQUIRED_LABEL}'].orValue('') != ''",
    message=f"a pod needs the label {REQUIRED_LABEL}",
)
FIXED_LABELS = Policy(
    name="labels-of-pods-are-fixed",
    operations=("UPDATE",),
    expression=f"object.{_LABELS} == oldObject.{_LABELS}",
    message="the labels of a pod may not be changed",
)
KEPT_PODS = Policy(
    name="pods-are-kept",
    operations=("DELETE",),
    expression="false",
    message="a pod may not be deleted",
)
POLICIES = (REQUIRED_TEAM, FIXED_LABELS, KEPT_PODS)
BY_NAME = {policy.name: policy for policy in POLICIES}


def install(kube: Kube, namespace: str, *policies: Policy) -> None:
    """Binds the namespace, which exists, by these policies; returns when Kyverno enforces all of them.

    It is seen by a pod that no node ever runs and that is gone afterwards.

    Raises:
        LabError: the profile is off, one does not come into force in time, or the API server refuses.
    """
    try:
        kube.list(API_VERSION, KIND, namespace)
    except NotFound as error:
        raise LabError("this lab has no Kyverno: turn it on by `python -m lab profile kyverno on`") from error
    kube.patch("v1", "Namespace", namespace, body={"metadata": {"labels": LABEL}})
    _make_probe(kube, namespace)
    try:
        for policy in policies:
            kube.apply(policy.manifest(namespace))
        for policy in policies:
            what = f"Kyverno to enforce {policy.name} in {namespace}"
            wait_until(partial(_refuses, kube, namespace, policy), IN_FORCE_SECONDS, what)
    finally:
        _remove_probe(kube, namespace)


def remove(kube: Kube, namespace: str, *policies: Policy) -> None:
    """Takes these policies from the namespace; returns when nothing is refused on their account any more.

    With the last policy goes ``LABEL`` too. That there is none is no error.

    Raises:
        LabError: one is still enforced after some time.
    """
    for policy in policies:
        kube.delete(API_VERSION, KIND, policy.name, namespace)
    _make_probe(kube, namespace)
    try:
        for policy in policies:
            what = f"Kyverno to forget {policy.name} in {namespace}"
            wait_until(partial(_allows, kube, namespace, policy), IN_FORCE_SECONDS, what)
    finally:
        _remove_probe(kube, namespace)
    with contextlib.suppress(NotFound):  # No Kyverno, no policies.
        if kube.list(API_VERSION, KIND, namespace):
            return
    kube.patch("v1", "Namespace", namespace, body={"metadata": {"labels": dict.fromkeys(LABEL)}})


def wait_service_account(kube: Kube, namespace: str) -> None:
    """Waits until pods can be made in a new namespace: they are refused before it has its service account.

    Raises:
        LabError: it has none after some seconds.
    """
    what = f"the service account of {namespace}"
    wait_until(lambda: kube.find("v1", "ServiceAccount", "default", namespace) is not None, 10.0, what)


def _refuses(kube: Kube, namespace: str, policy: Policy) -> bool:
    """Whether that policy refuses what it is there to refuse, in a dry run."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    dry = {"dryRun": "All"}
    try:
        match policy.operations:
            case ("DELETE",):
                kube.request("DELETE", f"{pods}/{PROBE}", {"dryRun": ["All"]})
            case ("UPDATE",):
                change = {"metadata": {"labels": {"changed": "yes"}}}
                content_type = "application/merge-patch+json"
                kube.request("PATCH", f"{pods}/{PROBE}", change, query=dry, content_type=content_type)
            case _:
                kube.request("POST", pods, idle_pod(f"{PROBE}-bare", namespace, {}), query=dry)
    except ApiError as error:
        if DENIED not in str(error):
            raise
        return policy.message in str(error)
    return False


def _allows(kube: Kube, namespace: str, policy: Policy) -> bool:
    return not _refuses(kube, namespace, policy)


def idle_pod(name: str, namespace: str, labels: dict[str, str]) -> Object:
    """A pod that no node ever runs: it stays Pending, and its image need not exist."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "schedulerName": "none",
            "automountServiceAccountToken": False,
            "containers": [{"name": "none", "image": "none", "imagePullPolicy": "Never"}],
        },
    }


def _make_probe(kube: Kube, namespace: str) -> None:
    _remove_probe(kube, namespace)  # Of a run that was ended in the middle.
    kube.create(idle_pod(PROBE, namespace, {REQUIRED_LABEL: "lab"}))


def _remove_probe(kube: Kube, namespace: str) -> None:
    """An eviction ends a pod without an admission of DELETE, so it goes whatever policies there are."""
    if kube.find("v1", "Pod", PROBE, namespace) is None:
        return
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": PROBE, "namespace": namespace}}
    kube.request("POST", f"/api/v1/namespaces/{namespace}/pods/{PROBE}/eviction", eviction)
    wait_until(lambda: kube.find("v1", "Pod", PROBE, namespace) is None, 10.0, f"pod {namespace}/{PROBE} to be gone")
