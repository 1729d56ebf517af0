"""What the timeline says of the node helper: whether it is on, and what it did and saw (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.model.node_helper import NodeOrder, NodeReport
from ringfence.model.objects import ObjectRef
from ringfence.model.timeline import Event, NodeHelperReported, NodeHelperSwitched


def is_on(events: Iterable[Event]) -> bool:
    """Whether the last switch of the incident was on."""
    return next((event.on for event in reversed([*events]) if isinstance(event, NodeHelperSwitched)), False)


def latest(events: Iterable[Event], uid: str) -> NodeReport | None:
    """The last report that says what of a pod's network is in force."""
    return next(
        (
            event.report
            for event in reversed([*events])
            if isinstance(event, NodeHelperReported) and event.report.target.uid == uid and event.report.network
        ),
        None,
    )


def standing(events: Iterable[Event], target: ObjectRef, order: NodeOrder) -> str:
    """What of ``cut`` or ``freeze`` is still in force on a pod, as far as was reported; empty: nothing."""
    for event in reversed([*events]):
        if not isinstance(event, NodeHelperReported) or event.report.target.uid != target.uid:
            continue
        report = event.report
        if order is NodeOrder.CUT and report.network is not None:
            return "the cut on its node stays in force" if report.network.in_force else ""
        if order is NodeOrder.FREEZE and report.frozen is not None:
            return "its processes stay frozen" if report.frozen else ""
    return ""


def in_force(events: Iterable[Event], target: ObjectRef) -> tuple[str, ...]:
    """What the node helper did to a pod that nobody took back, as far as was reported, in words; empty: nothing."""
    told = [*events]
    return tuple(filter(None, (standing(told, target, order) for order in (NodeOrder.CUT, NodeOrder.FREEZE))))


def way_back(incident: str) -> str:
    """The orders that free pods which their node holds, before they are released."""
    return f"ringfence node {incident} uncut, and thaw; then ringfence release {incident}"


def reported(events: Iterable[Event], target: ObjectRef, order: NodeOrder, label: str) -> NodeReport | None:
    """The report of this very step, when a crash kept it from being the step's end.

    None when it did not come to its end, or when a later run of the helper saw the pod otherwise.
    """
    for event in reversed([*events]):
        if not isinstance(event, NodeHelperReported) or event.report.target.uid != target.uid:
            continue
        own = event.step == label or event.step.startswith(f"{label}.")
        report = event.report
        return report if own and report.order is order and report.done and not report.left_behind else None
    return None
