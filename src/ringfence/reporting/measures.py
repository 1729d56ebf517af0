"""What follows from the recorded facts: preventive measures and the state of the root cause (pure).

A measure is said only beside the fact that asks for it. Nothing recorded, nothing said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ringfence.model.access import AccessPath, PathState
from ringfence.model.evidence import Collected
from ringfence.model.recovery_events import Reviewed
from ringfence.reporting.text import counted, listed
from ringfence.reporting.view import BreakGlass, Capture, Measure, StepView

_WHEN_ALIVE = {
    "network.egress": "Close the openings that are named; then have the statement computed again.",
    "network.ingress": "Close the openings that are named; then have the statement computed again.",
    "network.established": "Keep the network plugin's flow logs: they show which connections outlive a cut.",
    "network.dns": "Let pods query the cluster's resolver alone, and log the queries.",
    "identity.kubernetes": "Where the workload does not call the Kubernetes API, set automountServiceAccountToken to "
    "false; where it does, give its account no more than those calls need.",
    "identity.cloud": "Revoke the role's sessions, and narrow the role and who may take it.",
    "workload.replacement": "Mend the image or the template before the next rollout; until then every new pod "
    "has the same hole.",
    "node": "Take the access to the node that is named out of the pod's specification, and have admission refuse it.",
}
_WHEN_UNSEEN = {
    "network.egress": "Have the fence tried on packets in this cluster, so that its enforcement is shown.",
    "network.ingress": "Have the fence tried on packets in this cluster, so that its enforcement is shown.",
    "network.dns": "Have a DNS query tried from behind the fence, and log queries at the resolver.",
    "siblings.image": "Inspect each of these pods or replace it from an image that is known to be good.",
    "siblings.account": "Inspect each of these pods; give workloads accounts of their own.",
    "node": "Inspect the node, or drain it and build it anew.",
}
# What the planning actions say in their caveats, by how it begins, and what answers it.
_CAVEATS = (
    (
        "liveness, which may restart it after the cut",
        "Raise the probe's failure threshold, or collect before it fires.",
    ),
    (
        "not known, as it could not be read",
        "Let Ringfence's role read it, so that the next plan takes it into account.",
    ),
    ("finalizers keep the object", "Say in the runbook who completes these finalizers during an incident."),
)


def measures(
    rows: Iterable[AccessPath], steps: Sequence[StepView], evidence: Sequence[Capture], glass: Iterable[BreakGlass]
) -> tuple[Measure, ...]:
    """Each measure once, with every fact that asks for it, in the order of the report's sections."""
    found: dict[str, dict[str, None]] = {}
    for fact, measure in (*_of_rows(rows), *_of_glass(glass), *_of_steps(steps), *_of_evidence(evidence)):
        found.setdefault(measure, {})[fact] = None
    return tuple(Measure(tuple(facts), measure) for measure, facts in found.items())


def root_cause(evidence: Sequence[Capture], reviews: Sequence[Reviewed] = ()) -> tuple[str, ...]:
    """What the newest review names; without one it is open, and what may show it is listed."""
    if reviews:
        return (reviews[-1].root_cause,)
    held = [item for capture in evidence if capture.seal for item in capture.items]
    logs = sorted({item.id for item in held if item.blob and item.blob.raw_size and item.id.startswith("logs/")})
    said = [
        "Not determined by Ringfence; it records what was done and seals evidence, and draws no conclusion from it."
    ]
    if logs:
        said.append(f"Sealed logs that may show it: {listed(logs)}.")
    if missing := lacking(evidence):
        said.append(f"Not among the evidence: {listed(missing)}.")
    return tuple(said)


def lacking(evidence: Iterable[Capture]) -> list[str]:
    """Items that no capture has, though the server did not say that they do not exist."""
    items = [item for capture in evidence for item in capture.items]
    settled = {item.id for item in items if item.result in (Collected.COLLECTED, Collected.ABSENT)}
    return sorted({item.id for item in items} - settled)


def _of_rows(rows: Iterable[AccessPath]) -> Iterator[tuple[str, str]]:
    for row in rows:
        # An accepted row is as open as it was: what would shut it is owed all the same.
        state = row.acceptance.state if row.acceptance else row.state
        if state is PathState.DEAD:
            continue
        said = f"accepted as {state}" if row.acceptance else str(state)
        known = _WHEN_ALIVE if state is PathState.ALIVE else _WHEN_UNSEEN
        yield (f"{row.title} ({said}): {row.why}", known.get(row.path) or _generic(row))


def _generic(row: AccessPath) -> str:
    shows = f"What would show more: {row.retest}." if row.retest else "Nothing is known yet that would show more."
    return f"It lives until {row.until}. {shows}" if row.until else shows


def _of_glass(glass: Iterable[BreakGlass]) -> Iterator[tuple[str, str]]:
    for broken in glass:
        yield (
            f"{broken.step}: {broken.action} was ordered without its evidence ({broken.missing})",
            f"Review the order with who gave it: {broken.reason}",
        )


def _of_steps(steps: Iterable[StepView]) -> Iterator[tuple[str, str]]:
    for step in steps:
        if step.plan is None:
            continue
        for service in step.plan.impact.services:
            if service.ready_after < max(service.floor, 1):
                yield (
                    f"Service {service.service} had {service.ready_before} ready, and {service.ready_after} without "
                    "the pod",
                    "Run enough replicas that one suspect can be taken out while the Service keeps its floor "
                    f"({service.floor}).",
                )
        for caveat in step.plan.caveats:
            for begins, measure in _CAVEATS:
                if caveat.startswith(begins):
                    yield (f"{step.step}: {caveat}", measure)


def _of_evidence(evidence: Iterable[Capture]) -> Iterator[tuple[str, str]]:
    for capture in evidence:
        for item in capture.items:
            if item.result is Collected.DENIED:
                yield (
                    f"Evidence {item.id} was denied: {item.reason}",
                    "Let Ringfence's role read it, so that it is sealed.",
                )
        if capture.seal is not None and not capture.seal.complete:
            yield (
                f"{capture.seal.id} is not complete: {capture.seal.why_incomplete}",
                "Find out why before it is needed again: the evidence gate opens on complete seals alone.",
            )
        if capture.seal is None:
            yield (
                f"{counted(len(capture.items), 'item')} acquired and never sealed",
                "Find out why the seal was not written.",
            )
