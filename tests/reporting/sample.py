"""One incident in a store, with everything that a report speaks of.

A containment that is refused, then carried out; an incomplete seal; an acceptance; an eradication that is refused, then
ordered by break-glass; a canary; the fence taken down; a request whose result is not known; a capture without a seal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ringfence.model.access import Acceptance, AccessPath, PathState
from ringfence.model.evidence import Blob, Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident, Severity, State
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Outcome, Problem, Refused, Unknown
from ringfence.model.plan import Change, Errors, Impact, ServiceImpact, Verb
from ringfence.model.principal import Principal
from ringfence.model.proof import Level, Proof
from ringfence.model.timeline import (
    CanaryTried,
    CaptureOpened,
    Event,
    EvidenceHandled,
    GlassBroken,
    PlanMade,
    Refusal,
    ReportWritten,
    StepFinished,
)
from ringfence.reporting.build import build
from ringfence.reporting.view import Contact, Report
from ringfence.store import access, evidence, incidents, journal, timeline
from ringfence.store.database import Session, Store

START = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
GENERATED = START + timedelta(hours=1)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Sample:
    """Writes the incident. ``mark`` is put into every string that is not a member of a closed set."""

    session: Session
    mark: str = ""

    def text(self, words: str) -> str:
        """Free text: the mark on both sides."""
        return f"{self.mark}{words}{self.mark}"

    def name(self, words: str) -> str:
        """A name whose beginning means something: the mark behind it."""
        return f"{words}{self.mark}"

    @property
    def cluster(self) -> str:
        return self.name("c1")

    def principal(self, subject: str) -> Principal:
        return Principal(issuer=f"kubernetes:{self.cluster}", subject=self.name(subject), kind="kubernetes")

    def actor(self, subject: str = "alice") -> str:
        return self.principal(subject).id

    def ref(self, kind: str, name: str, *, uid: str) -> ObjectRef:
        return ObjectRef(
            cluster=self.cluster,
            api_version=self.name("v1"),
            kind=self.name(kind),
            namespace=self.name("bank"),
            name=self.name(name),
            uid=self.name(uid),
        )

    @property
    def target(self) -> ObjectRef:
        return self.ref("Pod", "cards-7d9f", uid="uid-cards")

    # --- the parts -----------------------------------------------------------------------
    def declare(self) -> Incident:
        return incidents.declare(
            self.session,
            target=self.target,
            incident_type=self.name("compromised-workload"),
            severity=Severity.CRITICAL,
            title=self.text("shell in the cards pod"),
            principal=self.principal("alice"),
            fence=self.name("fence1"),
            command=self.text("ringfence contain pod/cards-7d9f -n bank"),
            now=START,
        )

    def add(self, event: Event, seconds: float) -> None:
        timeline.append(self.session, "INC-1", event, at(seconds))

    def plan(self, seconds: float, step: str, action: str, effects: Iterable[str], *, destroys: bool = False) -> None:
        impact = Impact(
            pods=1,
            services=(
                ServiceImpact(
                    service=self.name("cards"),
                    ready_before=1,
                    ready_after=0,
                    ready_with_replacement=1,
                    floor=1,
                    errors=Errors(seconds=None, because=self.text("0 of 1 are left")),
                ),
            ),
            replacement=self.text("ReplicaSet cards starts one"),
            replacement_expected=True,
            disruption_budgets=(self.text("cards: 1 allowed"),),
        )
        event = PlanMade(
            occurred_at=at(seconds),
            actor=self.actor(),
            step=step,
            action=self.name(action),
            plan_sha256=self.name("ab" * 32),
            rationale=self.text("detach: the controller lets go"),
            changes=tuple(map(self.text, effects)),
            destroys=(self.target,) if destroys else (),
            impact=impact,
            caveats=(
                self.text("open connections may go on"),
                self.name("liveness, which may restart it after the cut: container cards"),
            ),
        )
        self.add(event, seconds)

    def change(
        self,
        seconds: float,
        step: str,
        action: str,
        ordinal: int,
        change: Change,
        outcome: Outcome | None,
    ) -> None:
        record = journal.intend(
            self.session,
            incident="INC-1",
            step=step,
            action=self.name(action),
            ordinal=ordinal,
            change=change,
            actor=self.actor(),
            now=at(seconds),
        )
        if outcome is not None:
            journal.finish(
                self.session,
                record,
                outcome,
                result_uid="",
                actor=self.actor(),
                sent_at=at(seconds),
                now=at(seconds + 0.05),
            )

    def finish(self, seconds: float, step: str, action: str, outcome: Outcome, proof: Proof | None = None) -> None:
        self.add(
            StepFinished(
                occurred_at=at(seconds),
                actor=self.actor(),
                step=step,
                action=self.name(action),
                outcome=outcome,
                proof=proof,
            ),
            seconds,
        )

    def refuse(self, seconds: float, step: str, action: str, gate: str, reason: str) -> None:
        self.add(
            Refusal(
                occurred_at=at(seconds),
                actor=self.actor(),
                step=step,
                action=self.name(action),
                gate=self.name(gate),
                reason=self.text(reason),
            ),
            seconds,
        )

    def canary(
        self, seconds: float, result: Literal["intended", "accepted", "refused", "not-possible"], why: str = ""
    ) -> None:
        self.add(
            CanaryTried(
                occurred_at=at(seconds),
                actor=self.actor(),
                path=self.name("identity.kubernetes"),
                canary=self.text("token bound to the suspect pod"),
                result=result,
                audit_id=self.name(f"canary-{seconds}"),
                why=self.text(why),
            ),
            seconds,
        )

    def proof(self, level: Level, claim: str, seconds: float) -> Proof:
        return Proof(
            claim=self.text(claim),
            level=level,
            by=self.text("the API server"),
            at=at(seconds),
            why_not_higher=self.text("no canary has tried it"),
        )

    def item(
        self, id_: str, result: Collected, reason: str = "", *, required: bool = False, ended: float = 0.8
    ) -> EvidenceItem:
        blob = Blob(
            stored_sha256="cd" * 32, stored_size=50, raw_sha256=self.name("ef" * 32), raw_size=120, encoding="zstd"
        )
        return EvidenceItem(
            id=self.name(id_),
            kind=self.name("Pod"),
            required=required,
            result=result,
            reason=self.text(reason) if result is not Collected.COLLECTED else "",
            source=self.text("/api/v1/pods"),
            method=self.text("get"),
            operator=self.actor(),
            authority=self.text("incident INC-1"),
            started_at=at(0.5),
            ended_at=at(ended),
            clock_offset_ms=-120,
            volatility=2,
            blob=blob if result is Collected.COLLECTED else None,
        )

    def row(self, path: str, state: PathState, level: Level) -> AccessPath:
        return AccessPath(
            path=self.name(path),
            title=self.text(f"Way {path}"),
            state=state,
            level=level,
            why=self.text(f"why of {path}"),
            until=self.text("the pod is deleted") if state is PathState.ALIVE else "",
            retest=self.text("a canary"),
            as_of=at(20),
        )

    # --- the whole -----------------------------------------------------------------------
    def write(self) -> None:
        self.declare()
        self._contained_at_the_second_try()
        self._sealed_in_part()
        self._accepted()
        self._eradicated_by_break_glass()
        self._ended()

    def _contained_at_the_second_try(self) -> None:
        pod = {
            "metadata": {
                "ownerReferences": [
                    {"kind": self.name("ReplicaSet"), "name": self.name("cards-7d9"), "uid": "u", "controller": True}
                ]
            },
            "spec": {
                "serviceAccountName": self.name("cards-account"),
                "nodeName": self.name("node-3"),
                "containers": [{"name": self.name("cards"), "image": self.name("bank/cards:1")}],
            },
            "status": {"containerStatuses": [{"name": self.name("cards"), "imageID": self.name("sha256:feed")}]},
        }
        deny = Change(
            id=self.name("deny-all"),
            ref=self.ref("NetworkPolicy", "ringfence-fence1", uid=""),
            verb=Verb.CREATE,
            effect=self.text("the policy denies the fenced pod everything"),
        )
        detach = Change(
            id=self.name("detach"),
            ref=self.target,
            verb=Verb.PATCH,
            prior=pod,
            effect=self.text("the pod loses the labels that selected it"),
        )
        effects = ("deny everything", "detach")
        self.plan(0.2, "contain/1", "network.quarantine", effects)
        self.refuse(0.3, "contain/1", "network.quarantine", "serving-floor", "cards would have 0 of 1 serving")
        refused = Refused(reason=self.text("cards would have 0 of 1 serving"), next_step=self.text("--accept-outage"))
        self.finish(0.3, "contain", "network.quarantine", refused)
        self.plan(1.0, "contain/1", "network.quarantine", effects)
        opened = CaptureOpened(occurred_at=at(1.1), actor=self.actor(), streams=2, opened=1, waited_ms=200)
        self.add(opened, 1.1)
        self.change(1.2, "contain/1", "network.quarantine", 0, deny, Applied())
        self.change(1.35, "contain/1", "network.quarantine", 1, detach, Applied())
        proof = self.proof(Level.COMPUTED, "no policy allows the pod a new connection", 1.5)
        self.finish(1.5, "contain/1", "network.quarantine", Applied(), proof)
        now = at(1.6)
        incidents.move(self.session, incidents.get(self.session, "INC-1"), State.CONTAINING, actor="ringfence", now=now)

    def _sealed_in_part(self) -> None:
        items = [
            self.item("pod", Collected.COLLECTED, required=True),
            self.item("logs/cards/current", Collected.FAILED, "the kubelet did not answer", required=True, ended=1.9),
            self.item("logs/cards/previous", Collected.ABSENT, "there is no previous container"),
            self.item("memory", Collected.NOT_TAKEN, "needs access to the node", ended=0.6),
            self.item("rbac/rolebindings", Collected.DENIED, "403"),
        ]
        evidence.add_items(self.session, "INC-1", 1, items, actor=self.actor(), now=at(2))
        seal = Seal(
            id=self.name("INC-1/seal/1"),
            incident="INC-1",
            subject_uid=self.target.uid,
            path=f"/vault/{self.name('INC-1-seal-1.tar')}",
            bundle_sha256=self.name("12" * 32),
            key_id=self.name("34" * 32),
            sealed_at=at(3),
            items=5,
            collected=1,
            complete=False,
            why_incomplete=self.text("logs/cards/current: failed"),
        )
        evidence.add_seal(self.session, seal, 1, actor=self.actor(), now=at(3))
        evidence.add_custody(self.session, "INC-1", [{"seq": 1, "hash": self.name("56" * 32)}])

    def _accepted(self) -> None:
        rows = [
            self.row("network.egress", PathState.UNSEEN, Level.COMPUTED),
            self.row("network.established", PathState.ALIVE, Level.NONE),
            self.row("identity.kubernetes", PathState.ALIVE, Level.COMPUTED),
            self.row("siblings.image", PathState.UNSEEN, Level.NONE),
            self.row("node", PathState.UNSEEN, Level.COMPUTED),
        ]
        saved = access.save(self.session, "INC-1", rows, actor=self.actor(), now=at(4))
        acceptance = Acceptance(
            principal=self.actor("bob"),
            reason=self.text("the image was rebuilt yesterday"),
            at=at(5),
            state=PathState.UNSEEN,
        )
        access.accept(self.session, "INC-1", saved[3], acceptance)

    def _eradicated_by_break_glass(self) -> None:
        step, action = f"{self.name('eradicate')}/1", "pod.delete"
        delete = Change(
            id=self.name("delete"), ref=self.target, verb=Verb.DELETE, effect=self.text("the pod's processes end")
        )
        self.plan(10.0, step, action, ("the pod's processes end",), destroys=True)
        self.refuse(10.1, step, action, "evidence", "the pod has no complete seal")
        self.finish(10.1, step, action, Refused(reason=self.text("no complete seal"), next_step=self.text("collect")))
        self.plan(15.0, step, action, ("the pod's processes end",), destroys=True)
        self.canary(15.1, "accepted")
        broken = GlassBroken(
            occurred_at=at(15.2),
            actor=self.actor("carol"),
            step=step,
            action=self.name(action),
            reason=self.text("card data is leaving now"),
            missing=self.text("logs of container cards"),
        )
        self.add(broken, 15.2)
        self.change(15.3, step, action, 0, delete, Applied())
        self.finish(17.0, step, action, Applied(), self.proof(Level.OBSERVED, "the pod is gone", 16.9))
        self.canary(18, "refused")
        # The fence is taken down under the same step.
        lift = Change(
            id=self.name("undo-deny-all"),
            ref=self.ref("NetworkPolicy", "ringfence-fence1", uid=""),
            verb=Verb.DELETE,
            effect=self.text("the fence goes"),
        )
        self.change(19, step, "network.quarantine", 0, lift, Applied())
        deny = journal.find(self.session, "INC-1", "contain/1", self.name("deny-all"))
        assert deny is not None
        journal.mark_undone(self.session, deny)

    def _ended(self) -> None:
        rows = [
            self.row("network.egress", PathState.DEAD, Level.OBSERVED),
            self.row("network.established", PathState.DEAD, Level.OBSERVED),
            self.row("identity.kubernetes", PathState.DEAD, Level.PROVEN),
            self.row("siblings.image", PathState.UNSEEN, Level.NONE),
            self.row("node", PathState.UNSEEN, Level.COMPUTED),
        ]
        access.save(self.session, "INC-1", rows, actor=self.actor(), now=at(20))
        handled = EvidenceHandled(
            occurred_at=at(25),
            actor=self.actor("bob"),
            seal=self.name("INC-1/seal/1"),
            action="verify",
            result=self.text("verified"),
        )
        self.add(handled, 25)
        lost = Change(
            id=self.name("label"), ref=self.ref("Node", "node-3", uid="uid-node"), verb=Verb.PATCH, effect="a label"
        )
        problem = Problem(code="unanswered", what=self.text("time-out"), why=self.text("no answer in 10 s"))
        self.change(30, f"{self.name('extra')}/1", "node.label", 0, lost, Unknown(problem=problem))
        open_change = lost.model_copy(update={"id": self.name("label-2")})
        self.change(31, f"{self.name('extra')}/1", "node.label", 1, open_change, None)
        self.finish(31, f"{self.name('late')}/1", "pod.delete", Already(reason=self.text("the pod is gone")))
        capture = [self.item("pod", Collected.COLLECTED, required=True)]
        evidence.add_items(self.session, "INC-1", 2, capture, actor=self.actor(), now=at(32))
        files = (self.name("report.md"),)
        self.add(ReportWritten(occurred_at=at(33), actor=self.actor(), files=files, sha256=("0" * 64,)), 33)


def report_of(store: Store, mark: str = "") -> Report:
    """The report of the incident of that store, with a contact."""
    contact = Contact(role=f"{mark}Security Team", name=f"{mark}Duty officer", reach=f"{mark}extension 4")
    with store.read() as session:
        return build(session, "INC-1", generated_at=GENERATED, contacts=[contact])
