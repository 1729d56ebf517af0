"""A run of a playbook, what it waits for, and who may let it go on."""

import hashlib
from enum import StrEnum
from typing import Self

from ringfence.model.base import Instant, Json, Noun, canonical
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Outcome
from ringfence.model.proof import Proof


class RunState(StrEnum):
    """``waiting`` is for a person: nothing runs meanwhile, the decision starts the next segment."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (RunState.DONE, RunState.FAILED, RunState.CANCELLED)


class Group(Noun):
    """What the words of a command named, where that is more than pods by their names: it can mean others later.

    ``names`` are KIND/NAME in ``namespace`` (empty: in all of them), ``image`` a digest; ``siblings``: with the pods of
    the same image or account.
    """

    names: tuple[str, ...] = ()
    namespace: str = ""
    image: str = ""
    siblings: bool = False


class RunOrder(Noun):
    """What the person who started the run asked for; part of the run and frozen with it but for ``accept_outage``.

    ``phases`` are the playbook's phases to run, in its order. ``decided``: the command itself was the decision for the
    first of them. ``break_glass`` is the reason for destroying without a fresh seal, empty when the gate holds.
    ``canary`` tries the fence with a throw-away pod. ``bindings`` takes an account's rights although others use it.
    ``group`` is looked up anew once it was cut; None where there is nothing to look for.
    Of a recovery: ``revisions`` are the commits that are approved (``SHA``, or ``APPLICATION=SHA``), ``probe`` the path
    of a real request, ``accept_findings`` why what a fresh look finds is taken on, ``watch_seconds`` how long is
    watched (0: as the playbook says).
    """

    phases: tuple[str, ...]
    decided: bool = False
    accept_outage: bool = False
    break_glass: str = ""
    canary: bool = False
    shape: str = "auto"
    accept_same_image: bool = False
    bindings: bool = False
    revisions: tuple[str, ...] = ()
    probe: str = ""
    accept_findings: str = ""
    watch_seconds: int = 0
    command: str = ""
    group: Group | None = None


class Run(Noun):
    """``id`` is ``INC-7/run/2``. ``segment`` counts the starts of its workflow, ``epoch`` the takeovers by a process.

    ``playbook_sha256`` is of the bytes that were frozen when it started; ``targets`` are the objects that it acts on.
    """

    id: str
    incident: str
    number: int
    playbook: str
    playbook_sha256: str
    targets: tuple[ObjectRef, ...]
    order: RunOrder
    state: RunState
    segment: int
    owner: str
    epoch: int
    requested_by: str
    cancel_requested_by: str
    created_at: Instant
    ended_at: Instant | None
    why: str

    @property
    def workflow_id(self) -> str:
        return f"{self.id}/{self.segment}"


class StepRun(Noun):
    """One step of a run on one target (``target_uid`` empty: on the incident as a whole), finished."""

    run: str
    step: str
    target_uid: str
    action: str
    outcome: Outcome
    proof: Proof | None
    finished_at: Instant


class Ceiling(Noun):
    """What an approval allows: an upper bound, so that pods that come and go meanwhile do not void it.

    ``verbs`` are actions; ``targets`` the objects (``Kind namespace/name``) named when it was asked for; ``pods`` the
    greatest number of pods that may be hit.
    """

    actions: tuple[str, ...]
    targets: tuple[str, ...]
    pods: int

    def sha256(self) -> str:
        return hashlib.sha256(canonical(self.to_json())).hexdigest()

    def covers(self, other: Self) -> bool:
        """Whether ``other`` fits inside: nothing in it that was not asked for, and no more pods."""
        return (
            set(other.actions) <= set(self.actions)
            and set(other.targets) <= set(self.targets)
            and other.pods <= self.pods
        )


class Decision(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Approval(Noun):
    """``id`` is ``INC-7/approval/1``. ``second_person`` says that whoever asked may not decide (law 8)."""

    id: str
    incident: str
    run: str
    step: str
    reason: str
    ceiling: Ceiling
    second_person: bool
    requested_by: str
    requested_at: Instant
    expires_at: Instant
    decision: Decision
    decided_by: str = ""
    decided_at: Instant | None = None
    decision_reason: str = ""


class Lease(Noun):
    """How long a cut is meant to stand before somebody looks again. It pages when it runs out; it never reverts."""

    incident: str
    until: Instant
    granted_by: str
    granted_at: Instant
    expired: bool = False


class Command(Noun):
    """A word from one process to the one that runs the engine."""

    number: int
    kind: str
    body: Json
    sent_by: str
    created_at: Instant
