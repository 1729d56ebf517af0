"""What the timeline says of the node helper (pure): for those who read it and give it no orders."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.model.node_helper import NodeReport
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
