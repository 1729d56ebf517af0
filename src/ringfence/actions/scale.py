"""``workload.scale_to_zero``: stop a whole workload. Destructive: every pod of it dies, with its memory and its files.

Deployment, StatefulSet and a ReplicaSet of its own are scaled to 0; a DaemonSet gets a node selector that no node
answers; a CronJob is suspended, which kills nothing and leaves running Jobs alone. A Job is refused: suspending or
scaling one deletes its pods and starts its work over. A ReplicaSet that belongs to a Deployment is refused too, as its
owner would scale it up again, and a StatefulSet that deletes its volumes when it shrinks.

What it cannot know: who sets the workload back. Autoscalers of KEDA, Argo CD and Flux are named where they can be seen,
and not stopped. Undo puts back exactly the old number, selector or suspension, unless somebody changed it since; the
pods that died do not come back, others start from the same template.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ringfence.actions.base import Action
from ringfence.actions.workload import (
    READS,
    dying,
    leftovers,
    put_back_by,
    references,
    same_spec,
    tried,
    unprotected,
)
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import serving
from ringfence.platform.kubernetes.owners import controller_of
from ringfence.platform.kubernetes.resources import resource_of
from ringfence.platform.kubernetes.selectors import printable
from ringfence.platform.kubernetes.workloads import Workload, read_pods_of, read_workload

STOPPED_KEY = "ringfence.dev/stopped"
"""The node label that a stopped DaemonSet asks for and no node has."""

_POLL_SECONDS = 0.25
_SELECTOR = "/spec/template/spec/nodeSelector"
_STOPPED = f"{_SELECTOR}/{STOPPED_KEY.replace('/', '~1')}"
SCALED = frozenset({"Deployment", "StatefulSet", "ReplicaSet"})
"""The kinds that have a number of pods, and a subresource for it."""


class ScaleToZero(Action[Workload]):
    """Stop a workload."""

    name = "workload.scale_to_zero"
    kinds = frozenset({*SCALED, "DaemonSet", "CronJob", "Job"})
    destructive = True
    permissions = (
        Permission("deployments.apps", frozenset({"get"}), "how many replicas there are, to put back"),
        Permission("deployments/scale.apps", frozenset({"patch"}), "to scale a Deployment to 0 and back"),
        Permission("statefulsets.apps", frozenset({"get"}), "how many replicas there are, to put back"),
        Permission("statefulsets/scale.apps", frozenset({"patch"}), "to scale a StatefulSet to 0 and back"),
        Permission("replicasets.apps", frozenset({"get"}), "how many replicas there are, to put back"),
        Permission("replicasets/scale.apps", frozenset({"patch"}), "to scale a ReplicaSet to 0 and back"),
        Permission("daemonsets.apps", frozenset({"get", "patch"}), "the node selector that no node answers"),
        Permission("cronjobs.batch", frozenset({"get", "patch"}), "to suspend a CronJob and to let it go on"),
        Permission("jobs.batch", frozenset({"get", "list"}), "which Jobs of a CronJob are running"),
        *READS,
    )

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Workload:  # noqa: ARG002
        return read_workload(self.cluster, target, pool)

    def plan(self, target: ObjectRef, around: Workload) -> Plan | Already | Refused:
        """One patch. Already when the workload is stopped and nothing of it runs."""
        refusal = _unfit(around)
        if refusal is not None:
            return refusal
        kills = () if target.kind == "CronJob" else dying(around)
        if self.is_stopped(around.obj):
            if not kills:
                return Already(reason=f"{target} is stopped already")
            names = ", ".join(printable(pod["metadata"]["name"]) for pod in kills)
            return Already(reason=f"{target} is stopped already; its controller has not ended yet: {names}")
        change = self._change(around)
        refused = tried(self.cluster, change)
        if refused is not None:
            return refused
        return Plan(
            action=self.name,
            target=target,
            changes=(change,),
            impact=self._impact(around, kills),
            destroys=references(target.cluster, kills),
            caveats=_caveats(around, kills),
            rationale=change.effect,
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Observed when the pods are gone from the API; a suspended CronJob is read back."""
        live = self.cluster.find(resource_of(target), target.namespace, target.name)
        ours = live is not None and live["metadata"]["uid"] == target.uid
        if live is not None and ours and not self.is_stopped(live):
            return _requested(f"somebody has set it back: {size_of(live)}")
        if target.kind == "CronJob":
            return Proof(
                claim="the CronJob is suspended: it starts no further Job" if ours else "the CronJob is gone",
                level=Level.COMPUTED,
                by="its own object, read back from the API server",
                at=datetime.now(UTC),
                why_not_higher="nobody has watched a time of its schedule pass",
            )
        deadline = time.monotonic() + self.settings.delete_wait_seconds
        while (left := read_pods_of(self.cluster, target)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if left:
            names = ", ".join(printable(pod["metadata"]["name"]) for pod in left)
            return _requested(f"still there: {names}")
        return Proof(
            claim="no pod of the workload is left",
            level=Level.OBSERVED,
            by="the kubelets, which let a pod's object go only after its containers have ended",
            at=datetime.now(UTC),
            why_not_higher="nobody has tried the pods' addresses or tokens since",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """What it was before, exactly; Refused when somebody has given it another size since."""
        change = record.change
        ref, prior = change.ref, change.prior or {}
        live = self.cluster.find(resource_of(ref), ref.namespace, ref.name)
        if live is None or live["metadata"]["uid"] != ref.uid:
            return Already(reason=f"{ref} is gone: there is nothing to put back")
        if size_of(live) == size_of(prior):
            return Already(reason=f"{ref} has what it had: {size_of(live)}")
        if not self.is_stopped(live):
            return Refused(
                reason=f"{ref} was changed by somebody since: {size_of(live)}",
                next_step=f"set it by hand, if it is to be as before: {size_of(prior)}",
            )
        return change.model_copy(
            update={
                "id": f"undo-{change.id}",
                "body": restoring(live, prior),
                "prior": live,
                "inverse": None,
                "needed": False,
                "effect": f"{ref} gets back what it had: {size_of(prior)}",
            }
        )

    # --- by kind -----------------------------------------------------------------
    def is_stopped(self, obj: Json) -> bool:
        """Whether the object is as this action leaves it (pure)."""
        spec = obj["spec"]
        match obj["kind"]:
            case "DaemonSet":
                return bool(_selector_of(obj).get(STOPPED_KEY) == self.settings.fence)
            case "CronJob":
                return bool(spec.get("suspend"))
            case _:
                return bool(spec.get("replicas", 1) == 0)

    def _change(self, around: Workload) -> Change:
        obj = around.obj
        stopped: Json
        match obj["kind"]:
            case "DaemonSet":
                selector = _selector_of(obj)
                operation = (
                    {"op": "add", "path": _STOPPED, "value": self.settings.fence}
                    if selector
                    else {"op": "add", "path": _SELECTOR, "value": {STOPPED_KEY: self.settings.fence}}
                )
                body = [*same_spec(obj), operation]
                marked = {**selector, STOPPED_KEY: self.settings.fence}
                template = obj["spec"]["template"]
                spec = {**template["spec"], "nodeSelector": marked}
                stopped = {**obj, "spec": {**obj["spec"], "template": {**template, "spec": spec}}}
                effect = "the DaemonSet asks for a node label that no node has: its pods end on every node"
            case "CronJob":
                body = [*same_spec(obj), {"op": "add", "path": "/spec/suspend", "value": True}]
                stopped = {**obj, "spec": {**obj["spec"], "suspend": True}}
                effect = "the CronJob is suspended: it starts no further Job, running ones go on"
            case kind:
                replicas = obj["spec"].get("replicas", 1)
                body = [
                    {"op": "test", "path": "/metadata/uid", "value": obj["metadata"]["uid"]},
                    {"op": "test", "path": "/spec/replicas", "value": replicas},
                    {"op": "replace", "path": "/spec/replicas", "value": 0},
                ]
                stopped = {**obj, "spec": {**obj["spec"], "replicas": 0}}
                effect = f"the {kind} is scaled from {replicas} to 0: every pod of it ends"
        return Change(
            id="stop",
            ref=around.ref,
            verb=Verb.PATCH,
            subresource="scale" if obj["kind"] in SCALED else "",
            body=body,
            prior=obj,
            inverse=Inverse(verb=Verb.PATCH, body=restoring(stopped, obj, live=False)),
            effect=effect,
        )

    def _impact(self, around: Workload, kills: Sequence[Json]) -> Impact:
        suspended = around.ref.kind == "CronJob"
        return serving.leaving_impact(
            kills,
            around.services,
            around.endpoint_slices,
            around.disruption_budgets,
            self.settings.serving_floor,
            away=len(kills),
            back=0,
            replacement="nobody: no pod stops by it" if suspended else "nobody: the workload is stopped",
            expected=False,
        )


def _unfit(around: Workload) -> Refused | None:
    ref, obj = around.ref, around.obj
    if ref.kind == "Job":
        return Refused(
            reason="a Job cannot be stopped without loss: suspending or scaling it deletes its pods, unsealed ones too",
            next_step=f"cut its pods off where they are: ringfence contain job/{ref.name} -n {ref.namespace}",
        )
    owner = controller_of(obj)
    if ref.kind == "ReplicaSet" and owner is not None:
        kind, name = printable(str(owner["kind"])), printable(str(owner["name"]))
        return Refused(
            reason=f"{ref} belongs to {kind} {name}, which would scale it up again",
            next_step=f"name its owner: {kind.lower()}/{name}",
        )
    retention = obj["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    if ref.kind == "StatefulSet" and retention.get("whenScaled") == "Delete":
        return Refused(
            reason="the StatefulSet deletes its pods' volumes when it is scaled down: they would be gone for good",
            next_step="set its persistentVolumeClaimRetentionPolicy.whenScaled to Retain, then again; "
            f"or cut its pods off where they are: ringfence contain statefulset/{ref.name} -n {ref.namespace}",
        )
    return None


def _caveats(around: Workload, kills: Sequence[Json]) -> tuple[str, ...]:
    found = list(put_back_by(around))
    if around.ref.kind == "CronJob":
        running = [printable(job["metadata"]["name"]) for job in around.between if _is_running(job)]
        if running:
            found.append(f"Jobs that it started are running, and go on: {', '.join(running)}")
    else:
        found.append("the attacker's processes get the pods' grace period as notice")
    for scaler in around.autoscalers:
        spec, name = scaler.get("spec") or {}, printable(scaler["metadata"]["name"])
        least = spec.get("minReplicas", 1)
        found.append(
            f"HorizontalPodAutoscaler {name} stands still at 0 replicas; once it is undone it sets at least {least}"
        )
    if around.ref.kind == "StatefulSet" and around.obj["spec"].get("podManagementPolicy") != "Parallel":
        found.append("its pods end one after the other, and one that is not ready holds up the others")
    return (*found, *unprotected(around, kills), *leftovers(around))


def _is_running(job: Json) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return not any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)


def restoring(stopped: Json, prior: Json, *, live: bool = True) -> list[Json]:
    """The operations that give the stopped object what it had. ``live``: guarded by what was read just now."""
    uid = {"op": "test", "path": "/metadata/uid", "value": stopped["metadata"]["uid"]}
    guards = same_spec(stopped) if live else [uid]
    match stopped["kind"]:
        case "DaemonSet":
            mine = {"op": "test", "path": _STOPPED, "value": _selector_of(stopped)[STOPPED_KEY]}
            before = _selector_of(prior).get(STOPPED_KEY)
            if before is not None:
                return [*guards, mine, {"op": "replace", "path": _STOPPED, "value": before}]
            return [*guards, mine, {"op": "remove", "path": _STOPPED}]
        case "CronJob":
            was = prior["spec"].get("suspend", False)
            return [
                *guards,
                {"op": "test", "path": "/spec/suspend", "value": True},
                {"op": "replace", "path": "/spec/suspend", "value": was},
            ]
        case _:
            # A scale of 0 leaves the member out of the subresource: it can be added, but not tested.
            version = {
                "op": "test",
                "path": "/metadata/resourceVersion",
                "value": stopped["metadata"]["resourceVersion"],
            }
            replicas = {"op": "add", "path": "/spec/replicas", "value": prior["spec"].get("replicas", 1)}
            return [uid, version, replicas] if live else [uid, replicas]


def _selector_of(daemon_set: Json) -> Json:
    return dict(daemon_set["spec"]["template"]["spec"].get("nodeSelector") or {})


def size_of(obj: Json) -> str:
    """What the action changes of an object, in words."""
    match obj["kind"]:
        case "DaemonSet":
            selector = _selector_of(obj)
            words = ", ".join(f"{printable(key)}={printable(str(value))}" for key, value in sorted(selector.items()))
            return f"node selector {words or 'none'}"
        case "CronJob":
            return "suspended" if obj["spec"].get("suspend") else "not suspended"
        case _:
            return f"{obj['spec'].get('replicas', 1)} replicas"


def _requested(why: str) -> Proof:
    return Proof(
        claim="the request was accepted, and the workload is not stopped",
        level=Level.REQUESTED,
        by="the API server",
        at=datetime.now(UTC),
        why_not_higher=why,
    )
