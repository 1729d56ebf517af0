"""What the cluster itself must offer: a name for us, a clock, an audit log that knows us, events that last."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ringfence.errors import PlatformError
from ringfence.model.base import Json
from ringfence.model.principal import Principal
from ringfence.platform.kubernetes.audit import audit_says
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.echo import echoed_audit_id
from ringfence.platform.kubernetes.resources import CORE_EVENT, NAMESPACE
from ringfence.response.readiness.findings import Finding, failed, ok, warn

_CLOCK_WARN_MS = 2000
_AUDIT_WAIT_SECONDS = 5.0
_SHORT = timedelta(hours=24)


def check_identity(cluster: Cluster, cluster_id: str, principal: Principal) -> Iterator[Finding]:
    yield ok("cluster", f"{cluster.server}, uid {cluster_id}")
    yield ok("identity", f"{principal.subject}, vouched for by the cluster")


def check_clock(cluster: Cluster) -> Finding:
    offset = cluster.clock_offset_ms
    if offset is None:
        return warn("clock", "the server sent no time", "compare clocks by hand")
    if abs(offset) > _CLOCK_WARN_MS:
        return warn("clock", f"the server's clock differs by {offset} ms", "synchronise this machine's clock")
    return ok("clock", f"within {_CLOCK_WARN_MS} ms of the server's ({offset} ms)")


def check_audit(
    cluster: Cluster, user: str, log: Path | None, *, wait: float = _AUDIT_WAIT_SECONDS
) -> Iterator[Finding]:
    """Ask a harmless question under an Audit-ID of our own, and look for it: in the answer, and in the log."""
    audit_id = str(uuid.uuid4())
    try:
        echoed = echoed_audit_id(cluster, audit_id)
    except PlatformError as error:
        yield failed("audit id", error)
        return
    if echoed == audit_id:
        yield ok("audit id", "the API server takes our Audit-ID over: its log can be matched with our journal")
    else:
        yield warn(
            "audit id",
            f"the API server answers with {'another Audit-ID' if echoed else 'no Audit-ID'}: a proxy may replace it",
            "match its log with the journal by time and object instead",
        )
    if log is None:
        yield warn(
            "audit log",
            "not tried: whether the API server writes one cannot be asked",
            "audit.log in the configuration, where it can be read from here",
        )
        return
    deadline = time.monotonic() + wait
    while not (found := audit_says(log, echoed or audit_id, verb="create", user=user)):
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    if found:
        yield ok("audit log", f"{log} has our request")
    elif not _readable(log):
        yield warn("audit log", f"{log} cannot be read", "correct audit.log, or let this user read it")
    else:
        yield warn(
            "audit log",
            f"{log} does not have a request that was made {wait:.0f} s ago",
            "check that auditing is on, that its policy logs selfsubjectreviews, and that it is this cluster's log",
        )


def check_events(cluster: Cluster) -> Finding:
    """How old the oldest event is: the API server does not say how long it keeps them (an hour by default)."""
    oldest: datetime | None = None
    count = 0
    try:
        born = _created(cluster.get(NAMESPACE, "", "kube-system"))
        for event in cluster.list(CORE_EVENT):
            count += 1
            at = _created(event)
            oldest = at if oldest is None else min(oldest, at)
    except PlatformError as error:
        return warn("events", f"how long they are kept is not known: {error}", error.next_step)
    now = datetime.now(UTC)
    if oldest is None:
        return warn("events", "there is none: how long they are kept is not known", "look again when something ran")
    age = now - oldest
    saw = f"the oldest of {count} is {_words(age)} old"
    if age < _SHORT and now - born > 2 * age:
        return warn(
            "events",
            f"{saw}: what happened before is not in the API any more",
            "ship events to a log store, or raise --event-ttl (an hour by default)",
        )
    return ok("events", saw)


def _created(obj: Json) -> datetime:
    return datetime.fromisoformat(str(obj["metadata"]["creationTimestamp"]))


def _words(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def _readable(log: Path) -> bool:
    try:
        with log.open("rb") as file:
            file.read(1)
    except OSError:
        return False
    return True
