"""Every way in which a request can fail, as our own errors: which effect it may have had, and the server's own words.

httpx2 raises below HTTP; the API server answers above it. A ``kind: Status`` body gives the reason; anything else (a
proxy's HTML page) is quoted in short. A 403 is the authoriser's or a proxy's (denied), or an admission plug-in's
(invalid).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any

import httpx2

from ringfence.errors import Conflict, Denied, Invalid, NotFound, NotSent, PlatformError, Throttled, Unanswered

_NOT_SENT = (
    *(httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout),
    *(httpx2.ProxyError, httpx2.UnsupportedProtocol),
)
_QUOTE = 300
_AUTHORISER = re.compile(r'\bUser "(?:[^"\\]|\\.)*" cannot ')
"""The API server's own sentence, whichever authoriser said no: User "x" cannot get resource "pods" in API group ""."""


def from_exception(error: Exception, *, verb: str, target: str, audit_id: str, server: str) -> PlatformError:
    """The error of a request that got no HTTP answer."""
    facts: dict[str, Any] = {"system": "kubernetes", "verb": verb, "target": target, "audit_id": audit_id}
    why = str(error) or type(error).__name__
    if isinstance(error, _NOT_SENT):
        return NotSent(
            f"the cluster at {server} cannot be reached",
            why=why,
            next_step="check the network and the context: ringfence doctor",
            **facts,
        )
    return Unanswered(
        f"no answer to {verb} {target}",
        why=why,
        next_step="the request may have been carried out: read live state before asking again",
        **facts,
    )


def from_response(
    status: int, body: bytes, headers: httpx2.Headers, *, verb: str, target: str, audit_id: str
) -> PlatformError:
    """The error of a request that was answered with a status of 400 or above (or a redirect, which nothing follows)."""
    details = _status(body)
    why = _words(details, body, status)
    facts: dict[str, Any] = {
        "system": "kubernetes",
        "verb": verb,
        "target": target,
        "status": status,
        "why": why,
        "audit_id": audit_id,
    }
    if status == 403 and details and not _is_denial(details):
        return Invalid(f"admission refused to {verb} {target}", next_step="see which policy it names", **facts)
    if status in (401, 403):
        next_step = f"ask for the permission: {verb} {target}" if status == 403 else "log in again, or choose --context"
        return Denied(f"not allowed to {verb} {target}", next_step=next_step, **facts)
    if status in (404, 410):
        return NotFound(f"{target} does not exist", next_step="kubectl get it, it may have been replaced", **facts)
    if status == 409:
        return Conflict(f"{target} is not as it was when this was planned", next_step="plan again", **facts)
    if status == 429:
        return Throttled(
            f"the cluster throttles {verb} {target}",
            retry_after=_seconds(headers.get("retry-after")),
            next_step="wait and ask again",
            **facts,
        )
    if status < 500:
        return Invalid(f"the server refused to {verb} {target}", next_step="see its reason", **facts)
    return Unanswered(
        f"the server failed to {verb} {target}",
        next_step="the request may have been carried out: read live state before asking again",
        **facts,
    )


def _status(body: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        parsed = json.loads(body)
        if isinstance(parsed, dict) and parsed.get("kind") == "Status":
            return parsed
    return {}


def _words(details: dict[str, Any], body: bytes, status: int) -> str:
    message = details.get("message")
    if isinstance(message, str) and message:
        return f"{status}: {message}"
    text = body[:_QUOTE].decode("utf-8", "replace").strip()
    return f"{status}: {text}" if text else f"{status} without a body"


def _is_denial(details: dict[str, Any]) -> bool:
    """Whether a 403 of the API server is its authoriser's. Admission plug-ins answer 403 too, in words of their own."""
    message = str(details.get("message", ""))
    return bool(_AUTHORISER.search(message)) and "admission webhook" not in message


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds; None for its other form (a date) and for numbers that nobody can wait for."""
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
