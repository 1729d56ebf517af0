"""From what a person asked for to a run: the incident declared or joined, its targets, the playbook frozen.

One transaction: either all of it is there after a crash, or nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ringfence.errors import Guarded, TargetError
from ringfence.model.base import Json
from ringfence.model.catalogue import Scope
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.model.playbook import Phase, Playbook
from ringfence.model.run import Run, RunOrder, RunState
from ringfence.playbooks import load, require_clean
from ringfence.response import guard
from ringfence.response.context import Context, now
from ringfence.store import commands, incidents, runs, targets
from ringfence.store.database import Session


@dataclass(frozen=True)
class Found:
    """An object that a run acts on, as the server sent it; ``how`` says why it belongs, empty for what was named."""

    ref: ObjectRef
    obj: Json
    how: str = ""


@dataclass(frozen=True)
class Order:
    """What a person asked for: a playbook's bytes, the objects, why, and how."""

    playbook: bytes
    source: str
    found: tuple[Found, ...]
    reason: str
    how: RunOrder
    lease_minutes: int | None = None


@dataclass(frozen=True)
class Ordered:
    """``joined`` is True when the incident was there before."""

    incident: Incident
    run: Run
    joined: bool


def place(context: Context, order: Order) -> Ordered:
    """Declare or join the incident and queue the run.

    Raises PlaybookError, Guarded (a protected target; nothing was written), TargetError, StoreError.
    """
    playbook = load(order.playbook, order.source)
    require_clean(playbook, order.playbook, order.source)
    _check_targets(playbook, order)
    _refuse_protected(context, order.found)
    moment = now()
    with context.store.write() as session:
        incident, joined = _incident(session, context, playbook, order)
        going_on = _going_on(session, incident, playbook, order)
        if going_on is not None:
            return Ordered(incident, going_on, joined)
        for one in order.found:
            how = one.how or ("named in a later command" if joined else "")
            if one.ref.uid == incident.target.uid:
                how = ""
            targets.join(session, incident.id, one.ref, found=one.obj, how=how, actor=context.actor, now=moment)
        run = runs.start(
            session,
            incident.id,
            playbook=playbook.name,
            playbook_bytes=order.playbook,
            targets=[one.ref for one in order.found],
            order=order.how,
            principal=context.actor,
            now=moment,
        )
        if any(step.phase is Phase.CONTAINING and step.phase in order.how.phases for step in playbook.steps):
            minutes = order.lease_minutes or context.policy.lease_minutes
            commands.grant(session, incident.id, moment + timedelta(minutes=minutes), actor=context.actor, now=moment)
    return Ordered(incident, run, joined)


def follow_up(
    context: Context, incident: Incident, playbook: bytes, source: str, how: RunOrder, *, found: tuple[Found, ...] = ()
) -> Run:
    """A further run about the incident's own targets; or about ``found`` alone, which join it.

    Raises Guarded (a protected target; nothing was written), TargetError, PlaybookError, StoreError.
    """
    parsed = load(playbook, source)
    require_clean(parsed, playbook, source)
    if not any(step.phase.value in how.phases for step in parsed.steps):
        raise TargetError(
            f"the playbook {parsed.name} has no step of the phases {', '.join(how.phases)}",
            next_step=f"ringfence respond PLAYBOOK … for another one, about {incident.id}",
        )
    _refuse_protected(context, found)
    with context.store.write() as session:
        incidents.remember(session, context.principal, now())
        for one in found:
            targets.join(session, incident.id, one.ref, found=one.obj, how=one.how, actor=context.actor, now=now())
        wanted = tuple(one.ref for one in found) or targets.of_incident(session, incident.id)
        return runs.start(
            session,
            incident.id,
            playbook=parsed.name,
            playbook_bytes=playbook,
            targets=wanted,
            order=how,
            principal=context.actor,
            now=now(),
        )


def _refuse_protected(context: Context, found: tuple[Found, ...]) -> None:
    for one in found:
        refusal = guard.protected(one.obj, context.policy)
        if refusal is not None:
            raise Guarded(f"{one.ref} is not to be touched", why=refusal.reason, next_step=refusal.next_step)


def frozen_playbook(context: Context, incident: Incident, default: tuple[bytes, str], phase: str) -> tuple[bytes, str]:
    """The playbook that the incident's newest run froze and that has this phase, else ``default``."""
    with context.store.read() as session:
        for run in reversed(runs.of_incident(session, incident.id)):
            content = runs.playbook_bytes(session, run.id)
            source = f"{run.playbook} (frozen in {run.id})"
            if any(step.phase.value == phase for step in load(content, source).steps):
                return content, source
    return default


def resumable(context: Context, incident: Incident) -> tuple[Run, ...]:
    """The incident's runs that were begun and are not over: queued, running, or waiting for a person."""
    with context.store.read() as session:
        return tuple(run for run in runs.of_incident(session, incident.id) if not run.state.ended)


def requeue(context: Context, run: Run) -> None:
    """A run that waits, or that failed, is to be looked at again by the engine: ``ringfence resume``."""
    with context.store.write() as session:
        current = runs.get(session, run.id)
        if current.state is RunState.WAITING:
            runs.end(session, current, RunState.QUEUED, why="", actor=context.actor, now=now())


def cancel(context: Context, run: Run, *, reason: str) -> Run:
    """Start no further step of the run. What is in force stays; a run that waits is over at once."""
    with context.store.write() as session:
        current = runs.get(session, run.id)
        if current.state.ended:
            raise TargetError(f"{run.id} is over: {current.state}", next_step=f"ringfence status {run.incident}")
        incidents.remember(session, context.principal, now())
        runs.request_cancel(session, current, reason=reason, actor=context.actor, now=now())
        if current.state in (RunState.WAITING, RunState.QUEUED):
            return runs.end(
                session,
                current,
                RunState.CANCELLED,
                why=f"cancelled by {context.actor}",
                actor=context.actor,
                now=now(),
            )
        return runs.get(session, run.id)


def _incident(session: Session, context: Context, playbook: Playbook, order: Order) -> tuple[Incident, bool]:
    for one in order.found:
        existing = incidents.open_on(session, one.ref.uid)
        if existing is not None:
            incidents.remember(session, context.principal, now())
            return existing, True
    first = order.found[0]
    declared = incidents.declare(
        session,
        target=first.ref,
        incident_type=playbook.incident.type,
        severity=playbook.incident.severity,
        title=order.reason or f"{first.ref} is suspected",
        principal=context.principal,
        fence=secrets.token_hex(8),
        command=order.how.command,
        found=first.obj,
        now=now(),
    )
    return declared, False


def _going_on(session: Session, incident: Incident, playbook: Playbook, order: Order) -> Run | None:
    """A run that is not over and does just this: a second command sees it to its end instead of beginning another."""
    wanted = {one.ref.uid for one in order.found}
    for run in runs.of_incident(session, incident.id):
        if (
            run.state in (RunState.QUEUED, RunState.RUNNING)
            and (run.playbook, run.order.phases) == (playbook.name, order.how.phases)
            and wanted <= {target.uid for target in run.targets}
        ):
            return run
    return None


def _check_targets(playbook: Playbook, order: Order) -> None:
    if not order.found:
        raise TargetError(
            f"the playbook {playbook.name} has nothing to act on", next_step="name a target, for example pod/NAME -n NS"
        )
    kinds: Sequence[str] = [one.ref.kind for one in order.found]
    scopes = {step.kind.scope for step in playbook.steps if step.phase.value in order.how.phases}
    if Scope.EACH_WORKLOAD in scopes and all(kind in ("Pod", "Node") for kind in kinds):
        raise TargetError(
            f"the playbook {playbook.name} acts on a workload, and {kinds[0]} is none",
            next_step="name its controller, for example deployment/NAME",
        )
