"""Which Application delivers an object, who delivers that Application, and whether they put things back.

Rule sources: Argo CD 3.5, ``util/argo/resource_tracking.go`` (tracking), ``controller/appcontroller.go`` (automated
sync, self-heal), ``applicationset/controllers`` (what an ApplicationSet puts back). Pure but for :func:`read`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ringfence.errors import NotFound
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.owners import controller_of
from ringfence.platform.kubernetes.resources import APPLICATION, APPLICATION_SET
from ringfence.platform.kubernetes.selectors import TRACKING_LABELS, labels_of

TRACKING_ID = "argocd.argoproj.io/tracking-id"
SKIP_RECONCILE = "argocd.argoproj.io/skip-reconcile"
SYNC_OPTIONS = "argocd.argoproj.io/sync-options"
SYNC_POLICY = "/spec/syncPolicy"
"""The pointer by which an ApplicationSet leaves its Applications' sync policy alone."""

_ID = re.compile(r"(?P<app>[^:]+):(?P<group>[^/:]*)/(?P<kind>[^:]+):(?P<namespace>[^/]*)/(?P<name>.+)")
_COVERING = ("", "/spec", SYNC_POLICY, f"{SYNC_POLICY}/automated")
_KEEPS_OFF = ("create-only", "create-delete")
_LOCAL = "https://kubernetes.default.svc"


@dataclass(frozen=True)
class Installation:
    """Every Application and ApplicationSet of the cluster, as of one moment. Empty where there is no Argo CD.

    ``sets_unread`` says why the ApplicationSets could not be listed.
    """

    applications: tuple[Json, ...] = ()
    sets: tuple[Json, ...] = ()
    sets_unread: str = field(default="")

    def owner_of(self, obj: Json) -> Json | None:
        """The Application that delivers ``obj``; None when there is none here.

        The annotation names it, if it was written for this very object (a copy carries its original's). A label
        alone is Helm's as well: the Application must list the object itself.
        """
        named = application_named_by(obj)
        if named:
            fitting = [app for app in self.applications if named in _names_of(app)]
            return next((app for app in fitting if _lists(app, obj)), fitting[0] if fitting else None)
        if not TRACKING_LABELS & labels_of(obj).keys():
            return None
        return next((app for app in self.applications if _is_local(app) and _lists(app, obj)), None)

    def generator_of(self, application: Json) -> Json | None:
        """The ApplicationSet that made the Application and keeps it as its template says; None when there is none."""
        owner = controller_of(application)
        if owner is None or owner.get("kind") != APPLICATION_SET.kind:
            return None
        return next((one for one in self.sets if one["metadata"]["uid"] == owner.get("uid")), None)


def read_applications(cluster: Cluster) -> Installation:
    """The Applications alone. Raises Denied, NotSent, Unanswered; a cluster without the kind has none."""
    try:
        return Installation(cluster.list(APPLICATION))
    except NotFound:
        return Installation()


def read(cluster: Cluster) -> Installation:
    """With the ApplicationSets, where one of the Applications was made by such. Raises as ``read_applications``."""
    found = read_applications(cluster)
    if not any(is_generated(application) for application in found.applications):
        return found
    try:
        return Installation(found.applications, cluster.list(APPLICATION_SET))
    except NotFound as error:
        return Installation(found.applications, sets_unread=str(error))


def carries_tracking(obj: Json) -> bool:
    """Whether Argo CD may deliver it: without such a mark no Application is looked for."""
    return bool(application_named_by(obj)) or bool(TRACKING_LABELS & labels_of(obj).keys())


def application_named_by(obj: Json) -> str:
    """The Application that the tracking annotation names, as Argo CD writes it (``namespace_name`` outside of its own
    namespace); empty when there is no such annotation, or it was written for another object."""
    meta = obj["metadata"]
    found = _ID.fullmatch(str((meta.get("annotations") or {}).get(TRACKING_ID, "")))
    if found is None:
        return ""
    written_for = (found["group"], found["kind"], found["namespace"], found["name"])
    return found["app"] if written_for == _key(obj) else ""


def is_generated(application: Json) -> bool:
    """Whether an ApplicationSet made it."""
    return (controller_of(application) or {}).get("kind") == APPLICATION_SET.kind


def automated(application: Json) -> Json | None:
    """``spec.syncPolicy.automated`` as it is, when Argo CD syncs by it; None when it does not sync by itself.

    ``enabled: false`` counts as off, and is only there where the CRD knows it (3.1): an older one drops it.
    """
    found: Json | None = ((application.get("spec") or {}).get("syncPolicy") or {}).get("automated")
    skipped = (application["metadata"].get("annotations") or {}).get(SKIP_RECONCILE) == "true"
    return None if found is None or found.get("enabled") is False or skipped else found


def heals(application: Json) -> bool:
    """Whether it puts back at once what others change; without it, at the next commit."""
    return bool((automated(application) or {}).get("selfHeal"))


def replaces(application: Json, obj: Json | None = None) -> bool:
    """Whether its syncs replace whole objects (or this one), members that Git does not have included."""
    options = list(((application.get("spec") or {}).get("syncPolicy") or {}).get("syncOptions") or ())
    own = ((obj or {"metadata": {}})["metadata"].get("annotations") or {}).get(SYNC_OPTIONS, "")
    return bool({"Replace=true", "Force=true"} & {option.strip() for option in (*options, *own.split(","))})


def minds_selector(application: Json, policy: Json, ours: str) -> bool:
    """Whether one requirement more in the policy's ``podSelector.matchExpressions`` is put back.

    Argo CD compares three ways, as ``kubectl apply`` does: a member that Git does not have is no drift, and a list is
    compared whole. So it is put back only where Git has such a list already, or syncs replace the object. Requirements
    whose key starts with ``ours`` are not Git's.
    """
    expressions = ((policy.get("spec") or {}).get("podSelector") or {}).get("matchExpressions") or ()
    of_git = [one for one in expressions if not str(one.get("key", "")).startswith(ours)]
    return bool(of_git) or replaces(application, policy)


def leaves_sync_policy_alone(application_set: Json, application: Json) -> bool:
    """Whether the ApplicationSet lets somebody else change the sync policy of that Application of its own."""
    spec = application_set.get("spec") or {}
    if (spec.get("syncPolicy") or {}).get("applicationsSync") in _KEEPS_OFF:
        return True
    return any(
        entry.get("name", "") in ("", application["metadata"]["name"])
        and any(pointer in _COVERING for pointer in entry.get("jsonPointers") or ())
        for entry in spec.get("ignoreApplicationDifferences") or ()
    )


def delivered(application: Json) -> tuple[Json, ...]:
    """What Argo CD says that it delivers: group, kind, namespace, name, status of each."""
    return tuple((application.get("status") or {}).get("resources") or ())


def sees_drift(application: Json, obj: Json) -> bool:
    """Whether Argo CD itself says that ``obj`` is not as in Git, and has left it so."""
    return _status_of(application, obj) == "OutOfSync"


def finds_in_sync(application: Json, obj: Json) -> bool:
    """Whether Argo CD itself has compared ``obj`` with Git since it was last changed, and takes it for as in Git."""
    compared = _instant((application.get("status") or {}).get("reconciledAt"))
    changed = [_instant(entry.get("time")) for entry in obj["metadata"].get("managedFields") or ()]
    known = [one for one in changed if one is not None]
    since = compared is not None and bool(known) and compared > max(known)
    return since and _status_of(application, obj) == "Synced"


def _status_of(application: Json, obj: Json) -> str:
    return next((str(one.get("status", "")) for one in delivered(application) if _listed(one) == _key(obj)), "")


def _instant(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def is_syncing(application: Json) -> bool:
    """Whether a sync is under way or asked for: it goes on, whatever the sync policy says."""
    phase = ((application.get("status") or {}).get("operationState") or {}).get("phase")
    return bool(application.get("operation")) or phase in ("Running", "Terminating")


def _names_of(application: Json) -> Iterable[str]:
    meta = application["metadata"]
    return meta["name"], f"{meta.get('namespace', '')}_{meta['name']}"


def _lists(application: Json, obj: Json) -> bool:
    return any(_listed(one) == _key(obj) for one in delivered(application))


def _listed(one: Json) -> tuple[str, str, str, str]:
    return str(one.get("group", "")), str(one.get("kind")), str(one.get("namespace", "")), str(one.get("name"))


def _key(obj: Json) -> tuple[str, str, str, str]:
    meta = obj["metadata"]
    group = str(obj["apiVersion"]).rpartition("/")[0]
    return group, str(obj["kind"]), str(meta.get("namespace", "")), str(meta["name"])


def _is_local(application: Json) -> bool:
    destination = (application.get("spec") or {}).get("destination") or {}
    return destination.get("name") == "in-cluster" or destination.get("server", "").rstrip("/") == _LOCAL
