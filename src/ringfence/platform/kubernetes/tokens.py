"""Service account tokens: minting one that is bound to a pod, and asking the API server what it thinks of a token.

A bound token is refused once its pod is gone; one that we mint for the same pod dies when the stolen one dies. The
token stays in memory: never logged, stored or shown. Never dry-run a TokenRequest: the dry run mints a working token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ringfence.errors import Denied, Unanswered
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.pods import service_account
from ringfence.platform.kubernetes.resources import SECRET, SELF_SUBJECT_REVIEW, SERVICE_ACCOUNT

_LEGACY = "kubernetes.io/service-account-token"
_NAMES = "kubernetes.io/service-account.name"
_SHORTEST_SECONDS = 600
"""The least that TokenRequest grants."""


@dataclass(frozen=True)
class BoundToken:
    """A token of a pod's account, bound to the pod's uid."""

    account: str
    pod_uid: str
    _secret: str = field(repr=False)

    def accepted_by(self, cluster: Cluster, audit_id: str = "") -> bool:
        """Whether the API server still takes the token. Raises PlatformError when it gives no clear answer."""
        body = {"apiVersion": SELF_SUBJECT_REVIEW.api_version, "kind": SELF_SUBJECT_REVIEW.kind}
        try:
            with cluster.as_bearer(self._secret) as theirs:
                theirs.create(SELF_SUBJECT_REVIEW, "", body, audit_id=audit_id)
        except Denied as error:
            if error.status == 401:
                return False
            raise
        return True

    @contextmanager
    def as_holder(self, cluster: Cluster) -> Iterator[Cluster]:
        """The same server as the token's holder, for the length of a block."""
        with cluster.as_bearer(self._secret) as theirs:
            yield theirs


def legacy_tokens(cluster: Cluster, namespace: str, account: str) -> tuple[Json, ...]:
    """The Secrets that hold long-lived tokens of an account: their metadata. Raises PlatformError."""
    found = cluster.list(SECRET, namespace, fields=f"type={_LEGACY}")
    return tuple(one for one in found if one["metadata"]["annotations"].get(_NAMES) == account)


def request_token(cluster: Cluster, pod: Json, audit_id: str) -> BoundToken:
    """Mint a short-lived token bound to the pod. Raises Denied without ``create`` on serviceaccounts/token."""
    meta = pod["metadata"]
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "expirationSeconds": _SHORTEST_SECONDS,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
        },
    }
    account = service_account(pod)
    answer = cluster.create(
        SERVICE_ACCOUNT, meta["namespace"], body, name=account, subresource="token", audit_id=audit_id
    )
    token = (answer.get("status") or {}).get("token")
    if not isinstance(token, str) or not token:
        raise Unanswered(
            f"the answer to a TokenRequest for {account} holds no token",
            system="kubernetes",
            verb="create",
            target=f"serviceaccounts/{account}/token in {meta['namespace']}",
            audit_id=audit_id,
            why="status.token is missing",
            next_step="see the audit log for what the API server did",
        )
    return BoundToken(f"{meta['namespace']}/{account}", meta["uid"], token)
