"""What the actions on a pod's identity share: what they read, whom else they hit, and how a proof is put."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from ringfence.actions.fence import FENCE_KEY
from ringfence.errors import TargetError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.permission import Permission
from ringfence.model.plan import Impact
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.pods import is_finished, service_account
from ringfence.platform.kubernetes.rbac import grants
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.rights import Rights, read_bindings, rights_of
from ringfence.platform.kubernetes.selectors import labels_of, printable

_LIST = frozenset({"list"})
_GET = frozenset({"get"})
_RBAC = "rbac.authorization.k8s.io"
_SHOW = 5

READS = (
    Permission("pods", _GET, "the suspect itself, and its account's name"),
    Permission("pods", _LIST, "which other pods use the account"),
    Permission(f"rolebindings.{_RBAC}", _LIST, "what gives the account rights, in every namespace", everywhere=True),
    Permission(f"clusterrolebindings.{_RBAC}", _LIST, "what gives the account rights", everywhere=True),
    Permission(f"roles.{_RBAC}", _GET, "what the account may do", everywhere=True),
    Permission(f"clusterroles.{_RBAC}", _GET, "what the account may do", everywhere=True),
)
"""What every plan for an identity reads."""


@dataclass(frozen=True)
class Identity:
    """A pod, its account, what gives that rights, and the other pods that use it. ``bindings`` are all there are."""

    pod: Json
    account: str
    bindings: tuple[Json, ...]
    rights: Rights
    others: tuple[Json, ...]

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def words(self) -> str:
        """The account as people read it."""
        return f"service account {printable(self.namespace)}/{printable(self.account)}"

    def unfenced(self, fence: str) -> tuple[Json, ...]:
        """The other pods that are no suspects of the incident."""
        return tuple(pod for pod in self.others if labels_of(pod).get(FENCE_KEY) != fence)


class Tried(NamedTuple):
    """What a canary showed: ``proven``, or why not."""

    proven: bool
    words: str


Canary = Callable[[ObjectRef], Tried]
"""Tries what a token bound to the pod may still do."""


def look_at(cluster: Cluster, target: ObjectRef, pool: ThreadPoolExecutor) -> Identity:
    """Raises TargetError when the name is another pod's by now, PlatformError."""
    bindings = pool.submit(read_bindings, cluster)
    listed = pool.submit(cluster.list, POD, target.namespace)
    pod = cluster.get(POD, target.namespace, target.name)
    if pod["metadata"]["uid"] != target.uid:
        raise TargetError(
            f"{target} is gone: another pod has its name now",
            why=f"its uid was {target.uid}, this one's is {pod['metadata']['uid']}",
            next_step=f"kubectl get pod {target.name} -n {target.namespace} -o yaml",
        )
    account, known = service_account(pod), bindings.result()
    others = tuple(
        other
        for other in listed.result()
        if other["metadata"]["uid"] != target.uid and service_account(other) == account and not is_finished(other)
    )
    rights = rights_of(cluster, grants(target.namespace, account, known))
    return Identity(pod, account, known, rights, others)


def no_pod_stops() -> Impact:
    return Impact(pods=0, replacement="nobody: no pod stops by it", replacement_expected=False)


def by_group(around: Identity) -> tuple[str, ...]:
    """What no cut of one account takes away, each in one sentence."""
    return tuple(
        f"{right} gives the account's group {printable(right.grant.via.partition('/')[2])} rights, which every account "
        f"of that group has, and stays: {right.words}"
        for right in around.rights.by_group
        if not right.harmless
    )


def shared_by(pods: Iterable[Json]) -> str:
    """Names of pods, a few."""
    names = [printable(pod["metadata"]["name"]) for pod in pods]
    return ", ".join(names[:_SHOW]) + (f" and {len(names) - _SHOW} more" if len(names) > _SHOW else "")


def shown(claim: str, by: str, tried: Tried | None, untried: str) -> Proof:
    """Computed, and proven where a canary was refused."""
    now = datetime.now(UTC)
    if tried is not None and tried.proven:
        return Proof(claim=claim, level=Level.PROVEN, by=tried.words, at=now)
    return Proof(
        claim=claim, level=Level.COMPUTED, by=by, at=now, why_not_higher=tried.words if tried is not None else untried
    )


def not_shown(claim: str, why: str) -> Proof:
    return Proof(claim=claim, level=Level.REQUESTED, by="the API server", at=datetime.now(UTC), why_not_higher=why)
