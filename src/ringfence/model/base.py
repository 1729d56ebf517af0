"""What every noun shares: frozen, strict about unknown members, times aware and in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, PlainSerializer

Json = dict[str, Any]


def _to_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def isoformat(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds and ``Z``: one width, so that texts sort as times do."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_TO_TEXT = PlainSerializer(isoformat, return_type=str, when_used="json")
Instant = Annotated[AwareDatetime, AfterValidator(_to_utc), _TO_TEXT]
"""A moment: zone-aware on the way in, UTC inside, RFC 3339 on the way out."""


class Noun(BaseModel):
    """Base of the nouns. What checks one is built when the first of it is made: a command meets few of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json(self) -> Json:
        """A JSON-native dict (strings, numbers, lists, dicts, None)."""
        return self.model_dump(mode="json")
