"""``node.cordon``: no new pod is scheduled on a node. Reversible; nothing that runs there is touched or evicted.

For a node that a suspect may have reached: what starts there next would start beside it. Pods that tolerate it, such
as those of DaemonSets, still start. It never drains and sets no NoExecute taint: both would kill evidence.

What it cannot know: whether an autoscaler removes the node. Undo makes the node schedulable again, unless somebody has
done so.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ringfence.actions.base import Action
from ringfence.actions.workload import tried
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Impact, Inverse, Plan, Verb
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes.resources import NODE
from ringfence.platform.kubernetes.workloads import NodeView, read_node

_UNSCHEDULABLE = "/spec/unschedulable"


class Cordon(Action[NodeView]):
    """Keep new pods off a node."""

    name = "node.cordon"
    kinds = frozenset({"Node"})
    destructive = False
    permissions = (
        Permission("nodes", frozenset({"get", "patch"}), "to cordon the node and to uncordon it", everywhere=True),
        Permission("nodes", frozenset({"list"}), "whether pods still find another node", everywhere=True),
    )

    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> NodeView:  # noqa: ARG002
        return read_node(self.cluster, target)

    def plan(self, target: ObjectRef, around: NodeView) -> Plan | Already | Refused:
        """One patch. Already when the node is cordoned."""
        if is_cordoned(around.obj):
            return Already(reason=f"{target} is cordoned")
        change = Change(
            id="cordon",
            ref=around.ref,
            verb=Verb.PATCH,
            body=[_same(around.obj), {"op": "add", "path": _UNSCHEDULABLE, "value": True}],
            prior=around.obj,
            inverse=Inverse(verb=Verb.PATCH, body=_uncordon(around.obj)),
            effect="no new pod is scheduled on the node; what runs there goes on",
        )
        refused = tried(self.cluster, change)
        if refused is not None:
            return refused
        caveats = [
            "pods that tolerate it still start there: those of DaemonSets, and whatever names the node itself",
            "an autoscaler may take the node for unneeded and remove it, with the evidence on it",
        ]
        if not any(_takes_pods(node) for node in around.nodes if node["metadata"]["uid"] != target.uid):
            caveats.append("it is the only node that takes pods: nothing that ends can be started again anywhere")
        return Plan(
            action=self.name,
            target=target,
            changes=(change,),
            impact=Impact(pods=0, replacement="nobody: no pod stops by it", replacement_expected=False),
            caveats=tuple(caveats),
            rationale="what would start there next would start beside the suspect",
        )

    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:  # noqa: ARG002
        live = self.cluster.find(NODE, "", target.name)
        now = datetime.now(UTC)
        if live is not None and live["metadata"]["uid"] == target.uid and is_cordoned(live):
            return Proof(
                claim="the scheduler puts no new pod on the node",
                level=Level.COMPUTED,
                by="the node's own object, read back from the API server",
                at=now,
                why_not_higher="no pod has been tried on it",
            )
        return Proof(
            claim="the request was accepted, and the node takes pods" if live else "the node is gone",
            level=Level.REQUESTED,
            by="the API server",
            at=now,
            why_not_higher="somebody has uncordoned or replaced the node since",
        )

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        change = record.change
        live = self.cluster.find(NODE, "", change.ref.name)
        if live is None or live["metadata"]["uid"] != change.ref.uid:
            return Already(reason=f"{change.ref} is gone")
        if not is_cordoned(live):
            return Already(reason=f"{change.ref} is schedulable")
        return change.model_copy(
            update={
                "id": f"undo-{change.id}",
                "body": _uncordon(live),
                "prior": live,
                "inverse": None,
                "needed": False,
                "effect": "the node takes new pods again",
            }
        )


def is_cordoned(node: Json) -> bool:
    return bool((node.get("spec") or {}).get("unschedulable"))


def _takes_pods(node: Json) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    repelling = any(
        t.get("effect") in ("NoSchedule", "NoExecute") for t in (node.get("spec") or {}).get("taints") or ()
    )
    return ready and not repelling and not is_cordoned(node)


def _same(node: Json) -> Json:
    return {"op": "test", "path": "/metadata/uid", "value": node["metadata"]["uid"]}


def _uncordon(node: Json) -> list[Json]:
    """The member is left out again, as it was: the server writes it only when it is true."""
    return [
        _same(node),
        {"op": "test", "path": _UNSCHEDULABLE, "value": True},
        {"op": "remove", "path": _UNSCHEDULABLE},
    ]
