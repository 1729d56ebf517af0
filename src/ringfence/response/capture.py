"""Collecting and sealing a pod's evidence as one step: what ``contain``, ``evidence collect`` and ``release`` share."""

from __future__ import annotations

from ringfence.errors import PlatformError, TargetError
from ringfence.evidence.collect import collect
from ringfence.evidence.logs import LogCapture
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.surroundings import (
    Siblings,
    Surroundings,
    read_pod,
    read_siblings,
    read_surroundings,
)
from ringfence.response.context import Context


def collect_and_seal(
    context: Context, incident: Incident, target: ObjectRef, around: Surroundings, logs: LogCapture
) -> Seal:
    """Collect what there is, say what is not, and seal it. Raises VaultError, StoreError."""
    siblings: Siblings | PlatformError
    try:
        siblings = read_siblings(context.cluster, around.pod)
    except PlatformError as error:
        siblings = error
    items = collect(context.acquirer(incident), around, siblings, context.pool)
    items += logs.finish()
    return context.sealer().seal(incident, target, items, actor=context.actor)


def recapture(context: Context, incident: Incident, target: ObjectRef) -> Seal:
    """Capture a live pod anew. Raises NotFound or TargetError when it is gone, VaultError, StoreError."""
    pod, reading = read_pod(context.cluster, target.namespace, target.name)
    if pod["metadata"]["uid"] != target.uid:
        # Another pod's evidence under the suspect's uid would open the gate on nothing.
        raise TargetError(
            f"{target} is gone: another pod has its name now",
            why=f"its uid was {target.uid}, this one's is {pod['metadata']['uid']}",
            next_step=f"ringfence status {incident.id}",
        )
    logs = LogCapture(context.acquirer(incident), pod, context.logs_pool)
    around = read_surroundings(context.cluster, context.cluster_id, pod, reading, context.pool)
    return collect_and_seal(context, incident, target, around, logs)
