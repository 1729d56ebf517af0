"""``keda.pause``: keep KEDA from changing the number of pods while a response has its hand on them. Reversible.

Run before the cut of a workload that is to be stopped: a scaler that ends or starts pods between their seal and the
stop would lose evidence or bring pods that nobody has sealed, and after the stop it would bring the workload back. Of
a Deployment, StatefulSet or ReplicaSet every ScaledObject that points at it is paused, of a Job the ScaledJob that
started it, by the annotation ``autoscaling.keda.sh/paused``. Not by ``paused-replicas``: with that, KEDA itself scales
to the number, and unsealed pods would die of it. A ScaledObject that is held at another number than 0 would be set to
it again: that annotation is taken out, and kept for the way back.

What it cannot know: whether KEDA runs, and is new enough to know the annotation (its own report shows that, and is
waited for), and whether GitOps puts the annotation back where Git has one. Undo puts back exactly what was there,
unless somebody has set it otherwise since.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from ringfence.actions.base import Action
from ringfence.actions.workload import put_back, tried
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import keda
from ringfence.platform.kubernetes.keda import Pause
from ringfence.platform.kubernetes.resources import SCALED_JOB, SCALED_OBJECT, resource_of
from ringfence.platform.kubernetes.selectors import printable
from ringfence.platform.kubernetes.workloads import WORKLOAD_KINDS, read_object

_OURS = Pause(paused="true", replicas=None)
_ANNOTATIONS = "/metadata/annotations"
_REPORT_SECONDS = 5.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Scaled:
    """A workload with the scalers that set its size."""

    obj: Json
    scalers: tuple[Json, ...]


class PauseScaling(Action[Scaled]):
    """Pause what would scale the workload."""

    name = "keda.pause"
    kinds = WORKLOAD_KINDS
    destructive = False
    permissions = (
        Permission("scaledobjects.keda.sh", frozenset({"list"}), "which ScaledObjects set the size of the workload"),
        Permission(
            "scaledobjects.keda.sh",
            frozenset({"get", "patch"}),
            "to pause one, to see that it stays paused, and to put back what was there",
        ),
        Permission(
            "scaledjobs.keda.sh", frozenset({"get", "patch"}), "the same for the ScaledJob that a Job comes from"
        ),
        *(
            Permission(resource, frozenset({"get"}), "whether it is the workload that is meant")
            for resource in (
                *("deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps"),
                *("jobs.batch", "cronjobs.batch"),
            )
        ),
    )

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Scaled:  # noqa: ARG002
        obj = read_object(self.cluster, target)[0]
        return Scaled(obj, keda.read(self.cluster, obj))

    def plan(self, target: ObjectRef, around: Scaled) -> Plan | Already | Refused:
        """One patch for each scaler. Already where nothing of KEDA would scale the workload."""
        if not around.scalers:
            return Already(reason=f"nothing of KEDA scales {target}")
        moving = [one for one in around.scalers if not keda.pause_of(one).holds_still]
        if not moving:
            return Already(reason=f"{_names(around.scalers)}: paused already")
        changes = tuple(_pause(target.cluster, one) for one in moving)
        for change in changes:
            if (refused := tried(self.cluster, change)) is not None:
                return refused
        return Plan(
            action=self.name,
            target=target,
            changes=changes,
            impact=Impact(pods=0, replacement="nobody: no pod stops by it", replacement_expected=False),
            caveats=tuple(words for one in moving for words in _caveats(target, one)),
            rationale=f"KEDA's {_names(moving)} sets how many pods {target} has, and would do so during the response",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:
        """Read back until KEDA itself reports the pause, a few seconds at most."""
        deadline = time.monotonic() + min(_REPORT_SECONDS, self.settings.rollout_wait_seconds)
        while True:
            found = [live for record in records if (live := self._live(record.change.ref)) is not None]
            moving = [one for one in found if not keda.pause_of(one).holds_still]
            reported = all(keda.reports_paused(one) for one in found)
            if moving or reported or time.monotonic() >= deadline:
                break
            time.sleep(_POLL_SECONDS)
        now = datetime.now(UTC)
        if moving:
            return Proof(
                claim="the request was accepted, and KEDA still scales",
                level=Level.REQUESTED,
                by="the API server",
                at=now,
                why_not_higher=f"somebody has set it back: {_names(moving)}",
            )
        if reported:
            names = f"{_names(found)} is paused" if found else "what scaled it is gone"
            return Proof(
                claim=f"nothing of KEDA scales {target}: {names}",
                level=Level.OBSERVED,
                by="KEDA's own report, read back from the API server",
                at=now,
                why_not_higher="that it scales nothing shows only with time",
            )
        return Proof(
            claim=f"nothing of KEDA is meant to scale {target}",
            level=Level.COMPUTED,
            by="the scalers' own objects, read back from the API server",
            at=now,
            why_not_higher="KEDA has not reported the pause: it may not run, or be older than the annotation",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """Exactly the annotations that were there."""
        change = record.change
        live = self._live(change.ref)
        if live is None:
            return Already(reason=f"{change.ref} is gone: there is nothing to put back")
        before, now = keda.pause_of(change.prior or live), keda.pause_of(live)
        if now == before:
            return Already(reason=f"{change.ref} scales as it did")
        if now != _OURS:
            return Refused(
                reason=f"somebody has set the pause of {change.ref} otherwise since",
                next_step=f"kubectl get {resource_of(change.ref).plural}.keda.sh {change.ref.name} "
                f"-n {change.ref.namespace} -o yaml",
            )
        return change.model_copy(
            update={
                "id": f"undo-{change.id}",
                "body": [_same(live), *_setting(live, before)],
                "prior": live,
                "inverse": None,
                "needed": False,
                "effect": f"{change.ref} scales as it did",
            }
        )

    def _live(self, ref: ObjectRef) -> Json | None:
        live = self.cluster.find(resource_of(ref), ref.namespace, ref.name)
        return live if live is not None and live["metadata"]["uid"] == ref.uid else None


def _pause(cluster_id: str, scaler: Json) -> Change:
    ref, before = ObjectRef.of(cluster_id, scaler), keda.pause_of(scaler)
    held = f" (it was held at {printable(before.replicas)})" if before.replicas is not None else ""
    paused = {**scaler, "metadata": {**scaler["metadata"], "annotations": _annotations(scaler, _OURS)}}
    back = [one for one in _setting(paused, before) if one["op"] != "test"]
    return Change(
        id=f"pause-{ref.name}",
        ref=ref,
        verb=Verb.PATCH,
        body=[_same(scaler), *_setting(scaler, _OURS)],
        prior=scaler,
        inverse=Inverse(verb=Verb.PATCH, body=[_same(scaler), *back]),
        effect=f"{ref} is paused: KEDA leaves what it scales as it is{held}",
    )


def _setting(scaler: Json, wanted: Pause) -> list[Json]:
    """The operations that give the scaler these two annotations, guarded by those that it has."""
    before, after = scaler["metadata"].get("annotations") or {}, _annotations(scaler, wanted)
    if not before:
        # What is not there cannot be tested: nobody may have changed anything.
        version = scaler["metadata"]["resourceVersion"]
        guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        return [guard, {"op": "add", "path": _ANNOTATIONS, "value": after}]
    found: list[Json] = []
    for key in keda.ANNOTATIONS:
        path = f"{_ANNOTATIONS}/{key.replace('/', '~1')}"
        if key in before:
            found.append({"op": "test", "path": path, "value": before[key]})
        if key in after and before.get(key) != after[key]:
            found.append({"op": "add", "path": path, "value": after[key]})
        elif key in before and key not in after:
            found.append({"op": "remove", "path": path})
    return found


def _annotations(scaler: Json, wanted: Pause) -> Json:
    others = {k: v for k, v in (scaler["metadata"].get("annotations") or {}).items() if k not in keda.ANNOTATIONS}
    ours = zip(keda.ANNOTATIONS, wanted, strict=True)
    return {**others, **{key: value for key, value in ours if value is not None}}


def _same(obj: Json) -> Json:
    return {"op": "test", "path": "/metadata/uid", "value": obj["metadata"]["uid"]}


def _names(scalers: Sequence[Json]) -> str:
    return ", ".join(f"{one['kind']} {printable(one['metadata']['name'])}" for one in scalers)


def _caveats(target: ObjectRef, scaler: Json) -> tuple[str, ...]:
    """What it blocks for others, and who may put it back."""
    name = f"{scaler['kind']} {printable(scaler['metadata']['name'])}"
    if scaler["kind"] == SCALED_JOB.kind:
        found = [f"until it is undone, {name} starts no Job, whatever waits for one"]
    else:
        found = [f"until it is undone, {target} does not follow its load: {name} is paused"]
    autoscaler = (scaler.get("status") or {}).get("hpaName")
    if scaler["kind"] == SCALED_OBJECT.kind and autoscaler:
        found.append(f"KEDA deletes HorizontalPodAutoscaler {printable(str(autoscaler))} until then")
    return (*found, *(f"{name}: {words}" for words in put_back(scaler)))
