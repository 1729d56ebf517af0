"""The table of stages. A new action is one line here, one in the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ringfence.model.node_helper import NODE_STEPS
from ringfence.response.recovery import check, gates, restore, source, window
from ringfence.response.scene import Answer, Scene
from ringfence.response.stages import cut, destroy, identity, lift, node, people, resume, seal
from ringfence.response.stages.canary import try_fence

Stage = Callable[[Scene], Answer]


def _in_turn(stage: Stage) -> Stage:
    """One target after another: the pods of a group have one undo-er, and often one account."""

    def wait(scene: Scene) -> Answer:
        with scene.live.turn:
            return stage(scene)

    return wait


STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "argocd.suspend_sync": _in_turn(destroy.act),
        "argocd.resume_sync": resume.resume,
        "keda.pause": destroy.act,
        "keda.resume": resume.resume,
        "network.quarantine": cut.cut,
        "network.canary": try_fence,
        "evidence.seal": seal.seal,
        "access.retest": people.look_again,
        "human.approve": people.approve,
        "incident.move": people.move,
        "pod.delete": destroy.delete,
        "pod.release": lift.release,
        "fence.lift": lift.lift,
        "workload.scale_to_zero": destroy.act,
        "workload.restart_clean": destroy.act,
        "node.cordon": destroy.act,
        **dict.fromkeys(NODE_STEPS, node.act),
        "recovery.clean": gates.clean,
        "recovery.hole": gates.hole,
        "recovery.source": source.source,
        "recovery.check": check.check,
        "recovery.rebind": resume.resume,
        "recovery.watch": window.watch,
        "workload.restore": restore.restore,
        "identity.cut": identity.cut,
        "identity.unbind": _in_turn(identity.unbind),
        "identity.recreate_account": identity.recreate,
        "identity.delete_tokens": identity.delete_tokens,
    }
)
