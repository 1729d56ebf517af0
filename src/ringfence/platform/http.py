"""One bounded GET or POST of a service that is not Kubernetes: whether it answers, and how.

No redirect is followed, no proxy of the environment is used for it, and no more than ``MAX_BYTES`` of the body is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import httpx2

from ringfence import __version__
from ringfence.errors import NotSent, PlatformError, Unanswered

MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Reply:
    """``status`` is the HTTP status; ``body`` is cut at ``MAX_BYTES``."""

    status: int
    body: bytes


def get(url: str, *, timeout_seconds: float = 5.0) -> Reply:
    """GET. Raises NotSent when nothing was reached, Unanswered when no whole answer came."""
    return _asked("GET", url, None, {}, timeout_seconds)


def post(url: str, body: bytes, content_type: str, *, timeout_seconds: float = 5.0) -> Reply:
    """POST. Raises as ``get``."""
    return _asked("POST", url, body, {"Content-Type": content_type}, timeout_seconds)


def _asked(method: str, url: str, sent: bytes | None, more: dict[str, str], timeout_seconds: float) -> Reply:
    shown = without_credentials(url)
    timeout = httpx2.Timeout(timeout_seconds)
    headers = {"User-Agent": f"ringfence/{__version__}", "Accept": "*/*", **more}
    body = b""
    try:
        with (
            httpx2.Client(timeout=timeout, follow_redirects=False, trust_env=False, headers=headers) as client,
            client.stream(method, url, content=sent) as answer,
        ):
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    break
            return Reply(answer.status_code, body[:MAX_BYTES])
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise _error(NotSent, f"{shown} cannot be reached", method, shown, error) from error
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise _error(Unanswered, f"{shown} did not answer", method, shown, error) from error


def without_credentials(url: str) -> str:
    """The URL as it may be shown: no user, no password, no query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _error(kind: type[PlatformError], what: str, method: str, shown: str, error: Exception) -> PlatformError:
    return kind(
        what,
        system="http",
        verb=method.lower(),
        target=shown,
        why=type(error).__name__ if not str(error) else str(error)[:300],
        next_step="check the address and the way to it",
    )
