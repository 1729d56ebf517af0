"""The timeline against the cluster's own audit log, line by line, in flat memory (pure: what is read is handed in).

An Audit-ID proves nothing by itself, as whoever sends a request chooses it: a claim is matched when user, verb, object
and time are those of the line as well. What the log does not cover is unverifiable, and not missing: that tells a
record that was changed from one that cannot be checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never

from ringfence.evidence.claims import Claim, Expected, Record
from ringfence.evidence.differences import Finding, Kind
from ringfence.model.base import Json, isoformat
from ringfence.platform.kubernetes.audit_event import AuditEvent

Span = tuple[datetime, datetime]

CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far the two clocks may be apart. ``doctor`` warns from 2 s on."""
_LINES_OF_ONE = 16
"""How many lines under one Audit-ID are kept, of those that fit the claim and of those that do not: three stages of a
request, and some that were repeated."""
_NAMED = 200
"""How many calls that nobody claims are named; the rest is counted."""
_UNDER_WAY = 10_000
"""How many requests without their answer are kept."""


@dataclass(frozen=True)
class Comparison:
    """``matched`` of ``claims`` are in the log as the timeline has them; ``not_sent`` need not be (failed or in place
    already, and not in the log). ``own`` counts the lines of our identities, ``dry_runs`` and ``refused`` those of
    their calls that changed nothing and are on no timeline. ``spans`` is what the log covers."""

    incident: str
    claims: int
    matched: int
    not_sent: int
    own: int
    dry_runs: int
    refused: int
    identities: tuple[str, ...]
    since: datetime
    until: datetime | None
    spans: tuple[Span, ...]
    findings: tuple[Finding, ...]

    @property
    def differences(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.kind.is_difference)

    @property
    def unverifiable(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.kind is Kind.UNVERIFIABLE)

    def to_json(self) -> Json:
        return {
            "incident": self.incident,
            "claims": self.claims,
            "matched": self.matched,
            "not_sent": self.not_sent,
            "own_lines": self.own,
            "dry_runs": self.dry_runs,
            "refused": self.refused,
            "identities": list(self.identities),
            "since": isoformat(self.since),
            "until": isoformat(self.until) if self.until else None,
            "covered": [{"from": isoformat(first), "to": isoformat(last)} for first, last in self.spans],
            "findings": [finding.to_json() for finding in self.findings],
        }


def compare(
    record: Record,
    events: Iterable[AuditEvent],
    spans: Callable[[], Sequence[Span]],
    *,
    identities: Iterable[str] = (),
    tolerance: timedelta = CLOCK_TOLERANCE,
) -> Comparison:
    """Compare an incident's record with the log. ``spans`` is asked when all events were read.

    ``identities`` are users beside those of the record whose calls must be on the timeline.
    """
    search = _Search(record, record.identities | frozenset(identities), tolerance)
    for event in events:
        search.see(event)
    return search.end(tuple(spans()))


@dataclass
class _Search:
    """One reading of the log."""

    record: Record
    identities: frozenset[str]
    tolerance: timedelta
    own: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    dry_runs: int = 0
    refused: int = 0
    unnamed: int = 0
    unclaimed: list[AuditEvent] = field(default_factory=list)
    untold: list[AuditEvent] = field(default_factory=list)
    under_way: dict[tuple[str, datetime, str, str], AuditEvent] = field(default_factory=dict)
    fitting: dict[str, list[AuditEvent]] = field(default_factory=lambda: defaultdict(list))
    strays: dict[str, list[AuditEvent]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.claims = _by_id(self.record.claims)
        self.others = _by_id(self.record.others)

    def see(self, event: AuditEvent) -> None:
        ours = event.user in self.identities or event.impersonated in self.identities
        if ours:
            self.own[_actor(event)] += 1
        claims = self.claims.get(event.audit_id)
        if claims is not None:
            fits = any(not _unlike(claim, event, self.tolerance) for claim in claims)
            lines = (self.fitting if fits else self.strays)[event.audit_id]
            if len(lines) < _LINES_OF_ONE:
                lines.append(event)
                return
            # A flood under one of our Audit-IDs hides nothing: what does not fit is nobody's claim.
            if fits:
                return
        if ours:
            self._own_call(event)

    def _own_call(self, event: AuditEvent) -> None:
        if not event.mutates or not self._within(event.received_at):
            return
        if any(not _unlike(claim, event, self.tolerance) for claim in self.others.get(event.audit_id, ())):
            return
        key = (event.audit_id, event.received_at, event.verb, event.path)
        if not event.is_answer:
            if len(self.under_way) < _UNDER_WAY:
                self.under_way[key] = event
            else:
                self.unnamed += 1
            return
        self.under_way.pop(key, None)
        if event.was_refused:
            self.refused += 1
        elif event.dry_run:
            self.dry_runs += 1
        else:
            kept = self.untold if event.dry_run is None else self.unclaimed
            if len(kept) < _NAMED:
                kept.append(event)
            else:
                self.unnamed += 1

    def _within(self, at: datetime) -> bool:
        end = self.record.until
        return at >= self.record.since - self.tolerance and (end is None or at <= end + self.tolerance)

    def end(self, spans: tuple[Span, ...]) -> Comparison:
        findings = list(self.record.findings)
        matched, not_sent = 0, 0
        deletions: list[AuditEvent] = []
        for claim in self.record.claims:
            lines = [*self.fitting.get(claim.audit_id, ()), *self.strays.get(claim.audit_id, ())]
            fitting = [event for event in lines if not _unlike(claim, event, self.tolerance)]
            found = list(self._judge(claim, fitting, lines, spans))
            findings += found
            if fitting and all(finding.kind is Kind.NOTE for finding in found):
                matched += 1
                deletions += [event for event in fitting if event.verb == "delete" and _succeeded(event)]
            elif not lines and not found:
                not_sent += 1
        findings += self._told_of_strays()
        findings += self._unclaimed(deletions)
        return Comparison(
            incident=self.record.incident,
            claims=len(self.record.claims),
            matched=matched,
            not_sent=not_sent,
            own=sum(self.own.values()),
            dry_runs=self.dry_runs,
            refused=self.refused,
            identities=tuple(sorted(self.identities)),
            since=self.record.since,
            until=self.record.until,
            spans=spans,
            findings=tuple(findings),
        )

    def _judge(
        self, claim: Claim, fitting: list[AuditEvent], lines: list[AuditEvent], spans: Sequence[Span]
    ) -> Iterator[Finding]:
        if not fitting and lines:
            event = min(lines, key=lambda line: len(_unlike(claim, line, self.tolerance)))
            unlike = _unlike(claim, event, self.tolerance)
            yield Finding(
                Kind.DIFFERENT,
                str(claim),
                "; ".join(f"{what} {expected}" for what, expected, _ in unlike),
                "; ".join(f"{what} {found}" for what, _, found in unlike),
                claim.audit_id,
                _where(event),
            )
            return
        answers = [event for event in fitting if event.is_answer]
        done = next((event for event in answers if _succeeded(event)), None)
        if len({event.received_at for event in answers if _succeeded(event)}) > 1:
            found = "several: a gateway may have repeated it"
            yield Finding(Kind.NOTE, str(claim), "one success", found, claim.audit_id, _where(answers[-1]))
        match claim.expected:
            case Expected.ANY:
                return
            case Expected.DONE if done:
                return
            case Expected.DONE if answers:
                yield self._answered(claim, answers[-1])
            case Expected.DONE if fitting:
                yield self._open(claim, "its answer is not in the log", fitting[-1])
            case Expected.DONE:
                yield self._absent(claim, spans)
            case Expected.NOT_DONE:
                if done:
                    yield self._answered(claim, done)
            case Expected.OPEN | Expected.UNKNOWN:
                line = done or next(reversed(answers or fitting), None)
                says = f"the log has {_answer(line)}" if line else "the log does not have it"
                yield self._open(claim, f"{claim.expected.value}; {says}", line)
            case _:
                assert_never(claim.expected)

    def _answered(self, claim: Claim, event: AuditEvent) -> Finding:
        expected = f"{claim.expected.value}: the timeline says {claim.says}"
        return Finding(Kind.DIFFERENT, str(claim), expected, _answer(event), claim.audit_id, _where(event))

    def _open(self, claim: Claim, found: str, event: AuditEvent | None) -> Finding:
        expected = f"what became of it: the timeline says {claim.says}"
        return Finding(Kind.UNVERIFIABLE, str(claim), expected, found, claim.audit_id, _where(event))

    def _absent(self, claim: Claim, spans: Sequence[Span]) -> Finding:
        expected = f"a line by {claim.user or 'us'} at {isoformat(claim.since)}"
        why = self._not_covered(claim, spans)
        if why:
            return Finding(Kind.UNVERIFIABLE, str(claim), expected, why, claim.audit_id)
        found = "none, and the log covers that time"
        return Finding(Kind.MISSING, str(claim), expected, found, claim.audit_id)

    def _not_covered(self, claim: Claim, spans: Sequence[Span]) -> str:
        """Why the log need not have the claim; empty when it must."""
        if not spans:
            return "the log holds no event"
        first, last = claim.since - self.tolerance, (claim.until or claim.since) + self.tolerance
        if not any(begin <= first and last <= end for begin, end in spans):
            covered = ", ".join(f"{isoformat(begin)} to {isoformat(end)}" for begin, end in spans)
            return f"none: that time is not, or not wholly, in what was given ({covered})"
        if claim.user and not self.own.get(claim.user):
            return f"none, and no other request of {claim.user}: another cluster's log, or its policy leaves us out"
        return ""

    def _told_of_strays(self) -> Iterator[Finding]:
        """Lines under an Audit-ID of ours that are another request, beside the one that is ours."""
        for audit_id, lines in self.strays.items():
            if audit_id not in self.fitting:
                continue  # there is no other line: it was named as different
            for event in lines:
                if event.mutates and (event.user in self.identities or event.impersonated in self.identities):
                    self._own_call(event)
                elif event.is_answer:
                    yield Finding(
                        Kind.NOTE,
                        f"{event.verb} {event.object} by {_actor(event)}",
                        f"Audit-ID {audit_id} for {self.claims[audit_id][0]} alone",
                        "another request that carries it; whoever sends one chooses it",
                        audit_id,
                        _where(event),
                    )

    def _unclaimed(self, deletions: Sequence[AuditEvent]) -> Iterator[Finding]:
        for event in self.unclaimed:
            yield _by_us(event, _answer(event))
        for event in self.under_way.values():
            if not event.dry_run:
                yield _by_us(event, "its answer is not in the log")
        for event in self.untold:
            # What we deleted later was still there: the one before was a dry run.
            if any(_same_object(event, other) and other.received_at > event.received_at for other in deletions):
                self.dry_runs += 1
                continue
            yield Finding(
                Kind.UNVERIFIABLE,
                f"{event.verb} {event.object} by {_actor(event)}",
                "a dry run, as its address says",
                "the API server goes by the body, and the log holds none: audit deletions at level Request",
                event.audit_id,
                _where(event),
            )
        if self.unnamed:
            found = f"{self.unnamed} more, which are not named"
            yield Finding(Kind.UNCLAIMED, "calls by our identities", "every one on a timeline", found)


def _unlike(claim: Claim, event: AuditEvent, tolerance: timedelta) -> list[tuple[str, str, str]]:
    """In what a line is not the claimed request: (what, expected, found); empty when it is."""
    found: list[tuple[str, str, str]] = []
    if claim.user and claim.user != _actor(event):
        found.append(("user", claim.user, _actor(event) or "(nobody)"))
    if claim.verb != event.verb:
        found.append(("verb", claim.verb, event.verb))
    if not _is_object(claim, event):
        found.append(("object", claim.object, event.object))
    elif claim.uid and event.uid and claim.uid != event.uid:
        found.append(("uid", claim.uid, event.uid))
    early = event.received_at < claim.since - tolerance
    if early or (claim.until is not None and event.received_at > claim.until + tolerance):
        until = isoformat(claim.until) if claim.until else "its answer"
        window = f"between {isoformat(claim.since)} and {until}, give or take {tolerance.total_seconds():g} s"
        found.append(("time", window, isoformat(event.received_at)))
    if event.dry_run:
        found.append(("request", "carried out", "a dry run"))
    return found


def _is_object(claim: Claim, event: AuditEvent) -> bool:
    # Before the body is read, a creation has no name yet.
    nameless = event.verb == "create" and not event.name and not event.is_answer
    return (
        (claim.group, claim.resource, claim.namespace) == (event.group, event.resource, event.namespace)
        and claim.subresource in (None, event.subresource)
        and (not claim.below or event.path.endswith(f"/{claim.subresource}/{claim.below}"))
        and (nameless or claim.name in (None, event.name))
    )


def _by_us(event: AuditEvent, answer: str) -> Finding:
    as_whom = f"{event.user} as {event.impersonated}" if event.impersonated else event.user
    found = f"{answer} at {isoformat(event.received_at)}, from {event.source or '?'} by {event.user_agent or '?'}"
    what = f"{event.verb} {event.object} by {as_whom}"
    return Finding(Kind.UNCLAIMED, what, "on a timeline", found, event.audit_id, _where(event))


def _by_id(claims: Iterable[Claim]) -> dict[str, list[Claim]]:
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.audit_id, []).append(claim)
    return found


def _actor(event: AuditEvent) -> str:
    """Whom the API server took the request for."""
    return event.impersonated or event.user


def _succeeded(event: AuditEvent) -> bool:
    return event.stage == "ResponseComplete" and event.code is not None and 200 <= event.code < 300


def _answer(event: AuditEvent) -> str:
    if event.stage == "Panic":
        return "a panic of the API server"
    if event.code is None or not event.is_answer:
        return "no answer"
    return f"answered with {event.code}"


def _same_object(one: AuditEvent, other: AuditEvent) -> bool:
    return (one.group, one.resource, one.namespace, one.name) == (
        other.group,
        other.resource,
        other.namespace,
        other.name,
    )


def _where(event: AuditEvent | None) -> str:
    return f"{event.file}:{event.line}" if event else ""
