"""Following the objects of one collection: list, then watch from there; list again when the server has forgotten.

The API's rules (https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes): a watch
begins at a list's resourceVersion; bookmarks move it on while nothing happens; 410 Gone, as a status or as an event,
means that the server does not know that version any more. Nothing is kept here but the version: memory does not grow
with the cluster, and one object is read at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ringfence.errors import Denied, NotFound, PlatformError, Throttled, Unanswered
from ringfence.model.base import Json
from ringfence.platform.kubernetes import answers
from ringfence.platform.kubernetes.client import Cluster, parse
from ringfence.platform.kubernetes.resources import Resource

LONGEST_EVENT = 8 << 20
"""Bytes of one event. An object of etcd has at most 1.5 MiB."""
_SERVER_SECONDS = 55
"""After which the server ends a watch: one whose connection died silently is known after ``_READ_SECONDS`` at most."""
_READ_SECONDS = 70.0
_POLLS = 60
"""Looks after which a watch that was refused is asked for again."""
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0


@dataclass(frozen=True)
class Listed:
    """Every object as it is now: at the beginning, and whenever what happened in between cannot be known."""

    objects: tuple[Json, ...]
    polled: bool = False
    """Whether the server refuses a watch, so that this is all there is."""


@dataclass(frozen=True)
class Happened:
    """One object was added, changed or deleted; for a deleted one, as it was last."""

    kind: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Json


Seen: TypeAlias = Listed | Happened


class _Forgotten(Exception):
    """The server does not know the version any more."""


@dataclass
class Following:
    """One collection of one namespace, until ``stop`` is set.

    ``say`` is told, once for each reason, that a watch is refused, or that it breaks off. ``poll_seconds``: how often
    is listed where a watch is refused.
    """

    cluster: Cluster
    resource: Resource
    namespace: str
    stop: threading.Event
    say: Callable[[str], None]
    poll_seconds: float = 5.0

    def __post_init__(self) -> None:
        self._where = f"{self.resource.plural} in {self.namespace}" if self.namespace else self.resource.plural
        self._told = ""

    def seen(self) -> Iterator[Seen]:
        """What happens, in order. Raises nothing of the platform: what fails is said, and tried again."""
        wait = _FIRST_WAIT
        while not self.stop.is_set():
            try:
                objects, version = self._list()
                yield Listed(objects)
                for happened in self._watch(version):
                    wait = _FIRST_WAIT
                    self._told = ""
                    yield happened
            except _Forgotten:
                continue  # listed anew at once
            except Denied as error:
                yield from self._poll(error)
            except PlatformError as error:
                self._tell(f"{self._where} cannot be watched now: {error}")
                pause = error.retry_after if isinstance(error, Throttled) and error.retry_after else wait
                self.stop.wait(min(pause, _LONGEST_WAIT))
                wait = min(wait * 2, _LONGEST_WAIT)

    def _watch(self, version: str) -> Iterator[Happened]:
        """Streams one after the other, each from where the one before ended."""
        while not self.stop.is_set():
            query = {
                "watch": "1",
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(_SERVER_SECONDS),
            }
            path = self.resource.path(self.namespace)
            try:
                with self.cluster.stream(path, query, f"watch of {self._where}", _READ_SECONDS) as chunks:
                    began = time.monotonic()
                    for line in _lines(chunks):
                        kind, obj = self._event(line)
                        version = str((obj.get("metadata") or {}).get("resourceVersion") or version)
                        if kind != "BOOKMARK":
                            yield Happened(kind, obj)  # type: ignore[arg-type]
                        if self.stop.is_set():
                            return
                if time.monotonic() - began < 1.0:
                    self.stop.wait(1.0)  # a server that ends each stream at once is not asked without a break
            except NotFound as error:
                if error.status == 410:
                    raise _Forgotten from error
                raise

    def _event(self, line: bytes) -> tuple[str, Json]:
        try:
            event = answers.loads(line)
        except ValueError as error:
            raise answers.malformed(f"is no event: {str(error)[:80]}", "watch", self._where) from None
        event = event if isinstance(event, dict) else {}
        kind, obj = event.get("type"), event.get("object")
        if kind == "ERROR":
            code = obj.get("code") if isinstance(obj, dict) else None
            if code == 410:
                raise _Forgotten
            raise answers.malformed(f"ended with status {code}", "watch", self._where)
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(obj, dict):
            raise answers.malformed("is no event of a watch", "watch", self._where)
        if not isinstance(obj.get("metadata"), dict):
            raise answers.malformed("has no metadata", "watch", self._where)
        return str(kind), {**obj, "apiVersion": self.resource.api_version, "kind": self.resource.kind}

    def _list(self) -> tuple[tuple[Json, ...], str]:
        found: list[Json] = []
        version = ""
        for page in self.cluster.pages(self.resource, self.namespace):
            body = parse(page, "list", self.resource.plural)
            version = str((body.get("metadata") or {}).get("resourceVersion") or "")
            found += [
                {**item, "apiVersion": self.resource.api_version, "kind": self.resource.kind}
                for item in body.get("items") or ()
            ]
        return tuple(found), version

    def _poll(self, refused: Denied) -> Iterator[Listed]:
        """Looks at intervals, when a watch is refused; the watch is tried again after a while.

        Where the list is refused too, that is said, and no look is had.
        """
        self._tell(f"{self._where} cannot be watched ({refused}); looked at every {self.poll_seconds:g} s")
        for _ in range(_POLLS):
            if self.stop.wait(self.poll_seconds):
                return
            try:
                yield Listed(self._list()[0], polled=True)
            except PlatformError as error:
                self._tell(f"{self._where} cannot be looked at: {error}")

    def _tell(self, words: str) -> None:
        if words != self._told:
            self.say(words)
        self._told = words


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines. Raises Unanswered for one that is longer than any object can be."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(rest) > LONGEST_EVENT:
            raise Unanswered(
                "an event of a watch is longer than any object can be",
                system="kubernetes",
                verb="watch",
                target="",
                why=f"more than {LONGEST_EVENT >> 20} MiB without an end",
                next_step="look at what answers at the server's address",
            )
