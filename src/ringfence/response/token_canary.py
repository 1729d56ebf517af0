"""A token bound to the suspect: accepted before the pod goes, refused after. What the stolen one is, it is too.

The token stays in memory: after a crash there is none, and the row says that it was not tried.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable

from ringfence.errors import PlatformError
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.model.timeline import Event
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.tokens import BoundToken, request_token
from ringfence.response import canary_record
from ringfence.response.canary_record import tell
from ringfence.response.context import Context

PATH = "identity.kubernetes"
Minted = BoundToken

_TOKEN_SECONDS = 75
"""How long a token may outlive its pod: the API server caches it for some 10 s, its grace period is up to a minute."""


def mint(context: Context, incident: Incident, target: ObjectRef) -> BoundToken | None:
    """A token bound to the suspect, seen to be accepted before the pod goes. None when that is not possible."""
    audit_id = str(uuid.uuid4())
    tell(context, incident, target.uid, PATH, "intended", audit_id)
    try:
        token = request_token(context.cluster, context.cluster.get(POD, target.namespace, target.name), audit_id)
        alive = token.accepted_by(context.cluster)
    except PlatformError as error:
        tell(context, incident, target.uid, PATH, "not-possible", audit_id, str(error))
        return None
    tell(context, incident, target.uid, PATH, "accepted" if alive else "refused", audit_id)
    return token if alive else None


def await_refusal(context: Context, incident: Incident, token: BoundToken) -> None:
    """Try the token until the API server refuses it, for a minute and a quarter at most."""
    deadline = time.monotonic() + _TOKEN_SECONDS
    audit_id = ""
    why = "the API server went on accepting it"
    while time.monotonic() < deadline:
        audit_id = str(uuid.uuid4())
        try:
            if not token.accepted_by(context.cluster, audit_id):
                tell(context, incident, token.pod_uid, PATH, "refused", audit_id)
                return
        except PlatformError as error:
            why = str(error)
        time.sleep(1.0)
    tell(context, incident, token.pod_uid, PATH, "accepted", audit_id, why)


def was_refused(events: Iterable[Event], incident: Incident, target: ObjectRef) -> bool:
    """Whether the last canary token of the pod was accepted, and refused after that (pure): the timeline remembers.

    Each canary begins with ``intended``: one that was never accepted proves nothing by being refused.
    """
    # Events of version 0.1.0 name no pod: an incident had one then.
    names = {target.uid, ""} if target.uid == incident.target.uid else {target.uid}
    return canary_record.was_refused(events, PATH, names)


def is_gone(context: Context, target: ObjectRef) -> bool:
    """Whether the pod of that uid is there no more. Raises PlatformError."""
    live = context.cluster.find(POD, target.namespace, target.name)
    return live is None or bool(live["metadata"]["uid"] != target.uid)
