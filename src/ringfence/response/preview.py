"""What ``contain`` and ``cut-identity`` would do: nothing is written, neither to the cluster nor to the store."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from ringfence.actions.base import Settings, Shape
from ringfence.actions.network import Quarantine
from ringfence.actions.registry import ACTIONS
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.plan import Plan
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.surroundings import read_namespace, read_pod, surroundings
from ringfence.response import enforcement, guard
from ringfence.response.context import Context
from ringfence.response.orders import Found
from ringfence.store import targets


@dataclass(frozen=True)
class Preview:
    """The plan for one pod, or why there is none."""

    target: ObjectRef
    plan: Plan | Already | Refused


def preview(context: Context, found: tuple[Found, ...], *, shape: Shape) -> tuple[Preview, ...]:
    """The plan of each pod, under a fence of its own making. Raises PlatformError."""
    settings = Settings(
        fence=secrets.token_hex(8),
        serving_floor=context.policy.serving_floor,
        shape=shape,
        enforcement=enforcement.words(context),
    )
    action = Quarantine(context.cluster, settings)
    pods = [one for one in found if one.ref.kind == POD.kind]
    namespaces = {
        name: read_namespace(context.cluster, name, context.pool)
        for name in dict.fromkeys(one.ref.namespace for one in pods)
    }

    def plan(one: Found) -> Plan | Refused:
        refusal = guard.protected(one.obj, context.policy)
        if refusal is not None:
            return refusal
        pod, reading = read_pod(context.cluster, one.ref.namespace, one.ref.name)
        around = surroundings(context.cluster, context.cluster_id, pod, reading, namespaces[one.ref.namespace])
        return action.plan(one.ref, around)

    return tuple(Preview(one.ref, plan(one)) for one in pods)


def preview_identity(
    context: Context, incident: Incident, actions: Sequence[str], *, bindings: bool
) -> tuple[Preview, ...]:
    """The plans of these actions for each pod of the incident. Raises TargetError, PlatformError, StoreError."""
    settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor, share_account=bindings)
    with context.store.read() as session:
        pods = [ref for ref in targets.of_incident(session, incident.id) if ref.kind == POD.kind]
    made = [ACTIONS[name](context.cluster, settings) for name in actions if name not in context.policy.disabled]
    return tuple(
        Preview(ref, action.plan(ref, action.look(context.cluster_id, ref, context.pool)))
        for ref in pods
        for action in made
    )
