"""Collecting and sealing a pod's evidence as one step: what ``contain``, ``evidence collect`` and ``release`` share."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ringfence.errors import EvidenceError, NotFound, PlatformError, RingfenceError, StoreError, TargetError
from ringfence.evidence.acquire import What
from ringfence.evidence.collect import collect, pod_as_found
from ringfence.evidence.logs import LogCapture
from ringfence.evidence.sealing import OBJECT
from ringfence.model.base import Json
from ringfence.model.evidence import Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.client import parse
from ringfence.platform.kubernetes.resources import resource_of
from ringfence.platform.kubernetes.snapshot import Snapshot
from ringfence.platform.kubernetes.surroundings import (
    Surroundings,
    read_pod,
    read_surroundings,
)
from ringfence.response.context import Context
from ringfence.store import evidence, targets

COLLECT = "collect"
"""Begins the keys of ``evidence collect``."""


def collect_and_seal(
    context: Context,
    incident: Incident,
    target: ObjectRef,
    around: Surroundings,
    logs: LogCapture,
    *,
    key: str,
    found: Json | None = None,
    view: Snapshot | None = None,
    extra: Sequence[EvidenceItem] = (),
) -> Seal:
    """Collect what there is, say what is not, and seal it: one seal for each ``key``.

    ``found`` is the pod as it was found, when that is kept because ``around`` was read later. ``view`` is where
    is read what pods that are sealed together share: they need not each ask for it. Raises VaultError, StoreError.
    """
    acquirer = context.acquirer(incident)
    items = collect(acquirer, around, context.pool, view or Snapshot(context.cluster))
    if found is not None:
        items.append(pod_as_found(acquirer, around, found))
    items += [*logs.finish(), *extra]
    return context.sealer().seal(incident, target, items, actor=context.actor, key=key)


def recapture(
    context: Context, incident: Incident, target: ObjectRef, *, key: str, extra: Sequence[EvidenceItem] = ()
) -> Seal:
    """Capture a live pod anew, or seal what ``key`` had acquired before a crash.

    The cut may have taken the pod out of its controller by now: who owned it, and what selected it, is looked up from
    the pod as it was found. ``extra`` are items acquired already that belong into the same seal.

    Raises NotFound or TargetError when it is gone, VaultError, StoreError.
    """
    left = context.sealer().resume(incident, target, actor=context.actor, key=key)
    if left is not None:
        return left
    pod, reading = read_pod(context.cluster, target.namespace, target.name)
    if pod["metadata"]["uid"] != target.uid:
        # Another pod's evidence under the suspect's uid would open the gate on nothing.
        raise TargetError(
            f"{target} is gone: another pod has its name now",
            why=f"its uid was {target.uid}, this one's is {pod['metadata']['uid']}",
            next_step=f"ringfence status {incident.id}",
        )
    with context.store.read() as session:
        found = targets.as_found(session, incident.id, target.uid)
    logs = LogCapture(context.acquirer(incident), pod, context.logs_pool)
    around = read_surroundings(context.cluster, context.cluster_id, found or pod, reading, context.pool)
    return collect_and_seal(context, incident, target, around, logs, key=key, found=found, extra=extra)


def key_of(what: str, target: ObjectRef) -> str:
    """The key of a capture that is asked for by a command, and not by the step of a run: one for each time."""
    return f"{what}/{target.uid}/{secrets.token_hex(4)}"


def seal_left(context: Context, incident: Incident, target: ObjectRef, what: str) -> Iterator[Seal | EvidenceError]:
    """Seal what such commands had recorded of the pod when they died. What cannot be sealed stands in nobody's way.
    Raises StoreError."""
    with context.store.read() as session:
        keys = evidence.unsealed_keys(session, incident.id)
    for key in keys:
        if key.startswith(f"{what}/{target.uid}/"):
            try:
                seal = context.sealer().resume(incident, target, actor=context.actor, key=key)
            except EvidenceError as error:
                yield error
            else:
                assert seal is not None, "it has items"
                yield seal


def seal_object(context: Context, incident: Incident, ref: ObjectRef, *, key: str) -> Seal:
    """Seal the state of an object that is no pod, before it dies. Raises VaultError, StoreError.

    One that is another by now, or cannot be read, leaves the seal incomplete, and the evidence gate shut.
    """
    left = context.sealer().resume(incident, ref, actor=context.actor, key=key)
    if left is not None:
        return left
    acquirer = context.acquirer(incident)
    resource = resource_of(ref)
    what = What(OBJECT, ref.kind, resource.path(ref.namespace, ref.name), "get", volatility=6, required=True)

    if resource.metadata_only:
        started = datetime.now(UTC)
        bare = replace(what, method="get; computed: of the metadata, contents are never read")
        try:
            live = context.cluster.get(resource, ref.namespace, ref.name)
        except PlatformError as error:
            item = acquirer.missing(what, Collected.FAILED, str(error))
        else:
            same = live["metadata"].get("uid") == ref.uid
            item = (
                acquirer.derived(bare, json.dumps(live, sort_keys=True).encode(), started)
                if same
                else acquirer.missing(what, Collected.FAILED, "it is another object by now")
            )
        return context.sealer().seal(incident, ref, [item], actor=context.actor, key=key)

    def fetch() -> Iterator[bytes]:
        raw = context.cluster.get_bytes(resource, ref.namespace, ref.name)
        if parse(raw, "get", ref.name)["metadata"]["uid"] != ref.uid:
            raise NotFound(
                f"{ref} is another object by now", system="kubernetes", verb="get", target=str(ref), why=ref.uid
            )
        yield raw

    return context.sealer().seal(incident, ref, [acquirer.read(what, fetch)], actor=context.actor, key=key)


def recapture_all(context: Context, incident: Incident) -> Iterator[tuple[ObjectRef, Seal | RingfenceError]]:
    """Every pod of the incident captured anew, and what an earlier call recorded and never sealed; one that fails
    stops no other. Raises TargetError, StoreError."""
    with context.store.read() as session:
        pods = [ref for ref in targets.of_incident(session, incident.id) if ref.kind == "Pod"]
    if not pods:
        raise TargetError(f"{incident.id} is about no pod", next_step=f"ringfence status {incident.id}")
    for pod in pods:
        try:
            yield from ((pod, left) for left in seal_left(context, incident, pod, COLLECT))
            yield pod, recapture(context, incident, pod, key=key_of(COLLECT, pod))
        except StoreError:
            raise
        except RingfenceError as error:
            yield pod, error
