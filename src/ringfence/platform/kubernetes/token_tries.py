"""Trying what a token may do, without a trace: a dry run of a write, and a read of an object that is not there.

What may be tried is what the API server itself says that the token's holder may do (SelfSubjectRulesReview, which every
user may ask). Nothing is left behind and nothing is read.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ringfence.errors import Conflict, Denied, Invalid, NotFound
from ringfence.model.base import Json
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import (
    CONFIG_MAP,
    KNOWN,
    LEASE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    ROLE,
    SELF_SUBJECT_RULES_REVIEW,
    SERVICE,
    SERVICE_ACCOUNT,
    Resource,
)

_PORT = {"ports": [{"port": 80}], "clusterIP": "None"}
_CONTAINER = {"containers": [{"name": "canary", "image": "canary.invalid/none"}]}
_CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
_LEAST: tuple[tuple[Resource, Json], ...] = (
    (CONFIG_MAP, {}),
    (LEASE, {"spec": {}}),
    (SERVICE_ACCOUNT, {}),
    (SERVICE, {"spec": _PORT}),
    (PERSISTENT_VOLUME_CLAIM, {"spec": _CLAIM}),
    (POD, {"spec": _CONTAINER}),
    (ROLE, {"rules": []}),
)
"""Kinds that can be dry-run by a body of few members, the least harmful first."""


@dataclass(frozen=True)
class Try:
    """One request that the token's holder may make: a dry run of ``create``, or a ``get``."""

    verb: Literal["create", "get"]
    resource: Resource
    namespace: str
    body: Json

    def __str__(self) -> str:
        return f"{self.verb} {self.resource.plural} in {self.namespace}"


@dataclass(frozen=True)
class Answered:
    """``accepted``: the API server would have carried it out (or has, a get); else ``why`` quotes its refusal.

    ``by`` says who refused: the authoriser, or admission; ``token`` is a token that is no longer taken.
    """

    accepted: bool
    by: Literal["", "token", "authoriser", "admission"] = ""
    why: str = ""


def find_tries(theirs: Cluster, namespaces: Iterable[str]) -> tuple[Try | None, Try | None]:
    """A write and a read that the holder may make in one of the namespaces, None where we know none.

    ``theirs`` is a connection by the token. Raises PlatformError, Denied (401) when the token is not taken.
    """
    write = read = None
    for namespace in dict.fromkeys(namespaces):
        rules = _rules(theirs, namespace)
        for resource, least in _LEAST:
            if write is None and _allows(rules, "create", resource):
                name = f"ringfence-canary-{uuid.uuid4().hex[:8]}"
                meta = {"name": name, "namespace": namespace}
                head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
                write = Try("create", resource, namespace, {**head, **least})
        if read is None:
            shown = (one for one in KNOWN.values() if one.namespaced and not one.metadata_only)
            readable = (one for one in shown if _allows(rules, "get", one))
            if (found := next(readable, None)) is not None:
                read = Try("get", found, namespace, {})
    return write, read


def attempt(theirs: Cluster, one: Try, audit_id: str = "") -> Answered:
    """Make the request. Raises PlatformError when there is no clear answer."""
    try:
        if one.verb == "create":
            theirs.create(one.resource, one.namespace, one.body, audit_id=audit_id, dry_run=True)
        else:
            theirs.get(one.resource, one.namespace, f"ringfence-canary-{uuid.uuid4().hex[:8]}")
    except (NotFound, Conflict):
        return Answered(accepted=True)  # authorised; there is just no such object
    except Denied as error:
        return Answered(False, "token" if error.status == 401 else "authoriser", error.why)
    except Invalid as error:
        return Answered(False, "admission", error.why)
    return Answered(accepted=True)


def _rules(theirs: Cluster, namespace: str) -> tuple[Json, ...]:
    body = {
        "apiVersion": SELF_SUBJECT_RULES_REVIEW.api_version,
        "kind": SELF_SUBJECT_RULES_REVIEW.kind,
        "spec": {"namespace": namespace},
    }
    answer = theirs.create(SELF_SUBJECT_RULES_REVIEW, "", body)
    return tuple((answer.get("status") or {}).get("resourceRules") or ())


def _allows(rules: Iterable[Json], verb: str, resource: Resource) -> bool:
    group = resource.api_version.rpartition("/")[0]
    return any(
        not rule.get("resourceNames")
        and {verb, "*"} & set(rule.get("verbs") or ())
        and {group, "*"} & set(rule.get("apiGroups") or ())
        and {resource.plural, "*"} & set(rule.get("resources") or ())
        for rule in rules
    )
