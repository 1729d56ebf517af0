"""The actions that this version has: one line each. A contract test walks this table."""

from __future__ import annotations

from ringfence.actions.base import Action
from ringfence.actions.network import Quarantine
from ringfence.actions.pod import Delete

ACTIONS: dict[str, type[Action]] = {
    "network.quarantine": Quarantine,
    "pod.delete": Delete,
}
