"""The timeline's events: one small class per fact. Reports and metrics render from these; nothing is ever edited.

``occurred_at`` is when the fact happened, ``recorded_at`` (kept by the store) when it was written down. ``actor`` is a
principal's id, or ``ringfence`` for what the program did by itself on a principal's behalf.
"""

from typing import Annotated, Literal

from pydantic import Field

from ringfence.model.access import PathState
from ringfence.model.base import Instant
from ringfence.model.canary import CanaryReport
from ringfence.model.custody import CustodyEvent
from ringfence.model.event import EventBase as _Event
from ringfence.model.evidence import Collected
from ringfence.model.fence_events import FencedChanged, FenceRestored
from ringfence.model.incident import Determination, Severity, State
from ringfence.model.node_helper import NodeReport
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Outcome
from ringfence.model.plan import Impact, Verb
from ringfence.model.proof import Level, Proof
from ringfence.model.recovery_events import IndicatorReturned, Reviewed, WatchOpened
from ringfence.model.run import Ceiling, Decision, RunState


class IncidentDeclared(_Event):
    """Somebody said that there is an incident. This is also the moment of awareness for regulators' clocks."""

    type: Literal["incident.declared"] = "incident.declared"
    incident_type: str
    severity: Severity
    title: str
    target: ObjectRef
    command: str


class StateChanged(_Event):
    type: Literal["incident.state"] = "incident.state"
    before: State
    after: State
    reason: str = ""
    """A person's words; empty where the program moved the incident on."""


class CaptureOpened(_Event):
    """The pod object was saved and log streams were opened, before the cut."""

    type: Literal["capture.opened"] = "capture.opened"
    streams: int
    opened: int
    waited_ms: int


class PlanMade(_Event):
    type: Literal["plan.made"] = "plan.made"
    step: str
    action: str
    plan_sha256: str
    rationale: str
    changes: tuple[str, ...]
    destroys: tuple[ObjectRef, ...]
    impact: Impact
    caveats: tuple[str, ...]


class ChangeIntended(_Event):
    """Written, with the change's prior state beside it in the journal, before the request is sent."""

    type: Literal["change.intended"] = "change.intended"
    step: str
    change: str
    verb: Verb
    ref: ObjectRef
    audit_id: str
    effect: str


class ChangeResult(_Event):
    type: Literal["change.result"] = "change.result"
    step: str
    change: str
    audit_id: str
    outcome: Outcome
    sent_at: Instant | None = None
    answered_at: Instant | None = None


class StepFinished(_Event):
    """``target`` is None for a step on the incident as a whole; events of version 0.1.0 have none either."""

    type: Literal["step.finished"] = "step.finished"
    step: str
    action: str
    outcome: Outcome
    proof: Proof | None = None
    target: ObjectRef | None = None


class Refusal(_Event):
    """A gate or guardrail said no. Kept: a refused attempt is a fact too."""

    type: Literal["refusal"] = "refusal"
    step: str
    action: str
    gate: str
    reason: str


class GlassBroken(_Event):
    """A named person ordered a destructive step without a fresh seal. Stands at the top of the report."""

    type: Literal["break-glass"] = "break-glass"
    step: str
    action: str
    reason: str
    missing: str


class EvidenceAcquired(_Event):
    type: Literal["evidence.acquired"] = "evidence.acquired"
    item: str
    result: Collected
    reason: str = ""
    raw_sha256: str = ""
    raw_size: int = 0


class EvidenceSealed(_Event):
    type: Literal["evidence.sealed"] = "evidence.sealed"
    seal: str
    bundle_sha256: str
    key_id: str
    items: int
    collected: int
    complete: bool
    why_incomplete: str = ""


class EvidenceHandled(_Event):
    """The bundle was verified, exported or read."""

    type: Literal["evidence.handled"] = "evidence.handled"
    seal: str
    action: Literal["verify", "export", "read"]
    result: str


class AccessTurned(_Event):
    """A row of the residual-access statement took another state or level."""

    type: Literal["access.turned"] = "access.turned"
    path: str
    before: PathState | None
    after: PathState
    level: Level
    why: str


class AccessAccepted(_Event):
    type: Literal["access.accepted"] = "access.accepted"
    path: str
    reason: str


class CanaryTried(_Event):
    """A way in was tried with a canary of our own. The audit ids match the cluster's audit log."""

    type: Literal["canary.tried"] = "canary.tried"
    path: str
    canary: str
    result: Literal["intended", "accepted", "refused", "not-possible"]
    audit_id: str = ""
    why: str = ""
    target_uid: str = ""
    """The object that it stands for; empty in events of version 0.1.0, which knew one object an incident."""


class CanaryReported(_Event):
    """A fence was tried on packets, with throw-away pods that stood for the fenced one."""

    type: Literal["canary.reported"] = "canary.reported"
    report: CanaryReport


class NodeHelperSwitched(_Event):
    """The node helper, which is root on a node, was allowed for this incident, or is allowed no longer."""

    type: Literal["node_helper.switched"] = "node_helper.switched"
    on: bool
    reason: str


class NodeHelperReported(_Event):
    """A run of the node helper ended: what it did, and what it saw on the node."""

    type: Literal["node_helper.reported"] = "node_helper.reported"
    report: NodeReport
    step: str = ""
    """The step that it was; empty in events of before there was this member."""


class ReportWritten(_Event):
    type: Literal["report.written"] = "report.written"
    files: tuple[str, ...]
    sha256: tuple[str, ...]


class TargetJoined(_Event):
    """Another object belongs to the incident: a sibling, a pod of the same image or account, what a pod became."""

    type: Literal["target.joined"] = "target.joined"
    target: ObjectRef
    how: str


class AwarenessRecorded(_Event):
    """When the bank became aware; regulators' clocks may count from it. Corrects the moment of declaration."""

    type: Literal["awareness.recorded"] = "awareness.recorded"
    aware_at: Instant
    reason: str


class DeterminationMade(_Event):
    """A person says what it turned out to be."""

    type: Literal["determination.made"] = "determination.made"
    determination: Determination
    reason: str


class Classified(_Event):
    """A person says how grave it is: our severity, and the class in a scheme that regulators ask for."""

    type: Literal["classified"] = "classified"
    severity: Severity
    scheme: str = ""
    value: str = ""
    reason: str


class NoteAdded(_Event):
    type: Literal["note.added"] = "note.added"
    text: str


class HandedOver(_Event):
    """The command of the incident went to somebody else, with what was open then."""

    type: Literal["handed-over"] = "handed-over"
    to: str
    open_rows: tuple[str, ...]
    waiting: tuple[str, ...]
    note: str = ""


class RunStarted(_Event):
    """A playbook, frozen by its SHA-256, was started on these targets."""

    type: Literal["run.started"] = "run.started"
    run: str
    playbook: str
    playbook_sha256: str
    phases: tuple[str, ...]
    targets: tuple[ObjectRef, ...]
    command: str


class RunTaken(_Event):
    """A process took the run over. Every one but the first follows the end, or the death, of another process."""

    type: Literal["run.taken"] = "run.taken"
    run: str
    epoch: int
    segment: int
    executor: str


class RunEnded(_Event):
    """Done, failed or cancelled; or it waits for a person, and goes on with the next segment."""

    type: Literal["run.ended"] = "run.ended"
    run: str
    state: RunState
    why: str = ""


class CancelRequested(_Event):
    """What is in force stays in force: a cancelled run starts no further step, and undoes none."""

    type: Literal["run.cancel"] = "run.cancel"
    run: str
    reason: str


class ApprovalRequested(_Event):
    type: Literal["approval.requested"] = "approval.requested"
    approval: str
    run: str
    step: str
    reason: str
    ceiling: Ceiling
    ceiling_sha256: str
    second_person: bool
    expires_at: Instant


class ApprovalDecided(_Event):
    """``actor`` decided; for ``expired`` nobody did in time, and that is a no."""

    type: Literal["approval.decided"] = "approval.decided"
    approval: str
    decision: Decision
    ceiling_sha256: str
    reason: str


class LeaseGranted(_Event):
    type: Literal["lease.granted"] = "lease.granted"
    until: Instant


class LeaseExpired(_Event):
    """Nobody looked again in time. Nothing was reverted."""

    type: Literal["lease.expired"] = "lease.expired"
    until: Instant


Event = Annotated[
    IncidentDeclared
    | StateChanged
    | CaptureOpened
    | PlanMade
    | ChangeIntended
    | ChangeResult
    | StepFinished
    | Refusal
    | GlassBroken
    | EvidenceAcquired
    | EvidenceSealed
    | EvidenceHandled
    | CustodyEvent
    | AccessTurned
    | AccessAccepted
    | CanaryTried
    | CanaryReported
    | NodeHelperSwitched
    | NodeHelperReported
    | ReportWritten
    | TargetJoined
    | AwarenessRecorded
    | DeterminationMade
    | Classified
    | NoteAdded
    | HandedOver
    | RunStarted
    | RunTaken
    | RunEnded
    | CancelRequested
    | ApprovalRequested
    | ApprovalDecided
    | LeaseGranted
    | LeaseExpired
    | FencedChanged
    | FenceRestored
    | WatchOpened
    | IndicatorReturned
    | Reviewed,
    Field(discriminator="type"),
]
