"""``pod.delete``: end a sealed pod. Destructive: memory, writable layer and emptyDir volumes are gone for good.

Deletes the pod of that uid and no other, with the pod's own grace period unless told otherwise; then waits until the
kubelet has confirmed it (the object disappears only after that). Finalizers are reported, never stripped. No undo.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ringfence.actions.base import Action
from ringfence.actions.fence import FENCE_KEY, POD_READS, is_detached
from ringfence.actions.perform import dry_run
from ringfence.errors import Invalid
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import serving
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.selectors import printable
from ringfence.platform.kubernetes.surroundings import Surroundings, look_around

_POLL_SECONDS = 0.25


class Delete(Action[Surroundings]):
    """Delete a fenced pod."""

    name = "pod.delete"
    kinds = frozenset({"Pod"})
    destructive = True
    permissions = (Permission("pods", frozenset({"delete"}), "to end a pod whose evidence is sealed"), *POD_READS)

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Surroundings:
        return look_around(self.cluster, cluster_id, target, pool)

    def plan(self, target: ObjectRef, around: Surroundings) -> Plan | Refused:
        """One delete. Refused while the pod still belongs to a controller: it would come back from the template."""
        labels = around.pod["metadata"].get("labels") or {}
        if FENCE_KEY not in labels:
            return Refused(
                reason="the pod is not fenced: its controller would start it again, and its traffic still flows",
                next_step=f"ringfence contain pod/{target.name} -n {target.namespace}",
            )
        grace = around.pod["spec"].get("terminationGracePeriodSeconds")
        delete = Change(
            id="delete",
            ref=target,
            verb=Verb.DELETE,
            prior=around.pod,
            effect="the pod's processes end; its memory and its writable files are gone for good",
        )
        try:
            dry_run(self.cluster, delete)
        except Invalid as error:
            return Refused(reason=f"{error.what}: {error.why}", next_step=error.next_step)
        impact = serving.detach_impact(around, self.settings.serving_floor)
        caveats = [f"the attacker's processes get up to {grace} s of notice (the pod's grace period)"]
        if is_detached(around.pod):
            impact = impact.model_copy(update={"replacement": "nobody: detached", "replacement_expected": False})
        elif around.controller is not None:
            # A pod that was fenced in place has its controller still.
            ref = around.controller.ref
            caveats.append(
                f"{printable(ref.kind)} {printable(ref.name)} starts another from the same template, which is not "
                "fenced: set the template right first, or stop the workload"
            )
        if finalizers := around.pod["metadata"].get("finalizers"):
            caveats.append(f"finalizers keep the object until others have acted: {', '.join(finalizers)}")
        return Plan(
            action=self.name,
            target=target,
            changes=(delete,),
            impact=impact,
            destroys=(target,),
            caveats=tuple(caveats),
            rationale="the evidence is sealed; the token dies with the pod, and open connections with its network",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Observed when the object is gone: the kubelet confirms only after the containers have ended."""
        deadline = time.monotonic() + self.settings.delete_wait_seconds
        while (live := self.cluster.find(POD, target.namespace, target.name)) is not None:
            if live["metadata"]["uid"] != target.uid or time.monotonic() >= deadline:
                break
            time.sleep(_POLL_SECONDS)
        now = datetime.now(UTC)
        if live is None or live["metadata"]["uid"] != target.uid:
            return Proof(
                claim="the pod is gone",
                level=Level.OBSERVED,
                by="the kubelet, which lets the object go only after the containers have ended",
                at=now,
                why_not_higher="nobody has tried the pod's address or token since",
            )
        held = live["metadata"].get("finalizers") or []
        return Proof(
            claim="the pod is terminating, its object is still there",
            level=Level.REQUESTED,
            by="the API server",
            at=now,
            why_not_higher=f"held by finalizers {', '.join(held)}" if held else "its containers have not ended yet",
        )
