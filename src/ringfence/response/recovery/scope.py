"""What is restored: the workloads that the suspects came from, or that were stopped, as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ringfence.actions.argocd import SuspendSync
from ringfence.actions.scale import ScaleToZero
from ringfence.errors import NotFound, TargetError
from ringfence.model import step_names
from ringfence.model.base import Json
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import is_done
from ringfence.platform.argocd import applications
from ringfence.platform.argocd.applications import Installation
from ringfence.platform.kubernetes import owners, workloads
from ringfence.platform.kubernetes.pods import image_names
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.workloads import WORKLOAD_KINDS, template_of
from ringfence.response.context import Context
from ringfence.response.statement import suspect
from ringfence.store import journal, targets


@dataclass(frozen=True)
class Restored:
    """One workload with the pods that it runs now, but for those that are ending. ``application`` delivers it (None:
    nobody here)."""

    ref: ObjectRef
    obj: Json
    pods: tuple[Json, ...]
    application: Json | None

    @property
    def template(self) -> Json:
        """The pod that it starts, as a pod's own object has it."""
        return template_of(self.obj)


@dataclass(frozen=True)
class Scope:
    """``suspects`` are the incident's pods as they were found, with their references."""

    suspects: tuple[tuple[ObjectRef, Json], ...]
    restored: tuple[Restored, ...]
    installation: Installation
    frozen: tuple[Json, ...]
    """The Applications that the incident keeps from syncing, as they are now."""

    @property
    def images(self) -> frozenset[str]:
        """The images of the suspects, as their specifications ask for them."""
        return frozenset(name for _, pod in self.suspects for name in image_names(pod))

    @property
    def delivering(self) -> tuple[Json, ...]:
        """Every Application that will deliver once nothing is frozen any more: of the workloads, and the frozen."""
        found = [*(one.application for one in self.restored if one.application is not None), *self.frozen]
        return tuple({app["metadata"]["uid"]: app for app in found}.values())


def read(context: Context, incident: Incident) -> Scope:
    """Read it all from the cluster now. Raises PlatformError."""
    with context.store.read() as session:
        members = targets.of_incident(session, incident.id)
        records = journal.of_incident(session, incident.id)
    pods = [(ref, suspect(context, incident, ref)) for ref in members if ref.kind == POD.kind]
    suspects = tuple((ref, pod) for ref, pod in pods if pod is not None)
    named = [ref for ref in members if ref.kind in WORKLOAD_KINDS]
    refs = {ref.uid: ref for ref in (*named, *_owners(context, (pod for _, pod in suspects)))}
    installation = applications.read(context.cluster)
    restored = tuple(
        one for ref in refs.values() if (one := _restored(context, installation, ref, suspects)) is not None
    )
    held = {record.change.ref.uid for record in standing(records, SuspendSync.name)}
    frozen = tuple(app for app in installation.applications if app["metadata"]["uid"] in held)
    return Scope(suspects, restored, installation, frozen)


def standing(records: Iterable[ChangeRecord], *actions: str) -> tuple[ChangeRecord, ...]:
    """The changes of these actions that took effect and were not taken back, oldest first."""
    return tuple(
        record
        for record in records
        if record.action in actions
        and not record.undone
        and not step_names.is_undoing(record.step)
        and not record.change.id.startswith("undo-")
        and record.outcome is not None
        and is_done(record.outcome)
    )


def stop_of(context: Context, incident: Incident, target: ObjectRef) -> ChangeRecord | None:
    """The change by which this incident stopped the workload; None when it did not, or that was taken back."""
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    of_target = [one for one in standing(records, ScaleToZero.name) if one.change.ref.uid == target.uid]
    return of_target[-1] if of_target else None


def _owners(context: Context, suspects: Iterable[Json]) -> Iterator[ObjectRef]:
    """The topmost controller of each suspect that is a workload and still there."""
    known: dict[str, owners.Owner] = {}
    for pod in suspects:
        chain = owners.owner_chain(context.cluster, context.cluster_id, pod, known=known)
        above = [owner.ref for owner in chain if owner.obj is not None and owner.ref.kind in WORKLOAD_KINDS]
        if above:
            yield above[-1]


def _restored(
    context: Context, installation: Installation, ref: ObjectRef, suspects: tuple[tuple[ObjectRef, Json], ...]
) -> Restored | None:
    try:
        obj, _ = workloads.read_object(context.cluster, ref)
    except (NotFound, TargetError):
        return None  # deleted meanwhile: whoever delivers it makes another
    gone = {one.uid for one, _ in suspects}
    pods = workloads.read_pods_of(context.cluster, ref)
    return Restored(
        ref=ObjectRef.of(context.cluster_id, obj),
        obj=obj,
        pods=tuple(
            pod for pod in pods if pod["metadata"]["uid"] not in gone and not pod["metadata"].get("deletionTimestamp")
        ),
        application=installation.owner_of(obj),
    )
