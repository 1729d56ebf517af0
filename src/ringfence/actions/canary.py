"""``network.canary``: try a fence on packets, with a throw-away pod that stands for the fenced one.

A *canary* starts in the victim's namespace on the victim's node, with the labels of the victim that nothing serves or
adopts it by; a *peer* starts beside it, another in the namespace that the configuration names. A temporary policy
allows these pods everything. Each path of the victim, out and in, is tried three times: without the fence, behind it
(the canary gets the fence label by one patch), and without it again. Only a path that was open, shut and open again
was shut by the fence. The victim itself is not touched.

What it cannot know: what a path comes to that could not be tried; whether the fence will hold later; connections that
were open before the cut. Each create, patch and delete is journalled. Undo: there is none to do. What it made is
deleted at the end, after failures too; after a crash ``leftovers`` finds it, and its pods end by themselves.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from ringfence.actions.base import Action, Settings, inverse, utc_now
from ringfence.actions.examination import Draft, Examination, Member, NotPossible, Send, removal
from ringfence.actions.fence import FENCE_KEY, unfit
from ringfence.actions.network import Quarantine
from ringfence.actions.perform import dry_run
from ringfence.actions.tries import CANARY, MOST, PEER_PORT
from ringfence.errors import Denied, Invalid, NotFound, PlatformError, RingfenceError
from ringfence.model.base import Json
from ringfence.model.canary import CanaryReport, CanaryResult
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import canaries
from ringfence.platform.kubernetes.canaries import CANARY_KEY, CANARY_OF_KEY, PodOptions, Ports
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.policies import Direction, basis, evaluate_labels, selecting
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD, Resource
from ringfence.platform.kubernetes.selectors import labels_of, printable
from ringfence.platform.kubernetes.surroundings import Surroundings, look_around

_ANY_PORT = 8080
"""Stands for any port of a victim that declares none."""
_SLACK_SECONDS = 60
_SHOW = 3
_WRITTEN = frozenset({"pods", "networkpolicies.networking.k8s.io"})


@dataclass(frozen=True)
class Options:
    """The section ``canary`` of the configuration. ``image`` has ``python3``; ``namespace`` is the other peer's (empty:
    there is none); ``seconds`` bounds each phase; ``destinations`` are ``HOST:PORT``, tried as well."""

    image: str
    namespace: str = ""
    pull_policy: str = "IfNotPresent"
    seconds: int = 20
    destinations: tuple[str, ...] = ()


class Canary(Action[Surroundings]):
    """Try a pod's fence. Reversible: nothing that it makes stays."""

    name = "network.canary"
    kinds = frozenset({"Pod"})
    destructive = False
    permissions = (
        Permission("pods", frozenset({"get", "list"}), "the fenced pod, and whether the canary's pods are gone"),
        Permission("pods", frozenset({"create"}), "the canary and its peers (in the peer's namespace too)"),
        Permission("pods", frozenset({"patch"}), "the canary's fence label, and its orders"),
        Permission("pods", frozenset({"delete"}), "to take the canary and its peers away: no other pod is deleted"),
        Permission("pods/log", frozenset({"get"}), "what the canary and its peers found"),
        Permission(
            "networkpolicies.networking.k8s.io",
            frozenset({"get", "list", "create", "delete"}),
            "the temporary policy that allows these pods everything without the fence (in the peer's namespace too)",
        ),
        *(permission for permission in Quarantine.permissions if permission.resource not in _WRITTEN),
    )

    def __init__(self, cluster: Cluster, settings: Settings, options: Options | None = None) -> None:
        """Without ``options`` nothing can be tried, and ``plan`` says so."""
        super().__init__(cluster, settings)
        self.options = options

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Surroundings:
        return look_around(self.cluster, cluster_id, target, pool)

    def plan(self, target: ObjectRef, around: Surroundings) -> Plan | Refused:
        """What will be created, each dry-run by the server; the patches and the deletes follow from it."""
        if self.options is None:
            return Refused(
                reason="no network canary is configured",
                next_step="canary.enabled and canary.image in the configuration",
            )
        refusal = self._unfit(around)
        if refusal is not None:
            return refusal
        try:
            draft = self._draft(target, around, secrets.token_hex(5), self.options)
            caveats = self._rehearse(draft)
        except NotPossible as error:
            return Refused(reason=str(error), next_step=error.next_step)
        return Plan(
            action=self.name,
            target=target,
            changes=(*draft.policies, *(member.create for member in draft.members)),
            impact=Impact(pods=0, replacement="nobody: nothing stops", replacement_expected=False),
            caveats=(
                *draft.notes,
                *caveats,
                f"for up to {draft.shared.seconds} s these pods may reach everything, and everything them",
            ),
            rationale="each path is tried without the fence, behind it, and without it again; then all of this is "
            "deleted",
        )

    def examine(
        self, plan: Plan, around: Surroundings, send: Send, *, now: Callable[[], datetime] = utc_now
    ) -> CanaryReport:
        """Carry a plan of :meth:`plan` out, from the leftovers of former attempts to the last delete.

        ``send`` journals and applies one change at a time, in this thread. Takes up to four times ``seconds`` and half
        a minute. What goes wrong with the cluster is the report's ``why``; raises StoreError alone.
        """
        assert self.options is not None
        canary = str(labels_of(plan.changes[0].body)[CANARY_KEY])
        draft = self._draft(plan.target, around, canary, self.options)
        try:
            leftovers = self.leftovers(plan.target)
        except PlatformError:
            leftovers = ()  # reading fails: the examination will say so itself
        return Examination(self.cluster, draft, send, now).run(leftovers)

    def leftovers(self, target: ObjectRef) -> tuple[Change, ...]:
        """Deletes of what examinations of this fenced pod left behind, to be sent after a crash, before another one and
        at the end of an incident. Empty when there is nothing. Raises PlatformError."""
        label = f"{CANARY_OF_KEY}={canaries.of_target(self.settings.fence, target.uid)}"
        named = {target.namespace, *((self.options.namespace,) if self.options and self.options.namespace else ())}
        try:
            found = list(self.cluster.list(POD, labels=label))
        except Denied:
            found = self._in(named, POD, label)
        policies = self._in({*named, *(pod["metadata"]["namespace"] for pod in found)}, NETWORK_POLICY, label)
        # A new attempt has a suffix of its own: the journal sends a change of one id once.
        suffix = f"-left-{secrets.token_hex(3)}"
        return tuple(removal(target.cluster, live, suffix) for live in (*policies, *found))

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Whether anything of a canary is left. What it found is in its report: see :func:`proof_of`."""
        left = self.leftovers(target)
        now = utc_now()
        if left:
            names = ", ".join(str(change.ref) for change in left)
            return Proof(
                claim=f"{len(left)} objects of the canary are still there: {names}",
                level=Level.OBSERVED,
                by="the API server",
                at=now,
                why_not_higher="their deletion may be under way",
            )
        return Proof(
            claim="nothing of the canary is left",
            level=Level.OBSERVED,
            by="the kubelet, which lets a pod's object go only after its containers have ended",
            at=now,
            why_not_higher="the node was not looked at",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """What was created is deleted if it is still there; patches and deletes of throw-away pods need no undo."""
        change = record.change
        if change.verb is not Verb.CREATE:
            return Already(reason="the canary and its peers are deleted at the end of each examination")
        resource = POD if change.ref.kind == POD.kind else NETWORK_POLICY
        if self.cluster.find(resource, change.ref.namespace, change.ref.name) is None:
            return Already(reason=f"{change.ref} is gone")
        return inverse(record)

    # --- the draft ---------------------------------------------------------------
    def _unfit(self, around: Surroundings) -> Refused | None:
        pod = around.pod
        if (refusal := unfit(pod)) is not None:
            return refusal
        meta = pod["metadata"]
        if labels_of(pod).get(FENCE_KEY) != self.settings.fence:
            return Refused(
                reason="the pod has no fence of this incident that could be tried",
                next_step=f"ringfence contain pod/{meta['name']} -n {meta['namespace']}",
            )
        if not pod["spec"].get("nodeName"):
            return Refused(reason="the pod is on no node yet", next_step="try again when it runs")
        return None

    def _draft(self, target: ObjectRef, around: Surroundings, canary: str, options: Options) -> Draft:
        """Everything of an examination with that id. Raises NotPossible."""
        shared = PodOptions(
            id=canary,
            of=canaries.of_target(self.settings.fence, target.uid),
            image=options.image,
            pull_policy=options.pull_policy,
            seconds=4 * options.seconds + _SLACK_SECONDS,
        )
        try:
            standing = canaries.standing_for(around, shared, fence_key=FENCE_KEY, fence_value=self.settings.fence)
            self._check(around, standing)
        except RingfenceError as error:
            raise NotPossible(error.what, why=error.why, next_step=error.next_step) from error
        ports, others = canaries.declared_ports(around.pod, MOST)
        notes = list(_left_out(standing.left_out, others))
        if not ports.tcp and not ports.udp:
            ports = Ports(tcp=(_ANY_PORT,))
            notes.append(f"the pod declares no port: {_ANY_PORT} stands for any")
        node = str(around.pod["spec"]["nodeName"])
        near, far = target.namespace, options.namespace
        peers = [Member("near", self._create(target, "near", _peer(near, shared, node, same_node=True)))]
        if far and far != near:
            peers.append(Member("far", self._create(target, "far", _peer(far, shared, node, same_node=False))))
        else:
            notes.append("no peer in another namespace: canary.namespace names none")
        name = f"ringfence-canary-{canary}"
        own = canaries.canary_pod(name, around, shared, standing.labels, ports)
        namespaces = dict.fromkeys(member.create.ref.namespace for member in peers)
        return Draft(
            target=target,
            shared=shared,
            fence=(FENCE_KEY, self.settings.fence),
            node=node,
            policies=tuple(self._allow(target, one, name, shared) for one in namespaces),
            members=(Member(CANARY, self._create(target, CANARY, own)), *peers),
            services=around.services,
            destinations=options.destinations[:MOST],
            seconds=options.seconds,
            notes=tuple(notes),
            basis=lambda: self._basis(target),
        )

    def _check(self, around: Surroundings, standing: canaries.Standing) -> None:
        """Whether the canary would be what the pod is to the policies, and nothing to anybody else."""
        if standing.selected_by:
            raise NotPossible(
                f"a canary would be taken for a pod of {', '.join(standing.selected_by)}",
                why="no change of its labels takes it out of there",
                next_step="watch the network plugin's drop counters instead",
            )
        namespace, fenced = around.pod["metadata"]["namespace"], {**standing.labels, FENCE_KEY: self.settings.fence}
        victims = evaluate_labels(namespace, labels_of(around.pod), around.policies)
        canarys = evaluate_labels(namespace, fenced, around.policies)
        if any(victims.shut(direction) and not canarys.shut(direction) for direction in Direction):
            mine = {
                id(policy) for policy in selecting(around.policies, namespace=namespace, labels=labels_of(around.pod))
            }
            others = [
                printable(policy["metadata"]["name"])
                for policy in selecting(around.policies, namespace=namespace, labels=fenced)
                if id(policy) not in mine
            ]
            raise NotPossible(
                f"policies would open the canary that do not open the pod: {', '.join(others)}",
                why="they select it because it must not have all of the pod's labels",
                next_step="watch the network plugin's drop counters instead",
            )

    def _create(self, target: ObjectRef, role: str, manifest: Json) -> Change:
        who = "the canary" if role == CANARY else "a peer of the canary"
        meta = manifest["metadata"]
        return Change(
            id=f"create-{role}-{meta['labels'][CANARY_KEY]}",
            ref=_ref(target, POD, meta["namespace"], meta["name"]),
            verb=Verb.CREATE,
            body=manifest,
            inverse=Inverse(verb=Verb.DELETE),
            needed=role == CANARY,
            effect=f"{who} starts in namespace {meta['namespace']}, for {manifest['spec']['activeDeadlineSeconds']} s "
            "at most",
        )

    def _allow(self, target: ObjectRef, namespace: str, name: str, shared: PodOptions) -> Change:
        return Change(
            id=f"allow-{namespace}-{shared.id}",
            ref=_ref(target, NETWORK_POLICY, namespace, name),
            verb=Verb.CREATE,
            body=canaries.allow_policy(name, namespace, shared, FENCE_KEY),
            inverse=Inverse(verb=Verb.DELETE),
            needed=namespace == target.namespace,
            effect=f"NetworkPolicy {name} allows the canary and its peers in {namespace} everything, without the fence",
        )

    def _rehearse(self, draft: Draft) -> list[str]:
        """Dry-run every create. What admission refuses of a peer is a caveat. Raises NotPossible, PlatformError."""
        caveats = []
        for change in (*draft.policies, *(member.create for member in draft.members)):
            try:
                dry_run(self.cluster, change)
            except PlatformError as error:
                if not isinstance(error, Invalid | NotFound):
                    raise
                if change.needed:
                    raise NotPossible(error.what, why=error.why, next_step=error.next_step) from error
                caveats.append(f"not without {change.ref}, which the cluster refuses: {error.why}")
        return caveats

    def _basis(self, target: ObjectRef) -> str:
        """The fingerprint of what is examined, read anew. Raises NotPossible, PlatformError."""
        live = self.cluster.find(POD, target.namespace, target.name)
        if live is None or live["metadata"]["uid"] != target.uid:
            raise NotPossible("the fenced pod is gone")
        if labels_of(live).get(FENCE_KEY) != self.settings.fence:
            raise NotPossible("the pod lost its fence label")
        return basis(live, self.cluster.list(NETWORK_POLICY, target.namespace))

    def _in(self, namespaces: set[str], resource: Resource, label: str) -> list[Json]:
        return [found for one in sorted(namespaces) for found in self.cluster.list(resource, one, labels=label)]


def proof_of(report: CanaryReport) -> Proof:
    """What an examination shows, for the step that it is."""
    rows = ("network.egress", "network.ingress", "network.dns")
    opened = report.of(rows, CanaryResult.ACCEPTED)
    shut = report.of(rows, CanaryResult.REFUSED)
    by = f"canary {report.canary} on node {printable(report.node)}"
    if opened:
        named = "; ".join(path.way for path in opened[:_SHOW])
        return Proof(
            claim=f"the fence lets through what it should not: {len(opened)} of {len(report.paths)} paths ({named})",
            level=Level.OBSERVED,
            by=by,
            at=report.ended_at,
            why_not_higher="that something gets through is seen; proven is only what was refused",
        )
    if shut:
        return Proof(
            claim=f"the fence shut {len(shut)} paths that are open without it",
            level=Level.PROVEN,
            by=by,
            at=report.ended_at,
        )
    return Proof(
        claim="the fence was not tried",
        level=Level.NONE,
        by="nobody",
        at=report.ended_at,
        why_not_higher=report.why or "no path was open without the fence, shut behind it and open again",
    )


def _peer(namespace: str, shared: PodOptions, node: str, *, same_node: bool) -> Json:
    ports = Ports(tcp=(PEER_PORT,), udp=(PEER_PORT,))
    return canaries.peer_pod(f"ringfence-peer-{shared.id}", namespace, shared, ports, node=node, same_node=same_node)


def _left_out(labels: Sequence[str], ports: Sequence[str]) -> tuple[str, ...]:
    found = []
    if labels:
        names = ", ".join(printable(key) for key in labels)
        found.append(f"the canary does without these labels of the pod, so that nothing serves or adopts it: {names}")
    if ports:
        found.append(f"ports of the pod that were not stood in for: {', '.join(map(printable, ports))}")
    return tuple(found)


def _ref(target: ObjectRef, resource: Resource, namespace: str, name: str) -> ObjectRef:
    return ObjectRef(
        cluster=target.cluster,
        api_version=resource.api_version,
        kind=resource.kind,
        namespace=namespace,
        name=name,
    )
