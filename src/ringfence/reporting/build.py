"""``build``: the report of one incident, from the store alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from ringfence import __version__
from ringfence.model.access import AccessPath, PathState, verdict
from ringfence.model.incident import Incident
from ringfence.model.recovery_events import Reviewed
from ringfence.model.timeline import (
    AccessAccepted,
    AccessTurned,
    CanaryTried,
    EvidenceHandled,
    IncidentDeclared,
    Refusal,
)
from ringfence.reporting import steps, story
from ringfence.reporting.affected import affected
from ringfence.reporting.limits import limits
from ringfence.reporting.measures import measures, root_cause
from ringfence.reporting.story import Entry
from ringfence.reporting.view import AcceptanceView, Capture, ChainHead, Contact, Report
from ringfence.store import access, evidence, incidents, journal, timeline
from ringfence.store.database import Session


class ContactLike(Protocol):
    """Whom to call: the configuration's contacts are such."""

    @property
    def role(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def reach(self) -> str: ...


def build(
    session: Session, incident_id: str, *, generated_at: datetime, contacts: Iterable[ContactLike] = ()
) -> Report:
    """Read the incident's rows once and compute its report; the same rows give the same report.

    ``generated_at`` is zone-aware. Raises TargetError when there is no such incident, ChainBroken when its timeline
    does not verify (then there is nothing to report from), StoreError when rows contradict each other.
    """
    incident = incidents.get(session, incident_id)
    entries = _entries(session, incident)
    events = [entry.event for entry in entries if entry.event is not None]
    declared = next((event for event in events if isinstance(event, IncidentDeclared)), None)
    records = journal.of_incident(session, incident.id)
    attempts, glass = steps.gather(events, records)
    reviews = [event for event in events if isinstance(event, Reviewed)]
    rows = access.rows(session, incident.id)
    captures = _captures(session, incident.id)
    said = verdict(rows)
    declarer = declared.actor if declared else incident.declared_by
    newest = evidence.last_custody(session, incident.id)
    custody_head = json.loads(newest) if newest is not None else None
    return Report(
        generated_at=generated_at,
        tool_version=__version__,
        incident=incident,
        command=declared.command if declared else "",
        declared_by=declarer,
        verdict=said,
        rows=rows,
        acceptances=_acceptances(entries, rows),
        break_glass=glass,
        milestones=story.milestones(entries, attempts, incident.declared_at),
        persons=story.persons([declarer, *(event.actor for event in events)], incident.cluster),
        timeline=tuple(story.lines(entries, incident.declared_at)),
        affected=affected(incident.target, records, attempts, rows),
        steps=attempts,
        refusals=tuple(event for event in events if isinstance(event, Refusal)),
        canaries=tuple(event for event in events if isinstance(event, CanaryTried)),
        root_cause=root_cause(captures, reviews),
        lessons=reviews[-1].lessons if reviews else (),
        reviewed_by=reviews[-1].actor if reviews else "",
        measures=measures(rows, attempts, captures, glass),
        evidence=captures,
        handlings=tuple(event for event in events if isinstance(event, EvidenceHandled)),
        custody=ChainHead(int(custody_head["seq"]), str(custody_head["hash"])) if custody_head else None,
        limits=limits(
            rows=rows,
            verdict=said,
            steps=attempts,
            evidence=captures,
            erased=len(entries) - len(events),
            generated_at=generated_at,
        ),
        contacts=tuple(Contact(one.role, one.name, one.reach) for one in contacts),
        head=ChainHead(incident.seq, incident.head_hash),
    )


def _entries(session: Session, incident: Incident) -> tuple[Entry, ...]:
    """One for each number of the chain: the timeline is read without the events that were erased by law."""
    events = {entry.seq: entry.event for entry in timeline.read(session, incident.id)}
    return tuple(Entry(seq, events.get(seq)) for seq in range(1, incident.seq + 1))


def _captures(session: Session, incident: str) -> tuple[Capture, ...]:
    sealed = [
        Capture(seal, evidence.items(session, incident, evidence.capture_of(session, seal.id)))
        for seal in evidence.seals(session, incident)
    ]
    never = evidence.unsealed_captures(session, incident)
    return (*sealed, *(Capture(None, evidence.items(session, incident, capture)) for capture in never))


def _acceptances(entries: Sequence[Entry], rows: Sequence[AccessPath]) -> tuple[AcceptanceView, ...]:
    """Every acceptance that was ever given, with what the row was before it."""
    standing = {row.path: row for row in rows}
    state: dict[str, PathState] = {}
    found = []
    for entry in entries:
        event = entry.event
        if isinstance(event, AccessTurned):
            state[event.path] = event.after
        elif isinstance(event, AccessAccepted):
            row = standing.get(event.path)
            held = row.acceptance if row else None
            stands = held is not None and (held.principal, held.at) == (event.actor, event.occurred_at)
            found.append(
                AcceptanceView(
                    path=event.path,
                    title=row.title if row else event.path,
                    person=event.actor,
                    reason=event.reason,
                    at=event.occurred_at,
                    was=held.state if held is not None and stands else state.get(event.path),
                    stands=stands,
                )
            )
            state[event.path] = PathState.ACCEPTED
    return tuple(found)
