"""The actions that this version has: one line each. A contract test walks these tables.

``ACTIONS`` are those whose rights are rendered and rehearsed by day. Those of the node helper stand apart: their rights
exist only while it is on, so nobody asks for them before, and ``doctor`` cannot try them.
"""

from __future__ import annotations

from typing import Any

from ringfence.actions.argocd import SuspendSync
from ringfence.actions.base import Action
from ringfence.actions.identity import CutIdentity
from ringfence.actions.keda import PauseScaling
from ringfence.actions.network import Quarantine
from ringfence.actions.node import Cordon
from ringfence.actions.node_helper import NODE_ACTIONS, NodeCut, NodeFreeze
from ringfence.actions.pod import Delete
from ringfence.actions.recreate import RecreateAccount
from ringfence.actions.restart import RestartClean
from ringfence.actions.restore import Restore
from ringfence.actions.scale import ScaleToZero
from ringfence.actions.tokens import DeleteTokens
from ringfence.actions.unbind import Unbind

ACTIONS: dict[str, type[Action[Any]]] = {
    "identity.cut": CutIdentity,
    "identity.delete_tokens": DeleteTokens,
    "identity.recreate_account": RecreateAccount,
    "identity.unbind": Unbind,
    "argocd.suspend_sync": SuspendSync,
    "keda.pause": PauseScaling,
    "network.quarantine": Quarantine,
    "node.cordon": Cordon,
    "pod.delete": Delete,
    "workload.restart_clean": RestartClean,
    "workload.restore": Restore,
    "workload.scale_to_zero": ScaleToZero,
}

BEHIND: dict[str, type[Action[Any]]] = {
    **ACTIONS,
    **NODE_ACTIONS,
    "node.uncut": NodeCut,
    "node.thaw": NodeFreeze,
}
"""The action behind each kind of step that has one."""
