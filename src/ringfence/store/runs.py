"""Runs of playbooks and their finished steps.

A run belongs to one process at a time. Each takeover raises its epoch; every step asks whether the epoch is still its
own before it begins, so that a process that was only slow, and not dead, stops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection as Session

from ringfence.errors import StoreError, TargetError
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Outcome
from ringfence.model.proof import Proof
from ringfence.model.run import Run, RunOrder, RunState, StepRun
from ringfence.model.timeline import CancelRequested, RunEnded, RunStarted, RunTaken
from ringfence.store import tables
from ringfence.store.timeline import append

# Built once: every step of every target asks for these, and building a statement takes longer than sending it.
_RUN = sa.select(tables.run).where(tables.run.c.id == sa.bindparam("which"))
_PLAYBOOK = sa.select(tables.run.c.playbook_bytes, tables.run.c.playbook_sha256).where(
    tables.run.c.id == sa.bindparam("which")
)
_STEP = sa.select(tables.step_run).where(
    tables.step_run.c.run == sa.bindparam("of_run"),
    tables.step_run.c.step == sa.bindparam("of_step"),
    tables.step_run.c.target_uid == sa.bindparam("of_target"),
)
_NEW_STEP = sa.insert(tables.step_run)


def start(
    session: Session,
    incident: str,
    *,
    playbook: str,
    playbook_bytes: bytes,
    targets: Sequence[ObjectRef],
    order: RunOrder,
    principal: str,
    now: datetime,
) -> Run:
    """A new run, queued; the playbook's bytes are frozen in it."""
    # Locks the incident's row first: two commands at once get two numbers.
    session.execute(
        sa.update(tables.incident).where(tables.incident.c.id == incident).values(seq=tables.incident.c.seq)
    )
    newest = session.execute(
        sa.select(sa.func.max(tables.run.c.number)).where(tables.run.c.incident == incident)
    ).scalar_one_or_none()
    number = (newest or 0) + 1
    run_id = f"{incident}/run/{number}"
    sha256 = hashlib.sha256(playbook_bytes).hexdigest()
    session.execute(
        sa.insert(tables.run).values(
            id=run_id,
            incident=incident,
            number=number,
            playbook=playbook,
            playbook_sha256=sha256,
            playbook_bytes=playbook_bytes,
            targets=[target.to_json() for target in targets],
            order=order.to_json(),
            state=RunState.QUEUED.value,
            segment=0,
            owner="",
            epoch=0,
            requested_by=principal,
            created_at=now,
        )
    )
    started = RunStarted(
        occurred_at=now,
        actor=principal,
        run=run_id,
        playbook=playbook,
        playbook_sha256=sha256,
        phases=order.phases,
        targets=tuple(targets),
        command=order.command,
    )
    append(session, incident, started, now)
    return get(session, run_id)


def get(session: Session, run_id: str) -> Run:
    """Raises TargetError."""
    row = session.execute(_RUN, {"which": run_id}).one_or_none()
    if row is None:
        raise TargetError(f"there is no run {run_id!r}", next_step="ringfence status INC -o wide")
    return _run(row)


def of_incident(session: Session, incident: str) -> tuple[Run, ...]:
    """The incident's runs, oldest first."""
    rows = session.execute(sa.select(tables.run).where(tables.run.c.incident == incident).order_by(tables.run.c.number))
    return tuple(_run(row) for row in rows)


def unfinished(session: Session) -> tuple[Run, ...]:
    """Every run that is queued or running, oldest first: what an engine that starts has to go on with."""
    rows = session.execute(
        sa.select(tables.run)
        .where(tables.run.c.state.in_([RunState.QUEUED.value, RunState.RUNNING.value]))
        .order_by(tables.run.c.created_at, tables.run.c.number)
    )
    return tuple(_run(row) for row in rows)


def ended_before(session: Session, moment: datetime) -> frozenset[str]:
    """The ids of the runs that were over by then."""
    table = tables.run
    over = [state.value for state in RunState if state.ended]
    rows = session.execute(sa.select(table.c.id).where(table.c.state.in_(over), table.c.ended_at < moment))
    return frozenset(rows.scalars())


def playbook_bytes(session: Session, run_id: str) -> bytes:
    """The frozen playbook. Raises StoreError when it is not the one that was hashed."""
    row = session.execute(_PLAYBOOK, {"which": run_id}).one()
    if hashlib.sha256(row.playbook_bytes).hexdigest() != row.playbook_sha256:
        raise StoreError(
            f"the playbook of {run_id} is not the one that was frozen",
            why="its bytes do not have the recorded SHA-256",
            next_step="restore the store from a backup; the sealed copies of the timeline tell the hash",
        )
    return bytes(row.playbook_bytes)


def take(session: Session, run: Run, executor: str, *, actor: str, now: datetime, new_segment: bool) -> Run:
    """Make the run this executor's: a new epoch, and a new segment when its workflow must begin anew."""
    row = session.execute(
        sa.update(tables.run)
        .where(tables.run.c.id == run.id)
        .values(
            state=RunState.RUNNING.value,
            owner=executor,
            epoch=tables.run.c.epoch + 1,
            segment=tables.run.c.segment + (1 if new_segment else 0),
            ended_at=None,
            why="",
        )
        .returning(tables.run)
    ).one()
    taken = _run(row)
    event = RunTaken(
        occurred_at=now, actor=actor, run=run.id, epoch=taken.epoch, segment=taken.segment, executor=executor
    )
    append(session, run.incident, event, now)
    return taken


def end(session: Session, run: Run, state: RunState, *, why: str, actor: str, now: datetime) -> Run:
    """Done, failed, cancelled, or waiting for a person; nothing when it is so already."""
    current = get(session, run.id)
    if current.state is state and current.why == why:
        return current
    session.execute(
        sa.update(tables.run)
        .where(tables.run.c.id == run.id)
        .values(state=state.value, why=why, ended_at=now if state.ended else None)
    )
    if state.ended:
        # Nobody need carry on what is over: a word that was left for the engine is answered by this.
        command = tables.command
        session.execute(
            sa.update(command)
            .where(command.c.done_at.is_(None), command.c.body["run"].as_string() == run.id)
            .values(done_at=now)
        )
    append(session, run.incident, RunEnded(occurred_at=now, actor=actor, run=run.id, state=state, why=why), now)
    return get(session, run.id)


def request_cancel(session: Session, run: Run, *, reason: str, actor: str, now: datetime) -> None:
    """Looked at between steps; what runs now is finished, what is in force stays."""
    session.execute(sa.update(tables.run).where(tables.run.c.id == run.id).values(cancel_requested_by=actor))
    append(session, run.incident, CancelRequested(occurred_at=now, actor=actor, run=run.id, reason=reason), now)


def accept_outage(session: Session, run: Run) -> None:
    """The operator was asked and said yes: kept, so that a resumed run does not ask again."""
    order = run.order.model_copy(update={"accept_outage": True})
    session.execute(sa.update(tables.run).where(tables.run.c.id == run.id).values(order=order.to_json()))


def finish_step(
    session: Session,
    run: str,
    step: str,
    target_uid: str,
    *,
    action: str,
    outcome: Outcome,
    proof: Proof | None,
    now: datetime,
) -> None:
    """Write a step's end, once."""
    if step_of(session, run, step, target_uid) is not None:
        return
    session.execute(
        _NEW_STEP,
        {
            "run": run,
            "step": step,
            "target_uid": target_uid,
            "action": action,
            "outcome": outcome.to_json(),
            "proof": proof.to_json() if proof is not None else None,
            "finished_at": now,
        },
    )


def reopen_step(session: Session, run: str, step: str) -> None:
    """A step that was refused may be tried again by the next segment (an approval arrived, the seal is fresh now)."""
    session.execute(sa.delete(tables.step_run).where(tables.step_run.c.run == run, tables.step_run.c.step == step))


def step_of(session: Session, run: str, step: str, target_uid: str) -> StepRun | None:
    row = session.execute(_STEP, {"of_run": run, "of_step": step, "of_target": target_uid}).one_or_none()
    return _step(row) if row is not None else None


def steps(session: Session, run: str) -> tuple[StepRun, ...]:
    """The run's finished steps in the order in which they ended."""
    rows = session.execute(
        sa.select(tables.step_run)
        .where(tables.step_run.c.run == run)
        .order_by(tables.step_run.c.finished_at, tables.step_run.c.step)
    )
    return tuple(_step(row) for row in rows)


def _run(row: sa.Row[tuple[object, ...]]) -> Run:
    fields = {name: value for name, value in row._mapping.items() if name != "playbook_bytes"}
    return Run.model_validate(fields)


def _step(row: sa.Row[tuple[object, ...]]) -> StepRun:
    return StepRun.model_validate(dict(row._mapping))
