"""A connection whose reads are answered once: for computing many objects' facts from one view of the cluster."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from ringfence.errors import RingfenceError
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import Resource

_Key = tuple[object, ...]


class Snapshot(Cluster):
    """A cluster as it is read during one look at it: each list and each object is asked for once, whoever asks first.

    For reads alone, and for as long as one computation lasts. An error is remembered like an answer.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.__dict__.update(vars(cluster))
        self._answers: dict[_Key, Future[tuple[Json, ...] | Json | None]] = {}
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

    def _slot(self, key: _Key) -> tuple[Future[tuple[Json, ...] | Json | None], bool]:
        """The answer's place, and whether the caller is the one who has to ask."""
        with self._guard:
            known = self._answers.get(key)
            if known is not None:
                return known, False
            self._answers[key] = Future()
            return self._answers[key], True
