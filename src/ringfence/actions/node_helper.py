"""``node.cut`` and ``node.freeze``: what a privileged pod does to a pod from its node, for as long as it takes.

The *node helper* is a throw-away pod of ours on the victim's node. *Cut* drops everything on the node's side of the
victim's interfaces, both directions: new and open connections, raw sockets, whatever network plugin or admission there
is; a restarted container is behind it as well. *Freeze* stops the victim's processes by their cgroup: memory and files
stay. Both are tried or read back in the kernel by the helper. The victim's object is not touched.

What it cannot know: whether a new sandbox was made since (its interface is new, the cut is void); what goes through an
interface that has no end on the node, or through an eBPF program on it (both are named). Each create and delete of a
helper's pod is journalled. Undo: ``uncut`` and ``thaw``, each a run of the helper as well; a pod that is deleted takes
its interfaces along.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from ringfence.actions.base import Action, Settings, utc_now
from ringfence.actions.examination import Send, printable_words
from ringfence.actions.perform import dry_run
from ringfence.errors import ExitCode, PlatformError, RingfenceError, StoreError
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.node_helper import NodeOrder, NodeReport
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Outcome, Refused, describe
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import node_helpers, pods, policies, serving
from ringfence.platform.kubernetes.canaries import hopeless
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.node_helpers import CONTAINER, HELPER_OF_KEY, Answer, HelperRun
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.selectors import printable
from ringfence.platform.kubernetes.surroundings import Surroundings, look_around

_POLL_SECONDS = 0.3
_GONE_SECONDS = 30.0
_START_SECONDS = 60.0
_DELETES = 3

PERMISSIONS = (
    Permission("pods", frozenset({"create"}), "the node helper: privileged, on the node of the pod that it is about"),
    Permission("pods", frozenset({"get", "list"}), "whether the helper has ended, and what one left behind"),
    Permission("pods", frozenset({"delete"}), "to take the helper away again"),
    Permission("pods/log", frozenset({"get"}), "what the helper found"),
)
"""In the helper's namespace alone. Who has them is root on every node: they should exist only while it is on."""


@dataclass(frozen=True)
class Options:
    """The section ``node_helper`` of the configuration. ``image`` has ``python3``; ``namespace`` admits privileged
    pods; ``seconds`` bounds a run; ``collect_bytes`` what is collected of one pod."""

    image: str
    namespace: str
    pull_policy: str = "IfNotPresent"
    seconds: int = 60
    collect_bytes: int = 32 << 20


class HelperFailed(RingfenceError):
    """The helper did not begin, or did not say what it found."""

    code = "node-helper"
    exit_code = ExitCode.INCOMPLETE


Reader = Callable[[Iterator[Json]], Json]
"""Reads the lines of a run up to its last one, which it returns."""


class NodeAction(Action[Surroundings], ABC):
    """What the two have in common: an order is a pod that is created, heard and deleted."""

    kinds = frozenset({"Pod"})
    destructive = False
    permissions = PERMISSIONS
    order: ClassVar[NodeOrder]
    back: ClassVar[NodeOrder]

    def __init__(self, cluster: Cluster, settings: Settings, options: Options | None = None) -> None:
        """Without ``options`` nothing can be done, and ``plan`` says so."""
        super().__init__(cluster, settings)
        self.options = options

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Surroundings:
        return look_around(self.cluster, cluster_id, target, pool)

    def plan(self, target: ObjectRef, around: Surroundings, order: NodeOrder | None = None) -> Plan | Refused:
        """One create of a helper's pod, which has passed a dry run. ``order``: the action's own, or another."""
        chosen = order or self.order
        if self.options is None:
            return Refused(
                reason="no node helper is configured",
                next_step="node_helper.enabled and node_helper.image in the configuration",
            )
        refusal = unfit(around.pod, chosen)
        if refusal is not None:
            return refusal
        change = self._create(target, around.pod, chosen, self.options)
        try:
            dry_run(self.cluster, change)
        except PlatformError as error:
            if error.status is None or error.status >= 500:
                raise
            return Refused(
                reason=f"the cluster refuses the helper's pod: {error}",
                next_step="ringfence rbac --node-helper; its namespace must admit privileged pods",
            )
        idle = Impact(pods=0, replacement="nobody: the pod goes on", replacement_expected=False)
        return Plan(
            action=f"node.{chosen}",
            target=target,
            changes=(change,),
            impact=serving.fence_impact(around, self.settings.serving_floor) if chosen.takes else idle,
            caveats=(*self._caveats(around, chosen), f"for up to {self.options.seconds} s a privileged pod runs there"),
            rationale="from the node: no network plugin, policy or admission is needed for it",
        )

    def run(self, plan: Plan, around: Surroundings, send: Send, read: Reader | None = None) -> NodeReport:
        """Carry a plan of :meth:`plan` out: former leftovers first, the pod created, heard, and deleted at the end.

        ``send`` journals and applies one change. What goes wrong is the report's ``why``; raises StoreError alone.
        """
        assert self.options is not None
        create, started, why = plan.changes[0], utc_now(), ""
        order = order_of(create)
        answer: Answer | None = None
        try:
            for change in self.leftovers(plan.target):
                send(change)
            _insist(send(create))
            answer = self._hear(create, order, read)
        except StoreError:
            raise
        except RingfenceError as error:
            why = printable_words(error)
        finally:
            left = self._remove(create, send)
        return NodeReport(
            target=plan.target,
            order=order,
            run=_run_of(create),
            image=self.options.image,
            node=str(create.body["spec"]["nodeName"]),
            addresses=pods.addresses(around.pod),
            started_at=started,
            ended_at=utc_now(),
            done=answer is not None and answer.done,
            why=why or (answer.why if answer is not None else ""),
            network=answer.network if answer is not None else None,
            on_node=answer.on_node if answer is not None else 0,
            frozen=answer.frozen if answer is not None else None,
            processes=answer.processes if answer is not None else 0,
            already=answer is not None and answer.done and answer.already,
            left_behind=left,
        )

    def leftovers(self, target: ObjectRef) -> tuple[Change, ...]:
        """Deletes of what former runs for this pod left behind. Empty when there is nothing. Raises PlatformError."""
        if self.options is None:
            return ()
        label = f"{HELPER_OF_KEY}={node_helpers.of_target(self.settings.fence, target.uid)}"
        found = self.cluster.list(POD, self.options.namespace, labels=label)
        return tuple(_removal(target.cluster, pod, f"-left-{secrets.token_hex(3)}") for pod in found)

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """Whether anything of a helper is left. What it found is in its report: see ``node_proof``."""
        left = self.leftovers(target)
        return Proof(
            claim=f"{len(left)} pods of the helper are still there" if left else "nothing of the helper is left",
            level=Level.OBSERVED,
            by="the API server, whose kubelet lets a pod's object go only after its containers have ended",
            at=utc_now(),
            why_not_higher="the node was not looked at",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """No request takes an order back, but a run of the helper: the one that ``back`` names."""
        change = record.change
        if change.verb is not Verb.CREATE or order_of(change) is not self.order:
            return Already(reason="the helper's pod is deleted at the end of each run")
        return Refused(
            reason=f"{self.order} is taken back on the node, by a run of the helper",
            next_step=f"ringfence node INC {self.back}",
        )

    @abstractmethod
    def _caveats(self, around: Surroundings, order: NodeOrder) -> tuple[str, ...]: ...

    def _create(self, target: ObjectRef, pod: Json, order: NodeOrder, options: Options) -> Change:
        run = HelperRun(
            id=secrets.token_hex(5),
            of=node_helpers.of_target(self.settings.fence, target.uid),
            order=order,
            uid=target.uid,
            node=str(pod["spec"]["nodeName"]),
            image=options.image,
            pull_policy=options.pull_policy,
            seconds=options.seconds,
            room=options.collect_bytes,
        )
        return _change(target.cluster, run, options)

    # --- hearing it ------------------------------------------------------------------
    def _hear(self, create: Change, order: NodeOrder, read: Reader | None) -> Answer:
        assert self.options is not None
        self._await_start(create.ref)
        timeout = self.options.seconds + _START_SECONDS
        with self.cluster.log(
            create.ref.namespace, create.ref.name, CONTAINER, follow=True, read_timeout_seconds=timeout
        ) as chunks:
            found = node_helpers.lines(chunks, _run_of(create))
            last = read(found) if read is not None else next(found, {})
        return node_helpers.answer(last, order)

    def _await_start(self, ref: ObjectRef) -> None:
        end = time.monotonic() + _START_SECONDS
        while True:
            live = self.cluster.get(POD, ref.namespace, ref.name)
            statuses = (live.get("status") or {}).get("containerStatuses") or ()
            if any({"running", "terminated"} & (one.get("state") or {}).keys() for one in statuses):
                return
            if why := hopeless(live):
                raise HelperFailed("the node helper does not start", why=why, next_step="see node_helper.image")
            if time.monotonic() > end:
                raise HelperFailed(
                    f"the node helper did not start within {_START_SECONDS:g} s",
                    next_step=f"kubectl describe pod {ref.name} -n {ref.namespace}",
                )
            time.sleep(_POLL_SECONDS)

    def _remove(self, create: Change, send: Send) -> tuple[str, ...]:
        """Delete the pod, whatever became of its creation; what was not seen to be gone is named."""
        ref, run = create.ref, _run_of(create)
        why = ""
        end, attempt = time.monotonic() + _GONE_SECONDS, 0
        while time.monotonic() < end:
            try:
                live = self.cluster.find(POD, ref.namespace, ref.name)
                if live is None:
                    return ()
                if not live["metadata"].get("deletionTimestamp") and attempt < _DELETES:
                    attempt += 1
                    outcome = send(_removal(ref.cluster, live, f"-{run}-{attempt}"))
                    why = "" if isinstance(outcome, Applied | Already) else describe(outcome)
            except PlatformError as error:
                why = printable_words(error)
            time.sleep(_POLL_SECONDS)
        return (f"{ref}: {why or f'deleted, and still there after {_GONE_SECONDS:g} s'}",)


class NodeCut(NodeAction):
    """Everything of a pod's network dropped on its node."""

    name = "node.cut"
    order = NodeOrder.CUT
    back = NodeOrder.UNCUT

    def _caveats(self, around: Surroundings, order: NodeOrder) -> tuple[str, ...]:
        if order is not NodeOrder.CUT:
            return ()
        probes = pods.liveness_probes(around.pod)
        return (
            "the kubelet's probes over the network fail as well, and the pod stops being ready",
            *(f"liveness, which will restart it after the cut: {probe}" for probe in probes if " exec," not in probe),
            "a new sandbox (after a restart of the node or the runtime) gets a new interface, which is not cut",
        )


class NodeFreeze(NodeAction):
    """A pod's processes stopped, with their memory and files."""

    name = "node.freeze"
    order = NodeOrder.FREEZE
    back = NodeOrder.THAW

    def __init__(
        self, cluster: Cluster, settings: Settings, options: Options | None = None, *, despite_liveness: bool = False
    ) -> None:
        super().__init__(cluster, settings, options)
        self._despite_liveness = despite_liveness

    def plan(self, target: ObjectRef, around: Surroundings, order: NodeOrder | None = None) -> Plan | Refused:
        probes = pods.liveness_probes(around.pod)
        if order in (None, NodeOrder.FREEZE) and probes and not self._despite_liveness:
            return Refused(
                reason="its liveness probes would have it killed once it is frozen: "
                + "; ".join(map(printable, probes)),
                next_step="collect first, then the same with --despite-liveness, knowing that memory may be lost",
            )
        return super().plan(target, around, order)

    def _caveats(self, around: Surroundings, order: NodeOrder) -> tuple[str, ...]:
        if order is not NodeOrder.FREEZE:
            return ()
        probes = pods.liveness_probes(around.pod)
        return (
            "its open connections stay open and silent; exec and logs of it may hang",
            "with cgroup v1 it cannot end while it is frozen: thaw it before it is deleted",
            *(f"insisted on despite: {probe}" for probe in probes),
        )


NODE_ACTIONS: dict[str, type[NodeAction]] = {NodeCut.name: NodeCut, NodeFreeze.name: NodeFreeze}
"""They are in no table with the others: their rights are not among those that are rendered and asked for every day."""


def unfit(pod: Json, order: NodeOrder) -> Refused | None:
    """Why nothing can be done on the pod's node (pure); None when it can be tried."""
    if order is not NodeOrder.FREEZE and order is not NodeOrder.COLLECT and policies.is_host_network(pod):
        return Refused(
            reason="the pod uses its node's network: to cut it would cut the node",
            next_step="freeze it, or stop the workload",
        )
    if pods.is_finished(pod):
        return Refused(reason="the pod has ended already", next_step="collect its evidence")
    if not pod["spec"].get("nodeName"):
        return Refused(reason="the pod is on no node yet", next_step="try again when it runs")
    return None


def _change(cluster_id: str, run: HelperRun, options: Options) -> Change:
    manifest = node_helpers.helper_pod(run, options.namespace)
    ref = ObjectRef(
        cluster=cluster_id,
        api_version="v1",
        kind="Pod",
        namespace=options.namespace,
        name=manifest["metadata"]["name"],
    )
    return Change(
        id=f"{run.order}-{run.id}",
        ref=ref,
        verb=Verb.CREATE,
        body=manifest,
        inverse=Inverse(verb=Verb.DELETE),
        effect=f"the node helper starts on {run.node} with the order to {run.order}",
    )


def _removal(cluster_id: str, live: Json, suffix: str) -> Change:
    ref = ObjectRef.of(cluster_id, {"apiVersion": "v1", "kind": "Pod", **live})
    return Change(
        id=f"remove-{ref.name}{suffix}",
        ref=ref,
        verb=Verb.DELETE,
        prior=live,
        needed=False,
        effect=f"{ref}, a node helper, is deleted",
    )


def _order(change: Change) -> Json:
    found: Json = {}
    with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):
        found = json.loads(change.body["spec"]["containers"][0]["command"][3])
    return found


def overdue(pod: Json, at: datetime) -> bool:
    """Whether the run of a helper's live pod must be over (pure): the time to start, its deadline, the time to go.

    ``at`` is our clock, the pod's creation the API server's: a clock that is wrong by minutes ends a run early or late.
    """
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    deadline = pod["spec"].get("activeDeadlineSeconds") or 0
    return at > created + timedelta(seconds=_START_SECONDS + deadline + _GONE_SECONDS)


def order_of(change: Change) -> NodeOrder:
    return NodeOrder(_order(change)["order"])


def _run_of(change: Change) -> str:
    return str(_order(change)["id"])


def _insist(outcome: Outcome) -> None:
    if not isinstance(outcome, Applied | Already):
        raise HelperFailed("the node helper could not be started", why=describe(outcome))
