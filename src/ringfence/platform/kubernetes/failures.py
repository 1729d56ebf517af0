"""Every way in which a request can fail, as our own errors: which effect it may have had, and the server's own words.

httpx2 raises below HTTP; the API server answers above it. A ``kind: Status`` body gives the reason; anything else (a
proxy's HTML page) is quoted in short. 403 means two things: RBAC (denied) or an admission plug-in (invalid).
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx2

from ringfence.errors import Conflict, Denied, Invalid, NotFound, NotSent, PlatformError, Throttled, Unanswered

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
_QUOTE = 300


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
    reason = details.get("reason", "")
    if status == 403 and not _is_rbac(why):
        return Invalid(f"admission refused to {verb} {target}", next_step="see which policy it names", **facts)
    if status in (401, 403):
        next_step = f"ask for the permission: {verb} {target}" if status == 403 else "log in again, or choose --context"
        return Denied(f"not allowed to {verb} {target}", next_step=next_step, **facts)
    if status in (404, 410):
        return NotFound(f"{target} does not exist", next_step="kubectl get it, it may have been replaced", **facts)
    if status == 409:
        return Conflict(f"{target} is not as it was when this was planned", next_step="plan again", **facts)
    if status == 429 and reason != "TooManyRequestsTimeout":
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
    with contextlib.suppress(ValueError):
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


def _is_rbac(why: str) -> bool:
    # RBAC's sentence is: User "x" cannot get resource "pods" in API group "" ...; admission plug-ins word it otherwise.
    return "cannot " in why and "User " in why


def _seconds(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None
