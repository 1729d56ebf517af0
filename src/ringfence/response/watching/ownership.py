"""Whether somebody else has set since what a change of ours set, although it is so again (pure).

The API server keeps for every field who set its value last (``metadata.managedFields``, Kubernetes' field management).
A value that is as we set it, and that we do not own any more, was changed and changed back. Who writes a field anew
with the value that it has takes nothing: by an update nobody's ownership moves, by an apply it is shared. A field that
was added and is gone again leaves no owner; but each change of a policy's spec counts its ``metadata.generation`` up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ringfence.model.base import Json
from ringfence.model.fence_events import FencedChanged
from ringfence.model.journal import ChangeRecord
from ringfence.model.outcome import Applied
from ringfence.model.plan import Verb
from ringfence.platform.kubernetes.client import FIELD_MANAGER
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response.watching.held import Held
from ringfence.response.watching.sight import SeenBy

_LONGEST = 200
_Path = tuple[str, ...]


class Owner(NamedTuple):
    """A program, by the name that it gave itself, and when it last took a field over; both empty: not known. ``times``
    is how often a policy of ours was changed, where that is counted."""

    manager: str
    at: str
    times: int = 0

    def took(self, thing: Held, now: datetime, seen_by: SeenBy) -> FencedChanged:
        """What is told of it."""
        return FencedChanged(
            occurred_at=now,
            actor="ringfence",
            ref=thing.ref,
            what="was changed",
            detail="and changed back, while nobody watched",
            change=thing.change,
            who=self.manager,
            how_known=f"managedFields: it set a field at {self.at}; it names a program" if self.manager else "",
            seen_by=seen_by,
        )


def set_anew_by(record: ChangeRecord, live: Json) -> Owner | None:
    """Who owns what the change set, when we do not any more; None: we do, or it cannot be told.

    Of pods and policies: other kinds have fields that controllers set as well.
    """
    change = record.change
    if change.ref.kind not in (POD.kind, NETWORK_POLICY.kind) or not isinstance(record.outcome, Applied):
        return None
    entries = [entry for entry in live["metadata"].get("managedFields") or () if entry.get("subresource") in (None, "")]
    for path in _paths(change.verb, change.body):
        owners = [entry for entry in entries if _owns(entry.get("fieldsV1"), path)]
        if owners and all(entry.get("manager") != FIELD_MANAGER for entry in owners):
            return _newest(owners)
    generation = live["metadata"].get("generation")
    if change.verb is Verb.CREATE and isinstance(generation, int) and generation > 1:
        others = [entry for entry in entries if entry.get("manager") != FIELD_MANAGER]
        return _newest(others)._replace(times=generation - 1)
    return None


def _newest(entries: Sequence[Json]) -> Owner:
    newest = max(entries, key=lambda entry: str(entry.get("time", "")), default={})
    manager, at = (printable(str(newest.get(name, "")))[:_LONGEST] for name in ("manager", "time"))
    return Owner(manager, at)


def _paths(verb: Verb, body: Any) -> Iterator[_Path]:
    """Every field that the change gave a value, to the depth at which fields are owned."""
    if verb is Verb.CREATE and isinstance(body, dict):
        yield from _below(("spec",), body.get("spec"))
    elif isinstance(body, list):
        for one in body:
            if one["op"] in ("add", "replace"):
                parts = [part.replace("~1", "/").replace("~0", "~") for part in str(one["path"]).split("/")[1:]]
                while parts and (parts[-1] == "-" or parts[-1].isdecimal()):
                    parts.pop()  # a place in a list: lists of a policy are owned as a whole
                yield from _below(tuple(parts), one.get("value"))


def _below(path: _Path, value: Any) -> Iterator[_Path]:
    if isinstance(value, dict) and value:
        for name in value:
            yield (*path, str(name))
    else:
        yield path


def _owns(fields: Any, path: Sequence[str]) -> bool:
    """Whether a set of owned fields (FieldsV1) holds a field, or what it lies in as a whole."""
    if not isinstance(fields, dict) or not fields:
        return False
    for part in path:
        below = fields.get(f"f:{part}")
        if not isinstance(below, dict):
            return False
        if not below:
            return True
        fields = below
    return True
