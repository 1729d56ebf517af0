"""Computing the residual-access statement anew and keeping it."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.access import facts as access_facts
from ringfence.access.facts import Facts
from ringfence.access.statement import rows as compute
from ringfence.errors import PlatformError, TargetError
from ringfence.model.access import Acceptance, AccessPath, PathState
from ringfence.model.base import Json
from ringfence.model.incident import Incident
from ringfence.model.timeline import CanaryTried
from ringfence.platform.kubernetes.resources import POD
from ringfence.response.context import Context, now
from ringfence.store import access, incidents, journal, timeline


@dataclass(frozen=True)
class Statement:
    """The rows as they stand. ``facts`` is None when the cluster could not be read; ``why`` then says so."""

    rows: tuple[AccessPath, ...]
    facts: Facts | None
    why: str = ""


def retest(context: Context, incident: Incident) -> Statement:
    """Read the cluster, compute the rows, keep them with an event for each that turned."""
    pod = suspect(context, incident)
    if pod is None:
        return stored(context, incident, "the pod as it was found is not known: nothing was planned for it yet")
    try:
        facts = access_facts.gather(
            context.cluster,
            pod,
            incident.target,
            since=incident.declared_at,
            token_refused=_token_refused(context, incident),
            pool=context.pool,
        )
    except PlatformError as error:
        return stored(context, incident, str(error))
    with context.store.write() as session:
        rows = access.save(session, incident.id, compute(facts), actor=context.actor, now=now())
    return Statement(rows, facts)


def stored(context: Context, incident: Incident, why: str) -> Statement:
    with context.store.read() as session:
        return Statement(access.rows(session, incident.id), None, why)


def accept(context: Context, incident: Incident, path: str, reason: str) -> AccessPath:
    """Take an open row on, in the name of the principal that the cluster vouches for. Raises TargetError."""
    with context.store.write() as session:
        statement = access.rows(session, incident.id)
        row = next((row for row in statement if row.path == path), None)
        if row is None:
            raise TargetError(
                f"{incident.id} has no row {path!r}",
                why="rows: " + ", ".join(row.path for row in statement),
                next_step=f"ringfence status {incident.id}",
            )
        if row.state is PathState.DEAD:
            raise TargetError(
                f"{path} is dead: there is nothing to accept", next_step=f"ringfence status {incident.id}"
            )
        incidents.remember(session, context.principal, now())
        accepted = row.acceptance.state if row.acceptance else row.state
        acceptance = Acceptance(principal=context.actor, reason=reason, at=now(), state=accepted)
        return access.accept(session, incident.id, row, acceptance)


def suspect(context: Context, incident: Incident) -> Json | None:
    """The pod as it was found: the prior state of the first change that touched it, else as it lives now."""
    with context.store.read() as session:
        for record in journal.of_incident(session, incident.id):
            if record.change.ref.uid == incident.target.uid and record.change.prior is not None:
                return record.change.prior
    try:
        live = context.cluster.find(POD, incident.target.namespace, incident.target.name)
    except PlatformError:
        return None
    return live if live is not None and live["metadata"]["uid"] == incident.target.uid else None


def _token_refused(context: Context, incident: Incident) -> bool:
    """Whether the last canary token of the pod was accepted, and refused after that: the timeline remembers.

    Each canary begins with ``intended``: one that was never accepted proves nothing by being refused.
    """
    with context.store.read() as session:
        tries = [
            entry.event.result
            for entry in timeline.read(session, incident.id)
            if isinstance(entry.event, CanaryTried) and entry.event.path == "identity.kubernetes"
        ]
    if "intended" in tries:
        tries = tries[len(tries) - tries[::-1].index("intended") :]
    return "accepted" in tries and tries[-1] == "refused"
