"""Who we are, and which cluster this is, in the API server's own words."""

from __future__ import annotations

from ringfence.model.base import Json
from ringfence.model.principal import Principal
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import NAMESPACE, SELF_SUBJECT_ACCESS_REVIEW, SELF_SUBJECT_REVIEW


def cluster_uid(cluster: Cluster) -> str:
    """The uid of kube-system: the usual identity of a cluster, which has none of its own."""
    return str(cluster.get(NAMESPACE, "", "kube-system")["metadata"]["uid"])


def whoami(cluster: Cluster, cluster_id: str) -> Principal:
    """The principal that the API server authenticates us as (SelfSubjectReview; every user may ask)."""
    body = {"apiVersion": SELF_SUBJECT_REVIEW.api_version, "kind": SELF_SUBJECT_REVIEW.kind}
    user: Json = cluster.create(SELF_SUBJECT_REVIEW, "", body)["status"]["userInfo"]
    return Principal(
        issuer=f"kubernetes:{cluster_id}",
        subject=str(user.get("username", "")),
        kind="kubernetes",
        groups=tuple(user.get("groups") or ()),
    )


def may(
    cluster: Cluster, verb: str, plural: str, *, group: str = "", namespace: str = "", subresource: str = ""
) -> bool:
    """Whether RBAC lets us (SelfSubjectAccessReview). Admission may still refuse."""
    attributes = {"verb": verb, "resource": plural, "group": group, "namespace": namespace, "subresource": subresource}
    body = {
        "apiVersion": SELF_SUBJECT_ACCESS_REVIEW.api_version,
        "kind": SELF_SUBJECT_ACCESS_REVIEW.kind,
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    return bool(cluster.create(SELF_SUBJECT_ACCESS_REVIEW, "", body)["status"].get("allowed"))
