"""What an incident's timeline says that we did to the cluster: one claim for each mutating request.

The journal says the same a second time, in other tables: where the two differ, one of them was changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import assert_never

from ringfence.evidence.differences import Finding, Kind
from ringfence.model.incident import Incident, State
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Refused, Skipped, Unknown, describe
from ringfence.model.plan import audit_id
from ringfence.model.timeline import (
    CanaryTried,
    ChangeIntended,
    ChangeResult,
    Event,
    IncidentDeclared,
    PlanMade,
    RunStarted,
    RunTaken,
    StateChanged,
    TargetJoined,
)
from ringfence.platform.kubernetes.resources import KNOWN, SERVICE_ACCOUNT
from ringfence.store import incidents, journal, timeline
from ringfence.store.database import Session

_TOKEN_CANARIES = ("identity.kubernetes", "identity.kubernetes.write", "identity.kubernetes.read")
"""The canaries that begin with a TokenRequest."""
_REVERTED = "reverted"
"""``actions.perform.REVERTED``: failed, and carried out all the same, as somebody else took it back."""


class Expected(Enum):
    """What the audit log must have as the answer."""

    DONE = "answered with success"
    NOT_DONE = "not answered with success"
    ANY = "any answer, or none"
    """Live state showed the change: the request may have been answered in any way, or never have arrived."""
    OPEN = "no result on the timeline"
    UNKNOWN = "an unknown result"


@dataclass(frozen=True, slots=True)
class Claim:
    """A mutating request that we say we sent. None in ``subresource`` and ``name``: the timeline does not say.

    ``user`` is empty when it is not known who sent it. ``since`` and ``until`` (None: it has no result) enclose the
    request by our clock. ``says`` is the result in words. ``below`` is the path beyond a subresource that leads on to
    somebody else (``proxy``); the log has it in the address alone.
    """

    label: str
    audit_id: str
    user: str
    verb: str
    group: str
    resource: str
    subresource: str | None
    namespace: str
    name: str | None
    uid: str
    since: datetime
    until: datetime | None
    expected: Expected
    says: str
    below: str = ""

    @property
    def object(self) -> str:
        what = "/".join(part for part in (self.resource, self.name, self.subresource, self.below) if part)
        return f"{what} in {self.namespace}" if self.namespace else what

    def __str__(self) -> str:
        return f"{self.label}: {self.verb} {self.object}"


@dataclass(frozen=True)
class Record:
    """What the store says of an incident: its claims, those of other incidents of the cluster, and who we were.

    ``identities`` are the users in whose name something was done. The incident reaches from ``since`` to ``until``
    (None: it is not over). ``findings`` is where timeline and journal differ.
    """

    incident: str
    claims: tuple[Claim, ...]
    others: tuple[Claim, ...]
    identities: frozenset[str]
    since: datetime
    until: datetime | None
    findings: tuple[Finding, ...]


def record_of(session: Session, incident: Incident) -> Record:
    """Read it from the store. Raises ChainBroken, StoreError."""
    entries = timeline.read(session, incident.id)
    others = [
        claim_of(row)
        for other in incidents.newest_first(session)
        if other.cluster == incident.cluster and other.id != incident.id
        for row in journal.of_incident(session, other.id)
    ]
    return record_from(
        incident,
        [entry.event for entry in entries],
        journal.of_incident(session, incident.id),
        others=others,
        erased=incident.seq - len(entries),
    )


def record_from(
    incident: Incident,
    events: Sequence[Event],
    rows: Sequence[ChangeRecord],
    *,
    others: Sequence[Claim] = (),
    erased: int = 0,
) -> Record:
    """The record of events and journal rows (pure). ``erased``: how many events have no text any more."""
    journalled = {(row.step, row.change.id): row for row in rows}
    changes = _changes(incident, events, journalled)
    closed = [e.occurred_at for e in events if isinstance(e, StateChanged) and e.after is State.CLOSED]
    last = [claim.until or claim.since for claim in changes]
    return Record(
        incident=incident.id,
        claims=(*changes, *_tokens(incident, events)),
        others=tuple(others),
        identities=frozenset(_identities(incident, events)),
        since=incident.declared_at,
        until=max([closed[-1], *last]) if incident.state is State.CLOSED and closed else None,
        findings=tuple(_differences(incident, events, journalled, erased)),
    )


def _changes(
    incident: Incident, events: Sequence[Event], journalled: Mapping[tuple[str, str], ChangeRecord]
) -> list[Claim]:
    results = _results(events)
    found = []
    for event in events:
        if not isinstance(event, ChangeIntended):
            continue
        row, result = journalled.get((event.step, event.change)), results.get((event.step, event.change))
        group, resource = _place(event.ref)
        subresource, _, below = row.change.subresource.partition("/") if row else (None, "", "")
        found.append(
            Claim(
                label=f"{event.step} {event.change}",
                audit_id=event.audit_id,
                user=_user(incident, event.actor),
                verb=event.verb.value,
                group=group,
                resource=resource,
                subresource=subresource,
                below=below,
                namespace=event.ref.namespace,
                name=event.ref.name,
                uid=event.ref.uid,
                since=event.occurred_at,
                until=(result.answered_at or result.occurred_at) if result else None,
                expected=_expected(result.outcome if result else None),
                says=describe(result.outcome) if result else "nothing: the result was never written",
            )
        )
    return found


def _tokens(incident: Incident, events: Sequence[Event]) -> list[Claim]:
    """Canary tokens: each is asked for by a TokenRequest under the Audit-ID of its first event.

    The next event of that canary is its result, under the same Audit-ID or that of the token's first try.
    """
    places = {event.target.uid: event.target for event in events if isinstance(event, IncidentDeclared | TargetJoined)}
    tried = [event for event in events if isinstance(event, CanaryTried) and event.path in _TOKEN_CANARIES]
    found = []
    for number, event in enumerate(tried):
        if event.result != "intended" or not event.audit_id:
            continue
        same = (other for other in tried[number + 1 :] if _is_of(other, event))
        result = next(same, None)
        if result is not None and result.result == "intended":
            result = None  # another one began: of this one nothing was ever written
        expected = Expected.OPEN
        if result is not None:
            expected = Expected.ANY if result.result == "not-possible" else Expected.DONE
        target = places.get(event.target_uid, incident.target)
        found.append(
            Claim(
                label=f"canary of {target}",
                audit_id=event.audit_id,
                user=_user(incident, event.actor),
                verb="create",
                group="",
                resource=SERVICE_ACCOUNT.plural,
                subresource="token",
                namespace=target.namespace,
                name=None,
                uid="",
                since=event.occurred_at,
                until=result.occurred_at if result else None,
                expected=expected,
                says=result.result if result else "nothing: the result was never written",
            )
        )
    return found


def _is_of(other: CanaryTried, event: CanaryTried) -> bool:
    return (other.path, other.target_uid) == (event.path, event.target_uid)


def claim_of(row: ChangeRecord) -> Claim:
    """What another incident claims; its own timeline is not read here."""
    group, resource = _place(row.change.ref)
    subresource, _, below = row.change.subresource.partition("/")
    return Claim(
        label=f"{row.incident} {row.step} {row.change.id}",
        audit_id=row.audit_id,
        user="",
        verb=row.change.verb.value,
        group=group,
        resource=resource,
        subresource=subresource,
        below=below,
        namespace=row.change.ref.namespace,
        name=row.change.ref.name,
        uid=row.change.ref.uid,
        since=row.intended_at,
        until=row.answered_at,
        expected=_expected(row.outcome),
        says=_words(row.outcome),
    )


def _differences(
    incident: Incident, events: Sequence[Event], journalled: Mapping[tuple[str, str], ChangeRecord], erased: int
) -> Iterable[Finding]:
    """Where timeline and journal do not say the same, or an Audit-ID is not the one that the request has."""
    intended: dict[tuple[str, str], ChangeIntended] = {}
    for event in events:
        if not isinstance(event, ChangeIntended):
            continue
        key, what = (event.step, event.change), f"{event.step} {event.change}"
        row = journalled.get(key)
        computed = audit_id(incident.id, incident.fence, event.step, event.change)
        if key in intended:
            yield _record(what, "one intent on the timeline", "a second one", event.audit_id)
        elif row is None:
            yield _record(what, "an entry in the journal", "none: the timeline alone has it", event.audit_id)
        elif (said := _facts(event.verb, event.ref, event.audit_id)) != (
            kept := _facts(row.change.verb, row.change.ref, row.audit_id)
        ):
            yield _record(what, f"on the timeline as in the journal: {kept}", said, event.audit_id)
        if event.audit_id != computed:
            yield _record(what, f"Audit-ID {computed}, which follows from its step", event.audit_id, event.audit_id)
        intended.setdefault(key, event)
    results = _results(events)
    for (step, change), row in journalled.items():
        what = f"{step} {change}"
        if (step, change) not in intended:
            kind = Kind.UNVERIFIABLE if erased else Kind.RECORD
            why = f"none; the text of {erased} events was erased" if erased else "none: the journal alone has it"
            yield Finding(kind, what, "an intent on the timeline", why, row.audit_id)
            continue
        result = results.get((step, change))
        if (said_of := result.outcome if result else None) != row.outcome:
            kept = f"on the timeline as in the journal: {_words(row.outcome)}"
            yield Finding(Kind.UNVERIFIABLE if erased else Kind.RECORD, what, kept, _words(said_of), row.audit_id)
    for (step, change), result in results.items():
        if (step, change) not in intended and not erased:
            yield _record(f"{step} {change}", "an intent before its result", "none", result.audit_id)


def _results(events: Iterable[Event]) -> dict[tuple[str, str], ChangeResult]:
    """The last word on each change."""
    return {(event.step, event.change): event for event in events if isinstance(event, ChangeResult)}


def _record(what: str, expected: str, found: str, audit_id: str) -> Finding:
    return Finding(Kind.RECORD, what, expected, found, audit_id)


def _facts(verb: str, ref: ObjectRef, audit_id: str) -> str:
    return f"{verb} {ref}, uid {ref.uid or 'none'}, Audit-ID {audit_id}"


def _words(outcome: Outcome | None) -> str:
    return describe(outcome) if outcome is not None else "no result"


def _identities(incident: Incident, events: Iterable[Event]) -> Iterable[str]:
    """Those whose credentials Ringfence used to act. Who approved, accepted or wrote a note is not among them."""
    acting = IncidentDeclared | RunStarted | RunTaken | PlanMade | ChangeIntended | ChangeResult | CanaryTried
    for event in events:
        if isinstance(event, acting) and (user := _user(incident, event.actor)):
            yield user


def _user(incident: Incident, actor: str) -> str:
    """The name by which the cluster knows an actor; empty for one that it does not vouch for."""
    issuer = f"kubernetes:{incident.cluster}/"
    return actor.removeprefix(issuer) if actor.startswith(issuer) else ""


def _place(ref: ObjectRef) -> tuple[str, str]:
    group, slash, _ = ref.api_version.partition("/")
    known = KNOWN.get((ref.api_version, ref.kind))
    # A kind that we do not know is none that we change: it cannot match.
    return group if slash else "", known.plural if known else f"({ref.kind})"


def _expected(outcome: Outcome | None) -> Expected:
    match outcome:
        case None:
            return Expected.OPEN
        case Applied():
            return Expected.DONE
        case Already():
            return Expected.ANY
        case Failed(problem=problem):
            return Expected.DONE if problem.code == _REVERTED else Expected.NOT_DONE
        case Skipped() | Refused():
            return Expected.NOT_DONE
        case Unknown():
            return Expected.UNKNOWN
        case _:
            assert_never(outcome)
