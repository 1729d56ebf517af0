"""``ringfence evidence verify --audit-log``: the timeline against the cluster's own log, and how that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence import app as wiring
from ringfence.cli.bundles import has_seal, open_seal
from ringfence.cli.output import note, say, styled
from ringfence.cli.text import clean, plural
from ringfence.config import Config
from ringfence.errors import AuditMismatch, RingfenceError, Unverifiable
from ringfence.evidence.claims import record_of
from ringfence.evidence.differences import Finding, Kind
from ringfence.evidence.handling import handled
from ringfence.evidence.reconcile import Comparison, compare
from ringfence.model.base import Json
from ringfence.platform.kubernetes.audit_log import AuditLog
from ringfence.store import incidents

if TYPE_CHECKING:
    from ringfence.platform.kubernetes.audit_log import FileRead

_STYLES = {Kind.UNVERIFIABLE: "yellow", Kind.NOTE: "dim"}


@dataclass(frozen=True)
class Checked:
    """The comparison, and the files that it was made with."""

    comparison: Comparison
    files: tuple[FileRead, ...]

    def to_json(self) -> Json:
        return {**self.comparison.to_json(), "files": [read.to_json() for read in self.files]}

    @property
    def summary(self) -> str:
        found = self.comparison
        return (
            f"{found.matched} of {plural(found.claims, 'claimed call')} in the audit log, "
            f"{plural(len(found.differences), 'difference')}, {len(found.unverifiable)} that cannot be checked"
        )

    def error(self) -> RingfenceError | None:
        """What the command ends with: a difference weighs more than what cannot be checked; None when all is well."""
        found = self.comparison
        if found.differences:
            return AuditMismatch(
                f"{found.incident} and the audit log differ in {plural(len(found.differences), 'place')}",
                why=_brief(found.differences[0]),
                next_step="keep store and log as they are; ask who can write either, and who has our identity",
            )
        if found.unverifiable:
            return Unverifiable(
                f"{found.incident} against the audit log, in {plural(len(found.unverifiable), 'place')}",
                missing=_brief(found.unverifiable[0]),
                next_step="give every file of the log, of every API server, from the declaration on",
            )
        return None


def check(config: Config, incident_id: str, logs: Sequence[Path], identities: Sequence[str], seconds: float) -> Checked:
    """Compare, and put the result into the custody chain of the newest seal, if there is one.

    Raises TargetError, StoreError, ChainBroken, and Unverifiable when a file cannot be read.
    """
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
        record = record_of(session, incident)
    log = AuditLog(logs, record.since)
    comparison = compare(record, log.events(), log.spans, identities=identities, tolerance=timedelta(seconds=seconds))
    checked = Checked(comparison, tuple(log.files))
    if not has_seal(config, incident.id):
        return checked  # there is no custody to write into
    seal = open_seal(config, incident.id, None).seal
    result = f"audit log: {checked.summary}"
    handled(store, seal, "verify", result, actor=wiring.local_principal().id, now=datetime.now(UTC))
    return checked


def show(checked: Checked) -> None:
    """For people: what was read, what was found, and one line of conclusion."""
    found = checked.comparison
    for read in checked.files:
        span = f"{_moment(read.first)} to {_moment(read.last)}" if read.first else "no event"
        say(clean(f"audit log {read.path}: {plural(read.events, 'event')}, {span}"))
        for line, why in read.broken_lines:
            note(f"{read.path}:{line}: {why}")
        if read.broken > len(read.broken_lines):
            note(f"{read.path}: {read.broken - len(read.broken_lines)} more broken lines")
        if read.problem:
            note(f"{read.path}: not read to its end: {read.problem}")
    for finding in found.findings:
        say(styled(clean(f"{finding.kind.value.upper()}  {finding.what}"), _STYLES.get(finding.kind, "red")))
        say(clean(f"  expected  {finding.expected}"), clean(f"  found     {finding.found}"))
        if finding.audit_id or finding.where:
            say(clean(f"  at        {finding.where or 'no line'}, Audit-ID {finding.audit_id or 'none'}"))
    say(clean(f"audit log: {checked.summary}"))
    who = ", ".join(found.identities) or "nobody"
    until = f"to {_moment(found.until)}" if found.until else "on"
    say(
        clean(f"  every change by {who} was looked for, from {_moment(found.since)} {until}"),
        clean(f"  no change: {plural(found.dry_runs, 'dry run')}, {found.refused} refused by the API server"),
    )


def _brief(finding: Finding) -> str:
    return f"{finding.kind.value}: {finding.what}: expected {finding.expected}, found {finding.found}"


def _moment(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else "?"
