"""What an answer may bring: a bound on every body, no compression but our own reading of gzip, JSON as Kubernetes sends
it.

A body comes from whoever answers at the server's address: a proxy, a compromised API server, an aggregated one. It is
counted while it streams, after decompression, and given up when there is too much of it; an error's body is cut.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator
from typing import Any, NoReturn

import httpx2
import msgspec

from ringfence.errors import Unanswered
from ringfence.model.base import Json
from ringfence.platform.kubernetes.resources import Resource

MAX_BYTES = 256 << 20
"""Default for the most bytes that one answer, or one collection with all its pages, may bring into memory."""
MAX_ERROR_BYTES = 4 << 20
"""An error's body is read this far; a Status fits many times over."""
DEEPEST = 100
"""Levels of nesting in a JSON answer. Objects of Kubernetes have about thirty."""
STREAM = {"answer_limit": None}
"""Extensions of a request whose answer is streamed to a disk, and which is therefore not bounded here."""

_STEP = 64 * 1024
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")


class TooLarge(httpx2.RequestError):
    """The answer is larger than what may be brought into memory."""


def guard(http: httpx2.Client, most: int) -> None:
    """Bound every answer of ``http`` to ``most`` bytes, decompressed; requests may lift that with ``STREAM``.

    A body that is larger, or that is compressed in a way that was not asked for, raises an ``httpx2.HTTPError`` while
    it is read.
    """
    http.headers["Accept-Encoding"] = "gzip"

    def received(response: httpx2.Response) -> None:
        # Without this header httpx2 decodes nothing: it would expand each chunk at once, whatever becomes of it.
        encoding = response.headers.pop("content-encoding", "identity").strip().lower()
        assert isinstance(response.stream, httpx2.SyncByteStream)
        limit: int | None = response.request.extensions.get("answer_limit", most)
        failed = response.status_code >= 300
        if failed:
            limit = MAX_ERROR_BYTES
        elif limit is not None and encoding == "identity" and _announced(response) > limit:
            raise TooLarge(too_large(limit))
        response.stream = _Body(response.stream, encoding, limit, cut=failed)

    http.event_hooks = {**http.event_hooks, "response": [*http.event_hooks["response"], received]}


class _Body(httpx2.SyncByteStream):
    """A body, decompressed step by step and counted."""

    def __init__(self, inner: httpx2.SyncByteStream, encoding: str, limit: int | None, *, cut: bool) -> None:
        self._inner = inner
        self._encoding = encoding
        self._limit = limit
        self._cut = cut

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        for chunk in self._decoded():
            seen += len(chunk)
            if self._limit is not None and seen > self._limit:
                if self._cut:
                    yield chunk[: len(chunk) - (seen - self._limit)]
                    return
                raise TooLarge(too_large(self._limit))
            yield chunk

    def close(self) -> None:
        self._inner.close()

    def _decoded(self) -> Iterator[bytes]:
        match self._encoding:
            case "identity" | "":
                yield from self._inner
            case "gzip" | "x-gzip":
                yield from _inflated(self._inner)
            case _ if self._cut:
                yield from self._inner  # an error is quoted as it came
            case other:
                raise httpx2.DecodingError(f"the answer is compressed in a way that was not asked for: {other[:40]!r}")


def _inflated(source: httpx2.SyncByteStream) -> Iterator[bytes]:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for chunk in source:
            rest = chunk
            while rest and not inflater.eof:
                yield inflater.decompress(rest, _STEP)
                rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise httpx2.DecodingError(f"the answer does not decompress: {error}") from error
    if not inflater.eof:
        raise httpx2.DecodingError("the compressed answer breaks off")


def _announced(response: httpx2.Response) -> int:
    length = response.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def too_large(limit: int) -> str:
    return f"it is larger than {limit} bytes, and was not read further"


# --- JSON -----------------------------------------------------------------------------------------------------------


def parse(body: bytes, verb: str, target: str) -> Json:
    """A JSON object as Kubernetes sends it; of a get, the object of the name ``target``, of a list, a list.

    Raises Unanswered for anything else: a stranger's page must read neither as an object nor as "there are none".
    Text that is no Unicode (bytes that are not UTF-8, a lone surrogate) becomes U+FFFD, as in every reader that is
    written in Go; NaN, infinities, nesting beyond ``DEEPEST`` and metadata of another shape are refused. Of members
    with the same name the last one counts, as for the API server itself; evidence keeps the bytes.
    """
    try:
        parsed = loads(body)
    except ValueError as error:
        raise malformed(f"is not a JSON object: {str(error)[:80]}", verb, target) from None
    if not isinstance(parsed, dict):
        raise malformed("is not a JSON object", verb, target)
    match verb:
        case "get":
            wanted, fits = "that object", _is_object(parsed) and (parsed.get("metadata") or {}).get("name") == target
        case "list":
            wanted, fits = "a list", _is_list(parsed)
        case _:
            wanted, fits = "an object of Kubernetes", _is_object(parsed)
    if not fits:
        raise malformed(f"is not {wanted}", verb, target)
    answer: Json = parsed
    return answer


def parse_list(body: bytes, target: str) -> Json:
    """A list of ``target``. Raises Unanswered."""
    return parse(body, "list", target)


def parse_item(body: bytes, target: str) -> Json:
    """One object of a list of ``target``. Raises Unanswered."""
    try:
        item = loads(body)
    except ValueError as error:
        raise malformed(f"has an item that is not a JSON object: {str(error)[:80]}", "list", target) from None
    if not _is_item(item):
        raise malformed("is not a list", "list", target)
    found: Json = item
    return found


def loads(body: bytes) -> Any:
    """Any JSON value, its texts Unicode. Raises ValueError for what is no JSON, or deeper than ``DEEPEST``."""
    try:
        parsed: Any = msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except (msgspec.DecodeError, ValueError):
        parsed = _patiently(body)
    if _is_deeper(parsed, DEEPEST):
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    return parsed


def _patiently(body: bytes) -> Any:
    """What the quick reader refuses: it takes no text that is not Unicode, and says less of what is wrong."""
    text = body.decode("utf-8", "replace")
    try:
        parsed = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if _is_deeper(parsed, DEEPEST):
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    return _unicode(parsed) if _SURROGATE.search(text) else parsed


def next_page(parsed: Json) -> str:
    """The token of the page after a collection's page; empty for the last one."""
    token = (parsed.get("metadata") or {}).get("continue")
    return token if isinstance(token, str) else ""


def malformed(what: str, verb: str, target: str) -> Unanswered:
    return Unanswered(
        f"the answer to {verb} {target} {what}",
        system="kubernetes",
        verb=verb,
        target=target,
        why="a proxy between here and the API server may have answered",
        next_step="check the server's address in the kubeconfig",
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is larger than any number of JSON")
    return number


_CONTAINERS = frozenset({dict, list})
_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _is_deeper(value: object, levels: int) -> bool:
    # Exact types are all that the decoder makes, and quick to ask for: every answer is walked.
    level: list[Any] = [value] if type(value) in _CONTAINERS else []
    for _ in range(levels):
        level = [
            member
            for container in level
            for member in (container.values() if type(container) is dict else container)
            if type(member) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def _unicode(value: Any) -> Any:
    match value:
        case str():
            return _LONE.sub("\ufffd", value)
        case dict():
            return {_unicode(name): _unicode(member) for name, member in value.items()}
        case list():
            return [_unicode(member) for member in value]
    return value


def _is_list(answer: Json) -> bool:
    items = [] if answer.get("items") is None else answer["items"]
    return (
        str(answer.get("kind", "")).endswith("List")
        and _is_object(answer)
        and isinstance(items, list)
        and all(map(_is_item, items))
    )


def _is_item(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("metadata"), dict) and _is_object(item)


_OBJECT_OR_NONE = frozenset({dict, type(None)})
_TEXT_OR_NONE = frozenset({str, type(None)})
_TEXT = frozenset({str})


def _is_object(value: Json) -> bool:
    """What every reader of an object takes for granted: metadata, spec and status are objects, labels are texts.

    Each item of every list is asked: exact types, which are all that the decoder makes, in one set.
    """
    parts = {type(value.get("metadata")), type(value.get("spec"))}
    if value.get("kind") != "Status":
        parts.add(type(value.get("status")))
    if not parts <= _OBJECT_OR_NONE:
        return False
    meta: Json = value.get("metadata") or {}
    labels, annotations = meta.get("labels"), meta.get("annotations")
    return (
        {type(meta.get("name")), type(meta.get("namespace")), type(meta.get("uid"))} <= _TEXT_OR_NONE
        and {type(labels), type(annotations)} <= _OBJECT_OR_NONE
        and (not labels or set(map(type, labels.values())) <= _TEXT)
        and (not annotations or set(map(type, annotations.values())) <= _TEXT)
    )


_BARE = (
    *("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"),
    *("finalizers", "labels"),
)
_BARE_ANNOTATIONS = ("kubernetes.io/service-account.", "argocd.argoproj.io/")


def bare(obj: Json, resource: Resource) -> Json:
    """An object of which nothing but metadata may be kept, whatever was sent: an annotation may hold all of it."""
    meta = obj.get("metadata") or {}
    kept = {name: meta[name] for name in _BARE if name in meta}
    noted = meta.get("annotations") or {}
    kept["annotations"] = {name: value for name, value in noted.items() if name.startswith(_BARE_ANNOTATIONS)}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": kept}


def accepted(resource: Resource, kind: str = "") -> str:
    """The Accept header: of some kinds the metadata is asked for, and nothing else. ``kind``: List for a collection."""
    if not resource.metadata_only:
        return "application/json"
    return f"application/json;as=PartialObjectMetadata{kind};g=meta.k8s.io;v=v1"
