"""The API paths of the kinds that Ringfence speaks of."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from ringfence.model.objects import ObjectRef


class Resource(NamedTuple):
    """A kind's place in the API. ``api_version`` is ``v1`` or ``group/version``."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True
    metadata_only: bool = False
    """Whether nothing but metadata is ever asked for (PartialObjectMetadata)."""

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, an object or a subresource; a namespaced kind without one: all namespaces."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        parts = [root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{quote(namespace, safe='', errors='replace')}")
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe="", errors="replace"))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


POD = Resource("v1", "Pod", "pods")
NODE = Resource("v1", "Node", "nodes", namespaced=False)
NAMESPACE = Resource("v1", "Namespace", "namespaces", namespaced=False)
SERVICE = Resource("v1", "Service", "services")
SERVICE_ACCOUNT = Resource("v1", "ServiceAccount", "serviceaccounts")
RESOURCE_QUOTA = Resource("v1", "ResourceQuota", "resourcequotas")
CORE_EVENT = Resource("v1", "Event", "events")
EVENT = Resource("events.k8s.io/v1", "Event", "events")
ENDPOINT_SLICE = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
NETWORK_POLICY = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
REPLICA_SET = Resource("apps/v1", "ReplicaSet", "replicasets")
DEPLOYMENT = Resource("apps/v1", "Deployment", "deployments")
STATEFUL_SET = Resource("apps/v1", "StatefulSet", "statefulsets")
DAEMON_SET = Resource("apps/v1", "DaemonSet", "daemonsets")
JOB = Resource("batch/v1", "Job", "jobs")
REPLICATION_CONTROLLER = Resource("v1", "ReplicationController", "replicationcontrollers")
CRON_JOB = Resource("batch/v1", "CronJob", "cronjobs")
HORIZONTAL_POD_AUTOSCALER = Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SCALED_OBJECT = Resource("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
SCALED_JOB = Resource("keda.sh/v1alpha1", "ScaledJob", "scaledjobs")
"""KEDA's: custom resources that most clusters do not have."""
APPLICATION = Resource("argoproj.io/v1alpha1", "Application", "applications")
APPLICATION_SET = Resource("argoproj.io/v1alpha1", "ApplicationSet", "applicationsets")
"""Argo CD's: custom resources that many clusters do not have."""
POLICY_REPORT = Resource("wgpolicyk8s.io/v1alpha2", "PolicyReport", "policyreports")
"""What policy engines (Kyverno and others) find in the background: a custom resource that many clusters do not have."""
POD_DISRUPTION_BUDGET = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
ROLE_BINDING = Resource("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE_BINDING = Resource("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", False)
ROLE = Resource("rbac.authorization.k8s.io/v1", "Role", "roles")
CLUSTER_ROLE = Resource("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", False)
VALIDATING_ADMISSION_POLICY = Resource(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", False
)
VALIDATING_ADMISSION_POLICY_BINDING = Resource(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False
)
SECRET = Resource("v1", "Secret", "secrets", metadata_only=True)
CONFIG_MAP = Resource("v1", "ConfigMap", "configmaps")
PERSISTENT_VOLUME_CLAIM = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases")
SELF_SUBJECT_REVIEW = Resource("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews", False)
SELF_SUBJECT_RULES_REVIEW = Resource(
    "authorization.k8s.io/v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False
)
SELF_SUBJECT_ACCESS_REVIEW = Resource(
    "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False
)

KNOWN: dict[tuple[str, str], Resource] = {
    (resource.api_version, resource.kind): resource
    for resource in tuple(globals().values())
    if isinstance(resource, Resource)
}
"""By (apiVersion, kind). An owner of a kind that is not here (an operator's) is named, but not fetched."""


def resource_of(ref: ObjectRef) -> Resource:
    """The resource of a reference. Raises KeyError for a kind that Ringfence does not know."""
    return KNOWN[ref.api_version, ref.kind]
