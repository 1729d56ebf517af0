"""What of a pod's surroundings Argo CD delivers, and whether it would put back what a response changed of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ringfence.errors import PlatformError
from ringfence.model.base import Json
from ringfence.platform.argocd import applications
from ringfence.platform.argocd.applications import Installation
from ringfence.platform.kubernetes import selectors
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import NETWORK_POLICY
from ringfence.platform.kubernetes.selectors import Operator, printable

_OURS = "ringfence.dev/"


class Kept(StrEnum):
    """What becomes of a change of a delivered object."""

    REVERTED = "reverted"
    FROZEN = "frozen"
    """Nothing puts it back by itself, as far as can be read."""
    LEFT = "left"
    """Argo CD itself says that it sees the change, and has left it."""
    ELSEWHERE = "elsewhere"
    """Its Application is not in this cluster."""


@dataclass(frozen=True)
class DeliveredObject:
    """``changed``: it shows what a response makes of such an object. ``what`` and ``application`` can be printed."""

    what: str
    application: str
    changed: bool
    kept: Kept
    why: str


@dataclass(frozen=True)
class Deliveries:
    """``template`` is the Application that delivers the pod's workload; empty when none does. ``unread`` says why it is
    not known."""

    objects: tuple[DeliveredObject, ...] = ()
    template: str = ""
    unread: str = ""


NOTHING_DELIVERED = Deliveries()


def deliveries_of(cluster: Cluster, policies: Sequence[Json], owners: Sequence[Json]) -> Deliveries:
    """What is delivered of a namespace's policies and of what owns the pod; Applications are asked for only where an
    object bears Argo CD's mark. Raises nothing of the platform."""
    kind = {"apiVersion": NETWORK_POLICY.api_version, "kind": NETWORK_POLICY.kind}
    around = [*({**kind, **policy} for policy in policies), *owners]
    marked = [obj for obj in around if applications.carries_tracking(obj)]
    if not marked:
        return Deliveries()
    try:
        installation = applications.read_applications(cluster)
    except PlatformError as error:
        return Deliveries(unread=str(error))
    return judge(marked, installation)


def judge(marked: Iterable[Json], installation: Installation) -> Deliveries:
    """Pure: what becomes of each."""
    found: list[DeliveredObject] = []
    template = ""
    for obj in marked:
        application = installation.owner_of(obj)
        named = applications.application_named_by(obj)
        if application is None and not named:
            continue  # the label is somebody else's
        name = printable(application["metadata"]["name"] if application is not None else named)
        kept, why = _kept(obj, application)
        what = f"{obj['kind']} {printable(obj['metadata']['name'])}"
        found.append(DeliveredObject(what, name, _is_changed(obj), kept, why))
        if obj["kind"] != NETWORK_POLICY.kind:
            template = name
    return Deliveries(tuple(found), template)


def _kept(obj: Json, application: Json | None) -> tuple[Kept, str]:
    if application is None:
        return Kept.ELSEWHERE, "which is not in this cluster"
    if obj["kind"] == NETWORK_POLICY.kind and not applications.minds_selector(application, obj, _OURS):
        if applications.finds_in_sync(application, obj):
            return Kept.LEFT, "which has compared it with Git since, and takes it for in sync"
        return Kept.FROZEN, "for which it is no drift from Git; it has not yet compared it since"
    if applications.automated(application) is not None:
        heals = applications.heals(application)
        return Kept.REVERTED, "at once (self-heal)" if heals else "at the next commit (automated sync)"
    if applications.sees_drift(application, obj):
        return Kept.LEFT, "which reports it as OutOfSync and does not sync by itself"
    return Kept.FROZEN, "which does not sync by itself; it has not yet been seen to leave the change"


def _is_changed(obj: Json) -> bool:
    """Whether it is as our actions leave it: a policy that passes over fenced pods, a workload that is stopped."""
    spec = obj.get("spec") or {}
    match obj["kind"]:
        case NETWORK_POLICY.kind:
            requirements = selectors.parse(spec.get("podSelector") or {}).requirements
            return any(one.operator is Operator.DOES_NOT_EXIST and one.key.startswith(_OURS) for one in requirements)
        case "DaemonSet":
            wanted = (((spec.get("template") or {}).get("spec")) or {}).get("nodeSelector") or {}
            return any(key.startswith(_OURS) for key in wanted)
        case "CronJob":
            return bool(spec.get("suspend"))
        case _:
            return bool(spec.get("replicas", 1) == 0)
