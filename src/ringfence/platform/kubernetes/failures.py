"""Every way in which a request can fail, as our own errors: which effect it may have had, and the server's own words.

httpx2 raises below HTTP; the API server answers above it. A ``kind: Status`` body gives the reason; anything else (a
proxy's HTML page) is quoted in short. A 403 is the authoriser's or a proxy's (denied), or an admission plug-in's
(invalid).
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from typing import Any

import httpx2
import yaml

from ringfence.errors import Conflict, Denied, Invalid, NotFound, NotSent, PlatformError, Throttled, Unanswered
from ringfence.platform.kubernetes.answers import TooLarge, loads
from ringfence.platform.kubernetes.resources import Resource

_NOT_SENT = (
    *(httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout),
    *(httpx2.ProxyError, httpx2.UnsupportedProtocol),
)
_QUOTE = 300
_LONGEST = 2000
"""Characters of the server's own words that are kept."""
_LONGEST_NAME = 253
"""Characters of a name that are shown; no object of Kubernetes has a longer one."""
_LONGEST_PATH = 8000
_CREDENTIAL = re.compile(
    r"""(?ix) (?: \b(?:bearer|basic)\s+ (?: [\w.~+/=-]{16,} )
    | \beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?
    | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY----- .*? (?: -----END\ [A-Z\ ]*PRIVATE\ KEY----- | \Z ) )""",
    re.DOTALL,
)
"""What looks like a credential wherever it stands: an authorization header, a JSON web token, a private key."""
_AUTHORISER = re.compile(r'\bUser "(?:[^"\\]|\\.)*" cannot ')
"""The API server's own sentence, whichever authoriser said no: User "x" cannot get resource "pods" in API group ""."""


def from_exception(error: Exception, *, verb: str, target: str, audit_id: str, server: str) -> PlatformError:
    """The error of a request that got no HTTP answer."""
    facts: dict[str, Any] = {"system": "kubernetes", "verb": verb, "target": target, "audit_id": audit_id}
    why = words_of(error)
    if _is_not_legal(error):
        return NotSent(
            f"the request to {verb} {target} cannot be written",
            why=why,
            next_step="look for a line break in the kubeconfig's token",
            **facts,
        )
    if isinstance(error, TooLarge):
        return Unanswered(
            f"the answer to {verb} {target} is too large",
            why=why,
            next_step="check the server's address in the kubeconfig: an API server does not send that much",
            **facts,
        )
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
    status: int,
    body: bytes,
    headers: httpx2.Headers,
    *,
    verb: str,
    target: str,
    audit_id: str,
    sent: Mapping[str, str] | None = None,
) -> PlatformError:
    """The error of a request that was answered with a status of 400 or above (or a redirect, which nothing follows).

    ``sent`` are the request's headers: an error page that repeats its credentials is quoted without them.
    """
    details = _status(body)
    why = redacted(_words(details, body, status), (sent or {}).get("authorization", ""))
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
    if status in (404, 410) and not details and verb != "list":
        # That one object does not exist is believed from the API server alone. (An API that it does not serve has a
        # page.)
        return Unanswered(
            f"a stranger answered to {verb} {target}",
            next_step="the API server says in its own words that an object is not there: check the server's address",
            **facts,
        )
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
    with contextlib.suppress(ValueError):
        parsed = loads(body)
        if isinstance(parsed, dict) and parsed.get("kind") == "Status":
            return parsed
    return {}


def _words(details: dict[str, Any], body: bytes, status: int) -> str:
    message = details.get("message")
    if isinstance(message, str) and message:
        return f"{status}: {brief(message, _LONGEST)}"
    text = body[:_QUOTE].decode("utf-8", "replace").strip()
    return f"{status}: {text}" if text else f"{status} without a body"


def _is_denial(details: dict[str, Any]) -> bool:
    """Whether a 403 of the API server is its authoriser's. Admission plug-ins answer 403 too, in words of their own."""
    return is_authorisers(str(details.get("message", "")))


def is_authorisers(words: str) -> bool:
    """Whether the words of a 403 are those of the API server's authoriser."""
    return bool(_AUTHORISER.search(words)) and "admission webhook" not in words


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds; None for its other form (a date) and for numbers that nobody can wait for."""
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def expired(target: str, error: PlatformError) -> Unanswered:
    """The error of a list whose next page the server has forgotten (410): never an absent collection."""
    return Unanswered(
        f"the list of {target} expired while it was being read",
        system="kubernetes",
        verb="list",
        target=target,
        status=error.status,
        why=error.why,
        next_step="ask again",
    )


# --- words that may be shown ----------------------------------------------------------------------------------------


def words_of(error: Exception) -> str:
    """What an error says of itself, without credentials, and not at length."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark  # its own words quote the line, and that may be the token's
        problem = re.sub("'[^']*'", "(…)", error.problem or "it cannot be read")
        return f"{problem}, line {mark.line + 1}, column {mark.column + 1}"
    if _is_not_legal(error):
        return "a header of it is not legal HTTP: a token or a name with a line break, or one that is not ASCII"
    sent = ""
    if isinstance(error, httpx2.HTTPError):
        with contextlib.suppress(RuntimeError):  # it knows no request
            sent = error.request.headers.get("authorization", "")
    return brief(redacted(str(error) or type(error).__name__, sent), _LONGEST)


def _is_not_legal(error: Exception) -> bool:
    """Whether a request could not be written down; such errors quote the header that is wrong: the credential."""
    return isinstance(error, UnicodeError) or (
        isinstance(error, httpx2.LocalProtocolError) and "Illegal header" in str(error)
    )


def redacted(text: str, authorization: str = "") -> str:
    """``text`` without what looks like a credential, and without the one of that Authorization header."""
    if authorization:
        text = text.replace(authorization, "(credential)")
        _, _, secret = authorization.partition(" ")
        if len(secret) >= 16:  # a shorter one is in other words too, and in the user's name
            text = text.replace(secret, "(credential)")
    return _CREDENTIAL.sub("(credential)", text)


def brief(text: str, longest: int = _LONGEST_NAME) -> str:
    """``text`` cut; what is left out is counted."""
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest} characters more)"


def refuse_unaskable(path: str, *, verb: str, target: str) -> None:
    """Raise NotFound for a path that no object can have: of dots, which lead to another object, or too long for a URL.

    Names in owner references are whatever their author wrote.
    """
    if len(path) > _LONGEST_PATH or not {".", ".."}.isdisjoint(path.split("/")):
        raise NotFound(
            f"{target} does not exist",
            system="kubernetes",
            verb=verb,
            target=target,
            why="no object can have such a name; the server was not asked",
            next_step="see who wrote that name",
        )


def described(resource: Resource, namespace: str, name: str = "") -> str:
    """What a request was about, in words."""
    what = f"{resource.plural}/{brief(name)}" if name else resource.plural
    if resource.namespaced:
        return f"{what} in {brief(namespace)}" if namespace else f"{what} in all namespaces"
    return what
