"""``node.checkpoint``: a container's memory and processes written to an archive on its node, by the kubelet.

Each running container is asked for by itself at the kubelet's checkpoint API, through the API server's proxy; none
stops the others. The container stands still while the archive is written, and goes on. The archive holds all that its
processes had in memory, secrets too; it stays on the node, readable for root alone, and nobody takes it away.

What it cannot know: whether the node can do it, before it was asked (most cannot: it needs CRIU there, and containerd
2.0 or CRI-O); what is in the archive. There is no dry run of it, and no undo through the API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ringfence.actions.base import Action, Settings, utc_now
from ringfence.actions.perform import Answer
from ringfence.errors import PlatformError, TargetError
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Refused, outcome_of
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes import checkpoints, pods
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import NODE, POD
from ringfence.platform.kubernetes.selectors import printable

SECONDS = 120.0
"""How long one container's archive may take, when nobody says: memory is written to a disk."""

PERMISSIONS = (
    Permission(
        "nodes/proxy",
        frozenset({"create"}),
        "the kubelet's checkpoint API. Who has it can run commands in every pod of every node: take it away again",
        everywhere=True,
    ),
)


@dataclass(frozen=True)
class Placed:
    """The pod and its node, as they live now; None where the pod is on none."""

    pod: Json
    node: Json | None

    @property
    def running(self) -> tuple[str, ...]:
        """The containers that have a memory to write down."""
        return tuple(one.name for one in pods.containers(self.pod) if "running" in (one.status.get("state") or {}))


Heard = Callable[[Change, bytes], None]
"""What is done with a kubelet's answer, as it was sent."""


class Checkpoint(Action[Placed]):
    """Have the kubelet write down what the containers of a pod hold in memory."""

    name = "node.checkpoint"
    kinds = frozenset({"Pod"})
    destructive = False
    permissions = PERMISSIONS

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        *,
        seconds: float = SECONDS,
        heard: Heard = lambda _change, _raw: None,
    ) -> None:
        super().__init__(cluster, settings)
        self._seconds = seconds
        self._heard = heard

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Placed:  # noqa: ARG002
        pod = self.cluster.get(POD, target.namespace, target.name)
        if pod["metadata"]["uid"] != target.uid:
            raise TargetError(f"{target} is another pod by now", next_step="ringfence status INC")
        node = pod["spec"].get("nodeName")
        return Placed(pod, self.cluster.get(NODE, "", node) if node else None)

    def plan(self, target: ObjectRef, around: Placed) -> Plan | Refused:
        """One request for each running container. Nothing was tried: there is no dry run of it."""
        if around.node is None:
            return Refused(reason="the pod is on no node yet", next_step="try again when it runs")
        if not around.running:
            return Refused(reason="no container of it runs: there is no memory", next_step="collect its evidence")
        node = ObjectRef.of(target.cluster, {**around.node, "apiVersion": "v1", "kind": "Node"})
        changes = tuple(
            Change(
                id=f"checkpoint-{name}",
                ref=node,
                verb=Verb.CREATE,
                subresource=checkpoints.subresource(around.pod, name),
                needed=len(around.running) == 1,
                effect=f"the kubelet of {node.name} writes the memory of container {printable(name)} of {target} to an "
                "archive on the node",
            )
            for name in around.running
        )
        return Plan(
            action=self.name,
            target=target,
            changes=changes,
            impact=Impact(pods=0, replacement="nobody: the pod goes on", replacement_expected=False),
            caveats=(
                "each container stands still while its archive is written",
                f"the archive lies on the node ({checkpoints.FOLDER}), readable for root alone, and holds every secret "
                "that was in memory; it takes the node's disk, and stays until somebody removes it",
            ),
            rationale="memory is lost first, and nothing else of Ringfence reads it",
        )

    def apply(self, change: Change, audit_id: str) -> Answer:
        """Ask once, for one container. An answer that names no archive leaves it unknown whether there is one."""
        try:
            raw = checkpoints.ask(
                self.cluster, change.ref.name, change.subresource, audit_id=audit_id, seconds=self._seconds
            )
            checkpoints.archives(raw, change.ref.name)
        except PlatformError as error:
            return Answer(outcome_of(error))
        self._heard(change, raw)
        return Answer(Applied())

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        """What the kubelet said: nothing of an archive can be read back through the API."""
        made = [record for record in records if isinstance(record.outcome, Applied)]
        return Proof(
            claim=f"{len(made)} of {len(records)} containers have an archive of their memory on the node",
            level=Level.OBSERVED if made else Level.NONE,
            by="the node's kubelet, which wrote it" if made else "nobody",
            at=utc_now(),
            why_not_higher="the archive was not read: it lies on the node" if made else "none was written",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """Nothing through the API removes an archive."""
        return Refused(
            reason="the archive lies on the node, and no API removes it",
            next_step=f"on {record.change.ref.name}, when it was fetched: remove it from {checkpoints.FOLDER}",
        )
