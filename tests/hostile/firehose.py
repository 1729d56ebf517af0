"""A server on 127.0.0.1 that sends as much as it is asked for, from one buffer: its own memory stays flat."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

LINE = b"2026-11-23T03:00:00.123456789Z \x1b[31mpayment 4711 of \xff account 99\x1b[0m " + b"x" * 56 + b"\n"
BLOCK = LINE * (65536 // len(LINE))


@dataclass(frozen=True)
class Flood:
    """``size`` bytes of ``LINE``; after ``breaks_at`` of them the connection is reset; ``announced``: Content-Length is
    sent, else the body is chunked; ``pause``: seconds between blocks."""

    size: int
    breaks_at: int | None = None
    announced: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    pause: float = 0.0
    source: Callable[[], Iterable[bytes]] | None = None
    """Instead of lines."""

    def blocks(self) -> Iterable[bytes]:
        if self.source is not None:
            yield from self.source()
            return
        left = self.size if self.breaks_at is None else self.breaks_at
        while left > 0:
            yield BLOCK[:left]
            left -= len(BLOCK[:left])


class Firehose:
    """Answers every request with what ``flood`` says of its path; for the length of a ``with`` block."""

    def __init__(self, flood: Flood | Callable[[str], Flood]) -> None:
        self.flood = flood if callable(flood) else lambda _path: flood
        self.sent = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(hose: Firehose) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            flood = hose.flood(self.path)
            self.send_response_only(200)
            for name, value in flood.headers:
                self.send_header(name, value)
            if flood.announced:
                self.send_header("Content-Length", str(flood.size))
            else:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for block in flood.blocks():
                    self.wfile.write(block if flood.announced else b"%x\r\n%b\r\n" % (len(block), block))
                    hose.sent += len(block)
                    time.sleep(flood.pause)
                if flood.breaks_at is None:
                    self.wfile.write(b"" if flood.announced else b"0\r\n\r\n")
                    return
            except OSError:
                return  # the client has had enough
            self.wfile.flush()
            time.sleep(0.1)  # the reset must not overtake what was sent
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Tests are quiet."""

    return Handler
