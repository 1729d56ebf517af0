"""What the benchmarks stand on: pods that nothing schedules, a connection to the lab, and recorded requests."""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import lifecycle
from lab.kube import Kube
from lab.layout import DEFAULT_NAME, Lab
from ringfence import app
from ringfence.cli import collect_seldom
from ringfence.config import Config
from ringfence.response.conduct import Conductor, conducting
from ringfence.response.context import Context
from ringfence.response.live import Live
from ringfence.response.orders import Found
from ringfence.response.seek import seek
from ringfence.response.verbs import COMPROMISED

Json = dict[str, Any]
_PREFIX = "ringfence-bench-"


@dataclass(frozen=True)
class Ground:
    """A lab with a namespace of the benchmark's own, and Ringfence connected to it with a store of its own."""

    lab: Lab
    kube: Kube
    namespace: str
    context: Context
    conductor: Conductor
    config: Config
    home: Path

    def find(self, *names: str) -> tuple[Found, ...]:
        return seek(
            self.context,
            [f"pod/{name}" for name in names],
            namespace=self.namespace,
            image="",
            siblings=False,
            playbook=COMPROMISED,
        )[0]


@contextlib.contextmanager
def ground(name: str = DEFAULT_NAME, **sections: Any) -> Iterator[Ground]:
    collect_seldom()  # as the program does
    lab = lifecycle.up(name)
    kube = Kube.of(lab)
    cleared(kube)
    namespace = f"{_PREFIX}{secrets.token_hex(3)}"
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}})
    try:
        with tempfile.TemporaryDirectory() as home:
            config = Config.model_validate(
                {
                    "cluster": {"kubeconfig": lab.kubeconfig},
                    "store": {"url": f"sqlite:///{home}/ringfence.db"},
                    "vault": {"path": Path(home) / "vault"},
                    "signing": {"key": Path(home) / "seal.pem"},
                    **sections,
                }
            )
            with (
                app.connected(config) as context,
                conducting(context, lambda: app.engine(config, lambda _words: None), Live()) as conductor,
            ):
                conductor.launch()
                yield Ground(lab, kube, namespace, context, conductor, config, Path(home))
    finally:
        kube.delete("v1", "Namespace", namespace)
        kube.close()


def cleared(kube: Kube, seconds: float = 180) -> None:
    """Take away what an earlier run left, and wait until it is gone: each pod of it is in the answers that count."""
    deadline = time.monotonic() + seconds
    while left := [one for one in kube.list("v1", "Namespace") if one["metadata"]["name"].startswith(_PREFIX)]:
        if time.monotonic() > deadline:
            raise SystemExit(f"{left[0]['metadata']['name']} is still there: kubectl describe namespace")
        for one in left:
            if "deletionTimestamp" not in one["metadata"]:
                kube.delete("v1", "Namespace", one["metadata"]["name"])
        time.sleep(1)


def idle_pod(namespace: str, name: str) -> Json:
    """A pod that no node fits: only the API server works for it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"ringfence.dev/bench": "nowhere"},
            "containers": [{"name": "c", "image": "ringfence.local/pause:1", "imagePullPolicy": "Never"}],
        },
    }


# --- requests --------------------------------------------------------------------------
@dataclass
class Recorded:
    """One request as Ringfence sent it. Seconds since the recording began; ``level`` orders what waited for what."""

    method: str
    url: str
    content: bytes
    headers: dict[str, str]
    began: float
    ended: float = math.inf
    level: int = 0


@dataclass
class Recording:
    """The requests of one response, in the order in which they began."""

    requests: list[Recorded] = field(default_factory=list)

    def levels(self) -> list[list[Recorded]]:
        """Requests that Ringfence sent beside each other share a level; each level follows the one before it."""
        for number, request in enumerate(self.requests):
            before = [other.level for other in self.requests[:number] if other.ended <= request.began]
            request.level = 1 + max(before, default=-1)
        rows: dict[int, list[Recorded]] = {}
        for request in self.requests:
            rows.setdefault(request.level, []).append(request)
        return [rows[level] for level in sorted(rows)]


@contextlib.contextmanager
def recording(context: Context) -> Iterator[Recording]:
    """Write down every request of the connection for the length of a block."""
    http = context.cluster._http  # the very client, so that nothing is missed
    found, open_requests, lock, start = Recording(), {}, threading.Lock(), time.perf_counter()

    def on_request(request: Any) -> None:
        with lock:
            headers = {k: v for k, v in request.headers.items() if k in ("content-type", "accept", "audit-id")}
            content = request.read() if request.method != "GET" else b""
            url = str(request.url.raw_path, "ascii")
            one = Recorded(request.method, url, content, headers, time.perf_counter() - start)
            found.requests.append(one)
            open_requests[id(request)] = one

    def on_response(response: Any) -> None:
        with lock:
            one = open_requests.pop(id(response.request), None)
            if one is not None:
                one.ended = time.perf_counter() - start

    hooks = {name: list(old) for name, old in http.event_hooks.items()}
    http.event_hooks = {
        "request": [*hooks.get("request", ()), on_request],
        "response": [*hooks.get("response", ()), on_response],
    }
    try:
        yield found
    finally:
        http.event_hooks = hooks


def replay(
    context: Context, levels: Sequence[Sequence[Recorded]], swap: Callable[[str], str], pool: ThreadPoolExecutor
) -> None:
    """Send recorded requests again for other victims: the limit. ``swap`` puts their names in."""
    for level in levels:
        if len(level) == 1:
            send(context, level[0], swap)
        else:
            list(pool.map(lambda request: send(context, request, swap), level))


def send(context: Context, request: Recorded, swap: Callable[[str], str]) -> None:
    """One recorded request for another victim, bare."""
    answer = context.cluster._http.request(
        request.method,
        swap(request.url),
        content=swap(request.content.decode()).encode() or None,
        headers={name: value for name, value in request.headers.items() if name != "audit-id"},
    )
    answer.read()


def swapper(pairs: dict[str, str]) -> Callable[[str], str]:
    """Replaces each key by its value, longest first, so that no name is taken for a part of another."""
    ordered = sorted(pairs.items(), key=lambda pair: -len(pair[0]))

    def swap(text: str) -> str:
        for old, new in ordered:
            text = text.replace(old, new)
        return text

    return swap


# --- figures ---------------------------------------------------------------------------
def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)

    return {"p50": round(statistics.median(ordered), 1), "p95": at(0.95), "p99": at(0.99)}


def print_result(result: Json) -> None:
    """One JSON object, the last line of every benchmark."""
    print(json.dumps(result))
