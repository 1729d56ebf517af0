"""A reverse proxy in front of a real API server, that spoils the answer to one request: before or after it was done.

It speaks plain HTTP on 127.0.0.1 to the client under test and holds the administrator's certificate towards the API
server (a client certificate does not pass a proxy). Answers are read whole before they are passed on: no watches.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig

from tests.loopback import Handler, Loopback

UPSTREAM_SECONDS = 20.0
_HOP = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host", "accept-encoding")
)


# --- what goes wrong -----------------------------------------------------------------
@dataclass(frozen=True)
class Instead:
    """Another answer, whole. ``closes``: without a length, ended by the end of the connection."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    closes: bool = False


@dataclass(frozen=True)
class Cut:
    """A reset after ``sends`` bytes of the body; None: not even a status line."""

    sends: int | None = None


@dataclass(frozen=True)
class Dribble:
    """A byte every ``pause`` seconds, of the headers or of the body, for ``seconds``; then a reset."""

    part: str
    pause: float
    seconds: float


@dataclass(frozen=True)
class Relabelled:
    """The true answer under another content type."""

    content_type: str


Spoil = Instead | Cut | Dribble | Relabelled


@dataclass(frozen=True)
class Fault:
    """What becomes of a request. ``reaches``: it is carried out (and its answer spoilt) or it never arrives.

    ``later``: it is carried out when the proxy is told to ``settle``, long after the spoilt answer has gone, as behind
    a gateway that gives up first. ``meanwhile`` is what somebody else does between the write and the spoilt answer.
    """

    spoil: Spoil
    reaches: bool
    later: bool = False
    meanwhile: Callable[[], object] | None = None


@dataclass
class Aim:
    """Which requests a fault hits: ``times`` of those that fit, after ``skip`` others. ``dry``: dry runs only (True),
    or none (False)."""

    fault: Fault
    method: str
    path: str = r".*"
    dry: bool | None = None
    skip: int = 0
    times: int = 1

    def takes(self, exchange: Exchange) -> bool:
        fits = exchange.method == self.method and re.fullmatch(self.path, exchange.path)
        if not fits or (self.dry is not None and self.dry is not exchange.dry_run) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Exchange:
    """One request as it came. ``status`` is the API server's own answer; None: it never got there."""

    method: str
    path: str
    query: Mapping[str, str]
    audit_id: str
    dry_run: bool
    spoilt: bool = False
    status: int | None = None

    @property
    def mutates(self) -> bool:
        return self.method != "GET" and not self.dry_run


# --- the other side -----------------------------------------------------------------
class Upstream:
    """The API server of a kubeconfig, as its user; shared by any number of proxies, safe for several threads.

    ``as_caller``: the client's own Authorization header is passed on, and no certificate of ours is shown.
    """

    def __init__(self, kubeconfig: str, *, as_caller: bool = False) -> None:
        config = KubeConfig.from_file(kubeconfig).get()
        assert config is not None
        assert config.user is not None
        if as_caller:
            config = config._replace(user=type(config.user)())
        self.as_caller = as_caller
        limits = ConnectionParams(timeout=httpx2.Timeout(UPSTREAM_SECONDS), trust_env=False)
        self._http = Client(config, limits)

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> httpx2.Response:
        passed = {name: value for name, value in headers.items() if name.lower() not in _HOP}
        if not self.as_caller:
            passed = {name: value for name, value in passed.items() if name.lower() != "authorization"}
        passed["Accept-Encoding"] = "identity"
        return self._http.request(method, target, headers=passed, content=body or None)

    def close(self) -> None:
        self._http.close()


class Proxy(Loopback):
    """The proxy, for the length of a ``with`` block. ``aims`` may be changed between requests."""

    def __init__(self, upstream: Upstream, aims: Sequence[Aim] = (), *, tls: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream
        self.aims = list(aims)
        self.exchanges: list[Exchange] = []
        self._late: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        super().__init__(_handler(self), tls=tls)

    @property
    def writes(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.mutates]

    def note(self, exchange: Exchange) -> Fault | None:
        with self._lock:
            self.exchanges.append(exchange)
            aim = next((aim for aim in self.aims if aim.takes(exchange)), None)
        exchange.spoilt = aim is not None
        return aim.fault if aim else None

    def settle(self) -> None:
        """Carry out what was to be carried out later."""
        while self._late:
            self._late.pop(0)()

    def keep(self, request: Callable[[], object]) -> None:
        self._late.append(request)


def _handler(proxy: Proxy) -> type[Handler]:
    class Handling(Handler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            dry = query.get("dryRun") == "All" or (self.command == "DELETE" and b'"dryRun"' in body)
            exchange = Exchange(self.command, parts.path, query, self.headers.get("Audit-ID", ""), dry)
            fault = proxy.note(exchange)
            reaches = fault is None or (fault.reaches and not fault.later)
            # All of it now: a late request is sent when this connection may have others already.
            asked = (self.command, self.path, dict(self.headers.items()), body)
            answer = self._ask(exchange, *asked) if reaches else None
            if fault is None:
                assert answer is not None
                self._pass(answer.status_code, dict(answer.headers), answer.content)
                return
            if fault.later:
                proxy.keep(lambda: self._ask(exchange, *asked))
            if fault.meanwhile is not None:
                fault.meanwhile()
            true = answer.content if answer is not None else b'{"kind":"Status","apiVersion":"v1","metadata":{}}'
            match fault.spoil:
                case Instead(status, other, headers, closes):
                    self._pass(status, headers, other, closes=closes)
                case Relabelled(content_type):
                    status = answer.status_code if answer is not None else 200
                    self._pass(status, {"Content-Type": content_type}, true)
                case Cut(None):
                    self.reset()
                case Cut(int() as sends):
                    self._pass(200, {"Content-Type": "application/json"}, true, sends=sends)
                case Dribble() as dribble:
                    self._dribble(dribble, true)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _any

        def _ask(self, exchange: Exchange, *asked: Any) -> httpx2.Response:
            answer = proxy.upstream.ask(*asked)
            exchange.status = answer.status_code
            return answer

        def _pass(
            self,
            status: int,
            headers: Mapping[str, str],
            body: bytes,
            *,
            sends: int | None = None,
            closes: bool = False,
        ) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            if closes:
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if sends is None else body[:sends])
            self.wfile.flush()
            if sends is not None:
                time.sleep(0.02)  # the reset must not overtake what was sent
                self.reset()
            elif closes:
                self.close_connection = True

        def _dribble(self, dribble: Dribble, body: bytes) -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            slow = f"X-Slow: {'x' * 4000}\r\n\r\n".encode() if dribble.part == "headers" else body
            self.wfile.write(head.encode() if dribble.part == "headers" else f"{head}\r\n".encode())
            deadline = time.monotonic() + dribble.seconds
            for index in range(len(slow) - 1):  # never the last byte
                if time.monotonic() > deadline or proxy.closing.is_set():
                    break
                self.wfile.write(slow[index : index + 1])
                time.sleep(dribble.pause)
            self.reset()

    return Handling


def status(code: int, reason: str, message: str, **details: Any) -> bytes:
    """A Status object as the API server writes it."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }
    return json.dumps(body).encode()
