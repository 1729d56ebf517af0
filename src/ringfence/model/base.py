"""What every noun shares: frozen, strict about unknown members, times aware and in UTC."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import rfc8785
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


_PLAIN = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(value: Json) -> bytes:
    """The canonical encoding (RFC 8785). Raises ValueError for what has none: NaN, integers of 2**53 and above, text
    that is not Unicode."""
    if _is_plain(value):
        return _PLAIN(value).encode()  # the same bytes, an order of magnitude faster
    return rfc8785.dumps(value)


def _is_plain(value: object) -> bool:
    """Whether the standard library writes a value as RFC 8785 does: no fractions and no large integers, and the names
    of members sort the same by code point as by UTF-16."""
    if isinstance(value, dict):
        return all(key.isascii() and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < 2**53)


class Noun(BaseModel):
    """Base of the nouns. What checks one is built when the first of it is made: a command meets few of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json(self) -> Json:
        """A JSON-native dict (strings, numbers, lists, dicts, None)."""
        return self.model_dump(mode="json")
