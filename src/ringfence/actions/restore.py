"""``workload.restore``: a workload that ``workload.scale_to_zero`` stopped gets its pods back: one first, then all.

What it had is what was saved when it was stopped. Kinds that have no number (DaemonSet, CronJob) come back as a whole.
A workload that somebody else has given another size since is left as it is.

What it cannot know: whether its template is good; that is for the gates before. Undo is refused: to stop the workload
again ends pods that nobody has sealed. A canary that is no good is ended by ``recovery.check``, after it was sealed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ringfence.actions.base import Action
from ringfence.actions.scale import SCALED, ScaleToZero, restoring, size_of
from ringfence.actions.workload import READS, put_back_by, tried
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes.pods import is_ready
from ringfence.platform.kubernetes.resources import resource_of
from ringfence.platform.kubernetes.workloads import Workload, read_pods_of, read_workload

CANARY = "restore-one"
"""The change that starts the first pod of a stopped workload."""

_POLL_SECONDS = 0.25


class Restore(Action[Workload]):
    """Start a stopped workload again. Without a saved object in the settings nothing is planned: nobody stopped it."""

    name = "workload.restore"
    kinds = ScaleToZero.kinds
    destructive = False
    permissions = (
        *(
            Permission(f"{plural}/scale.apps", frozenset({"patch"}), "to scale a stopped workload up again")
            for plural in ("deployments", "statefulsets", "replicasets")
        ),
        *(
            Permission(f"{plural}.apps", frozenset({"get"}), "whether somebody has given it another size since")
            for plural in ("deployments", "statefulsets", "replicasets")
        ),
        Permission("daemonsets.apps", frozenset({"get", "patch"}), "to take the node selector that stopped it out"),
        Permission("cronjobs.batch", frozenset({"get", "patch"}), "to let a suspended CronJob go on"),
        Permission("jobs.batch", frozenset({"list"}), "which Jobs of a CronJob are running"),
        *READS,
    )

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Workload:  # noqa: ARG002
        return read_workload(self.cluster, target, pool)

    def plan(self, target: ObjectRef, around: Workload) -> Plan | Already | Refused:
        """One patch. Already when it has what is wanted; Refused when somebody has given it another size since."""
        saved = self.settings.saved
        if saved is None:
            return Already(reason=f"{target} was not stopped by this incident")
        live, wanted = around.obj, _number(saved)
        if target.kind in SCALED:
            if self.settings.only_one:
                wanted = min(1, wanted)
            if _number(live) == wanted:
                return Already(reason=f"{target} has {size_of(live)}")
            if _number(live) not in (0, 1):
                return Refused(
                    reason=f"{target} was changed by somebody since it was stopped: {size_of(live)}",
                    next_step=f"set it by hand, if it is to be as before: {size_of(saved)}",
                )
        elif not ScaleToZero(self.cluster, self.settings).is_stopped(live):
            return Already(reason=f"{target} has {size_of(live)}")
        prior = saved
        if target.kind in SCALED:
            prior = {**prior, "spec": {**prior["spec"], "replicas": wanted}}
        restored = {**live, "spec": prior["spec"]}
        change = Change(
            id=CANARY if self.settings.only_one else "restore",
            ref=around.ref,
            verb=Verb.PATCH,
            subresource="scale" if target.kind in SCALED else "",
            body=_sized(live, wanted) if target.kind in SCALED else restoring(live, prior),
            prior=live,
            effect=f"{target} gets {size_of(restored)}; it has {size_of(live)}",
        )
        refused = tried(self.cluster, change)
        if refused is not None:
            return refused
        return Plan(
            action=self.name,
            target=target,
            changes=(change,),
            impact=Impact(pods=0, replacement="nobody: no pod stops by it", replacement_expected=False),
            caveats=put_back_by(around),
            rationale=change.effect,
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Observed when as many pods as are asked for are ready, says the kubelet."""
        deadline = time.monotonic() + self.settings.rollout_wait_seconds
        while True:
            live = self.cluster.find(resource_of(target), target.namespace, target.name)
            if live is None or live["metadata"]["uid"] != target.uid:
                return _requested("it is gone")
            if target.kind not in SCALED:
                return Proof(
                    claim=f"it is as before: {size_of(live)}",
                    level=Level.COMPUTED,
                    by="its own object, read back from the API server",
                    at=datetime.now(UTC),
                    why_not_higher="its pods are not counted: how many there are depends on nodes or a schedule",
                )
            ready = sum(1 for pod in read_pods_of(self.cluster, target) if is_ready(pod))
            if ready >= _number(live) or time.monotonic() >= deadline:
                break
            time.sleep(_POLL_SECONDS)
        if ready < _number(live):
            return _requested(f"{ready} of {_number(live)} pods are ready")
        return Proof(
            claim=f"{ready} of {_number(live)} pods are ready",
            level=Level.OBSERVED,
            by="the kubelets, by the pods' readiness probes",
            at=datetime.now(UTC),
            why_not_higher="a ready pod is not yet a clean one",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        ref = record.change.ref
        return Refused(
            reason=f"to stop {ref} again would end pods that nobody has sealed",
            next_step=f"ringfence respond stop-workload {ref.kind.lower()}/{ref.name} -n {ref.namespace}, "
            "which seals them first",
        )

    def end_canary(self, record: ChangeRecord) -> Change | Already:
        """The change that ends the first pod, as long as it is the only one: for who has sealed it."""
        ref = record.change.ref
        live = self.cluster.find(resource_of(ref), ref.namespace, ref.name)
        if live is None or live["metadata"]["uid"] != ref.uid or _number(live) != 1:
            return Already(reason=f"{ref} has no canary any more")
        return Change(
            id="end-canary",
            ref=ref,
            verb=Verb.PATCH,
            subresource="scale",
            body=_sized(live, 0),
            prior=live,
            effect=f"the canary of {ref} ends",
        )


def _number(obj: Json) -> int:
    return int(obj["spec"].get("replicas", 1))


def _sized(live: Json, replicas: int) -> list[Json]:
    """The scale subresource leaves a 0 out: it cannot be tested, and is added, which replaces.

    Not guarded by the resourceVersion: the status of a workload whose pods just start moves it all the time.
    """
    guards: list[Json] = [{"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]}]
    if _number(live):
        guards.append({"op": "test", "path": "/spec/replicas", "value": _number(live)})
    return [*guards, {"op": "add", "path": "/spec/replicas", "value": replicas}]


def _requested(why: str) -> Proof:
    return Proof(
        claim="the request was accepted",
        level=Level.REQUESTED,
        by="the API server",
        at=datetime.now(UTC),
        why_not_higher=why,
    )
