"""A real HTTP server on 127.0.0.1 that answers what a test tells it, and the kubeconfig that leads to it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.loopback import Handler, Loopback


@dataclass(frozen=True)
class Request:
    """A request as it arrived; the names of ``headers`` are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What goes back. ``delay``: seconds before the first byte; ``sends``: bytes of the body, then a reset (0: nothing
    at all, None: the whole body and no reset)."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    sends: int | None = None


Responder = Callable[[Request], Answer]


class Wire(Loopback):
    """The server, for the length of a ``with`` block. ``requests`` are kept in the order of their arrival."""

    def __init__(self, responder: Responder | Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self.responder = responder if callable(responder) else lambda _request: responder
        self.requests: list[Request] = []
        super().__init__(_handler(self), tls=tls)

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        answer = self.responder(request)
        self.closing.wait(answer.delay)
        return answer


def _handler(wire: Wire) -> type[Handler]:
    class Handling(Handler):
        def _any(self) -> None:
            parts = urlsplit(self.path)
            answer = wire.answer(
                Request(
                    method=self.command,
                    path=parts.path,
                    query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
                )
            )
            if answer.sends == 0:
                self.reset()
                return
            named = {name.lower() for name in answer.headers}
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "date" not in named:
                self.send_header("Date", self.date_time_string())
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body if answer.sends is None else answer.body[: answer.sends])
            self.wfile.flush()
            if answer.sends is not None:
                time.sleep(0.05)  # the reset must not overtake what was sent
                self.reset()

        do_GET = do_POST = do_PATCH = do_DELETE = _any

    return Handling


def kubeconfig(path: Path, server: str, *, user: Any = None, **cluster: Any) -> str:
    """Write a kubeconfig with one context, ``test``; ``cluster`` are further members of the cluster."""
    if server.startswith("http:"):
        cluster["insecure-skip-tls-verify"] = True  # there is no TLS: it spares loading every public authority
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "bank"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": dict({"token": "alice"} if user is None else user)}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)
