"""``network.quarantine``: cut a pod's new connections with NetworkPolicies, while it stays alive as evidence.

Shape *detach*, for pods of a Deployment (a ReplicaSet) and pods without a controller: a deny-all policy first; then the
policies that would still open the pod pass over the fence label; then one patch takes the pod out of its controller,
its Services and the policies that allow it something, and into the deny-all. Its controller starts a replacement; the
orphan is evidence, is never re-adopted, and is deleted only after its seal.

What it cannot know: whether a network plugin enforces policies, and whether connections that are open already are cut.
Traffic between the pod and its own node is stopped by no policy. Undo takes back the policies; a detached pod never
goes back to its controller (``release`` seals and deletes it).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from ringfence.actions.base import Action, inverse
from ringfence.actions.perform import dry_run
from ringfence.errors import Conflict, Invalid, PlatformError, RingfenceError
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import fencing, pods, policies, serving
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.platform.kubernetes.surroundings import Surroundings

FENCE_KEY = "ringfence.dev/fence"
"""The label that the deny-all selects. Its value is opaque: the victim may read its own labels."""

DETACH = "detach"
"""The id of the change that takes the pod out of its controller and puts it behind the fence."""

_OWN_LABELS = {"app.kubernetes.io/managed-by": "ringfence"}
_KEEP_ALIVE = {
    # An orphan must not be moved or removed by an autoscaler while it is evidence.
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
_DETACHABLE = frozenset({"ReplicaSet", "ReplicationController"})


class Quarantine(Action):
    """Cut a pod off (detach). Reversible as far as the policies go; the pod itself stays cut until it is deleted."""

    name = "network.quarantine"
    destructive = False
    permissions = (
        Permission("pods", frozenset({"get", "list", "patch"}), "the label that the deny-all selects"),
        Permission(
            "networkpolicies.networking.k8s.io",
            frozenset({"get", "list", "create", "patch", "delete"}),
            "the deny-all, and the policies that must pass over the fenced pod",
        ),
        Permission("services", frozenset({"list"}), "which Services the pod must leave, and what customers feel"),
        Permission("endpointslices.discovery.k8s.io", frozenset({"list"}), "how many pods still serve"),
        Permission("replicasets.apps", frozenset({"get", "list"}), "who owns the pod and could adopt it again"),
        Permission("deployments.apps", frozenset({"get"}), "the owner chain"),
        Permission("statefulsets.apps", frozenset({"get", "list"}), "who could adopt the pod"),
        Permission("daemonsets.apps", frozenset({"get", "list"}), "who could adopt the pod"),
        Permission("jobs.batch", frozenset({"get", "list"}), "who could adopt the pod"),
        Permission("replicationcontrollers", frozenset({"get", "list"}), "who could adopt the pod"),
        Permission("poddisruptionbudgets.policy", frozenset({"list"}), "what the pod counts for"),
        Permission("resourcequotas", frozenset({"list"}), "whether a replacement can start beside it"),
    )

    def __init__(self, cluster: Cluster, *, fence: str, serving_floor: int) -> None:
        super().__init__(cluster)
        self.fence = fence
        self.serving_floor = serving_floor

    @property
    def deny_policy(self) -> str:
        return f"ringfence-{self.fence}"

    def plan(self, target: ObjectRef, around: Surroundings) -> Plan | Refused:
        """The requests of a detach, each dry-run by the server. Refused where policies cannot hold the pod."""
        refusal = _not_detachable(around)
        if refusal is not None:
            return refusal
        relabel = fencing.detached_labels(
            target.namespace,
            around.pod["metadata"].get("labels") or {},
            fence_key=FENCE_KEY,
            fence_value=self.fence,
            controllers=around.adopters,
            services=around.services,
            budgets=around.disruption_budgets,
            # Our own deny-all of an earlier, unfinished attempt is no reason to change anything.
            policies=tuple(p for p in around.policies if p["metadata"]["name"] != self.deny_policy),
        )
        if not relabel.detaches:
            still = ", ".join((*relabel.controllers, *relabel.services))
            return Refused(
                reason=f"no change of its labels takes the pod out of {still}",
                next_step="cut it on its node, or stop the workload",
            )
        unfenced = self._unfenced_carriers(target, around.policies) if relabel.to_exclude else ()
        changes = (
            self._deny(target),
            *(self._exclude(target, policy) for policy in relabel.to_exclude if not unfenced),
            self._detach(target, around.pod, relabel),
        )
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="dry-run") as pool:
            refused = [refusal for refusal in pool.map(self._try, changes) if refusal is not None]
        if refused:
            return refused[0]
        return Plan(
            action=self.name,
            target=target,
            changes=changes,
            impact=serving.detach_impact(around, self.serving_floor),
            caveats=(*_caveats(around, relabel), *_kept_open(relabel, unfenced)),
            rationale=_rationale(around),
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Computed at best: read back the pod and the policies and evaluate them together."""
        pod = self.cluster.get(POD, target.namespace, target.name)
        isolation = policies.evaluate(pod, self.cluster.list(NETWORK_POLICY, target.namespace))
        now = datetime.now(UTC)
        if pod["metadata"]["uid"] == target.uid and isolation.cut:
            return Proof(
                claim="no NetworkPolicy allows the pod a new connection in or out",
                level=Level.COMPUTED,
                by="our evaluation of the pod's labels and the namespace's policies, read back from the API server",
                at=now,
                why_not_higher="no canary has tried the fence: whether the network plugin enforces it is not shown",
            )
        left = "; ".join(opening.summary for opening in isolation.openings) or "the pod is not isolated"
        return Proof(
            claim="the requests were accepted, and the pod is still open",
            level=Level.REQUESTED,
            by="the API server",
            at=now,
            why_not_higher=left,
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """The deny-all is deleted, an excluded policy gets its selector back; the pod's labels do not come back."""
        change = record.change
        if change.ref.kind == POD.kind:
            return Refused(
                reason="a detached pod is a suspect and never goes back to its controller",
                next_step="release or eradicate: it is sealed, then deleted",
            )
        namespace, name = change.ref.namespace, change.ref.name
        live = self.cluster.find(NETWORK_POLICY, namespace, name)
        if change.verb is Verb.CREATE:
            if live is None:
                return Already(reason=f"NetworkPolicy {name} was removed by somebody else")
            if fenced := self.cluster.list(POD, namespace, labels=f"{FENCE_KEY}={self.fence}"):
                names = ", ".join(pod["metadata"]["name"] for pod in fenced)
                return Refused(reason=f"the fence still holds {names}", next_step="delete the fenced pod first")
            return inverse(record)
        if live is None or live["metadata"]["uid"] != change.ref.uid:
            return Already(reason=f"NetworkPolicy {name} was removed by somebody else: there is nothing to put back")
        prior = ((change.prior or {}).get("spec") or {}).get("podSelector")
        try:
            operations = fencing.without_exclusion(
                live, FENCE_KEY, prior=prior, pods=self.cluster.list(POD, namespace, labels=FENCE_KEY)
            )
        except RingfenceError as error:
            return Refused(reason=str(error), next_step=error.next_step)
        if not operations:
            return Already(reason=f"NetworkPolicy {name} has its old selector")
        return change.model_copy(
            update={
                "id": f"undo-{change.id}",
                "body": list(operations),
                "prior": live,
                "inverse": None,
                "needed": False,
                "effect": f"NetworkPolicy {name} selects what it did before",
            }
        )

    def _unfenced_carriers(self, target: ObjectRef, present: Sequence[Json]) -> tuple[str, ...]:
        """Pods that have the fence label and no fence: passing over them would take away what isolates them."""
        carriers = self.cluster.list(POD, target.namespace, labels=FENCE_KEY)
        return tuple(
            pod["metadata"]["name"]
            for pod in carriers
            if pod["metadata"]["uid"] != target.uid and not policies.evaluate(pod, present).cut
        )

    # --- the changes -------------------------------------------------------------
    def _deny(self, target: ObjectRef) -> Change:
        manifest = fencing.deny_all(
            self.deny_policy, target.namespace, key=FENCE_KEY, value=self.fence, labels=_OWN_LABELS
        )
        return Change(
            id="deny-all",
            ref=_policy_ref(target, self.deny_policy, uid=""),
            verb=Verb.CREATE,
            body=manifest,
            inverse=Inverse(verb=Verb.DELETE),
            effect=f"NetworkPolicy {self.deny_policy} denies the fenced pod everything, in and out",
        )

    def _exclude(self, target: ObjectRef, policy: Any) -> Change:
        name = policy["metadata"]["name"]
        return Change(
            id=f"exclude-{name}",
            ref=_policy_ref(target, name, uid=policy["metadata"]["uid"]),
            verb=Verb.PATCH,
            body=list(fencing.exclusion(policy, FENCE_KEY)),
            prior=policy,
            inverse=Inverse(verb=Verb.PATCH),
            # Without it the pod is cut from everything else all the same; its row then says what is still open.
            needed=False,
            effect=f"NetworkPolicy {name} passes over fenced pods, which it would still open",
        )

    def _detach(self, target: ObjectRef, pod: Json, relabel: fencing.LabelChange) -> Change:
        same_pod = {"op": "test", "path": "/metadata/uid", "value": target.uid}
        operations = [*(fencing.relabel(pod, relabel.labels) or (same_pod,)), *_annotate(pod)]
        gone = ", ".join(label.key for label in relabel.removed) or "none"
        return Change(
            id=DETACH,
            ref=target,
            verb=Verb.PATCH,
            body=operations,
            prior=pod,
            effect=f"the pod gets the fence label and loses the labels that selected it ({gone})",
        )

    def _try(self, change: Change) -> Refused | None:
        try:
            dry_run(self.cluster, change)
        except PlatformError as error:
            if not change.needed:
                return None  # the cut does not wait for it: the step will say that it is done in part
            if isinstance(error, Conflict) and change.verb is Verb.CREATE:
                return None  # ours already, of an attempt that was cut short
            if isinstance(error, Invalid):
                return Refused(reason=f"{error.what}: {error.why}", next_step=error.next_step)
            raise
        return None


def _not_detachable(around: Surroundings) -> Refused | None:
    pod = around.pod
    if policies.is_host_network(pod):
        return Refused(
            reason="the pod uses its node's network, which no NetworkPolicy governs",
            next_step="cut it on its node, or stop the workload",
        )
    if pods.is_finished(pod):
        return Refused(reason="the pod has ended already: there is nothing to cut", next_step="collect its evidence")
    controller = around.controller
    if controller is not None and controller.ref.kind not in _DETACHABLE:
        return Refused(
            reason=f"its controller is a {controller.ref.kind}: a pod taken out of it is not replaced as it was",
            next_step="this version detaches pods of Deployments and pods without a controller",
        )
    return None


def _rationale(around: Surroundings) -> str:
    controller = around.controller
    if controller is None:
        return "detach: the pod has no controller, so nobody replaces it and nobody takes it back"
    return f"detach: {controller.ref.kind} {controller.ref.name} lets go of a pod without its labels and starts another"


def _caveats(around: Surroundings, relabel: fencing.LabelChange) -> tuple[str, ...]:
    found = [
        "connections that are open now may go on: the network plugin decides",
        "a replacement starts from the same image and template, and may be attacked in the same way",
        "the pod still reaches its own node, and its node reaches it",
    ]
    found += [f"liveness, which may restart it after the cut: {probe}" for probe in pods.liveness_probes(around.pod)]
    found += [
        f"NetworkPolicy {policy['metadata']['name']} begins to select the pod by the change"
        for policy in relabel.newly_selecting
    ]
    found += [f"{budget} selects the pod still" for budget in relabel.budgets]
    found += [f"not known, as it could not be read: {missing}" for missing in around.missing]
    return tuple(found)


def _kept_open(relabel: fencing.LabelChange, unfenced: Sequence[str]) -> tuple[str, ...]:
    if not unfenced:
        return ()
    names = ", ".join(policy["metadata"]["name"] for policy in relabel.to_exclude)
    return (
        f"STILL OPEN after this: NetworkPolicy {names} cannot be told to pass over fenced pods, because "
        f"{', '.join(unfenced)} has the label {FENCE_KEY} without being fenced and would be opened by it; "
        "take the label off, then contain again",
    )


def _annotate(pod: Json) -> list[Json]:
    present = pod["metadata"].get("annotations")
    if present is None:
        return [{"op": "add", "path": "/metadata/annotations", "value": dict(_KEEP_ALIVE)}]
    return [
        {"op": "add", "path": f"/metadata/annotations/{key.replace('~', '~0').replace('/', '~1')}", "value": value}
        for key, value in _KEEP_ALIVE.items()
    ]


def _policy_ref(target: ObjectRef, name: str, *, uid: str) -> ObjectRef:
    return ObjectRef(
        cluster=target.cluster,
        api_version=NETWORK_POLICY.api_version,
        kind=NETWORK_POLICY.kind,
        namespace=target.namespace,
        name=name,
        uid=uid,
    )
