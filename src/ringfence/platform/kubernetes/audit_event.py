"""One line of an audit log (audit.k8s.io/v1 Event), reduced to what can be compared. Pure.

Whoever sends a request chooses its Audit-ID, its address and its user agent: only ``user``, the object, the status and
the times are the API server's own words.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from ringfence.model.base import Json, isoformat

_STAGES = frozenset({"RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"})
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection", "post", "put"})
_CONNECTS = frozenset({"exec", "attach", "portforward"})
"""Subresources that act on a pod by whatever verb; a dry run of them is not one."""
_KUBELET_RUNS = frozenset({"exec", "run", "attach", "portForward", "checkpoint"})
"""What a proxied GET to a kubelet does as well."""
_REVIEWS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
"""API groups whose objects are questions: nothing is stored."""
_LONGEST = 512


class NotAnEvent(ValueError):
    """A line that is no audit.k8s.io Event; the text says why."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One stage of one request.

    ``impersonated`` is the user as whom ``user`` acted; empty: as itself. ``code`` is the HTTP status, None before the
    answer. ``received_at`` is when the request came in (the same in all its stages), ``stage_at`` when this stage was
    reached, both by the API server's clock. ``dry_run`` is None where this log cannot tell: the API server goes by a
    deletion's body, and the body is not in it. ``resource`` is empty for a call to no object (``path`` says where to).
    ``mutates``: it may change something, or run something. ``pod_uid`` is set when the user's token was bound to a pod.
    """

    file: str
    line: int
    audit_id: str
    stage: str
    verb: str
    user: str
    impersonated: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    uid: str
    code: int | None
    received_at: datetime
    stage_at: datetime
    dry_run: bool | None
    mutates: bool
    path: str
    user_agent: str
    source: str
    pod_uid: str

    @property
    def is_answer(self) -> bool:
        """Whether this stage says what became of the request: later ones add nothing, or there are none."""
        return self.stage in ("ResponseComplete", "Panic")

    @property
    def was_refused(self) -> bool:
        """Whether the API server answered that it did nothing (4xx). A 5xx decides nothing."""
        return self.code is not None and 400 <= self.code < 500

    @property
    def object(self) -> str:
        """The object in words: ``pods/cards-1 in bank``, ``pods/cards-1/exec in bank``."""
        if not self.resource:
            return self.path
        what = "/".join(part for part in (self.resource, self.name, self.subresource) if part)
        return f"{what} in {self.namespace}" if self.namespace else what

    def to_json(self) -> Json:
        return {
            "file": self.file,
            "line": self.line,
            "audit_id": self.audit_id,
            "stage": self.stage,
            "verb": self.verb,
            "user": self.user,
            "impersonated": self.impersonated,
            "group": self.group,
            "object": self.object,
            "code": self.code,
            "received_at": isoformat(self.received_at),
            "user_agent": self.user_agent,
            "source": self.source,
        }


def event_of(line: bytes, *, file: str = "", number: int = 0) -> AuditEvent:
    """The event of a line. Raises NotAnEvent."""
    try:
        body: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotAnEvent("it is not JSON") from error
    if not isinstance(body, dict) or body.get("kind") != "Event" or not _is_audit(body.get("apiVersion")):
        raise NotAnEvent("it is no audit.k8s.io Event")
    place, user, status = _part(body, "objectRef"), _part(body, "user"), _part(body, "responseStatus")
    stage = _text(body, "stage")
    if stage not in _STAGES:
        raise NotAnEvent("its stage is none")
    uri = _text(body, "requestURI")
    path, _, query = uri.partition("?")
    verb, subresource = _text(body, "verb"), _text(place, "subresource")
    group, resource = _text(place, "apiGroup"), _text(place, "resource")
    response = _part(body, "responseObject")
    made = _part(response, "metadata") if verb == "create" else {}
    sources = body.get("sourceIPs")
    return AuditEvent(
        file=file,
        line=number,
        audit_id=_text(body, "auditID"),
        stage=stage,
        verb=verb,
        user=_text(user, "username"),
        impersonated=_text(_part(body, "impersonatedUser"), "username"),
        group=group,
        resource=resource,
        subresource=subresource,
        namespace=_text(place, "namespace"),
        # A name that the server generated is in its answer only.
        name=_text(place, "name") or _text(made, "name"),
        uid=_text(place, "uid") or _text(made, "uid"),
        code=_code(status),
        received_at=_moment(body, "requestReceivedTimestamp"),
        stage_at=_moment(body, "stageTimestamp"),
        dry_run=_dry_run(verb, resource, subresource, query, body),
        mutates=_mutates(verb, group, resource, subresource, path),
        path=path[:_LONGEST],
        user_agent=_text(body, "userAgent")[:_LONGEST],
        source=str(sources[0])[:_LONGEST] if isinstance(sources, list) and sources else "",
        pod_uid=_extra(user, "authentication.kubernetes.io/pod-uid"),
    )


def _mutates(verb: str, group: str, resource: str, subresource: str, path: str) -> bool:
    if group in _REVIEWS:
        return False
    if subresource in _CONNECTS:
        return True
    if (resource, subresource) == ("nodes", "proxy") and not _KUBELET_RUNS.isdisjoint(path.split("/")):
        return True
    return verb in _WRITES


def _dry_run(verb: str, resource: str, subresource: str, query: str, body: Json) -> bool | None:
    """As the API server reads it. A token that was asked for with dryRun works, and so does ``exec``."""
    if subresource in _CONNECTS or subresource == "proxy" or (resource, subresource) == ("serviceaccounts", "token"):
        return False
    asked = "All" in _values(query)
    if verb not in ("delete", "deletecollection"):
        return asked
    options = body.get("requestObject")
    if isinstance(options, dict):
        return bool(options.get("dryRun"))
    if not asked:
        return False
    # The address counts where there was no body, and only from level Request on would a body be here.
    return True if body.get("level") in ("Request", "RequestResponse") else None


def _values(query: str) -> list[str]:
    try:
        return parse_qs(query).get("dryRun", [])
    except ValueError:
        return []


def _is_audit(version: object) -> bool:
    return isinstance(version, str) and version.startswith("audit.k8s.io/")


def _part(body: Json, key: str) -> Json:
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NotAnEvent(f"its {key} is no object")
    return value


def _text(body: Json, key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise NotAnEvent(f"its {key} is no text")
    return value


def _code(status: Json) -> int | None:
    code = status.get("code")
    if code is None:
        return None
    if type(code) is not int:
        raise NotAnEvent("its status is no number")
    return code


def _moment(body: Json, key: str) -> datetime:
    try:
        at = datetime.fromisoformat(_text(body, key))
    except ValueError as error:
        raise NotAnEvent(f"its {key} is no time") from error
    if at.tzinfo is None:
        raise NotAnEvent(f"its {key} has no zone")
    return at


def _extra(user: Json, key: str) -> str:
    extra = user.get("extra")
    values = extra.get(key) if isinstance(extra, dict) else None
    return values[0] if isinstance(values, list) and values and isinstance(values[0], str) else ""
