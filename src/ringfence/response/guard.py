"""Guardrails that are the engine's and not the playbook's (pure): protected targets, the serving floor."""

from __future__ import annotations

from ringfence.model.base import Json
from ringfence.model.outcome import Refused
from ringfence.model.plan import Impact
from ringfence.response.context import Policy


def protected(pod: Json, policy: Policy) -> Refused | None:
    """Refused when the target is one that no response may touch."""
    meta = pod["metadata"]
    if meta["namespace"] in policy.protected_namespaces:
        return Refused(
            reason=f"namespace {meta['namespace']} is protected",
            next_step="protected.namespaces in the configuration says which are",
        )
    if policy.protected_label in (meta.get("labels") or {}):
        return Refused(
            reason=f"the pod carries the label {policy.protected_label}",
            next_step="ask its owner to take the label off",
        )
    if (meta.get("annotations") or {}).get("kubernetes.io/config.mirror"):
        return Refused(
            reason="it is a static pod: its node's kubelet runs it from a file, whatever the API says",
            next_step="act on the node",
        )
    return None


def below_floor(impact: Impact) -> str:
    """Which Services would fall below their floor, in one sentence; empty when none does."""
    falling = [
        f"{service.service} would have {service.ready_after} of {service.ready_before} serving (floor {service.floor})"
        for service in impact.services
        if not service.keeps_floor
    ]
    return "; ".join(falling)
