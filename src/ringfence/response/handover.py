"""The hand-over of an incident's command: what the next person must know, gathered from store and statement.

Nothing in it is composed by hand but the note: it is what the timeline, the rows, the runs and the seals say.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ringfence.model.access import AccessPath, PathState, Verdict, verdict
from ringfence.model.base import Json, isoformat
from ringfence.model.evidence import Seal
from ringfence.model.incident import Determination, Incident, OcsfStatus, State, ocsf_status
from ringfence.model.next_steps import shutting
from ringfence.model.outcome import describe
from ringfence.model.run import Approval, Decision, Lease, Run
from ringfence.model.timeline import (
    AwarenessRecorded,
    Classified,
    DeterminationMade,
    Event,
    GlassBroken,
    HandedOver,
    NoteAdded,
    StepFinished,
)
from ringfence.response import node_events
from ringfence.response.context import Context
from ringfence.store import access, approvals, commands, enforcement, evidence, incidents, runs, timeline
from ringfence.store.database import Session

_CUTS = ("network.quarantine", "node.cut")
_ENDS = ("pod.delete", "pod.release", "workload.")


@dataclass(frozen=True)
class Deadline:
    """A moment by which somebody must have acted; ``what`` says what happens then."""

    at: datetime
    what: str


@dataclass(frozen=True)
class Handover:
    """``story`` is five lines. ``unread`` says why the rows are those of the last look and not of now."""

    incident: Incident
    at: datetime
    status: OcsfStatus
    verdict: Verdict
    aware_at: datetime
    story: tuple[str, ...]
    open_rows: tuple[AccessPath, ...]
    accepted: tuple[AccessPath, ...]
    runs: tuple[Run, ...]
    approvals: tuple[Approval, ...]
    lease: Lease | None
    seals: tuple[Seal, ...]
    deadlines: tuple[Deadline, ...]
    next_commands: tuple[str, ...]
    unread: str
    enforcement: str = ""
    """What is known of the cluster's NetworkPolicies, with its age; empty when nobody has tried."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """What is not over: ids of runs and approvals."""
        return (*(run.id for run in self.runs), *(approval.id for approval in self.approvals))

    def to_json(self) -> Json:
        newest = self.seals[-1] if self.seals else None
        return {
            "incident": self.incident.to_json(),
            "at": isoformat(self.at),
            "status": {"name": self.status.value, "id": self.status.status_id},
            "verdict": self.verdict.value,
            "aware_at": isoformat(self.aware_at),
            "story": list(self.story),
            "open_rows": [row.to_json() for row in self.open_rows],
            "accepted_rows": [row.to_json() for row in self.accepted],
            "runs": [run.to_json() for run in self.runs],
            "approvals": [approval.to_json() for approval in self.approvals],
            "lease": self.lease.to_json() if self.lease else None,
            "seals": {"count": len(self.seals), "newest": newest.to_json() if newest else None},
            "deadlines": [{"at": isoformat(one.at), "what": one.what} for one in self.deadlines],
            "next": list(self.next_commands),
            "unread": self.unread,
            "enforcement": self.enforcement,
        }


def gather(
    session: Session, incident_id: str, *, at: datetime, unread: str = "", helper_allowed: bool = True
) -> Handover:
    """The hand-over of an incident as the store has it. ``helper_allowed``: the configuration lets the node helper be
    switched on. Raises TargetError, ChainBroken."""
    incident = incidents.get(session, incident_id)
    events = [entry.event for entry in timeline.read(session, incident.id)]
    rows = access.rows(session, incident.id)
    every_run = runs.of_incident(session, incident.id)
    going = tuple(run for run in every_run if not run.state.ended)
    pending = tuple(one for one in approvals.of_incident(session, incident.id) if one.decision is Decision.PENDING)
    lease = commands.lease_of(session, incident.id)
    seals = evidence.seals(session, incident.id)
    open_rows = tuple(row for row in rows if row.is_open)
    known = enforcement.newest(session, incident.cluster)
    still_in = shutting(
        incident.id,
        rows,
        identity_cut=any(run.playbook == "cut-identity" for run in every_run),
        helper_on=node_events.is_on(events),
        helper_allowed=helper_allowed,
        known=known,
    )
    aware = [event.aware_at for event in events if isinstance(event, AwarenessRecorded)]
    return Handover(
        incident=incident,
        at=at,
        status=ocsf_status(incident.state),
        verdict=verdict(rows),
        aware_at=aware[-1] if aware else incident.declared_at,
        story=tuple(_story(incident, events, seals)),
        open_rows=open_rows,
        accepted=tuple(row for row in rows if row.state is PathState.ACCEPTED),
        runs=going,
        approvals=pending,
        lease=lease,
        seals=seals,
        deadlines=tuple(sorted(_deadlines(pending, lease), key=lambda one: one.at)),
        next_commands=_next(incident, open_rows, going, pending, still_in),
        unread=unread,
        enforcement=known.words(at) if known is not None else "",
    )


def record(context: Context, handover: Handover, *, to: str, note: str) -> None:
    """Write down that the command went to somebody else, in the name that the cluster vouches for."""
    event = HandedOver(
        occurred_at=handover.at,
        actor=context.actor,
        to=to,
        open_rows=tuple(row.path for row in handover.open_rows),
        waiting=handover.waiting,
        note=note,
    )
    with context.store.write() as session:
        incidents.remember(session, context.principal, handover.at)
        timeline.append(session, handover.incident.id, event, handover.at)


def _story(incident: Incident, events: Sequence[Event], seals: Sequence[Seal]) -> Iterator[str]:
    """Five lines: declared, cut, sealed, ended, and what people said last."""
    yield (
        f"{_moment(incident.declared_at)} declared by {who(incident, incident.declared_by)}: {incident.title} "
        f"({incident.type}, {incident.severity}), about {incident.target}"
    )
    finished = [event for event in events if isinstance(event, StepFinished)]
    yield _last(finished, _CUTS, "cut", "nothing was cut")
    if seals:
        newest = seals[-1]
        whole = "complete" if newest.complete else f"NOT COMPLETE: {newest.why_incomplete}"
        yield (
            f"{_moment(newest.sealed_at)} {len(seals)} sealed, the newest {newest.id} with {newest.collected} of "
            f"{newest.items} items, {whole}"
        )
    else:
        yield "nothing is sealed"
    glass = [event for event in events if isinstance(event, GlassBroken)]
    broken = f"; BREAK-GLASS by {who(incident, glass[-1].actor)}: {glass[-1].reason}" if glass else ""
    yield _last(finished, _ENDS, "ended", "nothing was deleted or stopped") + broken
    yield _last_words(incident, events)


def _last(finished: Sequence[StepFinished], actions: tuple[str, ...], what: str, none: str) -> str:
    of_them = [event for event in finished if event.action.startswith(actions)]
    if not of_them:
        return none
    last = of_them[-1]
    shown = f" ({last.proof.level}: {last.proof.claim})" if last.proof else ""
    more = f", the last of {len(of_them)} steps" if len(of_them) > 1 else ""
    return f"{_moment(last.occurred_at)} {what}, {last.step}{more}: {last.action}: {describe(last.outcome)}{shown}"


def _last_words(incident: Incident, events: Sequence[Event]) -> str:
    for event in reversed(events):
        match event:
            case NoteAdded():
                words = event.text
            case DeterminationMade():
                words = f"it is {event.determination}: {event.reason}"
            case Classified():
                of = f", {event.scheme} {event.value}" if event.scheme else ""
                words = f"severity {event.severity}{of}: {event.reason}"
            case HandedOver():
                words = f"handed over to {event.to}" + (f": {event.note}" if event.note else "")
            case _:
                continue
        return f"{_moment(event.occurred_at)} {who(incident, event.actor)}: {words}"
    return "nobody has left a note"


def _deadlines(pending: Sequence[Approval], lease: Lease | None) -> Iterator[Deadline]:
    for approval in pending:
        yield Deadline(approval.expires_at, f"{approval.id} counts as a no: {approval.reason}")
    if lease is not None:
        state = "ran out: look again" if lease.expired else "runs out: somebody must look again, nothing reverts"
        yield Deadline(lease.until, f"the lease of the cut {state}")


def _next(
    incident: Incident,
    open_rows: Sequence[AccessPath],
    going: Sequence[Run],
    pending: Sequence[Approval],
    still_in: Sequence[str],
) -> tuple[str, ...]:
    """Three commands, the most pressing first; besides, what shuts the ways in that live on behind the fence."""
    name, target = incident.id, incident.target
    more: Sequence[str] = ()
    found = [f"ringfence approve {approval.id}" for approval in pending]
    if going and not pending:
        found.append(f"ringfence resume {name}")
    found.append(f"ringfence status {name} -o wide")
    if incident.state is State.CLOSED:
        found.append(f"ringfence evidence verify {name}")
    elif incident.determination is Determination.FALSE_POSITIVE:
        found.append(f"ringfence release {name}")
    elif incident.state is State.DECLARED and target.kind == "Pod":
        found.append(f"ringfence contain {shlex.quote(f'pod/{target.name}')} -n {shlex.quote(target.namespace)}")
    elif incident.state in (State.CONTAINING, State.ERADICATING):
        more = still_in
        found += [*more, f"ringfence eradicate {name}"]
    elif open_rows:
        found.append(f"ringfence accept {name} {open_rows[0].path} --reason '…'")
    return tuple([*found, f"ringfence timeline {name}", f"ringfence report {name}"][: 3 + len(more)])


def who(incident: Incident, actor: str) -> str:
    """A principal of the incident's own cluster by its subject alone; anyone else with who vouches for it."""
    return actor.removeprefix(f"kubernetes:{incident.cluster}/")


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"
