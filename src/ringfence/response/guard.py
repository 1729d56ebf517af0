"""Guardrails that are the engine's and not the playbook's (pure): protected targets, serving floor, blast radius."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ringfence.model.base import Json
from ringfence.model.incident import Severity
from ringfence.model.outcome import Refused
from ringfence.model.plan import Impact, Plan
from ringfence.platform.kubernetes.serving import ready_endpoints, services_of
from ringfence.response.context import Policy


def protected(obj: Json, policy: Policy) -> Refused | None:
    """Refused when the object is one that no response may touch."""
    meta = obj["metadata"]
    if meta.get("namespace") in policy.protected_namespaces:
        return Refused(
            reason=f"namespace {meta['namespace']} is protected",
            next_step="protected.namespaces in the configuration says which are",
        )
    if policy.protected_label in (meta.get("labels") or {}):
        return Refused(
            reason=f"{obj.get('kind', 'the pod')} {meta['name']} carries the label {policy.protected_label}",
            next_step="ask its owner to take the label off",
        )
    if (meta.get("annotations") or {}).get("kubernetes.io/config.mirror"):
        return Refused(
            reason="it is a static pod: its node's kubelet runs it from a file, whatever the API says",
            next_step="act on the node",
        )
    return None


def below_floor(impact: Impact) -> str:
    """Which Services would fall below their floor, in one sentence; empty when none does."""
    falling = [
        f"{service.service} would have {service.ready_after} of {service.ready_before} serving (floor {service.floor})"
        for service in impact.services
        if not service.keeps_floor
    ]
    return "; ".join(falling)


@dataclass(frozen=True)
class Survey:
    """What cutting a group of pods means for customers. ``held``: pod uid → why it is not cut without consent.

    ``serving`` counts the ready endpoints that the group takes away, held ones included.
    """

    serving: int = 0
    held: Mapping[str, str] = field(default_factory=dict)

    @property
    def falling(self) -> str:
        return "; ".join(dict.fromkeys(self.held.values()))


def survey(pods: Sequence[Json], services: Iterable[Json], slices: Iterable[Json], floor: int) -> Survey:
    """Walk the pods in order, taking each from its Services, and hold those that would bring one below ``floor``.

    Replacements are not counted: they start after the cut, and may have the same hole. A Service that is below its
    floor already is not brought lower by a pod that does not serve.
    """
    known_services, known_slices = tuple(services), tuple(slices)
    left = {
        (service["metadata"]["namespace"], service["metadata"]["name"]): set(
            ready_endpoints(service["metadata"]["name"], _of(known_slices, service["metadata"]["namespace"]))
        )
        for service in known_services
    }
    before = {key: len(ready) for key, ready in left.items()}
    serving, held = 0, {}
    for pod in pods:
        uid, namespace = pod["metadata"]["uid"], pod["metadata"]["namespace"]
        keys = [
            (namespace, service["metadata"]["name"])
            for service in services_of(pod, _of(known_services, namespace))
            if uid in left[namespace, service["metadata"]["name"]]
        ]
        serving += 1 if keys else 0
        falling = [key for key in keys if len(left[key]) - 1 < min(floor, before[key])]
        if falling:
            held[uid] = "; ".join(
                f"{name} would have {len(left[space, name]) - 1} of {before[space, name]} serving (floor {floor})"
                for space, name in falling
            )
            continue
        for key in keys:
            left[key].discard(uid)
    return Survey(serving, held)


def _of(objects: Iterable[Json], namespace: str) -> tuple[Json, ...]:
    return tuple(obj for obj in objects if obj["metadata"].get("namespace") == namespace)


def needs_second_person(pods: int, policy: Policy) -> str:
    """Why one person is not enough to take so many pods away; empty when it is."""
    if pods <= policy.blast_radius_pods:
        return ""
    cap = f"{policy.blast_radius_pods} (guardrails.blast_radius_pods)"
    return f"{pods} pods would stop; above {cap} a second person approves"


def breaker(spent: int, pods: int, severity: Severity, policy: Policy) -> str:
    """Why the circuit breaker over all incidents is open for these pods; empty when it is not.

    ``spent`` counts the pods that were taken away in the last hour.
    """
    reserve = 0 if severity is Severity.CRITICAL else round(policy.hourly_pods * policy.critical_reserve)
    allowed = policy.hourly_pods - reserve
    if spent + pods <= allowed:
        return ""
    kept = f", {reserve} kept for critical incidents" if reserve else ""
    return (
        f"{spent} pods were taken away in the last hour and {pods} more are asked for; "
        f"{policy.hourly_pods} are allowed (guardrails.hourly_pods{kept})"
    )


def dying(plan: Plan) -> int:
    """How many pods a plan ends."""
    return sum(1 for ref in plan.destroys if ref.kind == "Pod")
