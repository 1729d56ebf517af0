"""Whether the API server takes over the Audit-ID that a request carries: it puts it on its answer."""

from __future__ import annotations

import json

from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import SELF_SUBJECT_REVIEW


def echoed_audit_id(cluster: Cluster, audit_id: str) -> str:
    """The Audit-ID on the answer to a SelfSubjectReview that carried ``audit_id``; empty when there is none.

    Raises PlatformError.
    """
    body = {"apiVersion": SELF_SUBJECT_REVIEW.api_version, "kind": SELF_SUBJECT_REVIEW.kind}
    answer = cluster.send(
        "POST",
        SELF_SUBJECT_REVIEW.path(),
        verb="create",
        target=SELF_SUBJECT_REVIEW.plural,
        content=json.dumps(body).encode(),
        content_type="application/json",
        audit_id=audit_id,
    )
    return str(answer.headers.get("audit-id", ""))
