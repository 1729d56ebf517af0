"""What an incident holds, and whether an object still is so (pure).

Held are the pods of the incident, every change of its journal that stands, and the workloads that its pods came from.
Whether a change stands is asked of the journal's own patch or manifest: the watcher knows no action.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from ringfence.actions.perform import in_place
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied
from ringfence.model.plan import Verb
from ringfence.platform.kubernetes.resources import KNOWN, POD, Resource
from ringfence.platform.kubernetes.selectors import printable

What: TypeAlias = Literal[
    "was deleted", "is another object", "was changed", "was scaled", "was restarted", "has a new template"
]
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
_UNDO = "undo-"
Place: TypeAlias = tuple[str, str, str, str]
"""apiVersion, kind, namespace and name."""


@dataclass(frozen=True)
class Held:
    """One thing that stands as an incident wants it. ``record``: the change that made it so; None: the object itself,
    a pod of the incident, or with ``workload`` the one that it came from."""

    incident: str
    ref: ObjectRef
    record: ChangeRecord | None = None
    workload: bool = False

    @property
    def place(self) -> Place:
        return place_of(self.ref)

    @property
    def key(self) -> str:
        change = f"{self.record.step}:{self.record.change.id}" if self.record is not None else self.ref.uid
        return f"{self.ref.kind}/{self.ref.namespace}/{self.ref.name}#{change}"

    @property
    def change(self) -> str:
        return f"{self.record.step}:{self.record.change.id}" if self.record is not None else ""


class Broken(NamedTuple):
    """How an object is not as it is held."""

    what: What
    detail: str = ""


def place_of(ref: ObjectRef) -> Place:
    return (ref.api_version, ref.kind, ref.namespace, ref.name)


def place_in(resource: Resource, obj: Json) -> Place:
    meta = obj["metadata"]
    return (resource.api_version, resource.kind, str(meta.get("namespace") or ""), str(meta.get("name") or ""))


def version_of(obj: Json) -> int:
    """The resourceVersion as the number that it is; 0 where a server has others."""
    version = str(obj["metadata"].get("resourceVersion") or "")
    return int(version) if version.isdecimal() else 0


def held(incident: str, targets: Iterable[ObjectRef], records: Sequence[ChangeRecord]) -> tuple[Held, ...]:
    """What the incident holds, of its targets and of its journal in the order of its intents."""
    ended = {
        place_of(record.change.ref) for record in records if record.change.verb is Verb.DELETE and _is_done(record)
    }
    # Whoever stops or restarts a workload ends its pods: then it is no news that they are gone.
    stopped = any(record.action.startswith("workload.") and _is_done(record) for record in records)
    found = [] if stopped else [Held(incident, ref) for ref in targets if ref.kind == POD.kind]
    found = [one for one in found if one.place not in ended]
    for number, record in enumerate(records):
        if _stands(record) and not is_overtaken(record, records[number + 1 :]):
            found.append(Held(incident, record.change.ref, record))
    return tuple(found)


def is_overtaken(record: ChangeRecord, later: Iterable[ChangeRecord]) -> bool:
    """Whether we changed the same again ourselves, or were about to, after this change: then it stands no more."""
    return any(
        place_of(other.change.ref) == place_of(record.change.ref)
        and other.intended_at >= record.intended_at
        and (other.step, other.change.id) != (record.step, record.change.id)
        and (
            other.change.verb is not Verb.PATCH
            or other.change.id.startswith(_UNDO)
            or bool(_paths(other) & _paths(record))
        )
        and not (other.outcome is not None and not _is_done(other))
        for other in later
    )


def judge(one: Held, live: Json | None, baseline: Json | None) -> Broken | None:
    """How ``live`` is not as it is held; None when it is. ``baseline`` is a workload's fingerprint as it was known."""
    if one.workload:
        return _workload(live, baseline)
    uid = ((live or {}).get("metadata") or {}).get("uid", "")
    if one.record is None:
        if live is None:
            return Broken("was deleted")
        if uid != one.ref.uid:
            return Broken("is another object", "it was deleted, and something else has its name now")
        ends = live["metadata"].get("deletionTimestamp")
        return Broken("was deleted", f"it ends until {printable(str(ends))}") if ends else None
    change = one.record.change
    if in_place(change, live):
        return None
    if live is None:
        return Broken("was deleted")
    if change.verb is Verb.CREATE:
        if live["metadata"].get("deletionTimestamp"):
            return Broken("was deleted")
        return Broken("was changed", "it is not as it was made")
    if uid != change.ref.uid:
        return Broken("is another object", "it was deleted, and something else has its name now")
    if change.subresource == "scale":
        return Broken("was scaled", f"{_replicas(change.body)} → {(live.get('spec') or {}).get('replicas')}")
    return Broken("was changed", f"this does not hold any more: {change.effect}")


def fingerprint(live: Json) -> Json:
    """What a workload would start now: how many, and from what."""
    spec = live.get("spec") or {}
    template = json.loads(json.dumps(spec.get("template") or {}))
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    restarted = annotations.pop(_RESTARTED, "")
    meta = template.get("metadata") or {}
    template["metadata"] = {name: value for name, value in meta.items() if value}
    return {
        "uid": live["metadata"]["uid"],
        "replicas": spec.get("replicas"),
        "template": hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest(),
        "restarted": restarted,
    }


def _workload(live: Json | None, baseline: Json | None) -> Broken | None:
    if baseline is None:
        return None
    if live is None:
        return Broken("was deleted")
    now = fingerprint(live)
    if now["uid"] != baseline["uid"]:
        return Broken("is another object", "it was deleted, and something else has its name now")
    if now["template"] != baseline["template"]:
        return Broken("has a new template", "the pods that it starts are others")
    if now["restarted"] != baseline["restarted"]:
        return Broken("was restarted", "it replaces its pods")
    if now["replicas"] != baseline["replicas"]:
        return Broken("was scaled", f"{baseline['replicas']} → {now['replicas']}")
    return None


def _is_done(record: ChangeRecord) -> bool:
    return isinstance(record.outcome, Applied | Already)


def _stands(record: ChangeRecord) -> bool:
    """Whether the change took effect and is to last. A detach has no inverse and lasts all the same; what nothing takes
    back (a restart) and what takes something back do not."""
    change = record.change
    lasts = change.inverse is not None or change.ref.kind == POD.kind
    return (
        _is_done(record)
        and not record.undone
        and lasts
        and change.verb is not Verb.DELETE
        and not change.id.startswith(_UNDO)
        and (change.ref.api_version, change.ref.kind) in KNOWN
    )


def _paths(record: ChangeRecord) -> set[str]:
    body = record.change.body
    return {str(one["path"]) for one in body if one["op"] != "test"} if isinstance(body, list) else set()


def _replicas(body: object) -> object:
    found = [one.get("value") for one in body if one["op"] != "test"] if isinstance(body, list) else []
    return found[0] if found else "?"
