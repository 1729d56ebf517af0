"""Calls from one service to another: a new connection each, a short wait for it, and more tries to get one.

More tries matter in Kubernetes: a pod that has just left the Service may still be picked. Only what was not answered
because of the connection is tried again; a slow answer is not asked for twice, or a busy bank would drown in its own
repetitions.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from . import log
from .http import HttpError, Reply

CONNECT_SECONDS = 0.4
CONNECT_TRIES = 3


class _SlowAnswer(TimeoutError):
    """The connection was there, the answer was not."""


@dataclass(frozen=True)
class Upstream:
    """Another service. ``seconds`` bounds the wait for an answer; ``$NAME_URL`` replaces the address for tests."""

    name: str
    seconds: float

    @property
    def url(self) -> str:
        return os.environ.get(f"{self.name.upper()}_URL", f"http://{self.name}:8080")

    def get(self, target: str, trace: str) -> Reply:
        """The answer to GET ``target`` (path and query), whatever its status is.

        Raises:
            HttpError: 502, there was no connection or no answer.
        """
        for attempt in range(1, CONNECT_TRIES + 1):
            try:
                return self._once(target, trace)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
                log.write("warning", "upstream failed", upstream=self.name, attempt=attempt, error=problem, trace=trace)
                if isinstance(error, _SlowAnswer):
                    break
        raise HttpError(502, f"{self.name} does not answer")

    def get_json(self, target: str, trace: str) -> Any:
        """Like ``get``, for an answer that must be a 200 with JSON.

        Raises:
            HttpError: 404 as the other service's; 502 for anything else.
        """
        reply = self.get(target, trace)
        if reply.status == 404:
            raise HttpError(404, f"{self.name} knows nothing of it")
        if reply.status != 200:
            raise HttpError(502, f"{self.name} answered {reply.status}")
        return json.loads(reply.body)

    def _once(self, target: str, trace: str) -> Reply:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
            connection.sock.settimeout(self.seconds)
            return _exchange(connection, target, trace)
        finally:
            connection.close()


def _exchange(connection: http.client.HTTPConnection, target: str, trace: str) -> Reply:
    headers = {"Connection": "close", "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
    try:
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(), answer.getheader("Content-Type", "application/json"))
    except TimeoutError as error:
        raise _SlowAnswer("connected, but not answered in time") from error
