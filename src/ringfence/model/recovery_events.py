"""Events of the way back: the window in which the restored workloads are watched, and the review that closes."""

from typing import Literal

from ringfence.model.base import Instant
from ringfence.model.event import EventBase
from ringfence.model.objects import ObjectRef


class WatchOpened(EventBase):
    """What was restored is looked at again and again until ``until``. ``indicators`` says at what."""

    type: Literal["recovery.watch"] = "recovery.watch"
    run: str
    until: Instant
    workloads: tuple[ObjectRef, ...] = ()
    indicators: tuple[str, ...] = ()


class IndicatorReturned(EventBase):
    """A sign of the attacker came back. ``pods`` are cut off by ``run``; empty where there is no pod to cut."""

    type: Literal["recovery.indicator"] = "recovery.indicator"
    what: str
    pods: tuple[ObjectRef, ...] = ()
    run: str = ""


class Reviewed(EventBase):
    """A person closes the incident: how the attacker came in, and what is to be done otherwise.

    ``stays`` names what of the response is in force beyond the incident.
    """

    type: Literal["incident.reviewed"] = "incident.reviewed"
    root_cause: str
    lessons: tuple[str, ...]
    stays: tuple[str, ...] = ()
