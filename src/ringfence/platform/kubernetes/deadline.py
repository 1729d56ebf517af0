"""How long a request may take, and how long it waits to be let in.

httpx2 limits each single read, which a peer that dribbles never exceeds; here is a limit for the whole. The clock of a
thread's request starts when it begins to send and stops every later read of its answer; it is set by ``within`` and not
at all for streams (a log is read for as long as it comes).
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import httpcore2
import httpx2

from ringfence.errors import Throttled

PATIENCE_SECONDS = 5.0
"""How long a request waits, altogether, for a server that throttles it."""

_SHORTEST_WAIT_SECONDS = 0.5
_WHOLE = 2
"""A request as a whole may take this many times what each of its reads may take."""

_clock = threading.local()
_T = TypeVar("_T")


def patiently(send: Callable[[], _T]) -> _T:
    """Send, and again while the server asks to come back soon (429 with Retry-After): it has done nothing so far.

    Without that header, or when the wait would be longer than ``PATIENCE_SECONDS`` in all, Throttled is raised.
    """
    patience = PATIENCE_SECONDS
    while True:
        try:
            return send()
        except Throttled as error:
            if error.retry_after is None:
                raise
            wait = max(error.retry_after, _SHORTEST_WAIT_SECONDS)
            if wait > patience:
                raise
            patience -= wait
            time.sleep(wait)


@contextlib.contextmanager
def within(read_seconds: float | None) -> Iterator[None]:
    """The request that this thread sends in the block, each of whose reads may take ``read_seconds``, is complete in
    twice that time, or fails as one that timed out. None: no limit."""
    _clock.seconds, _clock.until = read_seconds and read_seconds * _WHOLE, None
    try:
        yield
    finally:
        _clock.seconds = _clock.until = None


def limit(http: httpx2.Client) -> None:
    """Make every connection of ``http`` heed ``within``. The backend of a connection pool has no public setter."""
    transports = {http._transport, *(mount for mount in http._mounts.values() if mount is not None)}
    for transport in transports:
        pool = getattr(transport, "_pool", None)  # a transport that was given by a test has none
        if pool is not None:
            pool._network_backend = _Backend(pool._network_backend)


def _sending() -> None:
    seconds = getattr(_clock, "seconds", None)
    if seconds is not None:
        _clock.until = time.monotonic() + seconds


def _left(timeout: float | None) -> float | None:
    """How long the next read may take. Raises ReadTimeout when there is no time left."""
    until = getattr(_clock, "until", None)
    if until is None:
        return timeout
    left: float = until - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout(f"the answer was not complete after {_clock.seconds:g} s")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _left(timeout)
        try:
            return self._inner.read(max_bytes, left)
        except httpcore2.ReadTimeout:
            _left(timeout)  # says it in its own words when it was the whole that took too long
            raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        _sending()
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, inner: httpcore2.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
