"""A container's checkpoint, asked for at its node's kubelet through the API server's proxy (``nodes/proxy``).

``POST /checkpoint/{namespace}/{pod}/{container}`` of the kubelet's API (Kubernetes documentation, "Kubelet Checkpoint
API"; KEP-2008). The archive is written on the node, readable for root alone, and stays there; the kubelet answers with
its path. Nothing of it is in the API server: that it was made can be told from the answer and the audit log only.
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import quote, unquote

from ringfence.errors import Denied, Effect, Invalid, NotFound, NotSent, PlatformError, Throttled, Unanswered
from ringfence.model.base import Json
from ringfence.platform.kubernetes import answers, failures
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import NODE

FOLDER = "/var/lib/kubelet/checkpoints"
"""Where a kubelet puts archives, unless its root folder was moved."""
_RUNTIME = re.compile(r"500: checkpointing of \S+ failed \(")
_FORBIDDEN = "403: Forbidden (user="
_NONE = re.compile(r"404: (?:pod|container \S+) does not exist")
_NO_PAGE = "404: 404: Page Not Found"
"""The kubelet's own words (``pkg/kubelet/server``, and go-restful for a path that it does not serve), after the status.
No object shows what became of the request, so no other words are believed: gateways have pages for 403 and 404 too."""
_UNREACHED = "error trying to reach service"
"""The API server's own words (k8s.io/apimachinery, ``util/proxy``)."""
_NO_WAY = ("dial tcp", "no route to host", "connection refused")
_RUNTIMES_SHARE = 0.8
"""The share of our own patience that the runtime gets: its word must have time to come back."""


class CheckpointUnavailable(PlatformError):
    """The node was asked for a checkpoint and has none to give. Nothing was written."""

    code = "checkpoint-unavailable"
    effect = Effect.NONE


def subresource(pod: Json, container: str) -> str:
    """The path below a node at which its kubelet is asked."""
    meta = pod["metadata"]
    parts = (quote(str(part), safe="", errors="replace") for part in (meta["namespace"], meta["name"], container))
    return "/".join(("proxy", "checkpoint", *parts))


def container_of(below: str) -> str:
    """The container that such a path names."""
    return unquote(below.rpartition("/")[2])


def ask(cluster: Cluster, node: str, below: str, *, audit_id: str, seconds: float) -> bytes:
    """The kubelet's answer, as it was sent. ``seconds``: how long it may take.

    Raises CheckpointUnavailable when it was not made, with the reason in plain words; Denied, NotSent; Unanswered when
    it may have been made.
    """
    try:
        answer = cluster.send_once(
            "POST",
            NODE.path("", node, below),
            verb="create",
            target=f"nodes/{node}/{below}",
            query={"timeout": str(max(1, int(seconds * _RUNTIMES_SHARE)))},
            audit_id=audit_id,
            seconds=seconds,
        )
    except PlatformError as error:
        _explain(error, node)
    return answer.content


def archives(raw: bytes, node: str) -> tuple[str, ...]:
    """The paths on the node in a kubelet's answer, text of unknown origin. Raises Unanswered when it names none."""
    target = f"nodes/{node}/proxy/checkpoint"
    try:
        found = answers.loads(raw)
    except ValueError as error:
        raise answers.malformed(f"is no JSON: {str(error)[:80]}", "create", target) from None
    items = found.get("items") if isinstance(found, dict) else None
    if not isinstance(items, list) or not items or not all(isinstance(one, str) and one[:1] == "/" for one in items):
        raise answers.malformed("names no archive", "create", target)
    return tuple(items)


def _explain(error: PlatformError, node: str) -> NoReturn:
    """Raise it again in words that say whose refusal it is, and what would help."""
    words = error.why
    if failures.is_authorisers(words) and "nodes/proxy" in words:
        next_step = "ringfence rbac --checkpoint, for the length of the incident"
        raise Denied("not allowed to ask a node for a checkpoint", next_step=next_step, **_facts(error)) from error
    if _UNREACHED in words and any(one in words for one in _NO_WAY):
        raise NotSent(f"the API server does not reach the kubelet of {node}", **_facts(error)) from error
    what, next_step = _reason(error.status, words, node)
    if what:
        raise CheckpointUnavailable(what, next_step=next_step, **_facts(error)) from error
    if error.effect is Effect.NONE and error.status is not None and not _before_it_is_passed_on(error):
        raise Unanswered(
            f"neither the API server nor the kubelet of {node} answers so",
            next_step="there may be an archive: see who stands between, and look on the node",
            **_facts(error),
        ) from error
    raise error


def _before_it_is_passed_on(error: PlatformError) -> bool:
    """Whether the API server, or who guards it, said that before any kubelet was asked."""
    match error:
        case NotFound() | Throttled():  # NotFound is its own word that there is no such node
            return True
        case Invalid():  # its admission's 403; a login page
            return error.status == 403 or error.status is None or error.status < 400
        case Denied():
            return error.status == 401 or failures.is_authorisers(error.why)
        case _:
            return False


def _reason(status: int | None, words: str, node: str) -> tuple[str, str]:
    """Why there is none, and what would help; empty when the answer does not say so."""
    if words.startswith(_FORBIDDEN):
        return f"the kubelet of {node} makes no checkpoints for the API server", (
            "a ClusterRole with create on nodes/checkpoint, bound to the user that its words name"
        )
    if _NONE.fullmatch(words):
        return f"the kubelet of {node} does not know the container", "kubectl get pod -o wide: it may have moved"
    if words == _NO_PAGE:
        return f"the kubelet of {node} offers no checkpoints", (
            "its feature gate ContainerCheckpoint, which is on by default since Kubernetes 1.30"
        )
    if _RUNTIME.match(words):
        return f"the container runtime of {node} makes no checkpoints", (
            "it needs CRIU on the node, and containerd 2.0 or CRI-O"
        )
    if status in (405, 501):
        return f"the kubelet of {node} offers no checkpoints", "its version: kubectl get node -o wide"
    return "", ""


def _facts(error: PlatformError) -> Json:
    return {
        "system": error.system,
        "verb": error.verb,
        "target": error.target,
        "status": error.status,
        "why": error.why,
        "audit_id": error.audit_id,
    }
