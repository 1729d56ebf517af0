"""What a person adds to an incident: its declaration, notes, awareness, determination, class, and where it stands.

The author is the principal that the cluster vouches for, never a name that was typed.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from ringfence.errors import ExitCode, Guarded, NotFound, RingfenceError, TargetError
from ringfence.model.base import Json, isoformat
from ringfence.model.incident import Determination, Incident, Severity, State
from ringfence.model.objects import ObjectRef
from ringfence.model.timeline import AwarenessRecorded, Event, NoteAdded
from ringfence.platform.kubernetes.resources import NAMESPACE
from ringfence.platform.kubernetes.targets import kind_of
from ringfence.response.context import Context, now
from ringfence.response.statement import retest
from ringfence.store import access, incidents, runs, timeline
from ringfence.store.database import Session

LONGEST_NOTE = 64 * 1024
"""Characters of one note: what is longer is evidence, and belongs into the vault."""

_TYPE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_NAMESPACE = frozenset({"namespace", "namespaces", "ns"})
_SETTLED = frozenset({State.POST_INCIDENT, State.CLOSED})
"""States that claim that it is over."""


class BadRecord(RingfenceError):
    """What was to be written down cannot be: it is empty, too long, or of the future."""

    code = "bad-record"
    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Declaration:
    """What is said when an incident is declared without an action. ``target`` is ``KIND/NAME`` or a pod's name."""

    target: str
    namespace: str
    incident_type: str
    severity: Severity
    reason: str
    command: str


@dataclass(frozen=True)
class Verdicts:
    """What a person knows by now; None where nothing is said about it. ``scheme`` and ``value`` belong together."""

    reason: str
    aware_at: datetime | None = None
    determination: Determination | None = None
    severity: Severity | None = None
    scheme: str = ""
    value: str = ""


def declare(context: Context, said: Declaration) -> tuple[Incident, bool]:
    """A new incident and False; or the open one about the very same object, with the reason as a note, and True.

    Raises BadRecord, TargetError, PlatformError, StoreError.
    """
    if not _TYPE.fullmatch(said.incident_type):
        raise BadRecord(
            f"{said.incident_type!r} is no incident type",
            why="it is words in small letters, joined by hyphens",
            next_step="for example --type compromised-workload",
        )
    found = _look(context, said.target, said.namespace)
    target = ObjectRef.of(context.cluster_id, found)
    moment = now()
    with context.store.write() as session:
        existing = incidents.open_on(session, target.uid)
        if existing is not None:
            _note(session, context, existing, f"declared again: {said.reason}", moment)
            return existing, True
        declared = incidents.declare(
            session,
            target=target,
            incident_type=said.incident_type,
            severity=said.severity,
            title=said.reason,
            principal=context.principal,
            fence=secrets.token_hex(8),
            command=said.command,
            now=moment,
            found=found,
        )
    return declared, False


def note(context: Context, incident: Incident, text: str) -> None:
    """Put a person's words on the timeline. Raises BadRecord when there are none, or too many."""
    if not text.strip():
        raise BadRecord("the note is empty", next_step=f"ringfence note {incident.id} 'what was seen'")
    if len(text) > LONGEST_NOTE:
        raise BadRecord(
            f"the note has {len(text)} characters",
            why=f"a note may have {LONGEST_NOTE}",
            next_step="keep the long text as evidence, and note where it lies",
        )
    with context.store.write() as session:
        _note(session, context, incident, text, now())


def classify(context: Context, incident: Incident, said: Verdicts) -> None:
    """Awareness, determination and class, each an event of its own; all of them or none.

    Raises BadRecord when nothing is said, or what is said cannot be.
    """
    if said.aware_at is None and said.determination is None and said.severity is None and not said.scheme:
        raise BadRecord(
            "nothing to classify",
            next_step="give --awareness, --determination, --severity, or --scheme with --value",
        )
    if bool(said.scheme) != bool(said.value):
        raise BadRecord("a scheme and its value belong together", next_step="for example --scheme DORA --value major")
    moment = now()
    if said.aware_at is not None:
        _check_awareness(said.aware_at, moment)
    with context.store.write() as session:
        incidents.remember(session, context.principal, moment)
        if said.aware_at is not None:
            aware = AwarenessRecorded(
                occurred_at=moment, actor=context.actor, aware_at=said.aware_at, reason=said.reason
            )
            timeline.append(session, incident.id, aware, moment)
        if said.determination is not None:
            incidents.determine(
                session, incident, said.determination, reason=said.reason, actor=context.actor, now=moment
            )
        if said.severity is not None or said.scheme:
            incidents.classify(
                session,
                incident,
                said.severity or incidents.get(session, incident.id).severity,
                scheme=said.scheme,
                value=said.value,
                reason=said.reason,
                actor=context.actor,
                now=moment,
            )


def move(context: Context, incident: Incident, state: State, reason: str, *, beside: Event | None = None) -> Incident:
    """Put the incident into another state. Raises TargetError for an illegal one, Guarded for one that claims too much.

    ``post-incident`` and ``closed`` say that it is over: not while a row is open that nobody has accepted, unless it
    was a false positive; and not while a run has not ended. ``beside`` goes onto the timeline with it.
    """
    if state in _SETTLED and incident.determination is not Determination.FALSE_POSITIVE:
        retest(context, incident)
    moment = now()
    with context.store.write() as session:
        current = incidents.get(session, incident.id)
        if state in _SETTLED and current.state.may_become(state):
            _check_settled(session, current, state)
        incidents.remember(session, context.principal, moment)
        incidents.move(session, current, state, actor=context.actor, now=moment, reason=reason)
        if beside is not None:
            timeline.append(session, incident.id, beside, moment)
        return incidents.get(session, incident.id)


def _check_settled(session: Session, incident: Incident, state: State) -> None:
    left = [run.id for run in runs.of_incident(session, incident.id) if not run.state.ended]
    if left:
        raise Guarded(
            f"{incident.id} cannot be {state}",
            why=f"{', '.join(left)} has not ended",
            next_step=f"ringfence resume {incident.id}, or ringfence cancel {incident.id}",
        )
    if incident.determination is Determination.FALSE_POSITIVE:
        return
    open_rows = [row for row in access.rows(session, incident.id) if row.is_open]
    if open_rows:
        raise Guarded(
            f"{incident.id} cannot be {state}",
            why="open, and accepted by nobody: " + ", ".join(f"{row.path} ({row.state})" for row in open_rows),
            next_step=f"ringfence accept {incident.id} {open_rows[0].path} --reason …; or, if it was none, "
            f"ringfence classify {incident.id} --determination false-positive --reason …",
        )


def _check_awareness(aware_at: datetime, moment: datetime) -> None:
    if aware_at > moment:
        raise BadRecord(
            f"awareness at {isoformat(aware_at)} is in the future",
            why=f"it is {isoformat(moment)} now",
            next_step="give the time at which somebody knew, with its offset",
        )


def _note(session: Session, context: Context, incident: Incident, text: str, moment: datetime) -> None:
    incidents.remember(session, context.principal, moment)
    timeline.append(session, incident.id, NoteAdded(occurred_at=moment, actor=context.actor, text=text), moment)


def _look(context: Context, words: str, namespace: str) -> Json:
    """The object as it lives now, with its apiVersion and kind."""
    kind, slash, name = words.partition("/")
    if kind.lower() in _NAMESPACE and name and "/" not in name:
        resource = NAMESPACE
    else:
        resource, name = kind_of(words if slash else f"pod/{words}")
    where = namespace if resource.namespaced else ""
    try:
        found = context.cluster.get(resource, where, name)
    except NotFound as error:
        raise TargetError(
            f"there is no {resource.kind} {name}" + (f" in namespace {where}" if where else ""),
            next_step=f"kubectl get {resource.plural}" + (f" -n {where}" if where else ""),
        ) from error
    return {**found, "apiVersion": resource.api_version, "kind": resource.kind}
