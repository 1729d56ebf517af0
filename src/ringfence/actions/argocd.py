"""``argocd.suspend_sync``: keep Argo CD from putting back what the response changes. Reversible; nothing is deleted.

Run before the change. Of a workload it looks at the workload itself; of a pod at the NetworkPolicies that its cut has
to change, and only at those whose change is drift for Argo CD: a selector that has no ``matchExpressions`` in Git may
get some. Where none of them is delivered by an Application that syncs by itself, there is nothing to do. Else the
smallest thing that holds is frozen: ``spec.syncPolicy.automated`` of that Application is taken out. Who would put
*that* back is dealt with first. An ApplicationSet is told to leave the sync policy of this one Application alone
(``ignoreApplicationDifferences``). Below a parent Application that syncs by itself (app of apps), ``enabled: false``
is added instead, which is no drift from Git, and the parent goes on; a CRD older than Argo CD 3.1 drops that word,
which the dry run shows: then the parent is frozen first.

What it cannot know: whether somebody syncs by hand meanwhile, and what an Argo CD outside of this cluster does, whose
Applications are not here; an object of such a one is refused, with the name. Undo puts back exactly what was taken,
in reverse order, unless somebody has set the sync policy otherwise since.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from ringfence.actions.base import Action
from ringfence.actions.fence import DETACH, FENCE_KEY, POD_READS, choose
from ringfence.actions.freeze import Freezer, Frozen, freezes, ignoring, without_ignored
from ringfence.actions.workload import tried
from ringfence.errors import Invalid
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.argocd import applications
from ringfence.platform.argocd.applications import Installation
from ringfence.platform.kubernetes import fencing, policies
from ringfence.platform.kubernetes.resources import APPLICATION, NETWORK_POLICY, POD, resource_of
from ringfence.platform.kubernetes.selectors import labels_of, printable
from ringfence.platform.kubernetes.surroundings import look_around
from ringfence.platform.kubernetes.workloads import WORKLOAD_KINDS, read_object

_AUTOMATED = "/spec/syncPolicy/automated"
_ENABLED = f"{_AUTOMATED}/enabled"
_IGNORED = "/spec/ignoreApplicationDifferences"
_WATCH_SECONDS = 1.0
_POLL_SECONDS = 0.2
_SHOW = 5


@dataclass(frozen=True)
class Delivery:
    """``objects`` are those that the response will change and that bear Argo CD's mark; without any, ``installation``
    is not read."""

    objects: tuple[Json, ...]
    installation: Installation


class SuspendSync(Action[Delivery]):
    """Freeze the Application that would revert us, and what would revert that."""

    name = "argocd.suspend_sync"
    kinds = frozenset({POD.kind, *WORKLOAD_KINDS})
    destructive = False
    permissions = (
        Permission(
            "applications.argoproj.io",
            frozenset({"list"}),
            "which Application delivers what the response changes, and who delivers that Application",
            everywhere=True,
        ),
        Permission(
            "applications.argoproj.io",
            frozenset({"get", "patch"}),
            "to take its automated sync out, to see that it stays out, and to put it back",
            everywhere=True,
        ),
        Permission(
            "applicationsets.argoproj.io",
            frozenset({"list", "get", "patch"}),
            "to have an ApplicationSet leave the sync policy of one Application alone, and to take that back",
            everywhere=True,
        ),
        *(
            Permission(resource, frozenset({"get"}), "whether Argo CD delivers the workload")
            for resource in (
                *("deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps"),
                *("jobs.batch", "cronjobs.batch"),
            )
        ),
        *POD_READS,
    )

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Delivery:
        if target.kind == POD.kind:
            objects = self._policies(cluster_id, target, pool)
        else:
            objects = (read_object(self.cluster, target)[0],)
        tracked = tuple(obj for obj in objects if applications.carries_tracking(obj))
        return Delivery(tracked, applications.read(self.cluster) if tracked else Installation())

    def plan(self, target: ObjectRef, around: Delivery) -> Plan | Already | Refused:
        """One patch for each thing to freeze, the topmost first. Already when nothing would be put back."""
        owned = [(obj, around.installation.owner_of(obj)) for obj in around.objects]
        elsewhere = {
            printable(named)
            for obj, application in owned
            if application is None and (named := applications.application_named_by(obj))
        }
        if elsewhere:
            return Refused(
                reason=f"Argo CD's Application {', '.join(sorted(elsewhere))} delivers it, and is not in this cluster: "
                "it cannot be frozen from here",
                next_step="suspend its automated sync where Argo CD runs: argocd app set NAME --sync-policy none",
            )
        syncing = [(obj, app) for obj, app in owned if app is not None and applications.automated(app) is not None]
        reverting = [(obj, app) for obj, app in syncing if _minds(app, obj)]
        if syncing and not reverting:
            names = ", ".join(sorted({printable(app["metadata"]["name"]) for _, app in syncing}))
            return Already(reason=f"Application {names} takes the change of its policies for no drift from Git")
        if not reverting:
            frozen = sorted({printable(app["metadata"]["name"]) for _, app in owned if app is not None})
            return Already(
                reason=f"Application {', '.join(frozen)} does not sync by itself"
                if frozen
                else f"nothing that is changed for {target} is delivered by Argo CD"
            )
        freezer = Freezer(around.installation, self._takes_disabled)
        wanted = freezes([app for _, app in reverting], freezer)
        changes = _told_apart([self._change(target.cluster, one) for one in wanted])
        for one, change in zip(wanted, changes, strict=True):
            # What is disabled was tried for that.
            refused = tried(self.cluster, change) if one.way != "disable" else None
            if refused is not None:
                return refused
        return Plan(
            action=self.name,
            target=target,
            changes=changes,
            impact=Impact(pods=0, replacement="nobody: no pod stops by it", replacement_expected=False),
            caveats=_caveats(wanted, around.installation),
            rationale="; ".join(
                f"{obj['kind']} {printable(obj['metadata']['name'])} would be put back by Application "
                f"{printable(app['metadata']['name'])}, {_when(app)}"
                for obj, app in reverting[:_SHOW]
            ),
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Read back for a second: who owns an Application puts it back within that."""
        deadline = time.monotonic() + min(_WATCH_SECONDS, self.settings.rollout_wait_seconds)
        while not (back := self._put_back(records)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        now = datetime.now(UTC)
        if back:
            return Proof(
                claim="the request was accepted, and Argo CD still syncs by itself",
                level=Level.REQUESTED,
                by="the API server",
                at=now,
                why_not_higher=f"somebody has set it back: {back}",
            )
        return Proof(
            claim="no Application that delivers what is changed syncs by itself",
            level=Level.COMPUTED,
            by="the Applications' own objects, read back from the API server for a second",
            at=now,
            why_not_higher="Argo CD has not yet been seen to leave a change alone, and anybody may sync by hand",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """Exactly the saved sync policy, or the ApplicationSet without what we had it ignore."""
        change = record.change
        ref, prior = change.ref, change.prior or {}
        live = self.cluster.find(resource_of(ref), ref.namespace, ref.name)
        if live is None or live["metadata"]["uid"] != ref.uid:
            return Already(reason=f"{ref} is gone: there is nothing to put back")
        if ref.kind == APPLICATION.kind:
            return _resume(change, live, prior)
        ours, left = without_ignored(change, live)
        if not ours:
            return Already(reason=f"{ref} does not have what was added to it")
        if left or "ignoreApplicationDifferences" in (prior.get("spec") or {}):
            operation: Json = {"op": "replace", "path": _IGNORED, "value": left}
        else:
            operation = {"op": "remove", "path": _IGNORED}
        guards = [_same(live), {"op": "test", "path": _IGNORED, "value": live["spec"]["ignoreApplicationDifferences"]}]
        return _back(change, live, [*guards, operation], f"{ref} puts its Application's sync policy back again")

    # --- reads -------------------------------------------------------------------
    def _policies(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> tuple[Json, ...]:
        """The NetworkPolicies that a cut of the pod has to change; the cheap question comes first."""
        pod = self.cluster.get(POD, target.namespace, target.name)
        found = self.cluster.list(NETWORK_POLICY, target.namespace)
        selecting = policies.selecting(found, namespace=target.namespace, labels=labels_of(pod))
        if not any(applications.carries_tracking(dict(policy)) for policy in selecting):
            return ()
        around = look_around(self.cluster, cluster_id, target, pool)
        choice = choose(around, self.settings.shape)
        key, value = FENCE_KEY, self.settings.fence
        if not isinstance(choice, Refused) and choice.shape == DETACH:
            relabel = fencing.detached_labels(
                target.namespace,
                labels_of(around.pod),
                fence_key=key,
                fence_value=value,
                controllers=around.adopters,
                services=around.services,
                budgets=around.disruption_budgets,
                policies=around.policies,
            )
            if relabel.detaches:
                return tuple(dict(policy) for policy in relabel.to_exclude)
        fenced = fencing.fenced_labels(
            target.namespace, labels_of(around.pod), fence_key=key, fence_value=value, policies=around.policies
        )
        return tuple(dict(policy) for policy in fenced.to_exclude)

    def _put_back(self, records: Sequence[ChangeRecord]) -> str:
        """Which of the changes is not there any more."""
        for record in records:
            ref = record.change.ref
            live = self.cluster.find(resource_of(ref), ref.namespace, ref.name)
            if live is None or live["metadata"]["uid"] != ref.uid:
                continue  # who is gone reverts nothing
            if ref.kind == APPLICATION.kind:
                if applications.automated(live) is not None:
                    return str(ref)
            elif not without_ignored(record.change, live)[0]:
                return str(ref)
        return ""

    def _takes_disabled(self, application: Json) -> bool:
        """Whether the server keeps the word: a CRD that does not know it drops it, or refuses the request for it."""
        change = self._change("", Frozen(application, "disable"))
        ref = change.ref
        try:
            answer = self.cluster.patch(APPLICATION, ref.namespace, ref.name, change.body, dry_run=True)
        except Invalid:
            return False
        return applications.automated(answer) is None

    def _change(self, cluster_id: str, one: Frozen) -> Change:
        obj, ref = one.obj, ObjectRef.of(cluster_id, one.obj)
        guards = [_same(obj)]
        match one.way:
            case "remove":
                before = obj["spec"]["syncPolicy"]["automated"]
                guards.append({"op": "test", "path": _AUTOMATED, "value": before})
                operation: Json = {"op": "remove", "path": _AUTOMATED}
                back: Json = {"op": "add", "path": _AUTOMATED, "value": before}
                effect = f"{ref} syncs only when somebody asks for it{one.why}"
            case "disable":
                guards.append({"op": "test", "path": _AUTOMATED, "value": obj["spec"]["syncPolicy"]["automated"]})
                operation = {"op": "add", "path": _ENABLED, "value": False}
                back = {"op": "remove", "path": _ENABLED}
                effect = f"{ref} syncs only when somebody asks for it{one.why}; its parent goes on"
            case "ignore":
                before = obj["spec"].get("ignoreApplicationDifferences")
                if before is not None:
                    guards.append({"op": "test", "path": _IGNORED, "value": before})
                operation = {"op": "add", "path": _IGNORED, "value": ignoring(before, one.application)}
                back = {"op": "remove", "path": _IGNORED}
                if before is not None:
                    back = {"op": "replace", "path": _IGNORED, "value": before}
                effect = f"{ref} leaves the sync policy of its Application {one.application} alone"
            case _:
                assert_never(one.way)
        words = ("ignore", ref.name, one.application) if one.way == "ignore" else ("suspend", ref.name)
        return Change(
            id="-".join(words),
            ref=ref,
            verb=Verb.PATCH,
            body=[*guards, operation],
            prior=obj,
            inverse=Inverse(verb=Verb.PATCH, body=[_same(obj), back]),
            effect=effect,
        )


def _told_apart(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Applications of one name may live in several namespaces."""
    ids = [change.id for change in changes]
    return tuple(
        change if ids.count(change.id) == 1 else change.model_copy(update={"id": f"{change.id}-{change.ref.namespace}"})
        for change in changes
    )


def _resume(change: Change, live: Json, prior: Json) -> Change | Already | Refused:
    before = prior["spec"]["syncPolicy"]["automated"]
    policy = live["spec"].get("syncPolicy")
    now = (policy or {}).get("automated")
    if now == before:
        return Already(reason=f"{change.ref} syncs as it did")
    disabled = change.body[-1]["path"] == _ENABLED
    if now != ({**before, "enabled": False} if disabled else None):
        return Refused(
            reason=f"somebody has set the sync policy of {change.ref} otherwise since",
            next_step=f"kubectl get applications.argoproj.io {change.ref.name} -n {change.ref.namespace} -o yaml",
        )
    guards = [_same(live)]
    if disabled:
        guards.append({"op": "test", "path": _AUTOMATED, "value": now})
        operation: Json = {"op": "remove", "path": _ENABLED}
    elif policy is None:
        operation = {"op": "add", "path": "/spec/syncPolicy", "value": {"automated": before}}
    else:
        operation = {"op": "add", "path": _AUTOMATED, "value": before}
    return _back(change, live, [*guards, operation], f"{change.ref} syncs by itself again, as it did")


def _back(change: Change, live: Json, body: list[Json], effect: str) -> Change:
    return change.model_copy(
        update={
            "id": f"undo-{change.id}",
            "body": body,
            "prior": live,
            "inverse": None,
            "needed": False,
            "effect": effect,
        }
    )


def _caveats(wanted: Sequence[Frozen], installation: Installation) -> tuple[str, ...]:
    """What it blocks for others, and what it does not stop."""
    found = []
    for one in wanted:
        if one.obj["kind"] != APPLICATION.kind:
            continue
        name = printable(one.obj["metadata"]["name"])
        listed = applications.delivered(one.obj)
        kinds = ", ".join(sorted({printable(str(item.get("kind"))) for item in listed})[:_SHOW])
        found.append(
            f"until it is undone, no commit reaches what Application {name} delivers: {len(listed)} objects ({kinds})"
        )
        if applications.is_syncing(one.obj):
            found.append(f"a sync of Application {name} is under way, and goes on")
        found += _unseen_owner(one.obj, name, installation)
    return (*found, "anybody who may sync by hand still can, and would put it back")


def _unseen_owner(application: Json, name: str, installation: Installation) -> list[str]:
    if applications.is_generated(application) and installation.generator_of(application) is None:
        why = f": {installation.sets_unread}" if installation.sets_unread else ""
        return [f"the ApplicationSet that made Application {name} is not here, and may put its sync policy back{why}"]
    parent = applications.application_named_by(application)
    if parent and installation.owner_of(application) is None:
        return [f"Application {name} is delivered by {printable(parent)}, which is not here and may put it back"]
    return []


def _minds(application: Json, obj: Json) -> bool:
    """Whether our change of the object is drift from Git. Of a workload it is taken to be."""
    if obj["kind"] != NETWORK_POLICY.kind:
        return True
    return applications.minds_selector(application, obj, FENCE_KEY.partition("/")[0])


def _when(application: Json) -> str:
    return "at once (self-heal)" if applications.heals(application) else "at the next commit"


def _same(obj: Json) -> Json:
    return {"op": "test", "path": "/metadata/uid", "value": obj["metadata"]["uid"]}
