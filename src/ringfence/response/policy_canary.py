"""Canaries of an identity's cut: a token bound to the suspect tries a write, or a read, and must be refused.

The write is a dry run, and the read asks for an object that is not there: nothing is left and nothing is read. The
token is what the stolen one is; it stays in memory and dies within ten minutes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.actions.account import Tried
from ringfence.errors import PlatformError
from ringfence.model.base import isoformat
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.token_tries import Answered, Try, attempt, find_tries
from ringfence.platform.kubernetes.tokens import BoundToken, request_token
from ringfence.response.canary_record import WRITE, Path, tell
from ringfence.response.context import Context, now

_SECONDS = 20.0
"""How long a policy or a binding may take to reach the API server's own caches; it is a second or two."""
_POLL_SECONDS = 0.5
_NONE = "no canary: the account may make no request of that sort that could be tried without a trace"


@dataclass(frozen=True)
class Armed:
    """A token of the suspect with the request that it may make, seen to be accepted; or ``why`` there is none."""

    token: BoundToken | None
    one: Try | None
    why: str = ""


def arm(context: Context, incident: Incident, target: ObjectRef, path: Path, namespaces: Iterable[str] = ()) -> Armed:
    """Mint a token and find what it may do: before the cut. Raises StoreError alone."""
    if not context.policy.token_canary:
        return Armed(None, None, "the token canary is switched off (containment.token_canary)")
    audit_id = str(uuid.uuid4())
    tell(context, incident, target.uid, path, "intended", audit_id)
    try:
        token = request_token(context.cluster, context.cluster.get(POD, target.namespace, target.name), audit_id)
        with token.as_holder(context.cluster) as theirs:
            write, read = find_tries(theirs, (target.namespace, *namespaces))
            one = write if path == WRITE else read
            before = attempt(theirs, one, audit_id := str(uuid.uuid4())) if one is not None else None
    except PlatformError as error:
        return _unarmed(context, incident, target, path, audit_id, str(error))
    if one is None or (before is not None and not before.accepted):
        return _unarmed(context, incident, target, path, audit_id, before.why if before is not None else _NONE)
    tell(context, incident, target.uid, path, "accepted", audit_id, str(one))
    return Armed(token, one)


def fire(
    context: Context, incident: Incident, target: ObjectRef, path: Path, armed: Armed, *, policy: str = ""
) -> Tried:
    """Try it until it is refused: by the authoriser, or by the admission policy of that name."""
    if armed.token is None or armed.one is None:
        return Tried(False, armed.why)
    deadline = time.monotonic() + _SECONDS
    audit_id, why = "", "the API server went on accepting it"
    while True:
        audit_id = str(uuid.uuid4())
        try:
            with armed.token.as_holder(context.cluster) as theirs:
                answer = attempt(theirs, armed.one, audit_id)
        except PlatformError as error:
            why = str(error)
        else:
            if _is_shut(answer, policy):
                tell(context, incident, target.uid, path, "refused", audit_id, answer.why)
                return Tried(True, f"a canary token of the same pod: {armed.one} was refused, {isoformat(now())[:19]}Z")
            why = (
                "the API server went on accepting it"
                if answer.accepted
                else f"it was refused, but not so: {answer.why}"
            )
        if time.monotonic() >= deadline:
            tell(context, incident, target.uid, path, "accepted", audit_id, why)
            return Tried(False, f"a canary token tried to {armed.one}: {why}")
        time.sleep(_POLL_SECONDS)


def _is_shut(answer: Answered, policy: str) -> bool:
    if answer.accepted:
        return False
    return answer.by == "authoriser" if not policy else answer.by == "admission" and policy in answer.why


def _unarmed(context: Context, incident: Incident, target: ObjectRef, path: Path, audit_id: str, why: str) -> Armed:
    tell(context, incident, target.uid, path, "not-possible", audit_id, why)
    return Armed(None, None, why)
