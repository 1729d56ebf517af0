"""The watcher's eyes: one thread for each collection that holds something, and the bounded queue that they fill.

When the queue is full nothing is lost but the order: ``overflowed`` says that everything is to be looked at again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import KNOWN, NETWORK_POLICY, POD, Resource
from ringfence.platform.kubernetes.watching import Following, Listed
from ringfence.response.watching.held import Place, place_in

_MOST_WAITING = 1000
_ANEW_SECONDS = 5.0
SeenBy: TypeAlias = Literal["watch", "list"]


class Item(NamedTuple):
    """An object as it was seen; ``live`` is None when it is gone, or was missing in a list."""

    place: Place
    live: Json | None
    seen_by: SeenBy


class Sight:
    """Follows the collections of ``places``. ``policy_turned`` is called with a namespace one of whose policies, none
    of ours, was seen to change."""

    def __init__(
        self,
        cluster: Cluster,
        say: Callable[[str], None],
        policy_turned: Callable[[str], None],
        poll_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._say = say
        self._policy_turned = policy_turned
        self._poll_seconds = poll_seconds
        self._queue: queue.Queue[Item] = queue.Queue(_MOST_WAITING)
        self._overflowed = threading.Event()
        self._streams: dict[tuple[Resource, str], threading.Event] = {}
        self._guard = threading.Lock()
        self._places: frozenset[Place] = frozenset()

    def follow(self, places: frozenset[Place]) -> None:
        """One stream for each collection that holds one of these, and for the policies beside pods."""
        self._places = places
        wanted = {(KNOWN[place[0], place[1]], place[2]) for place in places}
        wanted |= {(NETWORK_POLICY, place[2]) for place in places if place[1] == POD.kind}
        with self._guard:
            for left in self._streams.keys() - wanted:
                self._streams.pop(left).set()
            for resource, namespace in wanted - self._streams.keys():
                stop = threading.Event()
                self._streams[resource, namespace] = stop
                following = Following(self._cluster, resource, namespace, stop, self._say, self._poll_seconds)
                name = f"watch-{resource.plural}"
                threading.Thread(target=self._pump, args=(following,), name=name, daemon=True).start()

    def close(self) -> None:
        with self._guard:
            for stop in self._streams.values():
                stop.set()

    def next(self, wait_seconds: float) -> Item | None:
        """What was seen, in order; None when there was nothing in that time."""
        try:
            return self._queue.get(timeout=wait_seconds)
        except queue.Empty:
            return None

    def overflowed(self) -> bool:
        """Whether something was dropped since this was asked last."""
        was = self._overflowed.is_set()
        self._overflowed.clear()
        return was

    def _pump(self, following: Following) -> None:
        resource, namespace = following.resource, following.namespace
        while not following.stop.is_set():
            try:
                for seen in following.seen():
                    if isinstance(seen, Listed):
                        there = {place_in(resource, obj): obj for obj in seen.objects}
                        for place in self._places:
                            if place[:3] == (resource.api_version, resource.kind, namespace):
                                self._put(Item(place, there.get(place), "list"))
                        continue
                    place = place_in(resource, seen.object)
                    if place in self._places:
                        self._put(Item(place, None if seen.kind == "DELETED" else seen.object, "watch"))
                    elif resource == NETWORK_POLICY:
                        self._policy_turned(namespace)
            except Exception as error:  # a thread that ends in silence would be a watcher that sees nothing
                if not following.stop.is_set():
                    self._say(f"the watch of {resource.plural} in {namespace or 'the cluster'} broke: {error}")
                    following.stop.wait(_ANEW_SECONDS)

    def _put(self, item: Item) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._overflowed.set()
