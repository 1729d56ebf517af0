"""The connection to one cluster: kubeconfig and authentication by lightkube, requests and answers our own.

Reads return what the server sent; writes carry our field manager, our own ``Audit-ID`` (which kube-apiserver takes
over into its audit log) and, as preconditions, uids and RFC 6902 ``test`` operations. Every failure is a
``PlatformError``. Safe for several threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import DEFAULT_KUBECONFIG, KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError as LightkubeConfigError

from ringfence import __version__
from ringfence.errors import ConfigError, NotFound, NotSent, PlatformError, Unanswered
from ringfence.model.base import Json
from ringfence.platform.kubernetes import failures
from ringfence.platform.kubernetes.resources import Resource

FIELD_MANAGER = "ringfence"
_JSON_PATCH = "application/json-patch+json"
_CHUNK = 64 * 1024
_PAGE = 500
_MAX_ERROR_BODY = 64 * 1024
_CREDENTIALS = (
    *(LightkubeConfigError, httpx2.InvalidURL, subprocess.SubprocessError),
    *(OSError, ValueError, LookupError, TypeError),
)
"""What lightkube lets through while it makes a request ready: a token file, an exec plug-in's program or its answer."""


def connect(kubeconfig: str | None, context: str | None, timeout_seconds: float) -> Cluster:
    """The cluster of a kubeconfig (default: $KUBECONFIG, ~/.kube/config, else the pod's own service account).

    Raises ConfigError naming the file and what is wrong in it. Sends nothing yet.
    """
    where = kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    try:
        single = _kubeconfig(kubeconfig).get(context)
        if single is None or single.user is None:
            raise LightkubeConfigError("it has no current context with a user")
        http = Client(single, ConnectionParams(timeout=httpx2.Timeout(timeout_seconds)))
    except Exception as error:  # lightkube lets yaml, ssl, key and type errors of a broken file through
        raise ConfigError(
            f"no cluster can be reached with {where}",
            location=where,
            why=f"{error.args[0]} is missing in it" if isinstance(error, KeyError) else str(error) or repr(error),
            next_step="kubectl config get-contexts, then --kubeconfig and --context",
        ) from error
    return Cluster(http, single)


def _kubeconfig(named: str | None) -> KubeConfig:
    """As kubectl looks for it: the account that a pod has is the last resort, not the first."""
    if named:
        return KubeConfig.from_file(Path(named).expanduser())
    if listed := os.environ.get("KUBECONFIG"):
        files = [file for file in listed.split(os.pathsep) if file]
        if len(files) != 1:
            raise LightkubeConfigError("KUBECONFIG names several files: kubectl config view --flatten --raw makes one")
        return KubeConfig.from_file(Path(files[0]).expanduser())
    if Path(DEFAULT_KUBECONFIG).expanduser().is_file():
        return KubeConfig.from_file(DEFAULT_KUBECONFIG)
    with contextlib.suppress(LightkubeConfigError, LookupError):
        return KubeConfig.from_service_account()
    raise LightkubeConfigError(f"neither KUBECONFIG nor {DEFAULT_KUBECONFIG} nor a pod's service account is there")


class Cluster:
    """One cluster. ``server`` is its URL, ``namespace`` the context's default namespace."""

    def __init__(self, http: httpx2.Client, config: SingleConfig) -> None:
        self._http = http
        self._config = config
        self._http.headers["User-Agent"] = f"ringfence/{__version__}"
        self.server = str(config.cluster.server)
        self.context = config.context_name or ""
        self.namespace = config.namespace
        self._offset_ms: int | None = None

    def close(self) -> None:
        self._http.close()

    @contextlib.contextmanager
    def as_bearer(self, token: str) -> Iterator[Cluster]:
        """The same server as the holder of a bearer token, without our own credentials, for the length of a block."""
        config = self._config._replace(user=User(token=token))
        other = Cluster(Client(config, ConnectionParams(timeout=self._http.timeout)), config)
        try:
            yield other
        finally:
            other.close()

    @property
    def clock_offset_ms(self) -> int | None:
        """The server's clock minus ours in milliseconds, from the last answer's Date header (it counts in seconds)."""
        return self._offset_ms

    # --- reads -------------------------------------------------------------------
    def get(self, resource: Resource, namespace: str, name: str, *, subresource: str = "") -> Json:
        """One object. Raises NotFound, Denied, NotSent, Unanswered."""
        return parse(self.get_bytes(resource, namespace, name, subresource=subresource), "get", name)

    def get_bytes(self, resource: Resource, namespace: str, name: str, *, subresource: str = "") -> bytes:
        """One object, the bytes as the server sent them."""
        path = resource.path(namespace, name, subresource)
        return self._send("GET", path, verb="get", target=_words(resource, namespace, name)).content

    def find(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """One object, or None when the server says that it does not exist."""
        try:
            return self.get(resource, namespace, name)
        except NotFound:
            return None

    def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> tuple[Json, ...]:
        """Every object of a collection, all pages, each with its apiVersion and kind (a list's items lack them)."""
        found: list[Json] = []
        for page in self.pages(resource, namespace, labels=labels, fields=fields):
            body = parse(page, "list", resource.plural)
            found += [
                {**item, "apiVersion": resource.api_version, "kind": resource.kind} for item in body.get("items") or ()
            ]
        return tuple(found)

    def pages(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> Iterator[bytes]:
        """A collection page by page, the bytes as the server sent them."""
        query: dict[str, str] = {"limit": str(_PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        target = _words(resource, namespace)
        while True:
            try:
                answer = self._send("GET", resource.path(namespace), verb="list", target=target, query=query)
            except NotFound as error:
                if error.status != 410:
                    raise
                raise _expired(target, error) from error
            yield answer.content
            token = (parse(answer.content, "list", resource.plural).get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    @contextlib.contextmanager
    def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        since: datetime | None = None,
        read_timeout_seconds: float = 60.0,
    ) -> Iterator[Iterator[bytes]]:
        """A container's log as raw bytes with the kubelet's timestamps, streamed; open when the block begins."""
        query = {"container": container, "timestamps": "true"}
        if previous:
            query["previous"] = "true"
        if since is not None:
            query["sinceTime"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        target = f"log of {pod}/{container} in {namespace}"
        with self._stream(path, query, target, read_timeout_seconds) as chunks:
            yield chunks

    @contextlib.contextmanager
    def _stream(
        self, path: str, query: Mapping[str, str], target: str, read_timeout: float
    ) -> Iterator[Iterator[bytes]]:
        timeout = httpx2.Timeout(self._http.timeout.connect, read=read_timeout)
        with contextlib.ExitStack() as stack:
            try:
                request = self._http.stream("GET", path, params=dict(query), timeout=timeout)
                try:
                    answer = stack.enter_context(request)
                except _CREDENTIALS as error:
                    raise self._unprepared(error, verb="get", target=target, audit_id="") from error
                self._note_clock(answer)
                if answer.status_code != 200:
                    body = answer.read()[:_MAX_ERROR_BODY]
                    raise failures.from_response(
                        answer.status_code, body, answer.headers, verb="get", target=target, audit_id=""
                    )
                yield answer.iter_bytes(_CHUNK)
            except httpx2.HTTPError as error:
                raise failures.from_exception(
                    error, verb="get", target=target, audit_id="", server=self.server
                ) from error

    # --- writes ------------------------------------------------------------------
    def create(
        self,
        resource: Resource,
        namespace: str,
        body: Json,
        *,
        audit_id: str = "",
        dry_run: bool = False,
        name: str = "",
        subresource: str = "",
    ) -> Json:
        """POST an object (or a subresource of ``name``); the server's answer. Raises Conflict when it exists."""
        shown = name or body.get("metadata", {}).get("name", "")
        answer = self._send(
            "POST",
            resource.path(namespace, name, subresource),
            verb="create",
            target=_words(resource, namespace, shown),
            query=_write_query(dry_run),
            content=json.dumps(body).encode(),
            content_type="application/json",
            audit_id=audit_id,
        )
        return parse(answer.content, "create", shown)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        operations: Sequence[Json],
        *,
        audit_id: str = "",
        dry_run: bool = False,
    ) -> Json:
        """RFC 6902 patch; its ``test`` operations are the preconditions (a failed one is Invalid, status 422)."""
        answer = self._send(
            "PATCH",
            resource.path(namespace, name),
            verb="patch",
            target=_words(resource, namespace, name),
            query=_write_query(dry_run),
            content=json.dumps(list(operations)).encode(),
            content_type=_JSON_PATCH,
            audit_id=audit_id,
        )
        return parse(answer.content, "patch", name)

    def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str,
        audit_id: str = "",
        grace_seconds: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Delete the object with that uid and no other. Raises Conflict when the name belongs to another one now."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if dry_run:
            options["dryRun"] = ["All"]
        answer = self._send(
            "DELETE",
            resource.path(namespace, name),
            verb="delete",
            target=_words(resource, namespace, name),
            content=json.dumps(options).encode(),
            content_type="application/json",
            audit_id=audit_id,
        )
        parse(answer.content, "delete", name)

    # --- the wire ----------------------------------------------------------------
    def _send(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        target: str,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = "",
        audit_id: str = "",
    ) -> httpx2.Response:
        headers = {"Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        if audit_id:
            headers["Audit-ID"] = audit_id
        try:
            answer = self._http.request(
                method, path, params=dict(query) if query else None, content=content, headers=headers
            )
        except httpx2.HTTPError as error:
            raise failures.from_exception(
                error, verb=verb, target=target, audit_id=audit_id, server=self.server
            ) from error
        except _CREDENTIALS as error:
            raise self._unprepared(error, verb=verb, target=target, audit_id=audit_id) from error
        self._note_clock(answer)
        if answer.status_code >= 300:
            raise failures.from_response(
                answer.status_code,
                answer.content[:_MAX_ERROR_BODY],
                answer.headers,
                verb=verb,
                target=target,
                audit_id=audit_id,
            )
        return answer

    def _unprepared(self, error: Exception, *, verb: str, target: str, audit_id: str) -> NotSent:
        return NotSent(
            f"the credentials of context {self.context or '(none)'} cannot be used",
            system="kubernetes",
            verb=verb,
            target=target,
            audit_id=audit_id,
            why=str(error) or type(error).__name__,
            next_step="kubectl auth whoami with the same context shows whether it is the kubeconfig",
        )

    def _note_clock(self, answer: httpx2.Response) -> None:
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
            # The header is cut to whole seconds: half a second is the best guess for the rest.
            self._offset_ms = int((theirs + 0.5 - time.time()) * 1000)


def _write_query(dry_run: bool) -> dict[str, str]:
    query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
    if dry_run:
        query["dryRun"] = "All"
    return query


def _words(resource: Resource, namespace: str, name: str = "") -> str:
    what = f"{resource.plural}/{name}" if name else resource.plural
    if resource.namespaced:
        return f"{what} in {namespace}" if namespace else f"{what} in all namespaces"
    return what


def _expired(target: str, error: PlatformError) -> Unanswered:
    return Unanswered(
        f"the list of {target} expired while it was being read",
        system="kubernetes",
        verb="list",
        target=target,
        status=error.status,
        why=error.why,
        next_step="ask again",
    )


def parse(body: bytes, verb: str, target: str) -> Json:
    """A JSON object as the server sent it. Raises Unanswered for anything else."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        parsed = error
    if not isinstance(parsed, dict):
        raise Unanswered(
            f"the answer to {verb} {target} is not a JSON object",
            system="kubernetes",
            verb=verb,
            target=target,
            why="a proxy between here and the API server may have answered",
            next_step="check the server's address in the kubeconfig",
        )
    return parsed
