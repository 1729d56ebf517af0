"""The affected resources, from the journal's saved objects, the plans and the statement (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ringfence.model.access import AccessPath, PathState
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import describe
from ringfence.reporting.view import Affected, AffectedObject, StepView

_ELSEWHERE = ("siblings.", "workload.", "identity.", "node")
"""Rows of the statement that speak of something else than the pod's own traffic."""


def affected(
    target: ObjectRef, records: Sequence[ChangeRecord], steps: Iterable[StepView], rows: Iterable[AccessPath]
) -> Affected:
    """What the incident and the response touched, and what they may have."""
    found = next(
        (
            record.change.prior
            for record in records
            if record.change.ref.uid == target.uid and record.change.prior is not None
        ),
        None,
    )
    return Affected(
        suspect=tuple(_suspect(found)) if found is not None else (),
        objects=_objects(records),
        services=tuple(
            dict.fromkeys(
                (step.step, service) for step in steps if step.plan is not None for service in step.plan.impact.services
            )
        ),
        maybe=tuple(row for row in rows if row.state is not PathState.DEAD and row.path.startswith(_ELSEWHERE)),
    )


def _objects(records: Iterable[ChangeRecord]) -> tuple[AffectedObject, ...]:
    done: dict[tuple[str, str, str, str], tuple[ObjectRef, list[str]]] = {}
    for record in records:
        ref, change = record.change.ref, record.change
        _, words = done.setdefault((ref.api_version, ref.kind, ref.namespace, ref.name), (ref, []))
        result = describe(record.outcome) if record.outcome is not None else "no result was recorded"
        words.append(f"{change.verb.value}: {result}" + (" (undone later)" if record.undone else ""))
    return tuple(AffectedObject(ref, tuple(words)) for ref, words in done.values())


def _suspect(pod: Json) -> Iterator[tuple[str, str]]:
    """Facts of the pod as the server sent it; what is not there is left out."""
    meta, spec, status = _map(pod.get("metadata")), _map(pod.get("spec")), _map(pod.get("status"))
    owners = [_map(one) for one in _list(meta.get("ownerReferences"))]
    for owner in owners:
        if owner.get("controller"):
            yield "Controller", f"{owner.get('kind')} {owner.get('name')}, uid {owner.get('uid')}"
    facts = (
        ("Service account", spec.get("serviceAccountName")),
        ("Node", spec.get("nodeName")),
        ("Pod address", status.get("podIP")),
        ("Started", status.get("startTime")),
    )
    yield from ((name, str(value)) for name, value in facts if value)
    running = [_map(one) for key in ("initContainerStatuses", "containerStatuses") for one in _list(status.get(key))]
    digests = {str(one.get("name")): str(one.get("imageID") or "") for one in running}
    for key in ("initContainers", "containers"):
        for container in map(_map, _list(spec.get(key))):
            name = str(container.get("name"))
            digest = digests.get(name) or "its digest is not known"
            yield f"Image of container {name}", f"{container.get('image')} ({digest})"


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
