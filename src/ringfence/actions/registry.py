"""The actions that this version has: one line each. A contract test walks this table."""

from __future__ import annotations

from typing import Any

from ringfence.actions.argocd import SuspendSync
from ringfence.actions.base import Action
from ringfence.actions.identity import CutIdentity
from ringfence.actions.keda import PauseScaling
from ringfence.actions.network import Quarantine
from ringfence.actions.node import Cordon
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
