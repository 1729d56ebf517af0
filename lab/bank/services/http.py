"""What every service shares: routes, probes, access log, trace context, and a graceful end.

``/healthz`` answers as long as the process lives, ``/readyz`` until it is told to stop. At SIGTERM readiness goes off,
requests are still served while the endpoint is taken out of rotation, then the last ones finish: at most two seconds
altogether. (As process 1 of a container, Python would ignore SIGTERM without a handler.)
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import log

DRAIN_SECONDS = 0.7
FINISH_SECONDS = 1.0
IDLE_SECONDS = 5.0
LOGGED_TARGET = 2048
# W3C Trace Context: version, trace id, parent id, flags.
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class HttpError(Exception):
    """Ends a request with this status; the text goes to the caller."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """``path`` without query, ``query`` each parameter's last value, ``match`` the route's named groups."""

    path: str
    raw_query: str
    query: Mapping[str, str]
    match: Mapping[str, str]
    trace: str


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "application/json"

    @classmethod
    def of(cls, content: object, status: int = 200) -> Reply:
        return cls(status, json.dumps(content).encode())


@dataclass(frozen=True)
class Route:
    """A GET route; ``pattern`` must match the whole path."""

    pattern: str
    handler: Callable[[Request], Reply]


@dataclass
class _State:
    stopping: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    idle: threading.Condition = field(default_factory=threading.Condition)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], routes: Sequence[Route]) -> None:
        self.routes = [(re.compile(route.pattern), route.handler) for route in routes]
        self.state = _State()
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.write("warning", "connection lost", client=str(client_address[0]))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: _Server

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        if target.path == "/healthz":
            self._send(Reply.of({"status": "ok"}))
        elif target.path == "/readyz":
            stopping = self.server.state.stopping.is_set()
            self._send(Reply.of({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200))
        else:
            self._serve(target.path, target.query)

    def _serve(self, path: str, raw_query: str) -> None:
        state = self.server.state
        with state.idle:
            state.running += 1
        started = time.monotonic()
        trace = _trace(self.headers.get("traceparent", ""))
        try:
            reply = self._answer(path, raw_query, trace)
            self._send(reply)
            log.write(
                "info" if reply.status < 500 else "error",
                "request",
                method=self.command,
                path=self.path[:LOGGED_TARGET],
                status=reply.status,
                ms=round((time.monotonic() - started) * 1000, 1),
                trace=trace,
                client=self.client_address[0],
            )
        finally:
            with state.idle:
                state.running -= 1
                state.idle.notify_all()

    def _answer(self, path: str, raw_query: str, trace: str) -> Reply:
        query = {name: values[-1] for name, values in parse_qs(raw_query, keep_blank_values=True).items()}
        for pattern, handler in self.server.routes:
            if match := pattern.fullmatch(path):
                try:
                    return handler(Request(path, raw_query, query, match.groupdict(), trace))
                except HttpError as error:
                    return Reply.of({"error": str(error)}, error.status)
                except Exception as error:
                    log.write("error", "handler failed", trace=trace, error=f"{type(error).__name__}: {error}")
                    return Reply.of({"error": "internal error"}, 500)
        return Reply.of({"error": "no such path"}, 404)

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        if self.server.state.stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        # http.server's own complaints (bad request lines); requests are logged by _serve.
        log.write("warning", (format % args)[:LOGGED_TARGET], client=self.client_address[0])


def serve(name: str, routes: Sequence[Route]) -> int:
    """Runs a service on ``$HOST:$PORT`` (0.0.0.0:8080) until SIGTERM or SIGINT. Returns the exit code."""
    log.name_service(name)
    server = _Server((os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8080"))), routes)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.state.stopping.set())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    log.write("info", "listening", port=server.server_address[1])
    server.state.stopping.wait()
    log.write("info", "stopping", drain_seconds=DRAIN_SECONDS)
    time.sleep(DRAIN_SECONDS)
    server.shutdown()
    server.server_close()
    with server.state.idle:
        finished = server.state.idle.wait_for(lambda: server.state.running == 0, FINISH_SECONDS)
    log.write("info" if finished else "warning", "stopped", unfinished=server.state.running)
    return 0


def _trace(header: str) -> str:
    match = TRACEPARENT.fullmatch(header)
    return match[1] if match else secrets.token_hex(16)
