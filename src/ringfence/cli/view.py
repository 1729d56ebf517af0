"""One incident as people and programs see it (pure): the same facts for the screen and for ``-o json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringfence.model.access import AccessPath, Verdict, verdict
from ringfence.model.base import Json, isoformat
from ringfence.model.enforcement import Enforcement
from ringfence.model.evidence import Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident, State, ocsf_status
from ringfence.model.next_steps import shutting
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Failed, Outcome, Refused, next_step_of
from ringfence.model.page import Page
from ringfence.model.proof import Proof
from ringfence.model.run import Approval, Lease, Run, RunState, StepRun


@dataclass(frozen=True)
class Customers:
    """One Service that the suspect served. ``desired`` is None when nobody says how many there should be."""

    service: str
    ready: int
    desired: int | None
    replacements: int


@dataclass(frozen=True)
class View:
    """What a screen may say: only facts that were measured or read."""

    incident: Incident
    rows: tuple[AccessPath, ...]
    customers: tuple[Customers, ...]
    customers_known: bool
    same_image: int | None
    same_account: int | None
    seals: tuple[Seal, ...]
    items: tuple[EvidenceItem, ...]
    evidence_problem: str
    unread: str
    outcome: Outcome | None = None
    outcome_of: str = ""
    """The command whose outcome it is: contain, eradicate or release."""
    proof: Proof | None = None
    seconds_to_cut: float | None = None
    targets: tuple[ObjectRef, ...] = ()
    runs: tuple[Run, ...] = ()
    run: Run | None = None
    """The run that the command was about, None when it was about none."""
    steps: tuple[StepRun, ...] = ()
    helper_on: bool = False
    """Whether the node helper is on for the incident."""
    helper_allowed: bool = True
    """Whether the configuration lets it be switched on."""
    enforcement: Enforcement | None = None
    enforcement_words: str = ""
    """What packets have shown of the cluster's NetworkPolicies, and the same in words with its age."""
    waiting: tuple[Approval, ...] = ()
    lease: Lease | None = None
    uncopied: tuple[str, ...] = ()
    """Seals without a copy where copies go, each with the reason."""
    unstamped: tuple[str, ...] = ()
    """Seals without a time stamp where seals are to have one, each with the reason."""
    unanchored: tuple[str, ...] = ()
    """Places where no head of the timeline is anchored, or a newer try failed, each with the reason."""
    unpaged: tuple[Page, ...] = ()
    """Pages that did not reach everybody who should have got them."""

    @property
    def verdict(self) -> Verdict:
        return verdict(self.rows)

    @property
    def not_taken(self) -> tuple[str, ...]:
        return tuple(item.id for item in self.items if item.result is Collected.NOT_TAKEN)

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(item.id for item in self.items if item.result in (Collected.DENIED, Collected.FAILED))

    @property
    def next_commands(self) -> tuple[str, ...]:
        """The commands that make sense now: three, or five where a way in lives on behind the fence."""
        name = self.incident.id
        if self.waiting:
            one = self.waiting[0].id
            return (f"ringfence status {name}", f"ringfence approve {one}", f"ringfence reject {one} --reason …")
        if any(run.state in (RunState.QUEUED, RunState.RUNNING) for run in self.runs):
            return (f"ringfence status {name}", f"ringfence resume {name}", f"ringfence cancel {name}")
        if isinstance(self.outcome, Refused) and self.outcome_of == "eradicate":
            return (f"ringfence status {name}", f"ringfence evidence collect {name}", f"ringfence eradicate {name}")
        if isinstance(self.outcome, Refused | Failed) and self.outcome_of == "contain":
            on, cut = f"ringfence node {name} on --reason …", f"ringfence node {name} cut"
            if self._node_could:
                return (f"ringfence status {name}", *(() if self.helper_on else (on,)), cut)
            if isinstance(self.outcome, Refused):
                return (f"ringfence status {name}", f"ringfence evidence list {name}", f"ringfence release {name}")
        if self.outcome_of == "recover" and isinstance(self.outcome, Refused | Failed):
            return (f"ringfence status {name} -o wide", f"ringfence recover {name}", f"ringfence timeline {name}")
        if self.incident.state is State.POST_INCIDENT:
            close = f"ringfence close {name} --root-cause … --lesson …"
            return (f"ringfence status {name}", f"ringfence report {name}", close)
        if self.incident.state is State.RECOVERING:
            return (f"ringfence status {name}", f"ringfence recover {name}", f"ringfence report {name}")
        if self.incident.state.over:
            return (f"ringfence status {name}", f"ringfence report {name}", f"ringfence evidence verify {name}")
        return (f"ringfence status {name}", *self._still_in, f"ringfence eradicate {name}", f"ringfence release {name}")

    @property
    def _node_could(self) -> bool:
        """Whether a cut that was not done can be made on the node: by what refused it, or as only the helper is off."""
        if self.outcome is not None and "ringfence node INC cut" in next_step_of(self.outcome):
            return True
        there = [step.outcome for step in self.steps if step.action == "node.cut"]
        return any(isinstance(one, Refused) and one.next_step.startswith("ringfence node ") for one in there)

    @property
    def _still_in(self) -> tuple[str, ...]:
        """What would shut the ways that live on behind the fence; nothing before there is one."""
        done = any(run.playbook == "cut-identity" for run in self.runs)
        return shutting(
            self.incident.id,
            self.rows,
            identity_cut=done,
            helper_on=self.helper_on,
            helper_allowed=self.helper_allowed,
            known=self.enforcement,
        )

    def to_json(self) -> Json:
        newest = self.seals[-1] if self.seals else None
        return {
            "incident": self.incident.to_json(),
            "ocsf": {
                "status": ocsf_status(self.incident.state).value,
                "status_id": ocsf_status(self.incident.state).status_id,
            },
            "targets": [ref.to_json() for ref in self.targets],
            "run": self.run.to_json() if self.run is not None else None,
            "runs": [run.to_json() for run in self.runs],
            "steps": [step.to_json() for step in self.steps],
            "waiting": [approval.to_json() for approval in self.waiting],
            "lease": self.lease.to_json() if self.lease is not None else None,
            "unpaged": [{"title": page.title, "problem": page.problem} for page in self.unpaged],
            "verdict": self.verdict.value,
            "command": self.outcome_of,
            "outcome": self.outcome.to_json() if self.outcome is not None else None,
            "proof": self.proof.to_json() if self.proof is not None else None,
            "seconds_to_cut": self.seconds_to_cut,
            "rows": [row.to_json() for row in self.rows],
            "customers": [vars(customer) for customer in self.customers] if self.customers_known else None,
            "siblings": {"image": self.same_image, "account": self.same_account},
            "evidence": {
                "seal": newest.to_json() if newest else None,
                "items": [item.to_json() for item in self.items],
                "problem": self.evidence_problem,
                "uncopied": list(self.uncopied),
                "unstamped": list(self.unstamped),
                "unanchored": list(self.unanchored),
            },
            "unread": self.unread,
            "enforcement": self.enforcement.to_json() if self.enforcement is not None else None,
            "next": list(self.next_commands),
        }


def incident_line(incident: Incident) -> Sequence[object]:
    target = incident.target
    return (
        incident.id,
        incident.state.value,
        f"{target.namespace}/{target.name}",
        incident.severity.value,
        isoformat(incident.declared_at)[:19] + "Z",
        incident.title,
    )
