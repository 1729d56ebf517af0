"""The events about one object, by its uid, from both events APIs: each API can hold what the other leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ringfence.model.base import Json
from ringfence.platform.kubernetes.resources import CORE_EVENT, EVENT, Resource


class EventQuery(NamedTuple):
    """A collection and the field selector that finds the events about a uid."""

    resource: Resource
    fields: str


def queries(uid: str) -> tuple[EventQuery, ...]:
    return (
        EventQuery(CORE_EVENT, f"involvedObject.uid={uid}"),
        EventQuery(EVENT, f"regarding.uid={uid}"),
    )


def last_seen(event: Json) -> str:
    """When an event was last seen, in the server's own text: events.k8s.io leaves ``lastTimestamp`` null."""
    return str(
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("eventTime")
        or event.get("lastTimestamp")
        or event.get("deprecatedLastTimestamp")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def in_order(events: Iterable[Json]) -> tuple[Json, ...]:
    return tuple(sorted(events, key=last_seen))
