"""Computing the residual-access statement anew and keeping it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ringfence.access import facts as access_facts
from ringfence.access.facts import Facts, Serving
from ringfence.access.group import together
from ringfence.access.statement import rows as compute
from ringfence.errors import PlatformError, TargetError
from ringfence.model.access import Acceptance, AccessPath, PathState
from ringfence.model.base import Json
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.model.timeline import CanaryReported, Event
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.snapshot import Snapshot
from ringfence.platform.kubernetes.surroundings import Siblings
from ringfence.response import node_helper, token_canary
from ringfence.response.context import Context, now
from ringfence.store import access, incidents, journal, targets, timeline

_AT_ONCE = 4


@dataclass(frozen=True)
class Statement:
    """The rows as they stand. ``facts`` has one entry for each pod; empty when the cluster could not be read, and
    ``why`` then says so."""

    rows: tuple[AccessPath, ...]
    facts: tuple[Facts, ...]
    why: str = ""

    @property
    def siblings(self) -> Siblings | None:
        """Siblings of any of the pods; None when they could not be counted."""
        found = [facts.siblings for facts in self.facts]
        known = [one for one in found if one is not None]
        if not known or len(known) < len(found):
            return None
        return Siblings(
            by_image=_unique(pod for one in known for pod in one.by_image),
            by_account=_unique(pod for one in known for pod in one.by_account),
            scope=known[0].scope,
            why_narrow=known[0].why_narrow,
        )

    @property
    def serving(self) -> tuple[Serving, ...]:
        """Each Service once, at the least that any pod's reading says."""
        by_name: dict[str, Serving] = {}
        for one in (serving for facts in self.facts for serving in facts.serving):
            known = by_name.get(one.service)
            by_name[one.service] = one if known is None or one.ready < known.ready else known
        return tuple(by_name.values())


def retest(context: Context, incident: Incident) -> Statement:
    """Read the cluster, compute the rows of every pod of the incident, keep them with an event for each that turned."""
    with context.store.read() as session:
        pods = [ref for ref in targets.of_incident(session, incident.id) if ref.kind == POD.kind]
        events = [entry.event for entry in timeline.read(session, incident.id)]
    found = [(ref, suspect(context, incident, ref)) for ref in pods]
    known = [(ref, pod) for ref, pod in found if pod is not None]
    if not known or len(known) < len(found):
        missing = [str(ref) for ref, pod in found if pod is None]
        return stored(
            context,
            incident,
            f"as it was found it is not known: {', '.join(missing)}" if missing else "the incident is about no pod",
        )
    view = Snapshot(context.cluster)
    try:
        if len(known) == 1:
            gathered = [_facts(context, incident, view, events, *known[0])]
        else:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="retest") as pool:
                gathered = list(pool.map(lambda one: _facts(context, incident, view, events, *one), known))
    except PlatformError as error:
        return stored(context, incident, str(error))
    facts = _without_each_other(gathered, known)
    computed = together([(ref.name, compute(one)) for (ref, _), one in zip(known, facts, strict=True)])
    with context.store.write() as session:
        rows = access.save(session, incident.id, computed, actor=context.actor, now=now())
    return Statement(rows, tuple(facts))


def stored(context: Context, incident: Incident, why: str) -> Statement:
    with context.store.read() as session:
        return Statement(access.rows(session, incident.id), (), why)


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


def suspect(context: Context, incident: Incident, target: ObjectRef) -> Json | None:
    """The pod as it was found: as it joined, else the prior state of the first change that touched it, else as it lives
    now."""
    with context.store.read() as session:
        found = targets.as_found(session, incident.id, target.uid)
        if found is not None:
            return found
        for record in journal.of_incident(session, incident.id):
            if record.change.ref.uid == target.uid and record.change.prior is not None:
                return record.change.prior
    try:
        live = context.cluster.find(POD, target.namespace, target.name)
    except PlatformError:
        return None
    return live if live is not None and live["metadata"]["uid"] == target.uid else None


def _facts(
    context: Context, incident: Incident, view: Snapshot, events: Sequence[Event], target: ObjectRef, pod: Json
) -> Facts:
    return access_facts.gather(
        view,
        pod,
        target,
        since=incident.declared_at,
        token_refused=token_canary.was_refused(events, incident, target),
        network_canary=next(
            (
                event.report
                for event in reversed(events)
                if isinstance(event, CanaryReported) and event.report.target.uid == target.uid
            ),
            None,
        ),
        node_cut=node_helper.latest(events, target.uid),
        pool=context.pool,
    )


def _without_each_other(gathered: Sequence[Facts], known: Sequence[tuple[ObjectRef, Json]]) -> list[Facts]:
    """The incident's own pods are no siblings that nobody has looked at: each has rows of its own."""
    own = {ref.uid for ref, _ in known}

    def others(facts: Facts) -> Facts:
        if facts.siblings is None:
            return facts
        siblings = replace(
            facts.siblings,
            by_image=tuple(pod for pod in facts.siblings.by_image if pod["metadata"]["uid"] not in own),
            by_account=tuple(pod for pod in facts.siblings.by_account if pod["metadata"]["uid"] not in own),
        )
        return replace(facts, siblings=siblings)

    return [others(facts) for facts in gathered]


def _unique(pods: Iterable[Json]) -> tuple[Json, ...]:
    by_uid: dict[str, Json] = {pod["metadata"]["uid"]: pod for pod in pods}
    return tuple(by_uid.values())
