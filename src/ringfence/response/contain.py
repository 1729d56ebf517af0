"""``contain``: open the capture, cut, seal, and say what is still open. The cut comes first and waits for nobody."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ringfence.actions.network import Quarantine
from ringfence.errors import EvidenceError, Guarded, NotFound, RingfenceError, TargetError
from ringfence.evidence.logs import LogCapture
from ringfence.model.base import Json
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident, Severity, State
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Outcome, Refused
from ringfence.model.plan import Plan
from ringfence.model.proof import Proof
from ringfence.model.timeline import CaptureOpened, StepFinished
from ringfence.platform.kubernetes.owners import controller_of
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.surroundings import (
    Reading,
    Surroundings,
    read_pod,
    read_surroundings,
    reference,
)
from ringfence.response import guard, steps
from ringfence.response.capture import collect_and_seal
from ringfence.response.context import Context, now
from ringfence.response.statement import Statement, retest
from ringfence.store import incidents, timeline

INCIDENT_TYPE = "compromised-workload"


@dataclass(frozen=True)
class Request:
    """What the operator asked for. ``began`` is ``time.monotonic()`` at the start of the command."""

    namespace: str
    name: str
    reason: str
    command: str
    accept_outage: bool
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Containment:
    """The result. ``seconds_to_cut`` is None when there was no cut; ``seal`` when nothing was sealed."""

    incident: Incident
    joined: bool
    plan: Plan | None
    outcome: Outcome
    proof: Proof | None
    seconds_to_cut: float | None
    seal: Seal | None
    evidence_problem: str
    statement: Statement


def plan_only(context: Context, request: Request) -> Plan | Refused:
    """What ``contain`` would do: nothing is written, neither to the cluster nor to the store."""
    pod, reading = find_pod(context, request.namespace, request.name)
    refusal = guard.protected(pod, context.policy)
    if refusal is not None:
        return refusal
    action = Quarantine(context.cluster, fence=secrets.token_hex(8), serving_floor=context.policy.serving_floor)
    around = read_surroundings(context.cluster, context.cluster_id, pod, reading, context.pool)
    return action.plan(reference(context.cluster_id, pod), around)


def contain(
    context: Context,
    request: Request,
    *,
    ask: Callable[[str], bool],
    on_cut: Callable[[Incident, float], None] = lambda _incident, _seconds: None,
) -> Containment:
    """Contain one pod. ``ask`` is asked when customers would fall below the serving floor; ``on_cut`` hears of the cut.

    Raises TargetError, Guarded, PlatformError (nothing was changed then, or the journal says what), StoreError.
    """
    pod, reading = find_pod(context, request.namespace, request.name)
    target = reference(context.cluster_id, pod)
    refusal = guard.protected(pod, context.policy)
    if refusal is not None:
        raise Guarded(f"{target} is not to be touched", why=refusal.reason, next_step=refusal.next_step)
    incident, joined = _declare(context, request, target)
    logs = _open_logs(context, incident, pod)
    steps.reconcile(context, incident)
    action = Quarantine(context.cluster, fence=incident.fence, serving_floor=context.policy.serving_floor)
    step = steps.next_step(context, incident, "contain")
    try:
        around = read_surroundings(context.cluster, context.cluster_id, pod, reading, context.pool)
        plan = action.plan(target, around)
    except RingfenceError as error:
        steps.record_failure(context, incident, step, action.name, error)
        raise
    if isinstance(plan, Refused):
        steps.refuse(context, incident, step, action.name, "plan", plan.reason)
        return _evidence_only(context, incident, joined, step, plan, target, around, logs)
    steps.record_plan(context, incident, step, plan)
    falling = guard.below_floor(plan.impact)
    if falling and not request.accept_outage and not ask(falling):
        steps.refuse(context, incident, step, action.name, "serving-floor", falling)
        refused = Refused(reason=falling, next_step="the same command with --accept-outage")
        return _evidence_only(context, incident, joined, step, refused, target, around, logs)
    if isinstance(logs, LogCapture):
        _wait_for_capture(context, incident, logs)
    result = steps.carry_out(context, incident, step, action, plan)
    seconds = time.monotonic() - request.began if steps.is_done(result.outcome) else None
    with context.store.write() as session:
        incidents.move(session, incident, State.CONTAINING, actor=context.actor, now=now())
    if seconds is not None:
        on_cut(incident, seconds)
    seal, problem = _seal(context, incident, target, around, logs)
    return Containment(
        incident=incident,
        joined=joined,
        plan=plan,
        outcome=result.outcome,
        proof=result.proof,
        seconds_to_cut=seconds,
        seal=seal,
        evidence_problem=problem,
        statement=retest(context, incident),
    )


def find_pod(context: Context, namespace: str, name: str) -> tuple[Json, Reading]:
    """The pod and its bytes. Raises TargetError that names pods like it when there is none of that name."""
    try:
        return read_pod(context.cluster, namespace, name)
    except NotFound as error:
        stem = name.rsplit("-", 1)[0]
        alike = sorted(
            other["metadata"]["name"]
            for other in context.cluster.list(POD, namespace)
            if other["metadata"]["name"].startswith(stem) or (controller_of(other) or {}).get("name") == name
        )
        raise TargetError(
            f"there is no pod {name} in namespace {namespace}",
            why=f"there are {', '.join(alike[:5])}" if alike else "and none with a name like it",
            next_step=f"kubectl get pods -n {namespace}",
        ) from error


def _declare(context: Context, request: Request, target: ObjectRef) -> tuple[Incident, bool]:
    with context.store.write() as session:
        existing = incidents.open_on(session, target.uid)
        if existing is not None:
            incidents.remember(session, context.principal, now())
            return existing, True
        incident = incidents.declare(
            session,
            target=target,
            incident_type=INCIDENT_TYPE,
            severity=Severity.CRITICAL,
            title=request.reason or f"{target} is suspected",
            principal=context.principal,
            fence=secrets.token_hex(8),
            command=request.command,
            now=now(),
        )
        return incident, False


def _wait_for_capture(context: Context, incident: Incident, logs: LogCapture) -> None:
    began = time.monotonic()
    opened = logs.wait_opened(context.policy.pre_cut_wait_ms / 1000)
    event = CaptureOpened(
        occurred_at=now(),
        actor=context.actor,
        streams=logs.streams,
        opened=opened,
        waited_ms=int((time.monotonic() - began) * 1000),
    )
    with context.store.write() as session:
        timeline.append(session, incident.id, event, now())


def _evidence_only(
    context: Context,
    incident: Incident,
    joined: bool,
    step: str,
    refused: Refused,
    target: ObjectRef,
    around: Surroundings,
    logs: LogCapture | EvidenceError,
) -> Containment:
    """No cut, but the evidence is taken all the same: it may be gone by the time that somebody decides."""
    finished = StepFinished(occurred_at=now(), actor=context.actor, step=step, action=Quarantine.name, outcome=refused)
    with context.store.write() as session:
        timeline.append(session, incident.id, finished, now())
    seal, problem = _seal(context, incident, target, around, logs)
    return Containment(
        incident=incident,
        joined=joined,
        plan=None,
        outcome=refused,
        proof=None,
        seconds_to_cut=None,
        seal=seal,
        evidence_problem=problem,
        statement=retest(context, incident),
    )


def _open_logs(context: Context, incident: Incident, pod: Json) -> LogCapture | EvidenceError:
    """The log streams, or why they cannot be kept: a broken vault does not stop the cut."""
    try:
        return LogCapture(context.acquirer(incident), pod, context.logs_pool)
    except EvidenceError as error:
        return error


def _seal(
    context: Context, incident: Incident, target: ObjectRef, around: Surroundings, logs: LogCapture | EvidenceError
) -> tuple[Seal | None, str]:
    """Seal; a vault that cannot be written, or a key that cannot be used, must not hide that the cut is in place."""
    try:
        if isinstance(logs, EvidenceError):
            raise logs
        return collect_and_seal(context, incident, target, around, logs), ""
    except RingfenceError as error:
        return None, f"{error} ({error.next_step})" if error.next_step else str(error)
