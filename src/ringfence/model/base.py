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


Instant = Annotated[AwareDatetime, AfterValidator(_to_utc), PlainSerializer(isoformat, when_used="json")]
"""A moment: zone-aware on the way in, UTC inside, RFC 3339 on the way out."""


class Noun(BaseModel):
    """Base of the nouns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> Json:
        """A JSON-native dict (strings, numbers, lists, dicts, None)."""
        return self.model_dump(mode="json")
