"""Computing the residual-access statement anew and keeping it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from ringfence.access import facts as access_facts
from ringfence.access.facts import Facts, Serving, TokenCut
from ringfence.access.group import together
from ringfence.access.statement import rows as compute
from ringfence.errors import PlatformError, RingfenceError, TargetError
from ringfence.model.access import Acceptance, AccessPath, PathState
from ringfence.model.base import Json
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import is_done
from ringfence.model.plan import Verb
from ringfence.model.recovery_events import WatchOpened
from ringfence.model.timeline import CanaryReported, CanaryTried, Event, NodeHelperReported, RunStarted
from ringfence.platform.kubernetes import token_policy
from ringfence.platform.kubernetes.pods import service_account
from ringfence.platform.kubernetes.rbac import grants
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.snapshot import Snapshot
from ringfence.platform.kubernetes.surroundings import Siblings
from ringfence.response import canary_record, node_events, token_canary
from ringfence.response.context import Context, now
from ringfence.response.recovery.known import without_restored
from ringfence.store import access, incidents, journal, targets, timeline

if TYPE_CHECKING:
    from ringfence.platform.kubernetes.audit_doings import Doings

_OF_A_POD = (CanaryTried, CanaryReported, NodeHelperReported)
_AT_ONCE = 4
_UNBINDS = "identity.unbind"  # named, not imported: a command that only looks needs nothing that acts


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
    found = _computed(context, incident)
    if isinstance(found, str):
        return stored(context, incident, found)
    computed, facts = found
    with context.store.write() as session:
        rows = access.save(session, incident.id, computed, actor=context.actor, now=now())
    return Statement(rows, facts)


def look(context: Context, incident: Incident) -> Statement:
    """The same, and nothing is kept: for who only wants to see."""
    found = _computed(context, incident)
    if isinstance(found, str):
        return stored(context, incident, found)
    computed, facts = found
    with context.store.read() as session:
        return Statement(access.merged(access.rows(session, incident.id), computed), facts)


def _computed(context: Context, incident: Incident) -> tuple[tuple[AccessPath, ...], tuple[Facts, ...]] | str:
    """The rows and the facts that they were computed from; why that could not be done."""
    with context.store.read() as session:
        pods = [ref for ref in targets.of_incident(session, incident.id) if ref.kind == POD.kind]
        events = timeline.events_of(session, incident.id, *_OF_A_POD, WatchOpened, RunStarted)
        # What is said of single pods: each pod is looked for in it.
        told = [event for event in events if isinstance(event, _OF_A_POD)]
        records = journal.of_incident(session, incident.id)
        before = access.rows(session, incident.id)
    found = [(ref, suspect(context, incident, ref)) for ref in pods]
    known = [(ref, pod) for ref, pod in found if pod is not None]
    if not known or len(known) < len(found):
        missing = [str(ref) for ref, pod in found if pod is None]
        return f"as it was found it is not known: {', '.join(missing)}" if missing else "the incident is about no pod"
    view = Snapshot(context.cluster)
    done = _doings(context, [pod for _, pod in known])
    try:
        if len(known) == 1:
            gathered = [_facts(context, incident, view, told, records, done, *known[0])]
        else:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="retest") as pool:
                gathered = list(pool.map(lambda one: _facts(context, incident, view, told, records, done, *one), known))
    except PlatformError as error:
        return str(error)
    facts = without_restored(context, events, _without_each_other(gathered, known), before)
    computed = together([(ref.name, compute(one)) for (ref, _), one in zip(known, facts, strict=True)])
    return tuple(computed), tuple(facts)


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
    context: Context,
    incident: Incident,
    view: Snapshot,
    events: Sequence[Event],
    records: Sequence[ChangeRecord],
    done: Mapping[str, Doings | str],
    target: ObjectRef,
    pod: Json,
) -> Facts:
    did = done.get(_user(pod), "")
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
        fence=incident.fence,
        look_for_legacy=context.policy.legacy_tokens,
        token_cut=_token_cut(incident, events, records, target, pod),
        doings=did if not isinstance(did, str) else None,
        doings_unread=did if isinstance(did, str) else "",
        node_cut=node_events.latest(events, target.uid),
        pool=context.pool,
    )


def _doings(context: Context, pods: Sequence[Json]) -> dict[str, Doings | str]:
    """What each pod's account did since its oldest pod started, by the audit log if there is one; or why not known."""
    log = context.policy.audit_log
    if log is None:
        return {}
    from ringfence.platform.kubernetes.audit_doings import done_by

    found: dict[str, Doings | str] = {}
    for user in dict.fromkeys(map(_user, pods)):
        started = min(
            datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) for pod in pods if _user(pod) == user
        )
        try:
            found[user] = done_by(log, user, started)
        except RingfenceError as error:
            found[user] = str(error)
    return found


def _user(pod: Json) -> str:
    return f"system:serviceaccount:{pod['metadata']['namespace']}:{service_account(pod)}"


def _token_cut(
    incident: Incident, events: Sequence[Event], records: Sequence[ChangeRecord], target: ObjectRef, pod: Json
) -> TokenCut:
    """What the journal says of the pod's identity; what holds now is read from the cluster."""
    standing = [
        record for record in records if not record.undone and record.outcome is not None and is_done(record.outcome)
    ]
    policy = token_policy.policy_name(incident.fence, target.uid)
    namespace, account = pod["metadata"]["namespace"], service_account(pod)
    return TokenCut(
        policy=policy
        if any(record.change.ref.name == policy and record.change.verb is Verb.CREATE for record in standing)
        else "",
        writes_refused=canary_record.was_refused(events, canary_record.WRITE, {target.uid}),
        unbound=any(
            record.action == _UNBINDS and grants(namespace, account, [record.change.prior])
            for record in standing
            if record.change.prior is not None
        ),
        reads_refused=canary_record.was_refused(events, canary_record.READ, {target.uid}),
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
