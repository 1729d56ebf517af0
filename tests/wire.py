"""A real HTTP server on 127.0.0.1 that answers what a test tells it, and the kubeconfig that leads to it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import yaml


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


class Wire:
    """The server, for the length of a ``with`` block. ``requests`` are kept in the order of their arrival."""

    def __init__(self, responder: Responder | Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self.responder = responder if callable(responder) else lambda _request: responder
        self.requests: list[Request] = []
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if tls is not None:
            # The handshake belongs to the connection's own thread: a client that refuses us must not end the server.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        answer = self.responder(request)
        self._closing.wait(answer.delay)
        return answer

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        stop = threading.Thread(target=self._server.shutdown)
        stop.start()
        with contextlib.suppress(OSError):  # a knock, so that it does not sleep its interval out: every test waits
            socket.create_connection(self._server.server_address[:2], 1.0).close()
        stop.join()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


def _handler(wire: Wire) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True

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
                self._reset()
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
                self._reset()

        do_GET = do_POST = do_PATCH = do_DELETE = _any

        def _reset(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Tests are quiet."""

    return Handler


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
