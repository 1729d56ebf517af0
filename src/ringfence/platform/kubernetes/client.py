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
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import DEFAULT_KUBECONFIG, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError as LightkubeConfigError

from ringfence import __version__
from ringfence.errors import ConfigError, NotFound, NotSent, PlatformError
from ringfence.model.base import Json
from ringfence.platform.kubernetes import answers, deadline, failures, paging, unread
from ringfence.platform.kubernetes.answers import parse as parse
from ringfence.platform.kubernetes.kubeconfig import found
from ringfence.platform.kubernetes.resources import POD, Resource
from ringfence.platform.kubernetes.unread import Unread

FIELD_MANAGER = "ringfence"
_JSON_PATCH = "application/json-patch+json"
_CREDENTIALS = (
    *(LightkubeConfigError, httpx2.InvalidURL, subprocess.SubprocessError),
    *(OSError, ValueError, LookupError, TypeError),
)
"""What lightkube lets through while it makes a request ready: a token file, an exec plug-in's program or its answer."""


def connect(
    kubeconfig: str | None, context: str | None, timeout_seconds: float, *, max_answer_bytes: int = answers.MAX_BYTES
) -> Cluster:
    """The cluster of a kubeconfig (default: $KUBECONFIG, ~/.kube/config, else the pod's own service account).

    ``max_answer_bytes``: what one answer, or one collection, may bring into memory. Raises ConfigError naming the file
    and what is wrong in it. Sends nothing yet.
    """
    where = kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    try:
        single = found(kubeconfig).get(context)
        if single is None or single.user is None:
            raise LightkubeConfigError("it has no current context with a user")
        http = Client(single, ConnectionParams(timeout=httpx2.Timeout(timeout_seconds)))
    except Exception as error:  # lightkube lets yaml, ssl, key and type errors of a broken file through
        raise ConfigError(
            f"no cluster can be reached with {where}",
            location=where,
            why=f"{error.args[0]} is missing in it" if isinstance(error, KeyError) else failures.words_of(error),
            next_step="kubectl config get-contexts, then --kubeconfig and --context",
        ) from error
    return Cluster(http, single, max_answer_bytes)


class Cluster:
    """One cluster. ``server`` is its URL, ``namespace`` the context's default namespace."""

    def __init__(self, http: httpx2.Client, config: SingleConfig, max_answer_bytes: int = answers.MAX_BYTES) -> None:
        self._http = http
        self._config = config
        self._http.headers["User-Agent"] = f"ringfence/{__version__}"
        deadline.limit(self._http)
        answers.guard(self._http, max_answer_bytes)
        self.max_answer_bytes = max_answer_bytes
        self._root = str(http.base_url).rstrip("/")
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
        other = Cluster(Client(config, ConnectionParams(timeout=self._http.timeout)), config, self.max_answer_bytes)
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
        found = parse(self.get_bytes(resource, namespace, name, subresource=subresource), "get", name)
        return answers.bare(found, resource) if resource.metadata_only else found

    def get_bytes(self, resource: Resource, namespace: str, name: str, *, subresource: str = "") -> bytes:
        """One object, the bytes as the server sent them."""
        path = resource.path(namespace, name, subresource)
        target, accept = failures.described(resource, namespace, name), answers.accepted(resource)
        return self.send("GET", path, verb="get", target=target, accept=accept).content

    def find(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """One object, or None when the server says that it does not exist."""
        try:
            return self.get(resource, namespace, name)
        except NotFound:
            return None

    def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> tuple[Json, ...]:
        """Every object of a collection, all pages, each with its apiVersion and kind (a list's items lack them)."""
        found: list[Json] = []
        for _, body in self.parsed_pages(resource, namespace, labels=labels, fields=fields):
            items = [
                {**item, "apiVersion": resource.api_version, "kind": resource.kind} for item in body.get("items") or ()
            ]
            found += [answers.bare(item, resource) for item in items] if resource.metadata_only else items
        return tuple(found)

    def pages(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> Iterator[bytes]:
        """A collection page by page, the bytes as the server sent them; as large as one answer may be, altogether."""
        # Understood before it is handed on: who keeps pages may take each for a list.
        for page, _ in paging.pages(self, unread.page_of, resource, namespace, labels, fields):
            yield page

    def parsed_pages(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Iterator[tuple[bytes, Json]]:
        """The same, each page as it was sent and as it was read."""
        return paging.pages(self, answers.parse_list, resource, namespace, labels, fields)

    def unread(self, resource: Resource, namespace: str = "") -> Unread:
        """A collection whose objects are read when they are asked for; not for a kind of which only metadata may be."""
        assert not resource.metadata_only
        pages = paging.pages(self, unread.page_of, resource, namespace)
        return Unread(resource, [item for _, page in pages for item in page["items"]])

    @contextlib.contextmanager
    def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        follow: bool = False,
        since: datetime | None = None,
        read_timeout_seconds: float = 60.0,
    ) -> Iterator[Iterator[bytes]]:
        """A container's log as raw bytes with the kubelet's timestamps, streamed; open when the block begins.

        With ``follow`` it goes on until the container ends, over rotations of the log.

        Raises a PlatformError when it cannot be opened, and out of the iterator when it breaks off.
        """
        query = {"container": container, "timestamps": "true"}
        if previous:
            query["previous"] = "true"
        if follow:
            query["follow"] = "true"
        if since is not None:
            query["sinceTime"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = POD.path(namespace, pod, "log")
        target = f"log of {failures.brief(pod)}/{failures.brief(container)} in {failures.brief(namespace)}"
        with self.stream(path, query, target, read_timeout_seconds) as chunks:
            yield chunks

    @contextlib.contextmanager
    def stream(
        self, path: str, query: Mapping[str, str], target: str, read_timeout: float
    ) -> Iterator[Iterator[bytes]]:
        failures.refuse_unaskable(path, verb="get", target=target)
        timeout = httpx2.Timeout(self._http.timeout.connect, read=read_timeout)
        headers = {"Accept-Encoding": "identity"}
        with contextlib.ExitStack() as stack:
            try:
                request = self._http.stream(
                    "GET", path, params=dict(query), headers=headers, timeout=timeout, extensions=answers.STREAM
                )
                try:
                    answer = stack.enter_context(request)
                except _CREDENTIALS as error:
                    raise self._unprepared(error, verb="get", target=target, audit_id="") from error
                self._note_clock(answer)
                if answer.status_code != 200:
                    raise failures.from_response(
                        answer.status_code,
                        answer.read()[: answers.MAX_ERROR_BYTES],
                        answer.headers,
                        verb="get",
                        target=target,
                        audit_id="",
                        sent=answer.request.headers,
                    )
            except httpx2.HTTPError as error:
                raise self._unanswered(error, verb="get", target=target) from error
            # Chunks as they arrive: one that waits to be filled would be lost when the stream breaks off.
            yield self._read_on(answer.iter_bytes(), target)

    def _read_on(self, chunks: Iterator[bytes], target: str) -> Iterator[bytes]:
        try:
            yield from chunks
        except httpx2.HTTPError as error:
            raise self._unanswered(error, verb="get", target=target) from error

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
        answer = self.send(
            "POST",
            resource.path(namespace, name, subresource),
            verb="create",
            target=failures.described(resource, namespace, shown),
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
        subresource: str = "",
    ) -> Json:
        """RFC 6902 patch; its ``test`` operations are the preconditions (a failed one is Invalid, status 422)."""
        answer = self.send(
            "PATCH",
            resource.path(namespace, name, subresource),
            verb="patch",
            target=failures.described(resource, namespace, f"{name}/{subresource}" if subresource else name),
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
    ) -> Json:
        """Delete the object with that uid and no other; the server's answer (a Status, or the object that now ends).

        Raises Conflict when the name belongs to another object now.
        """
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if dry_run:
            options["dryRun"] = ["All"]
        answer = self.send(
            "DELETE",
            resource.path(namespace, name),
            verb="delete",
            target=failures.described(resource, namespace, name),
            # The server goes by the body; the address is what an audit log without bodies shows of it.
            query={"dryRun": "All"} if dry_run else None,
            content=json.dumps(options).encode(),
            content_type="application/json",
            audit_id=audit_id,
        )
        return parse(answer.content, "delete", name)

    # --- the wire ----------------------------------------------------------------
    def send(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """``send_once``, and again while the server asks for patience. Raises PlatformError."""
        return deadline.patiently(lambda: self.send_once(method, path, **request))

    def send_once(
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
        accept: str = "application/json",
        seconds: float | None = None,
    ) -> httpx2.Response:
        """One try. ``seconds``: how long a read may take, where that is not what the cluster's other requests may."""
        failures.refuse_unaskable(path, verb=verb, target=target)
        headers = {"Accept": accept}
        if content_type:
            headers["Content-Type"] = content_type
        if audit_id:
            headers["Audit-ID"] = audit_id
        try:
            with deadline.within(seconds or self._http.timeout.read):
                # The whole address at once: httpx2 would take it apart three times to put it together.
                where = f"{self._root}{path}?{urlencode(query, quote_via=quote)}" if query else f"{self._root}{path}"
                answer = self._http.request(
                    method, where, content=content, headers=headers, timeout=seconds or httpx2.USE_CLIENT_DEFAULT
                )
        except httpx2.HTTPError as error:
            raise self._unanswered(error, verb=verb, target=target, audit_id=audit_id) from error
        except _CREDENTIALS as error:
            raise self._unprepared(error, verb=verb, target=target, audit_id=audit_id) from error
        self._note_clock(answer)
        if answer.status_code >= 300:
            raise failures.from_response(
                answer.status_code,
                answer.content,
                answer.headers,
                verb=verb,
                target=target,
                audit_id=audit_id,
                sent=answer.request.headers,
            )
        return answer

    def _unanswered(self, error: Exception, *, verb: str, target: str, audit_id: str = "") -> PlatformError:
        return failures.from_exception(error, verb=verb, target=target, audit_id=audit_id, server=self.server)

    def _unprepared(self, error: Exception, *, verb: str, target: str, audit_id: str) -> NotSent:
        return NotSent(
            f"the credentials of context {self.context or '(none)'} cannot be used",
            system="kubernetes",
            verb=verb,
            target=target,
            audit_id=audit_id,
            why=failures.words_of(error),
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
