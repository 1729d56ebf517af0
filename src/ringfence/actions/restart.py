"""``workload.restart_clean``: replace every pod of a workload by a new one. Destructive: the old pods die.

A rollout restart of a Deployment, StatefulSet or DaemonSet: an annotation of the pod template changes, and the
controller replaces the pods at its own pace. It is clean only if the template is: while that still asks for the image
that the suspect ran, it is refused (the new pods have the same hole), unless that is accepted. Refused as well where
the controller would not replace its pods: paused, OnDelete, a partition, 0 replicas.

What it cannot know: whether the new image is a good one, and whether Git holds the same. There is no undo: the old pods
are gone, and the annotation alone does nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ringfence.actions.base import Action
from ringfence.actions.fence import FENCE_KEY
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
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import pods as pod_facts
from ringfence.platform.kubernetes import serving
from ringfence.platform.kubernetes.resources import resource_of
from ringfence.platform.kubernetes.selectors import labels_of, printable
from ringfence.platform.kubernetes.workloads import Workload, read_pods_of, read_workload

RESTARTED_KEY = "ringfence.dev/restartedAt"

_ANNOTATIONS = "/spec/template/metadata/annotations"
_RESTARTED = f"{_ANNOTATIONS}/{RESTARTED_KEY.replace('/', '~1')}"
_METADATA = "/spec/template/metadata"
_POLL_SECONDS = 0.5
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RestartClean(Action[Workload]):
    """Replace every pod of a workload."""

    name = "workload.restart_clean"
    kinds = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
    destructive = True
    permissions = (
        Permission("deployments.apps", frozenset({"get", "patch"}), "the template annotation that restarts it"),
        Permission("statefulsets.apps", frozenset({"get", "patch"}), "the template annotation that restarts it"),
        Permission("daemonsets.apps", frozenset({"get", "patch"}), "the template annotation that restarts it"),
        *READS,
    )

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Workload:  # noqa: ARG002
        return read_workload(self.cluster, target, pool)

    def plan(self, target: ObjectRef, around: Workload) -> Plan | Refused:
        """One patch of the template."""
        for refusal in (_not_replaced(around), self._same_hole(around)):
            if refusal is not None:
                return refusal
        change = self._change(around)
        refused = tried(self.cluster, change)
        if refused is not None:
            return refused
        kills = dying(around)
        away = _at_once(around.obj, len(kills))
        return Plan(
            action=self.name,
            target=target,
            changes=(change,),
            impact=serving.leaving_impact(
                kills,
                around.services,
                around.endpoint_slices,
                around.disruption_budgets,
                self.settings.serving_floor,
                away=away,
                back=away,
                replacement=f"{target.kind} {target.name}, {away} at a time at most",
                expected=True,
                endless="the pods are replaced one after the other, for as long as that takes",
            ),
            destroys=references(target.cluster, kills),
            caveats=(*self._caveats(around), *put_back_by(around), *unprotected(around, kills), *leftovers(around)),
            rationale="every pod is replaced from the template as it is now",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:
        """Observed when every pod carries the restart's annotation and is ready; waits for it, but not for ever."""
        stamp = next((r.change.body[-1]["value"] for r in records if r.change.id == "restart"), None)
        if isinstance(stamp, dict):
            stamp = _stamp_of(stamp)
        deadline = time.monotonic() + self.settings.rollout_wait_seconds
        while (why := self._unfinished(target, stamp)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if why:
            return Proof(
                claim="the restart was accepted, and is not through",
                level=Level.REQUESTED,
                by="the API server",
                at=datetime.now(UTC),
                why_not_higher=why,
            )
        return Proof(
            claim="every pod of the workload is of the restart, and ready",
            level=Level.OBSERVED,
            by="the kubelets, which report the new pods ready and have let the old ones go",
            at=datetime.now(UTC),
            why_not_higher="whether the image that they run is a good one is not shown",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:  # noqa: ARG002
        return Refused(
            reason="the pods that were replaced are gone: a restart cannot be taken back",
            next_step="set the template right and restart again, or stop the workload",
        )

    def _change(self, around: Workload) -> Change:
        obj = around.obj
        stamp = self.settings.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta = obj["spec"]["template"].get("metadata")
        if not meta:
            operation = {"op": "add", "path": _METADATA, "value": {"annotations": {RESTARTED_KEY: stamp}}}
        elif not meta.get("annotations"):
            operation = {"op": "add", "path": _ANNOTATIONS, "value": {RESTARTED_KEY: stamp}}
        else:
            operation = {"op": "add", "path": _RESTARTED, "value": stamp}
        return Change(
            id="restart",
            ref=around.ref,
            verb=Verb.PATCH,
            body=[*same_spec(obj), operation],
            prior=obj,
            effect=f"the template is stamped {stamp}: the controller replaces every pod",
        )

    def _suspects(self, around: Workload) -> tuple[tuple[Json, ...], str]:
        """The pods that are fenced by this incident; if there are none left, the workload's own, and the words."""
        fenced = tuple(
            pod for pod in (*around.pods, *around.neighbours) if labels_of(pod).get(FENCE_KEY) == self.settings.fence
        )
        if fenced:
            return fenced, "the suspect"
        return around.pods, "the pods that are to be replaced (the suspect itself is gone)"

    def _same_hole(self, around: Workload) -> Refused | None:
        suspects, words = self._suspects(around)
        wanted, same = _images(around.obj), self._unchanged(around, suspects)
        if self.settings.accept_same_image or not suspects or len(same) < len(wanted):
            return None
        return Refused(
            reason=f"the template asks for what {words} ran: {', '.join(map(printable, same))}; "
            "the new pods would have the same hole",
            next_step="put a fixed image into the template first, or accept it: --accept-same-image",
        )

    @staticmethod
    def _unchanged(around: Workload, suspects: Sequence[Json]) -> tuple[str, ...]:
        """The template's images that a suspect ran: by digest where the template names one, else by name."""
        names = {str(c.spec.get("image", "")) for pod in suspects for c in pod_facts.containers(pod)}
        ran = " ".join(c.image_id for pod in suspects for c in pod_facts.containers(pod))
        digests = set(_DIGEST.findall(ran))
        return tuple(
            image
            for image in _images(around.obj)
            if image in names or ((found := _DIGEST.search(image)) and found.group() in digests)
        )

    def _caveats(self, around: Workload) -> list[str]:
        suspects, words = self._suspects(around)
        found = ["the attacker's processes get the pods' grace period as notice"]
        if same := self._unchanged(around, suspects):
            found.append(f"the template still asks for what {words} ran: {', '.join(map(printable, same))}")
        return found

    def _unfinished(self, target: ObjectRef, stamp: str | None) -> str:
        live = self.cluster.find(resource_of(target), target.namespace, target.name)
        if live is None or live["metadata"]["uid"] != target.uid:
            return f"{target} is gone"
        carried = _stamp_of(live["spec"]["template"].get("metadata") or {})
        if stamp is None or carried != stamp:
            return f"the template carries {printable(carried) if carried else 'no restart'}: it was changed since"
        found = read_pods_of(self.cluster, target)
        old = [p["metadata"]["name"] for p in found if _stamp_of(p["metadata"]) != stamp]
        if old:
            return f"not replaced yet: {', '.join(map(printable, old))}"
        waiting = [p["metadata"]["name"] for p in found if not pod_facts.is_ready(p)]
        if waiting:
            return f"not ready yet: {', '.join(map(printable, waiting))}"
        wanted = _desired(live)
        return f"{len(found)} of {wanted} pods are there" if len(found) < wanted else ""


def _not_replaced(around: Workload) -> Refused | None:
    """Refused where a changed template replaces no pods, or not all of them."""
    spec, ref = around.obj["spec"], around.ref
    strategy = spec.get("updateStrategy") or {}
    if ref.kind != "DaemonSet" and spec.get("replicas", 1) == 0:
        return Refused(
            reason=f"{ref} is scaled to 0: there is nothing to restart", next_step="take the scaling back instead"
        )
    if spec.get("paused"):
        return Refused(
            reason=f"{ref} is paused: it would not replace its pods",
            next_step=f"kubectl rollout resume deployment/{ref.name} -n {ref.namespace}",
        )
    if strategy.get("type") == "OnDelete":
        return Refused(
            reason=f"{ref} replaces a pod only when somebody deletes it (OnDelete)",
            next_step="fence and eradicate its pods one by one",
        )
    if partition := (strategy.get("rollingUpdate") or {}).get("partition"):
        return Refused(
            reason=f"{ref} leaves the pods below number {partition} as they are (partition)",
            next_step="set its partition to 0 first",
        )
    return None


def _images(obj: Json) -> tuple[str, ...]:
    """The images of the template's main and init containers."""
    spec = obj["spec"]["template"]["spec"]
    listed = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return tuple(dict.fromkeys(str(container.get("image", "")) for container in listed))


def _at_once(obj: Json, count: int) -> int:
    """How many pods may be away at the same time, at most, while the controller replaces them."""
    spec = obj["spec"]
    match obj["kind"]:
        case "Deployment":
            strategy = spec.get("strategy") or {}
            if strategy.get("type") == "Recreate":
                return count
            limit = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%")
        case _:
            limit = ((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("maxUnavailable", 1)
    if isinstance(limit, str) and limit.endswith("%") and limit[:-1].isdigit():
        share = count * int(limit[:-1])
        # A Deployment rounds down; the others round up, and none waits at 0.
        limit = share // 100 if obj["kind"] == "Deployment" else -(-share // 100)
    return min(count, limit) if isinstance(limit, int) else count


def _desired(obj: Json) -> int:
    if obj["kind"] == "DaemonSet":
        return int((obj.get("status") or {}).get("desiredNumberScheduled", 0))
    return int(obj["spec"].get("replicas", 1))


def _stamp_of(meta: Json) -> str:
    """The restart that an object's metadata carries, or the value of the patch that put it there."""
    return str((meta.get("annotations") or meta).get(RESTARTED_KEY, ""))
