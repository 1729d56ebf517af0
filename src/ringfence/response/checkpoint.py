"""``ringfence node INC checkpoint``: what a suspect's containers hold in memory, where its node can write that down.

Off by default, with a right of its own (``ringfence rbac --checkpoint``). Each container is tried when it is asked for;
what a node cannot do is said in plain words and is no success. An archive is evidence by reference: the kubelet's
answer is sealed, the archive itself stays on the node, with every secret that was in memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from ringfence.actions.base import Settings
from ringfence.actions.checkpoint import Checkpoint
from ringfence.errors import Denied, Guarded, NotFound, RingfenceError, StoreError, TargetError
from ringfence.evidence.acquire import Acquirer, What, name_part
from ringfence.model.evidence import Collected, EvidenceItem
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import (
    Already,
    Applied,
    Failed,
    Outcome,
    Problem,
    Refused,
    Skipped,
    Unknown,
    describe,
    next_step_of,
)
from ringfence.model.plan import Change, Plan
from ringfence.model.proof import Proof
from ringfence.platform.kubernetes import checkpoints
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response import capture, guard, steps
from ringfence.response.context import Context, now
from ringfence.store import incidents, targets

_METHOD = "create: the kubelet's checkpoint API, through the API server's proxy"


@dataclass(frozen=True)
class Asked:
    """One container: what became of it, and where the archives lie on the node."""

    container: str
    outcome: Outcome
    archives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpointed:
    """One pod. ``seal`` names the seal that records it; empty when there is none, and then ``unsealed`` says why, if
    anything was asked for."""

    target: ObjectRef
    step: str
    outcome: Outcome
    node: str = ""
    containers: tuple[Asked, ...] = ()
    proof: Proof | None = None
    seal: str = ""
    unsealed: str = ""


def checkpoint_all(
    context: Context, incident: Incident, *, only: str, say: Callable[[str], None]
) -> tuple[Checkpointed, ...]:
    """Every pod of the incident, or the one that is named; one that fails stops no other.

    Raises Guarded when it is off in the configuration, TargetError, StoreError.
    """
    if context.policy.checkpoint_seconds is None:
        raise Guarded(
            "checkpoints are off in the configuration",
            why="the right to them is as good as root on every node, and an archive holds every secret in memory",
            next_step="checkpoint.enabled (docs/tasks/cut-on-the-node.md)",
        )
    with context.store.read() as session:
        found = [ref for ref in targets.of_incident(session, incident.id) if ref.kind == "Pod"]
    found = [ref for ref in found if only in ("", ref.name)]
    if not found:
        raise TargetError(f"{incident.id} is about no pod {only}".rstrip(), next_step=f"ringfence status {incident.id}")
    steps.reconcile(context, incident)
    done = []
    for target in found:
        say(f"checkpoint: {target}")
        done.append(_checkpoint(context, incident, target, context.policy.checkpoint_seconds))
    return tuple(done)


def _checkpoint(context: Context, incident: Incident, target: ObjectRef, seconds: float) -> Checkpointed:
    answers: dict[str, bytes] = {}

    def heard(change: Change, raw: bytes) -> None:
        answers[change.id] = raw

    settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor)
    action = Checkpoint(context.cluster, settings, seconds=seconds, heard=heard)
    with context.store.write() as session:
        incidents.remember(session, context.principal, now())
    label = steps.next_step(context, incident, "node-checkpoint")
    try:
        around = action.look(context.cluster_id, target, context.pool)
        refused = guard.protected(around.pod, context.policy)
        plan: Plan | Refused = action.plan(target, around) if refused is None else refused
    except RingfenceError as error:
        steps.record_failure(context, incident, label, action.name, error)
        return Checkpointed(target, label, Failed(problem=Problem.of(error)))
    if isinstance(plan, Refused):
        steps.refuse(context, incident, label, action.name, "plan", plan.reason)
        return Checkpointed(target, label, plan)
    steps.record_plan(context, incident, label, plan)
    started = now()
    result = steps.carry_out(context, incident, label, action, plan)
    node = plan.changes[0].ref.name
    acquirer = context.acquirer(incident)
    asked: list[Asked] = []
    items: list[EvidenceItem] = []
    for name, record in zip(around.running, result.records, strict=True):
        assert record.outcome is not None
        raw = answers.get(record.change.id)
        places = checkpoints.archives(raw, node) if raw is not None else ()
        asked.append(Asked(name, record.outcome, places))
        what = What(
            id=f"checkpoint/{name_part(name)}",
            kind="checkpoint.reference",
            source=f"nodes/{node}/{record.change.subresource}",
            method=_METHOD,
            volatility=1,
        )
        if raw is None:
            items.append(_missing(acquirer, what, record.outcome))
            continue
        kept = acquirer.derived(what, raw, started)
        made = tuple(f"{printable(place)} on node {printable(node)}: the memory of {name}" for place in places)
        items.append(kept.model_copy(update={"changes_made": made}))
    done = Checkpointed(target, label, result.outcome, node, tuple(asked), result.proof)
    try:
        seal = capture.recapture(context, incident, target, key=f"checkpoint/{secrets.token_hex(4)}", extra=items)
    except StoreError:
        raise
    except RingfenceError as error:
        return replace(done, unsealed=str(error))
    return replace(done, seal=f"{seal.id}: {seal.collected} of {seal.items} items in {seal.path}")


def _missing(acquirer: Acquirer, what: What, outcome: Outcome) -> EvidenceItem:
    return acquirer.missing(what, _collected(outcome), f"{describe(outcome)}; {next_step_of(outcome)}".rstrip("; "))


def _collected(outcome: Outcome) -> Collected:
    match outcome:
        case Failed(problem=problem) if problem.code == Denied.code:
            return Collected.DENIED
        case Failed(problem=problem) if problem.code == NotFound.code:
            return Collected.ABSENT
        case Failed() | Unknown() | Already() | Applied():
            # Applied by the audit log alone: there is an archive, and its path never came.
            return Collected.FAILED
        case Refused() | Skipped():
            return Collected.NOT_TAKEN
        case _:
            assert_never(outcome)
