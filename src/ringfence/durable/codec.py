"""How the engine's rows are written: JSON only, exceptions as their text, pickle never."""

from __future__ import annotations

import json
import traceback
from typing import Any


class RecordedError(Exception):
    """An exception that was read back: ``type: text``."""


def jsonable(value: Any, what: str) -> Any:
    """``value`` as it reads after a round trip, so that a first run and its replay see the same.

    Raises TypeError naming ``what`` when it is not JSON (a datetime, bytes, NaN, …).
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{what} is not JSON: {error}") from error


def describe(error: BaseException) -> str:
    """``Type: text`` of an exception, in one line where it has one."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def reason(error: BaseException) -> str:
    """What a database said, without the statement and the data that the error carries, too."""
    cause = getattr(error, "orig", None) or error
    return describe(cause)


class JsonCodec:
    """The serializer of the engine's rows. The first two characters tell a value from an exception."""

    def name(self) -> str:
        return "ringfence_json"

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            return "e:" + json.dumps(str(data) if isinstance(data, RecordedError) else describe(data))
        return "j:" + json.dumps(data, allow_nan=False)

    def deserialize(self, text: str) -> Any:
        kind, body = text[:2], text[2:]
        if kind == "e:":
            return RecordedError(json.loads(body))
        if kind == "j:":
            return json.loads(body)
        raise ValueError("not a row of this engine")


def replace_pickle() -> None:
    """Give the library's default serializer this codec: a row that names it would otherwise run code when read."""
    from dbos import _serialization

    codec = JsonCodec()
    for method in ("serialize", "deserialize"):
        own = getattr(codec, method)
        setattr(_serialization.DefaultSerializer, method, lambda _self, data, own=own: own(data))
