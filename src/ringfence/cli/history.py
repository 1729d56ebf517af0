"""``timeline``: one line per event, in the report's words."""

from __future__ import annotations

from ringfence.cli.output import Format, say, say_data, table
from ringfence.model.timeline import EvidenceAcquired
from ringfence.reporting.story import sentence
from ringfence.store import incidents
from ringfence.store import timeline as rows
from ringfence.store.database import Session


def show(session: Session, incident_id: str, out: Format) -> None:
    """Print the verified timeline. Raises TargetError, ChainBroken."""
    incident = incidents.get(session, incident_id)
    entries = rows.read(session, incident.id)
    if out in (Format.JSON, Format.YAML):
        say_data([entry.to_json() for entry in entries], out)
        return
    # One line per item would drown the rest: acquisitions are listed by "evidence list" and with -o wide.
    shown = [e for e in entries if out is Format.WIDE or not isinstance(e.event, EvidenceAcquired)]
    table(
        ("seq", "time (UTC)", "event", "what"),
        [(e.seq, f"{e.event.occurred_at:%Y-%m-%d %H:%M:%S.%f}"[:-3], e.event.type, sentence(e.event)) for e in shown],
    )
    if len(shown) < len(entries):
        say(f"({len(entries) - len(shown)} acquisitions of evidence not shown: -o wide)")
    say(f"chain verified: {len(entries)} events, head {incident.head_hash}")
