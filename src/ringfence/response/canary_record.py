"""What canary tokens leave on the timeline, and what that shows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from ringfence.model.incident import Incident
from ringfence.model.timeline import CanaryTried, Event
from ringfence.response.context import Context, now
from ringfence.store import timeline

Result = Literal["intended", "accepted", "refused", "not-possible"]
Path = Literal["identity.kubernetes.write", "identity.kubernetes.read"]
WRITE: Path = "identity.kubernetes.write"
READ: Path = "identity.kubernetes.read"


def tell(
    context: Context, incident: Incident, pod_uid: str, path: str, result: Result, audit_id: str, why: str = ""
) -> None:
    """Put one try of a token that is bound to the pod on the timeline. Raises StoreError."""
    event = CanaryTried(
        occurred_at=now(),
        actor=context.actor,
        path=path,
        canary="token bound to the suspect pod",
        result=result,
        audit_id=audit_id,
        why=why,
        target_uid=pod_uid,
    )
    with context.store.write() as session:
        timeline.append(session, incident.id, event, now())


def was_refused(events: Iterable[Event], path: str, pod_uids: Collection[str]) -> bool:
    """Whether the last canary of that path was accepted, and refused after that (pure).

    Each canary begins with ``intended``: one that was never accepted proves nothing by being refused.
    """
    tries = [
        event.result
        for event in events
        if isinstance(event, CanaryTried) and event.path == path and event.target_uid in pod_uids
    ]
    if "intended" in tries:
        tries = tries[len(tries) - tries[::-1].index("intended") :]
    return "accepted" in tries and tries[-1] == "refused"
