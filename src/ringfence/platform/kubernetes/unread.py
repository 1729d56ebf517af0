"""A collection whose objects are read one by one, and only those that are asked for.

The pods of a large cluster are tens of megabytes of JSON, of which a suspect's siblings are a few objects: to read all
of them takes seconds and many times their size in memory.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import msgspec

from ringfence.model.base import Json
from ringfence.platform.kubernetes import answers
from ringfence.platform.kubernetes.resources import Resource

_PLAIN = re.compile(r"[A-Za-z0-9./:_@-]+")
"""What a writer of JSON writes as it is, or by one of ``_ESCAPES`` (RFC 8259 section 7)."""
_ESCAPES = (b"\\u00", b"\\/")


class _Page(msgspec.Struct):
    kind: str
    metadata: dict[str, Any] | None = None
    items: list[msgspec.Raw] | None = None


_READER = msgspec.json.Decoder(_Page)


def page_of(body: bytes, target: str) -> Json:
    """A list as Kubernetes sends it, ``items`` as bytes. Raises Unanswered for anything else: what is skipped of an
    item is looked into only so far as to know that it is JSON."""
    try:
        page = _READER.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # Read by who reads more patiently, or says what is wrong.
        whole = answers.parse_list(body, target)
        return {**whole, "items": [json.dumps(item).encode() for item in whole.get("items") or ()]}
    items = [bytes(item) for item in page.items or ()]
    if not page.kind.endswith("List") or not all(item.startswith(b"{") for item in items):
        raise answers.malformed("is not a list", "list", target)
    return {"metadata": page.metadata or {}, "items": items}


class Unread:
    """The objects of a collection, in its order. Safe for several threads."""

    def __init__(self, resource: Resource, items: Sequence[bytes]) -> None:
        self._resource = resource
        self._items = items
        self._read: dict[int, Json] = {}
        self._chosen: dict[Hashable, tuple[Json, ...]] = {}
        self._lock = threading.Lock()

    def chosen(self, by: Hashable, choose: Callable[[], Iterable[Json]]) -> tuple[Json, ...]:
        """What ``choose`` makes of this list, once for whoever asks ``by`` the same: pods of one group have the same
        siblings."""
        with self._lock:
            known = self._chosen.get(by)
        if known is None:
            found = tuple(choose())
            with self._lock:
                known = self._chosen.setdefault(by, found)
        return known

    def with_any(self, words: Iterable[str]) -> tuple[Json, ...]:
        """The objects in whose JSON one of these words stands, wherever: every one that has it as a value, and others.

        Each with its apiVersion and kind. Raises Unanswered for one that is no object of Kubernetes.
        """
        texts = frozenset(words)
        plain = all(map(_PLAIN.fullmatch, texts))
        # What may be written in another way is read, and not looked for.
        wanted = (*(word.encode() for word in texts), *_ESCAPES) if plain else (b"",)
        return tuple(
            self._object(place) for place, item in enumerate(self._items) if any(word in item for word in wanted)
        )

    def _object(self, place: int) -> Json:
        with self._lock:
            known = self._read.get(place)
        if known is None:
            item = answers.parse_item(self._items[place], self._resource.plural)
            known = {**item, "apiVersion": self._resource.api_version, "kind": self._resource.kind}
            with self._lock:
                known = self._read.setdefault(place, known)
        return known
