"""Sending one journalled change, and finding out what became of one whose answer was lost.

Idempotent: a change whose effect is already live is ``Already``; one that finds another object in its place fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from ringfence.errors import NotSent, PlatformError, Unanswered
from ringfence.model.base import Json
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Unknown, outcome_of
from ringfence.model.plan import Change, Verb
from ringfence.platform.kubernetes.answers import malformed
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import (
    CLUSTER_ROLE_BINDING,
    NETWORK_POLICY,
    ROLE_BINDING,
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    resource_of,
)

_EMPTY: tuple[Any, ...] = (None, {}, [])

_ENVELOPE = ("apiVersion", "kind", "metadata", "status")
_EXACT = frozenset(
    resource.kind
    for resource in (
        NETWORK_POLICY,
        ROLE_BINDING,
        CLUSTER_ROLE_BINDING,
        VALIDATING_ADMISSION_POLICY,
        VALIDATING_ADMISSION_POLICY_BINDING,
    )
)
"""Kinds of which one with more in it than was wanted is another: a rule more opens, a condition more weakens."""

NOT_APPLIED = "not-applied"
"""The problem of a change whose answer was lost and that live state does not show."""
REVERTED = "reverted"
"""The problem of a change that was made, and that somebody else took back before we looked."""

Witness: TypeAlias = Callable[[Change, str], bool | None]
"""Whether the request of that change and Audit-ID was carried out, in the words of somebody else; None: not known."""


def silent(_change: Change, _audit_id: str) -> bool | None:
    """The witness where no audit log is configured."""
    return None


class Answer(NamedTuple):
    """What became of a change; ``live`` is the object as the server last showed it (None when there is none)."""

    outcome: Outcome
    live: Json | None = None

    @property
    def uid(self) -> str:
        return str(((self.live or {}).get("metadata") or {}).get("uid", ""))


def perform(cluster: Cluster, change: Change, audit_id: str) -> Answer:
    """Send the change, once. Whatever is answered, when live state shows the change it is ``Already``.

    A refusal may come from a second attempt that a gateway made by itself, or from a filter that saw the answer only.
    """
    try:
        live = _send(cluster, change, audit_id, dry_run=False)
    except (NotSent, Unanswered) as error:
        return Answer(outcome_of(error))
    except PlatformError as error:
        return _explained(cluster, change, error)
    return Answer(Applied(), live)


def dry_run(cluster: Cluster, change: Change) -> None:
    """Ask the server for everything but the write: RBAC, validation, admission. Raises PlatformError."""
    _send(cluster, change, audit_id="", dry_run=True)


def resolve(
    cluster: Cluster,
    change: Change,
    *,
    audit_id: str = "",
    witness: Witness = silent,
    lost: Problem | None = None,
) -> Answer:
    """What became of a change whose answer never came: live state decides, with the audit log as a second witness.

    ``lost`` is why the answer is missing, and is quoted. Unknown while live state cannot be read and the log does not
    know either. A request that is still under way shows later: ``NOT_APPLIED`` is as of this moment.
    """
    done = witness(change, audit_id) if audit_id else None
    if is_proxied(change):
        return Answer(_by_log_alone(change, done, lost))
    try:
        live = _live(cluster, change)
    except PlatformError as error:
        return Answer(_unread(change, done, Problem.of(error), lost))
    if in_place(change, live):
        return Answer(Applied() if done else Already(reason="live state shows the change in place"), live)
    return Answer(_absent(change, live, done, lost), live)


def is_proxied(change: Change) -> bool:
    """Whether the request went through the API server to somebody else: no object shows what became of it."""
    return change.subresource.partition("/")[0] == "proxy"


def in_place(change: Change, live: Json | None) -> bool:
    """Whether live state is what the change makes (pure)."""
    match change.verb:
        case Verb.CREATE:
            meta = (live or {}).get("metadata") or {}
            return live is not None and not meta.get("deletionTimestamp") and _made(change, live)
        case Verb.PATCH:
            return (
                live is not None
                and live["metadata"]["uid"] == change.ref.uid
                and all(_shows(operation, live, change.prior) for operation in change.body if operation["op"] != "test")
            )
        case Verb.DELETE:
            # One that is terminating has taken the request; whether it is gone is for the action to verify.
            meta = (live or {}).get("metadata") or {}
            return meta.get("uid") != change.ref.uid or bool(meta.get("deletionTimestamp"))


def _send(cluster: Cluster, change: Change, audit_id: str, *, dry_run: bool) -> Json | None:
    resource, ref = resource_of(change.ref), change.ref
    answer: Json
    match change.verb:
        case Verb.CREATE:
            answer = cluster.create(resource, ref.namespace, change.body, audit_id=audit_id, dry_run=dry_run)
        case Verb.PATCH:
            answer = cluster.patch(
                resource,
                ref.namespace,
                ref.name,
                change.body,
                audit_id=audit_id,
                dry_run=dry_run,
                subresource=change.subresource,
            )
        case Verb.DELETE:
            answer = cluster.delete(
                resource,
                ref.namespace,
                ref.name,
                uid=ref.uid,
                grace_seconds=change.grace_seconds,
                audit_id=audit_id,
                dry_run=dry_run,
            )
    if not _is_answer(change, answer, dry_run=dry_run):
        raise malformed(f"does not speak of {ref}", change.verb, str(ref))
    return None if change.verb is Verb.DELETE else answer


def _is_answer(change: Change, answer: Json, *, dry_run: bool) -> bool:
    """Whether the API server can have said that: any JSON with status 200 would read as a success otherwise."""
    meta = answer.get("metadata") or {}
    match change.verb:
        case Verb.CREATE:
            return meta.get("name") == change.ref.name and (dry_run or bool(meta.get("uid")))
        case Verb.PATCH:
            return bool(meta.get("uid") == change.ref.uid)
        case Verb.DELETE:
            succeeded = (answer.get("kind"), answer.get("status")) == ("Status", "Success")
            return succeeded or meta.get("uid") == change.ref.uid


def _explained(cluster: Cluster, change: Change, error: PlatformError) -> Answer:
    try:
        live = _live(cluster, change)
    except PlatformError:
        return Answer(outcome_of(error))
    if in_place(change, live):
        return Answer(Already(reason="live state shows the change in place"), live)
    return Answer(outcome_of(error), live)


def _unread(change: Change, done: bool | None, unread: Problem, lost: Problem | None) -> Outcome:
    """The outcome while live state cannot be read."""
    if done and change.verb is not Verb.CREATE:  # what was made must be known by its uid, or it cannot be taken back
        return Applied()
    if done is False:
        return Failed(problem=_not_applied(change, "the cluster's audit log has it as refused", lost))
    first = lost or unread
    why = first.why if first is unread else f"{first.why}; live state cannot be read: {unread}"
    return Unknown(problem=first.model_copy(update={"why": why}))


def _by_log_alone(change: Change, done: bool | None, lost: Problem | None) -> Outcome:
    """The outcome of a request that no object shows."""
    if done:
        return Applied()
    if done is False:
        return Failed(problem=_not_applied(change, "the cluster's audit log has it as refused", lost))
    unseen = Problem(
        code="unseen",
        what=f"no answer came to {change.verb} {change.ref}/{change.subresource}",
        why="no object of the API shows it, and the audit log was not read, or does not have it",
        next_step="look on the node",
    )
    return Unknown(problem=lost or unseen)


def _absent(change: Change, live: Json | None, done: bool | None, lost: Problem | None) -> Outcome:
    """The outcome when live state does not show the change."""
    if not done:
        why = "live state does not show it" if done is None else "the cluster's audit log has it as refused"
        return Failed(problem=_not_applied(change, why, lost))
    match change.verb:
        case Verb.PATCH if live is None or live["metadata"]["uid"] != change.ref.uid:
            return Applied()  # it was made; the object ended later
        case Verb.CREATE | Verb.PATCH:
            return Failed(
                problem=Problem(
                    code=REVERTED,
                    what=f"{change.ref} was changed, and somebody took that back",
                    why="the cluster's audit log has the request as carried out, live state does not show it",
                    next_step="see in the audit log who it was; then plan again",
                )
            )
        case Verb.DELETE:
            return Unknown(
                problem=Problem(
                    code="contradiction",
                    what=f"{change.ref} is there, and its deletion is in the audit log",
                    why="a deleted object keeps a deletion time until it is gone; this one has none",
                    next_step="check that server and audit log are of one cluster",
                )
            )


def _not_applied(change: Change, why: str, lost: Problem | None) -> Problem:
    return Problem(
        code=NOT_APPLIED,
        what=f"{change.ref} does not show the change",
        why=f"{lost}; {why}" if lost else why,
        next_step="apply it again",
    )


def _live(cluster: Cluster, change: Change) -> Json | None:
    return cluster.find(resource_of(change.ref), change.ref.namespace, change.ref.name)


def _made(change: Change, live: Json) -> bool:
    """Whether ``live`` is the object that was to be created. A pod gets defaults, volumes and tolerations by admission;
    a policy or a binding does not."""
    meta = change.body.get("metadata") or {}
    if change.ref.kind in _EXACT:
        return same(content(change.body), content(live))
    identity = {name: meta[name] for name in ("labels", "annotations") if name in meta}
    return _within(identity, live.get("metadata")) and _within(content(change.body), live)


def content(obj: Json) -> Json:
    """What an object says beside its envelope: a policy's spec, a binding's role and subjects."""
    return {name: value for name, value in obj.items() if name not in _ENVELOPE}


def _within(wanted: Any, live: Any) -> bool:
    """Whether live has everything that was wanted, beside what the server and its admission added."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(_within(value, live.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list):
        return all(any(_within(value, other) for other in live) for value in wanted)
    return bool(wanted == live) or (wanted in _EMPTY and live in _EMPTY)


def same(wanted: Any, live: Any) -> bool:
    """Whether live is what was wanted, but for members that are empty, which the server may write or leave out.

    More than was wanted is not the same: a deny-all with one rule more is none. (The server adds no default to it.)
    """
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(same(wanted.get(key), live.get(key)) for key in wanted.keys() | live.keys())
    return bool(wanted == live) or (wanted in _EMPTY and live in _EMPTY)


def _shows(operation: Json, live: Json, prior: Json | None) -> bool:
    path = operation["path"]
    value, found = _lookup(path, live)
    if operation["op"] == "remove":
        return not found
    wanted = operation["value"]
    before, there = _lookup(path, prior)
    if prior is not None and not there:
        before = {}  # it had none
    if path.startswith("/metadata/") and all(isinstance(one, dict) for one in (wanted, value, before)):
        # Labels and annotations that somebody added since are beside the point; one that was to go must be gone.
        value = {key: member for key, member in value.items() if key in wanted or key in before}
    return found and json.dumps(value, sort_keys=True) == json.dumps(wanted, sort_keys=True)


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
