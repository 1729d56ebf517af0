"""Calls from one service to another: a new connection each, short time-outs, one more try.

The second try matters in Kubernetes: a pod that has just left the Service may still be picked once.
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


@dataclass(frozen=True)
class Upstream:
    """Another service. ``seconds`` bounds each try; ``$NAME_URL`` replaces the address for tests."""

    name: str
    seconds: float
    tries: int = 2

    @property
    def url(self) -> str:
        return os.environ.get(f"{self.name.upper()}_URL", f"http://{self.name}:8080")

    def get(self, target: str, trace: str) -> Reply:
        """The answer to GET ``target`` (path and query), whatever its status is.

        Raises:
            HttpError: 502, no try was answered.
        """
        problem = ""
        for attempt in range(1, self.tries + 1):
            try:
                return self._once(target, trace)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
                log.write("warning", "upstream failed", upstream=self.name, attempt=attempt, error=problem, trace=trace)
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
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=self.seconds)
        try:
            span = secrets.token_hex(8)
            headers = {"Connection": "close", "traceparent": f"00-{trace}-{span}-01"}
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), answer.getheader("Content-Type", "application/json"))
        finally:
            connection.close()
