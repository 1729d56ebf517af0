"""``timeline``: one line per event."""

from __future__ import annotations

from ringfence.cli.output import Format, say, say_json, table
from ringfence.model.outcome import describe
from ringfence.model.timeline import (
    AccessAccepted,
    AccessTurned,
    CanaryTried,
    CaptureOpened,
    ChangeIntended,
    ChangeResult,
    Event,
    EvidenceAcquired,
    EvidenceHandled,
    EvidenceSealed,
    GlassBroken,
    IncidentDeclared,
    PlanMade,
    Refusal,
    ReportWritten,
    StateChanged,
    StepFinished,
)
from ringfence.store import incidents
from ringfence.store import timeline as rows
from ringfence.store.database import Session


def show(session: Session, incident_id: str, out: Format) -> None:
    """Print the verified timeline. Raises TargetError, ChainBroken."""
    incident = incidents.get(session, incident_id)
    entries = rows.read(session, incident.id)
    if out is Format.JSON:
        say_json([entry.to_json() for entry in entries])
        return
    # One line per item would drown the rest: acquisitions are listed by "evidence list" and with -o wide.
    shown = [e for e in entries if out is Format.WIDE or not isinstance(e.event, EvidenceAcquired)]
    table(
        ("seq", "time (UTC)", "event", "what"),
        [(e.seq, f"{e.event.occurred_at:%Y-%m-%d %H:%M:%S.%f}"[:-3], e.event.type, summary(e.event)) for e in shown],
    )
    if len(shown) < len(entries):
        say(f"({len(entries) - len(shown)} acquisitions of evidence not shown: -o wide)")
    say(f"chain verified: {len(entries)} events, head {incident.head_hash}")


def summary(event: Event) -> str:
    """One line per kind of event; what it says is cleaned where it is printed."""
    match event:
        case IncidentDeclared():
            return f"{event.severity.value} {event.incident_type}: {event.title} ({event.target}) by {event.actor}"
        case StateChanged():
            return f"{event.before.value} → {event.after.value}"
        case CaptureOpened():
            return f"{event.opened} of {event.streams} log streams open before the cut, waited {event.waited_ms} ms"
        case PlanMade():
            return f"{event.action}: {len(event.changes)} requests, plan {event.plan_sha256[:12]}; {event.rationale}"
        case ChangeIntended():
            return f"{event.verb.value} {event.ref} (Audit-ID {event.audit_id}): {event.effect}"
        case ChangeResult():
            return f"{event.change}: {describe(event.outcome)}"
        case StepFinished():
            return f"{event.action}: {describe(event.outcome)}" + _proof(event)
        case Refusal():
            return f"{event.action} refused by {event.gate}: {event.reason}"
        case GlassBroken():
            return f"BROKEN by {event.actor} for {event.action}: {event.reason} (missing: {event.missing})"
        case EvidenceAcquired():
            return f"{event.item}: {event.result.value} {event.reason or f'{event.raw_size} bytes {event.raw_sha256}'}"
        case EvidenceSealed():
            return f"{event.seal}: {event.collected} of {event.items} items, bundle sha256:{event.bundle_sha256}"
        case EvidenceHandled():
            return f"{event.action} {event.seal}: {event.result}"
        case AccessTurned():
            before = event.before.value if event.before else "new"
            return f"{event.path}: {before} → {event.after.value} ({event.level.value}): {event.why}"
        case AccessAccepted():
            return f"{event.path} accepted by {event.actor}: {event.reason}"
        case CanaryTried():
            return f"{event.path} by {event.canary}: {event.result} {event.why}".rstrip()
        case ReportWritten():
            return ", ".join(event.files)


def _proof(event: StepFinished) -> str:
    return f"; {event.proof.level.value}: {event.proof.claim}" if event.proof else ""
