"""``network.quarantine``: cut a pod's new connections with NetworkPolicies, while it stays alive as evidence.

A deny-all comes first; then the policies that would still open the pod pass over the fence label; then one patch of the
pod puts it behind the fence. Two shapes, chosen by what owns the pod and by dry runs; the plan says why:

*detach*, for pods of a Deployment (a ReplicaSet or ReplicationController): the patch takes the labels off by which the
controller, the Services and the allowing policies select the pod. Its controller starts a replacement; the orphan is
evidence, is never re-adopted, and is deleted only after its seal.

*fence* in place, for every other pod, and where admission refuses to take labels off or no change of labels frees the
pod: one label is added and nothing is removed. The pod keeps its controller and stays an endpoint of its Services,
whose requests to it then hang.

What it cannot know: whether a network plugin enforces policies, and whether connections that are open already are cut.
Traffic between the pod and its own node is stopped by no policy. Undo takes back the policies, and the label of a pod
that was fenced in place; a detached pod never goes back to its controller (``release`` seals and deletes it).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ringfence.actions.base import Action, inverse
from ringfence.actions.fence import (
    DETACH,
    FENCE,
    FENCE_KEY,
    POD_READS,
    caveats,
    choose,
    fenced_copy,
    is_detached,
    pod_patch,
    refused_by_cluster,
    unfence,
    unfit,
)
from ringfence.actions.perform import dry_run, in_place
from ringfence.errors import Conflict, Invalid, PlatformError, RingfenceError
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import fencing, policies, serving
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.platform.kubernetes.selectors import printable
from ringfence.platform.kubernetes.surroundings import Surroundings, look_around

__all__ = ["DETACH", "FENCE", "FENCE_KEY", "Quarantine"]

_OWN_LABELS = {"app.kubernetes.io/managed-by": "ringfence"}


class _Draft(NamedTuple):
    """A shape worked out: its changes, in order; ``unfenced`` carry the label without a fence of their own."""

    shape: str
    relabel: fencing.LabelChange
    unfenced: tuple[str, ...]
    changes: tuple[Change, ...]


class Quarantine(Action[Surroundings]):
    """Cut a pod off. Reversible where it is fenced in place; a detached pod stays cut until it is deleted."""

    name = "network.quarantine"
    kinds = frozenset({"Pod"})
    destructive = False
    permissions = (
        Permission("pods", frozenset({"patch"}), "the label that the deny-all selects"),
        Permission("pods", frozenset({"list"}), "which pods have that label already"),
        Permission(
            "networkpolicies.networking.k8s.io",
            frozenset({"get", "create", "patch", "delete"}),
            "the deny-all, and the policies that must pass over the fenced pod",
        ),
        *POD_READS,
    )

    @property
    def deny_policy(self) -> str:
        return f"ringfence-{self.settings.fence}"

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Surroundings:
        return look_around(self.cluster, cluster_id, target, pool)

    def plan(self, target: ObjectRef, around: Surroundings) -> Plan | Refused:
        """The requests of a cut, each dry-run by the server. Refused where policies cannot hold the pod.

        The deny-all and the exclusions that ``around`` shows in place already, of an earlier pod of the same fence, are
        left out: each further pod of a group costs one dry run and one patch.
        """
        refusal = unfit(around.pod)
        if refusal is not None:
            return refusal
        choice = choose(around, self.settings.shape)
        if isinstance(choice, Refused):
            return choice
        why = choice.why
        if choice.shape == DETACH:
            draft, hindrance = self._try_detach(target, around)
            if hindrance is None:
                return self._plan(target, around, draft, why)
            if choice.firm:
                return hindrance
            why = f"fence in place: {hindrance.reason}"
        draft = self._draft(target, around, FENCE)
        refused = self._first_refusal(around, target, draft.changes)
        return self._plan(target, around, draft, why) if refused is None else refused

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
        """The deny-all is deleted, an excluded policy gets its selector back, a pod in place loses the fence label."""
        change = record.change
        if change.ref.kind == POD.kind:
            return self._unfence(change)
        namespace, name = change.ref.namespace, change.ref.name
        live = self.cluster.find(NETWORK_POLICY, namespace, name)
        if change.verb is Verb.CREATE:
            if live is None:
                return Already(reason=f"NetworkPolicy {name} was removed by somebody else")
            if fenced := self.cluster.list(POD, namespace, labels=f"{FENCE_KEY}={self.settings.fence}"):
                names = ", ".join(printable(pod["metadata"]["name"]) for pod in fenced)
                return Refused(
                    reason=f"the fence still holds {names}", next_step="release or eradicate the fenced pods first"
                )
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

    def _unfence(self, change: Change) -> Change | Already | Refused:
        live = self.cluster.find(POD, change.ref.namespace, change.ref.name)
        if live is None or live["metadata"]["uid"] != change.ref.uid:
            return Already(reason="the pod is gone, and its fence label with it")
        if change.id != FENCE or is_detached(live):
            return Refused(
                reason="a detached pod is a suspect and never goes back to its controller",
                next_step="release or eradicate: it is sealed, then deleted",
            )
        fence = (live["metadata"].get("labels") or {}).get(FENCE_KEY, self.settings.fence)
        operations = unfence(live, change.prior or live, self.settings.fence)
        if fence != self.settings.fence or not operations:
            return Already(reason="the pod has no fence label of this incident")
        return change.model_copy(
            update={
                "id": f"undo-{change.id}",
                "body": operations,
                "prior": live,
                "inverse": None,
                "needed": False,
                "effect": "the pod loses the fence label: what selected it before opens it again",
            }
        )

    # --- the two shapes ----------------------------------------------------------
    def _try_detach(self, target: ObjectRef, around: Surroundings) -> tuple[_Draft, Refused | None]:
        """A detach, and what stands against it."""
        draft = self._draft(target, around, DETACH)
        if not draft.relabel.detaches:
            still = ", ".join((*draft.relabel.controllers, *draft.relabel.services))
            return draft, Refused(
                reason=f"no change of its labels takes the pod out of {still}",
                next_step="the same with --shape fence, or stop the workload",
            )
        return draft, self._first_refusal(around, target, draft.changes)

    def _draft(self, target: ObjectRef, around: Surroundings, shape: str) -> _Draft:
        # Our own deny-all of an earlier pod or an unfinished attempt is no reason to change anything.
        others = tuple(p for p in around.policies if p["metadata"]["name"] != self.deny_policy)
        labels = around.pod["metadata"].get("labels") or {}
        if shape == DETACH:
            relabel = fencing.detached_labels(
                target.namespace,
                labels,
                fence_key=FENCE_KEY,
                fence_value=self.settings.fence,
                controllers=around.adopters,
                services=around.services,
                budgets=around.disruption_budgets,
                policies=others,
            )
        else:
            relabel = fencing.fenced_labels(
                target.namespace, labels, fence_key=FENCE_KEY, fence_value=self.settings.fence, policies=others
            )
        unfenced = self._unfenced_carriers(target, around.policies) if relabel.to_exclude else ()
        changes = (
            *self._deny(target, around),
            *(self._exclude(target, policy) for policy in relabel.to_exclude if not unfenced),
            self._patch_pod(target, around.pod, relabel, shape),
        )
        return _Draft(shape, relabel, unfenced, changes)

    def _plan(self, target: ObjectRef, around: Surroundings, draft: _Draft, why: str) -> Plan:
        impact = serving.detach_impact if draft.shape == DETACH else serving.fence_impact
        return Plan(
            action=self.name,
            target=target,
            changes=draft.changes,
            impact=impact(around, self.settings.serving_floor),
            caveats=(
                *([self.settings.enforcement] if self.settings.enforcement else []),
                *caveats(around, draft.relabel, draft.shape),
                *_kept_open(draft.relabel, draft.unfenced),
            ),
            rationale=why,
        )

    def _unfenced_carriers(self, target: ObjectRef, present: Sequence[Json]) -> tuple[str, ...]:
        """Pods that have the fence label and no fence: passing over them would take away what isolates them.

        Those of this fence have its deny-all, which comes before any exclusion.
        """
        foreign = [
            pod
            for pod in self.cluster.list(POD, target.namespace, labels=FENCE_KEY)
            if pod["metadata"]["uid"] != target.uid and pod["metadata"]["labels"][FENCE_KEY] != self.settings.fence
        ]
        if all(policies.evaluate(pod, present).cut for pod in foreign):
            return ()
        # Another incident may have fenced them since the policies were read.
        now = self.cluster.list(NETWORK_POLICY, target.namespace)
        return tuple(pod["metadata"]["name"] for pod in foreign if not policies.evaluate(pod, now).cut)

    # --- the changes -------------------------------------------------------------
    def _deny(self, target: ObjectRef, around: Surroundings) -> tuple[Change, ...]:
        """The deny-all; nothing when it was there, exactly so, as the namespace was read."""
        manifest = fencing.deny_all(
            self.deny_policy, target.namespace, key=FENCE_KEY, value=self.settings.fence, labels=_OWN_LABELS
        )
        change = Change(
            id="deny-all",
            ref=_policy_ref(target, self.deny_policy, uid=""),
            verb=Verb.CREATE,
            body=manifest,
            inverse=Inverse(verb=Verb.DELETE),
            effect=f"NetworkPolicy {self.deny_policy} denies the fenced pod everything, in and out",
        )
        live = next((p for p in around.policies if p["metadata"]["name"] == self.deny_policy), None)
        return () if in_place(change, live) else (change,)

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

    def _patch_pod(self, target: ObjectRef, pod: Json, relabel: fencing.LabelChange, shape: str) -> Change:
        body = pod_patch(pod, relabel, shape)
        if shape == FENCE:
            back = unfence(fenced_copy(pod, relabel), pod, self.settings.fence)
            return Change(
                id=FENCE,
                ref=target,
                verb=Verb.PATCH,
                body=body,
                prior=pod,
                inverse=Inverse(verb=Verb.PATCH, body=back),
                effect="the pod gets the fence label and keeps all others",
            )
        gone = ", ".join(label.key for label in relabel.removed) or "none"
        return Change(
            id=DETACH,
            ref=target,
            verb=Verb.PATCH,
            body=body,
            prior=pod,
            effect=f"the pod gets the fence label and loses the labels that selected it ({gone})",
        )

    def _first_refusal(self, around: Surroundings, target: ObjectRef, changes: Sequence[Change]) -> Refused | None:
        if len(changes) == 1:
            refused = [self._try(changes[0])]
        else:
            with ThreadPoolExecutor(max_workers=4, thread_name_prefix="dry-run") as pool:
                refused = list(pool.map(self._try, changes))
        words = next((why for why in refused if why), "")
        return refused_by_cluster(target, around.pod, words) if words else None

    def _try(self, change: Change) -> str:
        """Why the server refuses the change; empty when it takes it, or when the cut does not wait for it."""
        try:
            dry_run(self.cluster, change)
        except PlatformError as error:
            if not change.needed:
                return ""  # the step will say that it is done in part
            if isinstance(error, Conflict) and change.verb is Verb.CREATE:
                return ""  # ours already: of another pod of the group, or of an attempt that was cut short
            if isinstance(error, Invalid):
                return f"{error.what}: {error.why}"
            raise
        return ""


def _kept_open(relabel: fencing.LabelChange, unfenced: Sequence[str]) -> tuple[str, ...]:
    if not unfenced:
        return ()
    names = ", ".join(policy["metadata"]["name"] for policy in relabel.to_exclude)
    return (
        f"STILL OPEN after this: NetworkPolicy {names} cannot be told to pass over fenced pods, because "
        f"{', '.join(unfenced)} has the label {FENCE_KEY} without being fenced and would be opened by it; "
        "take the label off, then contain again",
    )


def _policy_ref(target: ObjectRef, name: str, *, uid: str) -> ObjectRef:
    return ObjectRef(
        cluster=target.cluster,
        api_version=NETWORK_POLICY.api_version,
        kind=NETWORK_POLICY.kind,
        namespace=target.namespace,
        name=name,
        uid=uid,
    )
