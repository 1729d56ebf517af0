"""``ringfence node INC checkpoint``: what a suspect's containers hold in memory, where its node can write that down.

Off by default, with a right of its own (``ringfence rbac --checkpoint``). Each container is tried when it is asked for;
what a node cannot do is said in plain words and is no success. An archive is evidence by reference: the kubelet's
answer is sealed, the archive itself stays on the node, with every secret that was in memory.

A command that died is typed again. What it had recorded is sealed then, and nobody is asked a second time; where it had
asked and recorded nothing, the container is asked again, and the plan says that there may be an archive already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from ringfence.actions.base import Settings
from ringfence.actions.checkpoint import Checkpoint
from ringfence.errors import (
    Denied,
    EvidenceError,
    Guarded,
    NotFound,
    RingfenceError,
    StoreError,
    TargetError,
    VaultError,
)
from ringfence.evidence.acquire import Acquirer, What, name_part
from ringfence.evidence.handling import read_item
from ringfence.model import step_names
from ringfence.model.evidence import Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
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
from ringfence.model.timeline import StepFinished
from ringfence.platform.kubernetes import checkpoints
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response import capture, guard, steps
from ringfence.response.context import Context, now
from ringfence.store import evidence, incidents, journal, targets, timeline

_METHOD = "create: the kubelet's checkpoint API, through the API server's proxy"


@dataclass(frozen=True)
class Asked:
    """One container: what became of it, and where the archives lie on the node. ``before``: the steps that have asked
    for it earlier, each with what is known of its archive."""

    container: str
    outcome: Outcome
    archives: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


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
        left = _left(context, incident, target, say)
        if left is not None:
            say(f"checkpoint: {target}: {left.step} had ended and was not sealed, so nobody is asked again")
            done.append(left)
            continue
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
    label = steps.next_step(context, incident, step_names.CHECKPOINT)
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
    before = {change.id: _before(context, incident, change) for change in plan.changes}
    told = tuple(f"{change.id}: {words}" for change in plan.changes for words in before[change.id])
    plan = plan.model_copy(update={"caveats": (*plan.caveats, *told)})
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
        asked.append(Asked(name, record.outcome, places, before[record.change.id]))
        what = What(
            id=_item(name),
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
        seal = capture.recapture(context, incident, target, key=_key(label, target), extra=items)
    except StoreError:
        raise
    except RingfenceError as error:
        return replace(done, unsealed=str(error))
    return replace(done, seal=_sealed(seal))


def _before(context: Context, incident: Incident, change: Change) -> tuple[str, ...]:
    """The steps that have asked for the same container, and have or may have an archive of it."""
    known = []
    for record in _asked_before(context, incident):
        if (record.change.ref.uid, record.change.subresource) != (change.ref.uid, change.subresource):
            continue
        match record.outcome:
            case Applied():
                known.append(f"{record.step} has written an archive of it, and this is another")
            case Unknown() | None:
                known.append(f"{record.step} may have written an archive of it, and this is another")
            case Already() | Skipped() | Refused() | Failed():
                pass
            case _:
                assert_never(record.outcome)
    return tuple(known)


def _left(context: Context, incident: Incident, target: ObjectRef, say: Callable[[str], None]) -> Checkpointed | None:
    """A checkpoint of the pod that was recorded and never sealed, as a crash leaves it: sealed now. None is the usual.

    While the vault cannot be used it says so in ``unsealed``: another archive would not be sealed either. One that can
    never be sealed is said, and does not stand in the way of the next. Raises StoreError.
    """
    records = _asked_before(context, incident)
    for label in dict.fromkeys(record.step for record in records):
        with context.store.read() as session:
            capture = evidence.capture_for(session, incident.id, _key(label, target))
            if capture is None or evidence.seal_of_capture(session, incident.id, capture) is not None:
                continue
            items = {item.id: item for item in evidence.items(session, incident.id, capture)}
            if not items:
                continue
            ends = [entry.event for entry in timeline.read(session, incident.id)]
        mine = [record for record in records if record.step == label]
        node = mine[0].change.ref.name
        end = next(event for event in ends if isinstance(event, StepFinished) and event.step == label)
        done = Checkpointed(target, label, end.outcome, node, proof=end.proof)
        try:
            done = replace(done, containers=tuple(_asked(context, incident, record, items) for record in mine))
            seal = context.sealer().resume(incident, target, actor=context.actor, key=_key(label, target))
        except VaultError as error:
            return replace(done, unsealed=str(error))
        except EvidenceError as error:
            say(f"checkpoint: {target}: {label} cannot be sealed: {error}")
            continue
        assert seal is not None, "it has items"
        return replace(done, seal=_sealed(seal))
    return None


def _asked(context: Context, incident: Incident, record: ChangeRecord, items: dict[str, EvidenceItem]) -> Asked:
    """What one container came to, from the journal and from the kubelet's answer in the vault."""
    assert record.outcome is not None
    name = checkpoints.container_of(record.change.subresource)
    item = items.get(_item(name))
    if item is None or item.blob is None:
        return Asked(name, record.outcome)
    raw = b"".join(read_item(context.vault, incident.id, item))
    return Asked(name, record.outcome, checkpoints.archives(raw, record.change.ref.name))


def _asked_before(context: Context, incident: Incident) -> Sequence[ChangeRecord]:
    with context.store.read() as session:
        records = journal.of_incident(session, incident.id)
    return [record for record in records if record.action == Checkpoint.name]


def _key(label: str, target: ObjectRef) -> str:
    """What asks for the seal of that step, for that pod."""
    return f"{label}/{target.uid}"


def _item(container: str) -> str:
    return f"checkpoint/{name_part(container)}"


def _sealed(seal: Seal) -> str:
    return f"{seal.id}: {seal.collected} of {seal.items} items in {seal.path}"


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
