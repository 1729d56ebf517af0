"""What policy engines say of objects: results of PolicyReports (Kubernetes Policy WG, ``wgpolicyk8s.io/v1alpha2``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ringfence.errors import NotFound
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import POLICY_REPORT

_AGAINST = ("fail", "error")


def read(cluster: Cluster, namespace: str) -> tuple[Json, ...]:
    """The namespace's reports; none where the cluster does not have the kind. Raises Denied, NotSent, Unanswered."""
    try:
        return cluster.list(POLICY_REPORT, namespace)
    except NotFound:
        return ()


def against(reports: Iterable[Json], uids: Collection[str]) -> tuple[str, ...]:
    """Which policies the objects of these uids break, each once (pure): ``policy rule: message``."""
    found: dict[str, None] = {}
    for report in reports:
        scope = str((report.get("scope") or {}).get("uid", ""))
        for result in report.get("results") or ():
            about = {str(one.get("uid", "")) for one in result.get("resources") or ()} or {scope}
            if result.get("result") in _AGAINST and about & set(uids):
                words = f"{result.get('policy', '')} {result.get('rule', '')}".strip()
                found[f"{words}: {result.get('message', '')}"[:300]] = None
    return tuple(found)
