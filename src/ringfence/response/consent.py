"""Approvals: who may say yes to what, and for how long.

The approver is a principal that the cluster vouches for (SelfSubjectReview), never a name that was typed; two people
are two principals. An approval allows a ceiling, and holds while the fresh plan fits inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from ringfence.errors import Guarded, TargetError
from ringfence.model.outcome import Refused
from ringfence.model.principal import Principal
from ringfence.model.run import Approval, Ceiling, Decision, Run
from ringfence.response.context import Context, now
from ringfence.store import approvals, commands, incidents, runs
from ringfence.store.database import Session


@dataclass(frozen=True)
class Waiting:
    """Nobody has decided yet. The run ends here and goes on when the row arrives."""

    approval: Approval


@dataclass(frozen=True)
class Granted:
    approval: Approval


def consent(
    context: Context, run: Run, step: str, ceiling: Ceiling, *, reason: str, second_person: bool, minutes: int
) -> Granted | Waiting | Refused:
    """Whether the step may go on: the newest decision on it that speaks of this ceiling, else a request for one."""
    moment = now()
    with context.store.write() as session:
        expire(session, run)
        for known in reversed(approvals.of_run(session, run.id)):
            if known.step != step:
                continue
            match known.decision:
                case Decision.APPROVED if known.ceiling.covers(ceiling) and moment < known.expires_at:
                    return Granted(known)
                case Decision.REJECTED:
                    return Refused(reason=f"{known.decided_by} said no: {known.decision_reason}")
                case Decision.EXPIRED if known.ceiling.covers(ceiling):
                    return Refused(
                        reason=f"nobody approved {known.id} in time, and that is a no", next_step="start the step again"
                    )
                case Decision.PENDING if known.ceiling.covers(ceiling):
                    return Waiting(known)
                case Decision.APPROVED | Decision.PENDING | Decision.EXPIRED:
                    continue  # for less than what is asked for now, or too long ago
                case _:
                    assert_never(known.decision)
        asked = approvals.ask(
            session,
            run,
            step,
            reason=reason,
            ceiling=ceiling,
            second_person=second_person,
            requested_by=run.requested_by,
            expires_at=moment + timedelta(minutes=minutes),
            now=moment,
        )
    return Waiting(asked)


def denied(context: Context, run: Run, step: str) -> Refused | None:
    """The newest no to this step of the run, said or by silence: it holds also when the step could do without a yes by
    now. None when there is none."""
    with context.store.read() as session:
        known = [one for one in approvals.of_run(session, run.id) if one.step == step]
    if not known or known[-1].decision not in (Decision.REJECTED, Decision.EXPIRED):
        return None
    last = known[-1]
    if last.decision is Decision.REJECTED:
        return Refused(reason=f"{last.decided_by} said no: {last.decision_reason}")
    return Refused(reason=f"nobody approved {last.id} in time, and that is a no", next_step="start the step again")


def expire(session: Session, run: Run) -> None:
    """Nobody answered in time: the default is no."""
    moment = now()
    for late in approvals.overdue(session, moment):
        if late.run == run.id:
            approvals.decide(
                session, late, Decision.EXPIRED, actor="ringfence", reason="nobody answered in time", now=moment
            )


def decide(context: Context, approval_id: str, decision: Decision, *, reason: str) -> Approval:
    """Write the decision of the principal that the cluster vouches for, and wake the run.

    ``approval_id`` may be an incident's id when just one request waits there. Raises TargetError (unknown, decided,
    expired, several), Guarded (the principal may not decide this one).
    """
    with context.store.write() as session:
        approval = _pending(session, approval_id)
        run = runs.get(session, approval.run)
        incident = incidents.get(session, approval.incident)
        if incident.cluster != context.cluster_id:
            raise TargetError(
                f"{approval.id} is about another cluster",
                why=f"its cluster is {incident.cluster}",
                next_step="choose its cluster: --context",
            )
        if now() >= approval.expires_at:
            expire(session, run)
            # The run ends by it, and whoever runs the engine next sees to that.
            commands.send(session, "carry-on", {"run": run.id}, sent_by="ringfence", now=now())
            late = f"{approval.id} expired at {approval.expires_at:%Y-%m-%dT%H:%M:%SZ}"
            decided: Approval | str = late
        else:
            if decision is Decision.APPROVED:
                _check(context.principal, approval, run)
            incidents.remember(session, context.principal, now())
            decided = approvals.decide(session, approval, decision, actor=context.actor, reason=reason, now=now())
            commands.send(session, "carry-on", {"run": run.id}, sent_by=context.actor, now=now())
    if isinstance(decided, str):
        raise TargetError(decided, why="nobody approved it in time, and that is a no", next_step="start the step again")
    return decided


def _check(principal: Principal, approval: Approval, run: Run) -> None:
    if principal.kind != "kubernetes":
        raise Guarded(
            f"{principal} cannot approve",
            why="nobody vouches for that name",
            next_step="use a kubeconfig of your own",
        )
    if approval.second_person and principal.id in (approval.requested_by, run.requested_by):
        raise Guarded(
            f"{approval.id} needs a second person",
            why=f"{principal} asked for it; the cluster knows you by the same name",
            next_step="someone else runs: ringfence approve " + approval.id,
        )


def _pending(session: Session, approval_id: str) -> Approval:
    if "/approval/" in approval_id:
        return approvals.get(session, approval_id.strip())
    incident = incidents.get(session, approval_id)
    waiting = [one for one in approvals.of_incident(session, incident.id) if one.decision is Decision.PENDING]
    if len(waiting) == 1:
        return waiting[0]
    raise TargetError(
        f"{incident.id} has {len(waiting) or 'no'} approvals that wait",
        why=", ".join(one.id for one in waiting),
        next_step="name one: ringfence approve INC-1/approval/1" if waiting else f"ringfence status {incident.id}",
    )
