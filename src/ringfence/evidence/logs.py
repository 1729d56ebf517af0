"""Container logs: streams are opened beside the planning of the cut, and what came after is fetched when it is done.

Every container of the pod, init and ephemeral ones too, current and previous. The kubelet's time stamps are asked for;
the bytes are kept as sent. A log that breaks off, or is longer than the limit, keeps the evidence gate shut: its item
is failed, and what came of it lies beside, as ``….partial``.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from ringfence.evidence.acquire import Acquirer, StreamLimits, What, name_part
from ringfence.model.base import Json
from ringfence.model.evidence import EvidenceItem
from ringfence.platform.kubernetes.pods import Container, containers
from ringfence.platform.kubernetes.resources import POD

_VOLATILITY = 2
_MEDIA = "text/plain; kubelet time stamps"


class LogCapture:
    """The current logs of a pod, being read since before the cut."""

    def __init__(
        self, acquirer: Acquirer, pod: Json, pool: ThreadPoolExecutor, limits: StreamLimits | None = None
    ) -> None:
        """``limits`` holds for each stream; None: the acquirer's."""
        self.started_at = datetime.now(UTC)
        self._acquirer = acquirer
        self._limits = limits
        self._pod = pod
        self._containers = tuple(containers(pod))
        self._opened = [threading.Event() for _ in self._containers]
        self._current = [
            pool.submit(self._read_current, container, opened)
            for container, opened in zip(self._containers, self._opened, strict=True)
        ]
        self._pool = pool

    @property
    def streams(self) -> int:
        return len(self._containers)

    def wait_opened(self, seconds: float) -> int:
        """Wait until the streams are open, at most that long; how many are."""
        deadline = time.monotonic() + seconds
        return sum(opened.wait(max(0.0, deadline - time.monotonic())) for opened in self._opened)

    def finish(self) -> list[EvidenceItem]:
        """The current logs to their end, what was written since they were opened, and the previous instances'."""
        later: list[Future[tuple[EvidenceItem, ...]]] = []
        for container in self._containers:
            later.append(self._pool.submit(self._read_previous, container))
            if container.started:
                later.append(self._pool.submit(self._read_since, container))
        return [item for future in (*self._current, *later) for item in future.result()]

    def _read_current(self, container: Container, opened: threading.Event) -> tuple[EvidenceItem, ...]:
        # Nothing was ever written by a container that has not been started, so nothing can be required of it.
        what = self._what(container, "current", required=container.started)
        return self._acquirer.stream(
            what,
            lambda: self._acquirer.cluster.log(*self._place, container.name),
            on_open=opened.set,
            limits=self._limits,
        )

    def _read_since(self, container: Container) -> tuple[EvidenceItem, ...]:
        what = self._what(container, "after-cut", query=f"sinceTime={self.started_at:%Y-%m-%dT%H:%M:%SZ}")
        return self._acquirer.stream(
            what,
            lambda: self._acquirer.cluster.log(*self._place, container.name, since=self.started_at),
            limits=self._limits,
        )

    def _read_previous(self, container: Container) -> tuple[EvidenceItem, ...]:
        what = self._what(container, "previous", required=True, query="previous=true")
        return self._acquirer.stream(
            what,
            lambda: self._acquirer.cluster.log(*self._place, container.name, previous=True),
            limits=self._limits,
        )

    @property
    def _place(self) -> tuple[str, str]:
        return self._pod["metadata"]["namespace"], self._pod["metadata"]["name"]

    def _what(self, container: Container, which: str, *, required: bool = False, query: str = "") -> What:
        namespace, name = self._place
        return What(
            id=f"logs/{name_part(container.name)}/{which}",
            kind="log",
            source=POD.path(namespace, name, "log"),
            method=" ".join(filter(None, ("get", f"container={container.name}&timestamps=true", query))),
            volatility=_VOLATILITY,
            required=required,
            media_type=_MEDIA,
            # "previous terminated container not found", "is waiting to start": the kubelet's words for: there is none.
            absent_on_invalid=which == "previous" or not container.started,
        )
