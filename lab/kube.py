"""A small JSON client for the lab's API server: what bank, enforcer, attacks and tests need, and no more.

Objects are plain dictionaries as the server sends them. A kind is named by its ``apiVersion`` and ``kind``; the path
comes from the server's own discovery, so custom resources work as soon as their CRD is served. Safe for several
threads. It shares no code with the product under test.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig

from lab.errors import LabError
from lab.layout import Lab

Object = dict[str, Any]
Objects = list[Object]

FIELD_MANAGER = "ringfence-lab"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

TIMEOUT = 10.0
WATCH_SECONDS = 300
# The API server sends a bookmark about every minute: a watch that is silent for longer has lost its connection.
WATCH_SILENCE = 120.0


class ApiError(LabError):
    """The API server answered with an error. ``status`` is the HTTP code, ``reason`` Kubernetes' own word."""

    def __init__(self, request: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{request}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """404: no such object or kind."""


class Conflict(ApiError):
    """409: it exists already, or was changed in between."""


class Gone(ApiError):
    """410: the resource version is too old; list again."""


class Unreachable(LabError):
    """No answer from the API server: not running, starting, or a connection that broke."""


_ERRORS: dict[int, type[ApiError]] = {404: NotFound, 409: Conflict, 410: Gone}


@dataclass(frozen=True)
class Event:
    """One watch event: ``type`` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


@dataclass(frozen=True)
class _Resource:
    base: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(part for part in (f"{self.base}{scope}/{self.plural}", name, subresource) if part)


class Kube:
    """One API server, one identity."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http
        self._resources: dict[tuple[str, str], _Resource] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, lab: Lab) -> Kube:
        """The lab's administrator.

        Raises:
            LabError: the lab has no kubeconfig yet.
        """
        return cls.from_kubeconfig(lab.kubeconfig)

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Kube:
        """The current context of that file. Sends nothing yet.

        Raises:
            LabError: there is no such file, or it has no current context.
        """
        if not path.is_file():
            raise LabError(f"{path} does not exist: start the lab first (python -m lab up)")
        config = KubeConfig.from_file(path).get()
        if config is None or config.user is None:
            raise LabError(f"{path} has no current context with a user: remove it and run `python -m lab up`")
        return cls(Client(config, ConnectionParams(timeout=httpx2.Timeout(TIMEOUT), trust_env=False)))

    def close(self) -> None:
        self._http.close()

    # --- reads -------------------------------------------------------------------
    def get(self, api_version: str, kind: str, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        """One object.

        Raises:
            NotFound: there is none, or the server does not know the kind.
            ApiError, Unreachable: as their docstrings say; so do all methods below.
        """
        return self.request("GET", self._path(api_version, kind, namespace, name, subresource))

    def find(self, api_version: str, kind: str, name: str, namespace: str = "") -> Object | None:
        """One object, or None if there is none."""
        try:
            return self.get(api_version, kind, name, namespace)
        except NotFound:
            return None

    def list(self, api_version: str, kind: str, namespace: str = "", *, labels: str = "") -> Objects:
        """Every object of a kind, of one namespace or (without one) of all. Items carry apiVersion and kind."""
        return self.snapshot(api_version, kind, namespace, labels=labels)[0]

    def snapshot(self, api_version: str, kind: str, namespace: str = "", *, labels: str = "") -> tuple[Objects, str]:
        """Like ``list``, with the resource version that a watch can start from."""
        query = {"labelSelector": labels} if labels else {}
        body = self.request("GET", self._path(api_version, kind, namespace), query=query)
        items = [{"apiVersion": api_version, "kind": kind, **item} for item in body.get("items") or ()]
        return items, body["metadata"]["resourceVersion"]

    def watch(
        self, api_version: str, kind: str, namespace: str = "", *, resource_version: str, labels: str = ""
    ) -> Iterator[Event]:
        """Events after ``resource_version`` until the server ends the watch (5 min); then go on from the last one.

        Raises:
            Gone: that resource version is no longer known.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if labels:
            query["labelSelector"] = labels
        path = self._path(api_version, kind, namespace)
        timeout = httpx2.Timeout(TIMEOUT, read=WATCH_SILENCE)
        with (
            _reaching(f"watch {path}"),
            self._http.stream("GET", path, params=query, timeout=timeout) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
                raise _error(f"watch {path}", answer.status_code, answer.text)
            for line in answer.iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _error(f"watch {path}", event["object"].get("code", 500), json.dumps(event["object"]))
                yield Event(event["type"], event["object"])

    def logs(self, name: str, namespace: str, *, container: str = "", previous: bool = False) -> bytes:
        """What a container wrote, raw."""
        query = {"previous": str(previous).lower()} | ({"container": container} if container else {})
        return self.request_bytes("GET", f"/api/v1/namespaces/{namespace}/pods/{name}/log", query=query)

    # --- writes ------------------------------------------------------------------
    def apply(self, manifest: Mapping[str, Any], *, manager: str = FIELD_MANAGER) -> Object:
        """Server-side apply, forced: the object is made, or its fields become those of the manifest."""
        metadata = manifest["metadata"]
        path = self._path(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        query = {"fieldManager": manager, "force": "true"}
        return self.request("PATCH", path, manifest, query=query, content_type=APPLY_PATCH)

    def create(self, manifest: Mapping[str, Any]) -> Object:
        """A new object (``generateName`` works). Raises Conflict when it exists."""
        path = self._path(manifest["apiVersion"], manifest["kind"], manifest["metadata"].get("namespace", ""))
        return self.request("POST", path, manifest)

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str = "",
        *,
        body: Any,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> Object:
        """A patch; ``content_type`` is one of this module's ``*_PATCH``."""
        path = self._path(api_version, kind, namespace, name, subresource)
        return self.request("PATCH", path, body, content_type=content_type)

    def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str = "",
        *,
        grace_seconds: int | None = None,
        wait: float = 0.0,
    ) -> None:
        """Deletes in the background; that it is gone already is no error. ``wait``: seconds until it must be gone.

        Raises:
            LabError: it is still there after ``wait`` seconds.
        """
        body: Object = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        with contextlib.suppress(NotFound):
            self.request("DELETE", self._path(api_version, kind, namespace, name), body)
        if wait:
            target = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
            wait_until(lambda: self.find(api_version, kind, name, namespace) is None, wait, f"{target} to be gone")

    def wait_ready(self, pods: Sequence[str], namespace: str, timeout: float = 60.0) -> dict[str, Object]:
        """The pods by name, as soon as all are Ready.

        Raises:
            LabError: one is not Ready in time; the text has its phase and what its containers wait for.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = {pod["metadata"]["name"]: pod for pod in self.list("v1", "Pod", namespace)}
            late = [name for name in pods if not (name in found and is_ready(found[name]))]
            if not late:
                return {name: found[name] for name in pods}
            if time.monotonic() > deadline:
                states = ", ".join(f"{name}: {_state(found.get(name))}" for name in late)
                raise LabError(f"pods of {namespace} not Ready after {timeout:.0f} s ({states}): kubectl describe them")
            time.sleep(0.1)

    # --- transport ---------------------------------------------------------------
    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Any request whose answer is one JSON object."""
        answer = self.request_bytes(method, path, body, query=query, content_type=content_type)
        found: Object = json.loads(answer)
        return found

    def request_bytes(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Any request; the answer's raw body. A body of bytes is sent as it is."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if content is not None else {}
        with _reaching(f"{method} {path}"):
            answer = self._http.request(method, path, params=dict(query or {}), content=content, headers=headers)
        if answer.status_code >= 400:
            raise _error(f"{method} {path}", answer.status_code, answer.text)
        return answer.content

    def _path(self, api_version: str, kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
        return self._resource(api_version, kind).path(namespace, name, subresource)

    def _resource(self, api_version: str, kind: str) -> _Resource:
        with self._lock:
            if (known := self._resources.get((api_version, kind))) is None:
                base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
                for item in self.request("GET", base)["resources"]:
                    if "/" not in item["name"]:
                        resource = _Resource(base, item["name"], item["namespaced"])
                        self._resources[api_version, item["kind"]] = resource
                known = self._resources.get((api_version, kind))
            if known is None:
                raise NotFound(f"discovery of {api_version}", 404, "NotFound", f"the server has no kind {kind}")
            return known


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is true (and it is not being deleted)."""
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def wait_until(condition: Callable[[], bool], timeout: float, what: str, interval: float = 0.05) -> None:
    """Polls until ``condition`` holds.

    Raises:
        LabError: it does not after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:.0f} s in vain for {what}: look at `python -m lab status` and the logs")
        time.sleep(interval)


def _state(pod: Object | None) -> str:
    if pod is None:
        return "does not exist"
    statuses = pod["status"].get("containerStatuses") or ()
    reasons = [
        detail.get("reason", state)
        for status in statuses
        for state, detail in status["state"].items()
        if state != "running"
    ]
    return " ".join([pod["status"].get("phase", "?"), *reasons])


def _error(request: str, status: int, text: str) -> ApiError:
    try:
        body = json.loads(text)
        reason, message = body.get("reason", ""), body.get("message", "")
    except (json.JSONDecodeError, AttributeError):
        reason, message = "", text[:300]
    return _ERRORS.get(status, ApiError)(request, status, reason, message)


@contextlib.contextmanager
def _reaching(request: str) -> Iterator[None]:
    try:
        yield
    except (httpx2.HTTPError, json.JSONDecodeError) as error:  # A watch that breaks in the middle of a line.
        why = str(error) or type(error).__name__
        raise Unreachable(f"{request}: no answer: {why}; is the lab up? (python -m lab status)") from error
