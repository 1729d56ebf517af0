"""``eradicate`` and ``release``: the two ways in which a fenced pod ends. Both delete it, sealed, before its fence.

A detached pod is a suspect and is never adopted again: also after a false positive it is sealed and deleted, and the
replacement that its controller started goes on.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ringfence.actions.network import DETACH, FENCE_KEY, Quarantine
from ringfence.actions.pod import Delete
from ringfence.errors import NotFound, PlatformError
from ringfence.model.base import Json
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident, State
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Outcome, Refused, describe
from ringfence.model.plan import Plan
from ringfence.model.proof import Proof
from ringfence.model.timeline import CanaryTried, GlassBroken, StepFinished
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.platform.kubernetes.surroundings import read_pod, read_surroundings
from ringfence.platform.kubernetes.tokens import BoundToken, request_token
from ringfence.response import gate, steps
from ringfence.response.capture import recapture
from ringfence.response.context import Context, now
from ringfence.response.statement import Statement, retest
from ringfence.store import evidence as evidence_rows
from ringfence.store import incidents, journal, timeline

_TOKEN_SECONDS = 75
"""How long a token may outlive its pod: the API server caches it for some 10 s, its grace period is up to a minute."""


@dataclass(frozen=True)
class Ending:
    """``outcome`` is the deletion's. ``fence`` says, per object, what became of taking the fence down."""

    verb: Literal["eradicate", "release"]
    incident: Incident
    outcome: Outcome
    proof: Proof | None
    seal: Seal | None
    fence: tuple[str, ...]
    fence_down: bool
    statement: Statement


def eradicate(context: Context, incident: Incident, *, break_glass: str | None, say: Callable[[str], None]) -> Ending:
    """End the suspect for good. Refused without a fresh, complete seal, unless a named person breaks the glass.

    Raises PlatformError, StoreError.
    """
    return _end(context, incident, "eradicate", State.ERADICATED, break_glass=break_glass, say=say)


def release(context: Context, incident: Incident, *, say: Callable[[str], None]) -> Ending:
    """A false positive: seal the detached pod once more, delete it, then take the fence down.

    Raises PlatformError, VaultError, StoreError.
    """
    seal = None
    steps.reconcile(context, incident)
    if _live(context, incident.target) is not None and _was_detached(context, incident):
        say("sealing the detached pod before it is deleted")
        seal = recapture(context, incident, incident.target)
    ending = _end(context, incident, "release", State.RELEASED, break_glass=None, say=say)
    return Ending(**{**vars(ending), "seal": seal or ending.seal})


def _end(
    context: Context,
    incident: Incident,
    verb: Literal["eradicate", "release"],
    after: State,
    *,
    break_glass: str | None,
    say: Callable[[str], None],
) -> Ending:
    steps.reconcile(context, incident)
    step = steps.next_step(context, incident, verb)
    outcome: Outcome
    if verb == "release" and not _was_detached(context, incident):
        # A pod that was never taken out serves customers still: releasing it must not kill it.
        outcome, proof, clear = Already(reason="the pod was never detached: it stays as it is"), None, True
        _finished(context, incident, step, Delete.name, outcome)
    else:
        outcome, proof = _delete(context, incident, step, break_glass=break_glass, say=say)
        clear = steps.is_done(outcome) and _live(context, incident.target) is None
    fence: tuple[str, ...] = ()
    fence_down = False
    if clear:
        say("taking the fence down")
        fence, fence_down = _lift_fence(context, incident, step)
        with context.store.write() as session:
            incidents.move(session, incident, after, actor=context.actor, now=now())
    with context.store.read() as session:
        seals = evidence_rows.seals(session, incident.id)
    return Ending(
        verb=verb,
        incident=incident,
        outcome=outcome,
        proof=proof,
        seal=seals[-1] if seals else None,
        fence=fence,
        fence_down=fence_down,
        statement=retest(context, incident),
    )


def _delete(
    context: Context, incident: Incident, step: str, *, break_glass: str | None, say: Callable[[str], None]
) -> tuple[Outcome, Proof | None]:
    target = incident.target
    action = Delete(
        context.cluster,
        serving_floor=context.policy.serving_floor,
        wait_seconds=context.policy.delete_wait_seconds,
    )
    try:
        pod, reading = read_pod(context.cluster, target.namespace, target.name)
    except NotFound:
        pod = None
    if pod is None or pod["metadata"]["uid"] != target.uid:
        return _finished(context, incident, step, action.name, Already(reason="the pod is gone")), None
    around = read_surroundings(context.cluster, context.cluster_id, pod, reading, context.pool)
    plan = action.plan(target, around)
    if isinstance(plan, Refused):
        steps.refuse(context, incident, step, action.name, "plan", plan.reason)
        return _finished(context, incident, step, action.name, plan), None
    steps.record_plan(context, incident, step, plan)
    broken = bool(break_glass and break_glass.strip())
    canary = None
    if context.policy.token_canary and (broken or not _shut(context, incident, plan)):
        canary = _mint(context, incident, pod)
    # The gate is asked last, on what the plan destroys, just before the write.
    shut = _shut(context, incident, plan)
    if shut and not broken:
        steps.refuse(context, incident, step, action.name, "evidence", "; ".join(shut))
        refused = Refused(reason="; ".join(shut), next_step=f"ringfence evidence collect {incident.id}")
        return _finished(context, incident, step, action.name, refused), None
    if shut:
        event = GlassBroken(
            occurred_at=now(),
            actor=context.actor,
            step=step,
            action=action.name,
            reason=str(break_glass),
            missing="; ".join(shut),
        )
        with context.store.write() as session:
            incidents.remember(session, context.principal, now())
            timeline.append(session, incident.id, event, now())
    say(f"deleting {target}")
    result = steps.carry_out(context, incident, step, action, plan)
    if canary is not None and steps.is_done(result.outcome) and _live(context, target) is None:
        say("trying a token of the deleted pod until the API server refuses it")
        _await_refusal(context, incident, canary)
    return result.outcome, result.proof


def _shut(context: Context, incident: Incident, plan: Plan) -> tuple[str, ...]:
    """Why the evidence gate is shut for this plan now; empty when it is open."""
    with context.store.read() as session:
        seals = evidence_rows.seals(session, incident.id)
    return gate.shut_because(plan.destroys, seals, now=now(), max_age_seconds=context.policy.seal_max_age_seconds)


def _was_detached(context: Context, incident: Incident) -> bool:
    """Whether this incident took the pod out of its controller: by the journal, as others can change labels, or by the
    pod's own fence label, as a request whose answer was lost may have been carried out late."""
    live = _live(context, incident.target)
    if live is not None and (live["metadata"].get("labels") or {}).get(FENCE_KEY) == incident.fence:
        return True
    with context.store.read() as session:
        return any(
            record.change.id == DETACH and record.outcome is not None and steps.is_done(record.outcome)
            for record in journal.of_incident(session, incident.id)
        )


def _finished(context: Context, incident: Incident, step: str, action: str, outcome: Outcome) -> Outcome:
    event = StepFinished(occurred_at=now(), actor=context.actor, step=step, action=action, outcome=outcome)
    with context.store.write() as session:
        timeline.append(session, incident.id, event, now())
    return outcome


def _live(context: Context, target: ObjectRef) -> Json | None:
    live = context.cluster.find(POD, target.namespace, target.name)
    return live if live is not None and live["metadata"]["uid"] == target.uid else None


# --- the fence -----------------------------------------------------------------------
def _lift_fence(context: Context, incident: Incident, step: str) -> tuple[tuple[str, ...], bool]:
    """Take back, newest first, what this incident changed, and exclusions that ended incidents had to leave standing.

    An exclusion serves every fenced pod of the namespace: it goes with the last of them.
    """
    namespace = incident.target.namespace
    with context.store.read() as session:
        ended = {
            other.id: other
            for other in incidents.newest_first(session)
            if other.id == incident.id or other.state in (State.ERADICATED, State.RELEASED)
        }
        records = journal.standing(session, cluster=incident.cluster, kind=NETWORK_POLICY.kind, namespace=namespace)
    words, down = [], True
    for ordinal, record in enumerate(record for record in records if record.incident in ended):
        owner = ended[record.incident]
        action = Quarantine(context.cluster, fence=owner.fence, serving_floor=context.policy.serving_floor)
        change = action.undo(record)
        outcome: Outcome
        if isinstance(change, Refused | Already):
            outcome = change
        else:
            # Two incidents, or two attempts, have changes of the same id: each is journalled as its own.
            own = change.model_copy(update={"id": f"{change.id}-{record.incident}-{record.step}"})
            done = steps.apply_change(context, incident, step, action, ordinal, own)
            assert done.outcome is not None
            outcome = done.outcome
        if steps.is_done(outcome):
            with context.store.write() as session:
                journal.mark_undone(session, record)
        elif record.incident == incident.id:
            down = False
        words.append(f"{record.change.ref}: {describe(outcome)}")
    return tuple(words), down


# --- the token canary ------------------------------------------------------------------
def _mint(context: Context, incident: Incident, pod: Json) -> BoundToken | None:
    """A token bound to the suspect, seen to be accepted before the pod goes. None when that is not possible."""
    audit_id = str(uuid.uuid4())
    _tried(context, incident, "intended", audit_id)
    try:
        token = request_token(context.cluster, pod, audit_id)
        alive = token.accepted_by(context.cluster)
    except PlatformError as error:
        _tried(context, incident, "not-possible", audit_id, str(error))
        return None
    _tried(context, incident, "accepted" if alive else "refused", audit_id)
    return token if alive else None


def _await_refusal(context: Context, incident: Incident, token: BoundToken) -> None:
    deadline = time.monotonic() + _TOKEN_SECONDS
    audit_id = ""
    why = "the API server went on accepting it"
    while time.monotonic() < deadline:
        audit_id = str(uuid.uuid4())
        try:
            if not token.accepted_by(context.cluster, audit_id):
                _tried(context, incident, "refused", audit_id)
                return
        except PlatformError as error:
            why = str(error)
        time.sleep(1.0)
    _tried(context, incident, "accepted", audit_id, why)


def _tried(
    context: Context,
    incident: Incident,
    result: Literal["intended", "accepted", "refused", "not-possible"],
    audit_id: str,
    why: str = "",
) -> None:
    event = CanaryTried(
        occurred_at=now(),
        actor=context.actor,
        path="identity.kubernetes",
        canary="token bound to the suspect pod",
        result=result,
        audit_id=audit_id,
        why=why,
    )
    with context.store.write() as session:
        timeline.append(session, incident.id, event, now())
