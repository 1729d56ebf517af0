"""A real HTTP server for the length of a ``with`` block: what tests/wire.py and tests/faults/proxy.py
have in common."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Loopback:
    """``handler`` answers; ``closing`` is set once the block ends, for answers that take their time. ``address`` is
    one of this machine's."""

    def __init__(
        self,
        handler: type[BaseHTTPRequestHandler],
        *,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.closing = threading.Event()
        self._server = _Server((address, 0), handler)
        if tls is not None:
            # The handshake belongs to the connection's own thread: a client that refuses us must not end the server.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.address}:{self.port}"

    @property
    def address(self) -> str:
        return str(self._server.server_address[0])

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        stop = threading.Thread(target=self._server.shutdown)
        stop.start()
        with contextlib.suppress(OSError):  # a knock, so that it does not sleep its interval out: every test waits
            socket.create_connection(self._server.server_address[:2], 1.0).close()
        stop.join()
        self._server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1, one connection for several requests, without a word."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def reset(self) -> None:
        """End the connection by a TCP reset, as a process that dies does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tests are quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""
