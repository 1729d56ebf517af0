"""Mirrors of API collections: list, watch, list again when the watch cannot go on.

While the API server is away a mirror keeps what it last knew, so the rules in force stay.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.kube import ApiError, Gone, Kube, Object, Unreachable

log = logging.getLogger(__name__)

FIRST_RETRY = 0.1
LONGEST_RETRY = 2.0


@dataclass(frozen=True)
class Kind:
    """A collection to mirror, all namespaces."""

    api_version: str
    kind: str


PODS = Kind("v1", "Pod")
NAMESPACES = Kind("v1", "Namespace")
POLICIES = Kind("networking.k8s.io/v1", "NetworkPolicy")
SERVICES = Kind("v1", "Service")
SLICES = Kind("discovery.k8s.io/v1", "EndpointSlice")


@dataclass(frozen=True)
class Snapshot:
    """Every mirrored object by kind, and the highest resource version seen of each kind."""

    objects: Mapping[Kind, tuple[Object, ...]]
    versions: Mapping[Kind, int]


@dataclass
class _Mirror:
    objects: dict[str, Object] = field(default_factory=dict)
    version: int = 0
    listed: bool = False


class Mirrors:
    """Several mirrored kinds, each with a thread of its own, that wake one reader."""

    def __init__(self, kube: Kube, *kinds: Kind) -> None:
        self._kube = kube
        self._mirrors = {kind: _Mirror() for kind in kinds}
        self._condition = threading.Condition()
        self._changed = False
        self._stopping = threading.Event()

    def start(self) -> None:
        for kind in self._mirrors:
            threading.Thread(target=self._follow, args=(kind,), name=f"mirror-{kind.kind}", daemon=True).start()

    def stop(self) -> None:
        """Ends waiting readers; threads end with their current watch, at the latest with the process."""
        self._stopping.set()
        with self._condition:
            self._condition.notify_all()

    def wait(self, timeout: float) -> bool:
        """Waits for a change since the last call; whether there was one. Never true before every kind was listed."""
        with self._condition:
            ready = self._condition.wait_for(lambda: self._stopping.is_set() or self._is_ready(), timeout)
            if not ready or self._stopping.is_set():
                return False
            self._changed = False
            return True

    def snapshot(self) -> Snapshot:
        """What is known now, all kinds at one moment."""
        with self._condition:
            return Snapshot(
                {kind: tuple(mirror.objects.values()) for kind, mirror in self._mirrors.items()},
                {kind: mirror.version for kind, mirror in self._mirrors.items()},
            )

    def _is_ready(self) -> bool:
        return self._changed and all(mirror.listed for mirror in self._mirrors.values())

    def _follow(self, kind: Kind) -> None:
        delay = FIRST_RETRY
        while not self._stopping.is_set():
            try:
                version = self._list(kind)
                delay = FIRST_RETRY
                while not self._stopping.is_set():
                    version = self._watch(kind, version)
            except Gone:
                log.info("%s: resource version expired, listing again", kind.kind)
            except (ApiError, Unreachable) as error:
                if delay == FIRST_RETRY:  # Once for each time that the API server goes away.
                    log.warning("%s: %s; what is known stays in force", kind.kind, error)
                self._stopping.wait(delay)
                delay = min(2 * delay, LONGEST_RETRY)

    def _list(self, kind: Kind) -> str:
        items, version = self._kube.snapshot(kind.api_version, kind.kind)
        self._change(kind, lambda mirror: _replace(mirror, items), version)
        return version

    def _watch(self, kind: Kind, version: str) -> str:
        for event in self._kube.watch(kind.api_version, kind.kind, resource_version=version):
            metadata = event.object["metadata"]
            version = metadata["resourceVersion"]
            match event.type:
                case "ADDED" | "MODIFIED":
                    self._change(kind, _setter(metadata["uid"], event.object), version)
                case "DELETED":
                    self._change(kind, _remover(metadata["uid"]), version)
                case "BOOKMARK":
                    pass
                case unknown:
                    log.warning("%s: watch event of unknown type %r, listing again", kind.kind, unknown)
                    return self._list(kind)
        return version

    def _change(self, kind: Kind, change: Callable[[_Mirror], None], version: str) -> None:
        with self._condition:
            mirror = self._mirrors[kind]
            change(mirror)
            mirror.version = int(version)
            self._changed = True
            self._condition.notify_all()


def _replace(mirror: _Mirror, items: list[Object]) -> None:
    mirror.objects = {item["metadata"]["uid"]: item for item in items}
    mirror.listed = True


def _setter(uid: str, item: Object) -> Callable[[_Mirror], None]:
    def change(mirror: _Mirror) -> None:
        mirror.objects[uid] = item

    return change


def _remover(uid: str) -> Callable[[_Mirror], None]:
    def change(mirror: _Mirror) -> None:
        mirror.objects.pop(uid, None)

    return change
