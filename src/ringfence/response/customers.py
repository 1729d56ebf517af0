"""What customers would feel of pods that are taken from them, and who takes that on: the operator, or a second person.

The same for every shape of a cut: by NetworkPolicies, or on the node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ringfence.model.base import Json
from ringfence.model.incident import Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Refused
from ringfence.model.run import Ceiling
from ringfence.platform.kubernetes.resources import ENDPOINT_SLICE, SERVICE
from ringfence.platform.kubernetes.surroundings import NamespaceReading
from ringfence.response import consent, guard
from ringfence.response.context import Context, now
from ringfence.response.guard import Survey
from ringfence.response.scene import Paused, Scene
from ringfence.store import journal, runs, targets

ACCEPT = "the same command with --accept-outage"


@dataclass(frozen=True)
class Held:
    """Why a pod is not taken: which gate, and its words."""

    gate: str
    refused: Refused


def survey(
    context: Context, incident: str, group: Sequence[ObjectRef], read: Callable[[str], NamespaceReading]
) -> Survey:
    """What taking these together means for customers. Pods that serve nobody by now count for nothing.

    ``read`` gives a namespace's Services and endpoints; what it raises comes through.
    """
    pods: list[Json] = []
    services: list[Json] = []
    slices: list[Json] = []
    wanted = [target for target in group if target.kind == "Pod"]
    for namespace in dict.fromkeys(target.namespace for target in wanted):
        reading = read(namespace)
        services += reading.collections[SERVICE.plural]
        slices += reading.collections[ENDPOINT_SLICE.plural]
    with context.store.read() as session:
        for target in wanted:
            found = targets.as_found(session, incident, target.uid)
            if found is not None:
                pods.append(found)
    return guard.survey(pods, services, slices, context.policy.serving_floor)


def allowed(scene: Scene, falling: str) -> Paused | Held | None:
    """None when the operator takes the outage on, and, above the cap, a second person as well."""
    context, run = scene.context, scene.run
    with context.store.read() as session:
        accepted = runs.get(session, run.id).order.accept_outage
    if not accepted:
        with scene.live.lock:  # one question for a whole group
            with context.store.read() as session:
                accepted = runs.get(session, run.id).order.accept_outage
            if not accepted and scene.live.ask(falling):
                with context.store.write() as session:
                    runs.accept_outage(session, run)
                accepted = True
    if not accepted:
        return Held("serving-floor", Refused(reason=falling, next_step=ACCEPT))
    pods = sum(1 for target in run.targets if target.kind == "Pod")
    why = too_many(context, scene.incident.severity, pods)
    if not why:
        return None
    ceiling = Ceiling(actions=(scene.step.action,), targets=tuple(str(target) for target in run.targets), pods=pods)
    answer = second_person(scene, ceiling, f"{falling}; {why}")
    return Held("approval", answer) if isinstance(answer, Refused) else answer


def second_person(scene: Scene, ceiling: Ceiling, reason: str) -> Paused | Refused | None:
    """None when somebody else has agreed to as much as ``ceiling`` says; Paused while nobody has answered."""
    answer = consent.consent(
        scene.context,
        scene.run,
        scene.step.id,
        ceiling,
        reason=reason,
        second_person=True,
        minutes=scene.context.policy.approval_minutes,
    )
    match answer:
        case consent.Granted():
            return None
        case consent.Waiting(approval=approval):
            return Paused(approval)
        case Refused():
            return answer


def too_many(context: Context, severity: Severity, pods: int) -> str:
    """Why one person is not enough to take so many pods from their customers now; empty when it is."""
    with context.store.read() as session:
        spent = journal.pods_taken(session, since_seconds=3600, now=now())
    return guard.needs_second_person(pods, context.policy) or guard.breaker(spent, pods, severity, context.policy)
