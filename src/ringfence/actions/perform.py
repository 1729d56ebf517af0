"""Sending one journalled change, and finding out what became of one whose answer was lost.

Idempotent: a change whose effect is already live is ``Already``; one that finds another object in its place fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from ringfence.errors import Conflict, Invalid, NotFound, PlatformError
from ringfence.model.base import Json
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Unknown, outcome_of
from ringfence.model.plan import Change, Verb
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import resource_of

_EMPTY: tuple[Any, ...] = (None, {}, [])


class Answer(NamedTuple):
    """What became of a change; ``live`` is the object as the server last showed it (None when there is none)."""

    outcome: Outcome
    live: Json | None = None

    @property
    def uid(self) -> str:
        return str(((self.live or {}).get("metadata") or {}).get("uid", ""))


def perform(cluster: Cluster, change: Change, audit_id: str) -> Answer:
    """Send the change. A refusal that live state explains (it is so already) is ``Already``."""
    try:
        live = _send(cluster, change, audit_id, dry_run=False)
    except (Conflict, Invalid, NotFound) as error:
        return _explained(cluster, change, error)
    except PlatformError as error:
        return Answer(outcome_of(error))
    return Answer(Applied(), live)


def dry_run(cluster: Cluster, change: Change) -> None:
    """Ask the server for everything but the write: RBAC, validation, admission. Raises PlatformError."""
    _send(cluster, change, audit_id="", dry_run=True)


def resolve(cluster: Cluster, change: Change) -> Answer:
    """What became of a change whose answer never came: live state decides; Unknown while it cannot be read."""
    try:
        live = _live(cluster, change)
    except PlatformError as error:
        return Answer(Unknown(problem=Problem.of(error)))
    if in_place(change, live):
        return Answer(Already(reason="live state shows the change in place"), live)
    not_there = Problem(code="not-applied", what=f"{change.ref} does not show the change", next_step="apply it again")
    return Answer(Failed(problem=not_there), live)


def in_place(change: Change, live: Json | None) -> bool:
    """Whether live state is what the change makes (pure)."""
    match change.verb:
        case Verb.CREATE:
            return live is not None and _same(change.body.get("spec"), live.get("spec"))
        case Verb.PATCH:
            return (
                live is not None
                and live["metadata"]["uid"] == change.ref.uid
                and all(_shows(operation, live) for operation in change.body if operation["op"] != "test")
            )
        case Verb.DELETE:
            # One that is terminating has taken the request; whether it is gone is for the action to verify.
            meta = (live or {}).get("metadata") or {}
            return meta.get("uid") != change.ref.uid or bool(meta.get("deletionTimestamp"))


def _send(cluster: Cluster, change: Change, audit_id: str, *, dry_run: bool) -> Json | None:
    resource, ref = resource_of(change.ref), change.ref
    match change.verb:
        case Verb.CREATE:
            return cluster.create(resource, ref.namespace, change.body, audit_id=audit_id, dry_run=dry_run)
        case Verb.PATCH:
            return cluster.patch(resource, ref.namespace, ref.name, change.body, audit_id=audit_id, dry_run=dry_run)
        case Verb.DELETE:
            cluster.delete(
                resource,
                ref.namespace,
                ref.name,
                uid=ref.uid,
                grace_seconds=change.grace_seconds,
                audit_id=audit_id,
                dry_run=dry_run,
            )
            return None


def _explained(cluster: Cluster, change: Change, error: PlatformError) -> Answer:
    try:
        live = _live(cluster, change)
    except PlatformError:
        return Answer(outcome_of(error))
    if in_place(change, live):
        return Answer(Already(reason="live state shows the change in place"), live)
    return Answer(outcome_of(error), live)


def _live(cluster: Cluster, change: Change) -> Json | None:
    return cluster.find(resource_of(change.ref), change.ref.namespace, change.ref.name)


def _same(wanted: Any, live: Any) -> bool:
    """Whether live is what was wanted, but for members that are empty, which the server may write or leave out.

    More than was wanted is not the same: a deny-all with one rule more is none. (The server adds no default to it.)
    """
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(_same(wanted.get(key), live.get(key)) for key in wanted.keys() | live.keys())
    return bool(wanted == live) or (wanted in _EMPTY and live in _EMPTY)


def _shows(operation: Json, live: Json) -> bool:
    value, found = _lookup(operation["path"], live)
    if operation["op"] == "remove":
        return not found
    return found and json.dumps(value, sort_keys=True) == json.dumps(operation["value"], sort_keys=True)


def _lookup(pointer: str, live: Any) -> tuple[Any, bool]:
    """RFC 6901."""
    for token in _tokens(pointer):
        if isinstance(live, dict) and token in live:
            live = live[token]
        elif isinstance(live, list) and token.isdigit() and int(token) < len(live):
            live = live[int(token)]
        else:
            return None, False
    return live, True


def _tokens(pointer: str) -> Iterable[str]:
    return (token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])
