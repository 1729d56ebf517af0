"""What an action will do, before it does it: exact requests, what existed before, who will feel it.

A ``Change`` is one mutating request. An action with two writes has two changes; the order of ``Plan.changes`` is the
order in which they are sent.
"""

import hashlib
import uuid
from enum import StrEnum
from typing import Any

from ringfence.model.base import Json, Noun, canonical
from ringfence.model.objects import ObjectRef

_MAX_INT = 2**53 - 1
_AUDIT_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://ringfence.dev/audit-id")


def audit_id(incident: str, fence: str, step: str, change: str) -> str:
    """The Audit-ID of a change's request: a UUIDv5, the same whoever computes it."""
    return str(uuid.uuid5(_AUDIT_NAMESPACE, f"{incident}/{fence}/{step}/{change}"))


class Verb(StrEnum):
    CREATE = "create"
    PATCH = "patch"
    DELETE = "delete"


class Inverse(Noun):
    """The request that takes a change back, with its own ``test`` operations where it is a patch: when somebody changed
    the object since, undo says so instead of overwriting."""

    verb: Verb
    body: Any = None


class Change(Noun):
    """One mutating request.

    ``body`` is the object (create), the RFC 6902 operations (patch; ``test`` operations are its preconditions) or
    None (delete; ``ref.uid`` is the precondition). ``subresource`` is where a patch is sent to when it is not the
    object itself (``scale``); its paths name the same members there as in the object. With ``proxy/…`` a create is
    passed on to what the object stands for, and no object shows what came of it. ``prior`` is the object as it was, as
    the server sent it; None when it did not exist. ``grace_seconds`` is for deletes; None means the object's
    own. ``effect`` is one sentence for people. ``inverse`` is None where nothing brings the object back. ``needed``
    says that the later changes of the plan must not be sent when this one did not take effect.
    """

    id: str
    ref: ObjectRef
    verb: Verb
    subresource: str = ""
    body: Any = None
    prior: Json | None = None
    inverse: Inverse | None = None
    grace_seconds: int | None = None
    needed: bool = True
    effect: str

    def audit_id(self, incident: str, fence: str, step: str) -> str:
        """The Audit-ID of this request: the same change asked again carries the same id.

        ``fence``, random for each incident, keeps apart the INC-1 of two stores that work on one cluster.
        """
        return audit_id(incident, fence, step, self.id)


class Errors(Noun):
    """Until when new connections to a Service may fail by a plan. What is under way at a pod when it goes may fail in
    any case: how much that is, nobody in the cluster knows.

    ``seconds`` from the change on, at most; 0: none of them fails; None: no end can be said. ``because`` says why.
    """

    seconds: int | None
    because: str


class ServiceImpact(Noun):
    """What one Service's customers will feel: ready endpoints before, right after, and once a replacement is up.

    ``errors`` is None in plans that did not predict any, of older versions.
    """

    service: str
    ready_before: int
    ready_after: int
    ready_with_replacement: int
    floor: int
    errors: Errors | None = None

    @property
    def taken(self) -> int:
        """How many of the ready endpoints go: of the new connections, as many of ``ready_before`` may reach one."""
        return self.ready_before - self.ready_after

    @property
    def prediction(self) -> str:
        """Which requests may fail, in words; empty when nothing was predicted."""
        if self.errors is None:
            return ""
        if self.errors.seconds == 0:
            return f"no request fails: {self.errors.because}"
        share = f"{self.taken} of {self.ready_before} new connections"
        if self.errors.seconds is None:
            return f"{share} may fail, and no end can be said: {self.errors.because}"
        return (
            f"what is under way at the pod may fail, and {share} for {self.errors.seconds} s at most, then none: "
            f"{self.errors.because}"
        )

    @property
    def keeps_floor(self) -> bool:
        """A Service that is below its floor already is not brought lower by us when the count stays."""
        return self.ready_after >= min(self.floor, self.ready_before)


class Impact(Noun):
    """Blast radius: what stops serving, and whether a replacement can start."""

    pods: int
    services: tuple[ServiceImpact, ...] = ()
    replacement: str
    """Who starts a replacement, or why nobody does."""
    replacement_expected: bool
    disruption_budgets: tuple[str, ...] = ()
    """PodDisruptionBudgets that would count the pod, each with what they still allow."""

    @property
    def keeps_floor(self) -> bool:
        return all(service.keeps_floor for service in self.services)


class Plan(Noun):
    """An action's plan for one target. ``destroys`` lists every object that will die and cannot come back."""

    action: str
    target: ObjectRef
    changes: tuple[Change, ...]
    impact: Impact
    destroys: tuple[ObjectRef, ...] = ()
    caveats: tuple[str, ...] = ()
    rationale: str = ""
    """Why this shape and not another."""

    def sha256(self) -> str:
        """Hash of the plan's canonical JSON (RFC 8785); integers that it does not know are written as strings."""
        return hashlib.sha256(canonical(_within_bounds(self.to_json()))).hexdigest()


def _within_bounds(value: Any) -> Any:
    # Objects of the cluster have 64-bit integers (tolerationSeconds, terminationGracePeriodSeconds).
    match value:
        case dict():
            return {key: _within_bounds(member) for key, member in value.items()}
        case list():
            return [_within_bounds(member) for member in value]
        case int() if abs(value) > _MAX_INT:
            return str(value)
    return value
