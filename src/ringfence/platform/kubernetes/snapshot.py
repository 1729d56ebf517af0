"""A connection whose reads are answered once: for computing many objects' facts from one view of the cluster."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import UTC, datetime

import msgspec

from ringfence.errors import RingfenceError
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import Resource
from ringfence.platform.kubernetes.surroundings import Reading
from ringfence.platform.kubernetes.unread import Unread

_Key = tuple[object, ...]
_Answer = tuple[Json, ...] | Json | Reading | Unread | None


class Snapshot(Cluster):
    """A cluster as it is read during one look at it: each list and each object is asked for once, whoever asks first.

    For reads alone, and for as long as one computation lasts. An error is remembered like an answer.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.__dict__.update(vars(cluster))
        self._answers: dict[_Key, Future[_Answer]] = {}
        self._texts: dict[tuple[str, str | None], bytes] = {}
        self._guard = threading.Lock()

    def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> tuple[Json, ...]:
        future, first = self._slot(("list", resource, namespace, labels, fields))
        if first:
            try:
                future.set_result(super().list(resource, namespace, labels=labels, fields=fields))
            except RingfenceError as error:
                future.set_exception(error)
        answer = future.result()
        assert isinstance(answer, tuple)
        return answer

    def unread(self, resource: Resource, namespace: str = "") -> Unread:
        future, first = self._slot(("unread", resource, namespace))
        if first:
            try:
                future.set_result(super().unread(resource, namespace))
            except RingfenceError as error:
                future.set_exception(error)
        answer = future.result()
        assert isinstance(answer, Unread)
        return answer

    def find(self, resource: Resource, namespace: str, name: str) -> Json | None:
        future, first = self._slot(("find", resource, namespace, name))
        if first:
            try:
                future.set_result(super().find(resource, namespace, name))
            except RingfenceError as error:
                future.set_exception(error)
        answer = future.result()
        assert answer is None or isinstance(answer, dict)
        return answer

    def reading(self, resource: Resource, namespace: str = "", name: str = "") -> Reading:
        """One object, or without ``name`` a collection: the bytes as the server sent them, and when that was. Raises
        PlatformError."""
        future, first = self._slot(("reading", resource, namespace, name))
        if first:
            started = datetime.now(UTC)
            try:
                raw = (self.get_bytes(resource, namespace, name),) if name else tuple(self.pages(resource, namespace))
                future.set_result(
                    Reading(resource.path(namespace, name), raw, started_at=started, ended_at=datetime.now(UTC))
                )
            except RingfenceError as error:
                future.set_exception(error)
        answer = future.result()
        assert isinstance(answer, Reading)
        return answer

    def text(self, obj: Json) -> bytes:
        """The JSON of an object that this look has listed, written once: a pod is a sibling of many."""
        meta = obj["metadata"]
        key = (meta["uid"], meta.get("resourceVersion"))
        known = self._texts.get(key)
        if known is None:
            known = self._texts[key] = msgspec.json.encode(obj, order="sorted")
        return known

    def _slot(self, key: _Key) -> tuple[Future[_Answer], bool]:
        """The answer's place, and whether the caller is the one who has to ask."""
        with self._guard:
            known = self._answers.get(key)
            if known is not None:
                return known, False
            self._answers[key] = Future()
            return self._answers[key], True
