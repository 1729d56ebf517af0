"""An event as it is read from a timeline, in its chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast, get_args

from ringfence.model.base import Json, isoformat
from ringfence.model.custody import CustodyFact
from ringfence.model.event import EventBase
from ringfence.model.timeline import Event

_CLASSES: Mapping[str, type[EventBase | CustodyFact]] = {
    one.model_fields["type"].default: one for one in get_args(get_args(Event)[0])
}
"""By what stands in ``type``. The union as a whole is not built: a timeline has a few of its kinds."""


def parse_event(body: Json) -> Event:
    """The event of a stored body; ValueError, pydantic's ValidationError too, if it is not one."""
    kind = _CLASSES.get(body.get("type", ""))
    if kind is None:
        raise ValueError(f"there is no event of the type {body.get('type')!r}")
    return cast(Event, kind.model_validate(body))


@dataclass(frozen=True)
class TimelineEntry:
    """An event in its chain. ``hash`` = SHA-256 of the canonical JSON of incident, seq, body_sha256 and prev_hash.

    Raises ValueError for a naive time.
    """

    incident: str
    seq: int
    recorded_at: datetime
    event: Event
    body_sha256: str
    prev_hash: str
    hash: str

    def __post_init__(self) -> None:
        if self.recorded_at.tzinfo is None:
            raise ValueError("recorded_at has no timezone")

    def to_json(self) -> Json:
        return {**vars(self), "recorded_at": isoformat(self.recorded_at), "event": self.event.to_json()}
