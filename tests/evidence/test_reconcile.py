"""Timeline against audit log: what really happened agrees, and every forgery of either is named for what it is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringfence.evidence.claims import Expected, claim_of, record_from, record_of
from ringfence.evidence.differences import Kind
from ringfence.evidence.reconcile import Comparison, compare
from ringfence.model.incident import Incident, Severity, State
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Problem, Unknown
from ringfence.model.plan import Change, Verb
from ringfence.model.principal import Principal
from ringfence.model.timeline import (
    ApprovalDecided,
    CanaryTried,
    ChangeIntended,
    ChangeResult,
    Event,
    IncidentDeclared,
    StateChanged,
)
from ringfence.platform.kubernetes.audit_event import event_of
from ringfence.store import incidents, journal
from ringfence.store.database import Store

Json = dict[str, Any]
T0 = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
US = "system:serviceaccount:soc:ringfence"
EVE = "system:serviceaccount:bank:cards"
ACTOR = f"kubernetes:c1/{US}"
TOKEN_ID = str(uuid.UUID(int=77))
OTHER_TOKEN = str(uuid.UUID(int=78))
PROBLEM = Problem(code="denied", what="no")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def ref(kind: str, name: str, uid: str = "") -> ObjectRef:
    version = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "v1"
    return ObjectRef(cluster="c1", api_version=version, kind=kind, namespace="bank", name=name, uid=uid)


POD = ref("Pod", "cards-1", "u1")


def line(
    seconds: float, audit_id: str, verb: str, resource: str, name: str, code: int | None = 200, **more: Any
) -> Json:
    """One line of the log; ``group``, ``subresource`` and ``user`` as keywords, others replace members."""
    moment = at(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    place = {"resource": resource, "namespace": "bank", "name": name, "apiGroup": more.pop("group", "")}
    place["subresource"] = more.pop("subresource", "")
    event: Json = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": audit_id,
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/namespaces/bank/{resource}/{name}",
        "verb": verb,
        "user": {"username": more.pop("user", US)},
        "userAgent": "kubectl/v1.34",
        "objectRef": {key: value for key, value in place.items() if value},
        "responseStatus": {"code": code} if code else None,
        "requestReceivedTimestamp": moment,
        "stageTimestamp": moment,
    }
    return {**event, **more}


@dataclass
class World:
    """What happened, as each of the three tells it: the timeline, the journal, the audit log."""

    events: list[Event] = field(default_factory=list)
    rows: list[ChangeRecord] = field(default_factory=list)
    log: list[Json] = field(default_factory=list)
    state: State = State.CONTAINING

    def __post_init__(self) -> None:
        self.events.append(
            IncidentDeclared(
                occurred_at=T0,
                actor=ACTOR,
                incident_type="compromised-workload",
                severity=Severity.HIGH,
                title="t",
                target=POD,
                command="contain",
            )
        )
        # The log reaches beyond the incident on both sides, and knows our reads.
        self.log.append(line(-3600, "r0", "get", "pods", "cards-1"))
        self.did(1, "fence", Verb.PATCH, POD, "pods")
        self.did(2, "policy", Verb.CREATE, ref("NetworkPolicy", "ringfence-f"), "networkpolicies", code=201)
        self.did(3, "delete", Verb.DELETE, POD, "pods")
        self.canary(4)
        self.log.append(line(3600, "r1", "get", "pods", "cards-1"))

    @property
    def incident(self) -> Incident:
        return Incident(
            id="INC-1",
            cluster="c1",
            target=POD,
            type="compromised-workload",
            severity=Severity.HIGH,
            state=self.state,
            title="t",
            declared_at=T0,
            declared_by=ACTOR,
            fence="f",
            seq=len(self.events),
            head_hash="h",
        )

    def did(
        self,
        seconds: float,
        name: str,
        verb: Verb,
        to: ObjectRef,
        resource: str,
        *,
        outcome: Outcome | None = Applied(),  # noqa: B008
        code: int | None = 200,
    ) -> None:
        """A change with its intent, its result (None: never written) and its line (``code`` None: none)."""
        change = Change(id=name, ref=to, verb=verb, effect="e")
        audit_id = change.audit_id("INC-1", "f", "cut/1")
        self.events.append(
            ChangeIntended(
                occurred_at=at(seconds),
                actor=ACTOR,
                step="cut/1",
                change=name,
                verb=verb,
                ref=to,
                audit_id=audit_id,
                effect="e",
            )
        )
        if outcome is not None:
            self.events.append(
                ChangeResult(
                    occurred_at=at(seconds + 0.5),
                    actor=ACTOR,
                    step="cut/1",
                    change=name,
                    audit_id=audit_id,
                    outcome=outcome,
                    answered_at=at(seconds + 0.5),
                )
            )
        self.rows.append(
            ChangeRecord(
                incident="INC-1",
                step="cut/1",
                action="network.quarantine",
                ordinal=len(self.rows),
                change=change,
                audit_id=audit_id,
                intended_at=at(seconds),
                outcome=outcome,
            )
        )
        if code is not None:
            group = "networking.k8s.io" if resource == "networkpolicies" else ""
            self.log.append(line(seconds + 0.2, audit_id, verb.value, resource, to.name, code, group=group))

    def canary(
        self, seconds: float, path: str = "identity.kubernetes", token: str = TOKEN_ID, then: str = "accepted"
    ) -> None:
        """``then`` is the result. Only a canary of the row itself has it under the token's own Audit-ID."""
        for offset, result in ((0.0, "intended"), (0.5, then)):
            own = result in ("intended", "not-possible") or path == "identity.kubernetes"
            self.events.append(
                CanaryTried.model_validate(
                    {
                        "occurred_at": at(seconds + offset),
                        "actor": ACTOR,
                        "path": path,
                        "canary": "token",
                        "result": result,
                        "audit_id": token if own else str(uuid.uuid4()),
                        "target_uid": "u1",
                    }
                )
            )
        self.log.append(line(seconds + 0.2, token, "create", "serviceaccounts", "cards", 201, subresource="token"))

    # --- forging -------------------------------------------------------------------
    def audit_id(self, name: str) -> str:
        return next(row.audit_id for row in self.rows if row.change.id == name)

    def line_of(self, name: str) -> Json:
        return next(one for one in self.log if one["auditID"] == self.audit_id(name))

    def forget(self, name: str, *, journal: bool = True) -> None:
        self.events = [event for event in self.events if getattr(event, "change", "") != name]
        if journal:
            self.rows = [row for row in self.rows if row.change.id != name]

    def rewrite(self, name: str, **changes: Any) -> None:
        """Change the intent, and the journal's entry in the same way: a forger who knows both tables."""
        self.events = [
            event.model_copy(update=changes) if isinstance(event, ChangeIntended) and event.change == name else event
            for event in self.events
        ]
        kept = {key: value for key, value in changes.items() if key in ("verb", "ref")}
        self.rows = [
            row.model_copy(update={"change": row.change.model_copy(update=kept)}) if row.change.id == name else row
            for row in self.rows
        ]

    def outcome(self, name: str, outcome: Outcome) -> None:
        self.events = [
            event.model_copy(update={"outcome": outcome})
            if isinstance(event, ChangeResult) and event.change == name
            else event
            for event in self.events
        ]
        self.rows = [row.model_copy(update={"outcome": outcome}) if row.change.id == name else row for row in self.rows]

    def compare(self, **options: Any) -> Comparison:
        record = record_from(self.incident, self.events, self.rows, erased=options.pop("erased", 0))
        read = [
            event_of(json.dumps(one).encode(), file="audit.log", number=number)
            for number, one in enumerate(self.log, start=1)
        ]
        moments = [event.stage_at for event in read]
        return compare(record, read, lambda: ((min(moments), max(moments)),) if moments else (), **options)


def test_what_happened_agrees() -> None:
    done = World().compare()
    assert done.findings == ()
    assert (done.claims, done.matched, done.not_sent) == (4, 4, 0)
    assert done.identities == (US,)


def outside(world: World, **more: Any) -> None:
    world.log.append(line(5, "x1", "patch", "deployments", "cards", group="apps", **more))


def swap(world: World, name: str, **changes: Any) -> None:
    world.line_of(name).update(changes)


OTHER_POD = ref("Pod", "web-1", "u2")

FORGERIES: list[tuple[str, Callable[[World], object], list[tuple[Kind, str, str]]]] = [
    # (what was done, how, the findings: kind, words of what it is about, words of what was expected or found)
    (
        "an event removed from timeline and journal",
        lambda w: w.forget("fence"),
        [(Kind.UNCLAIMED, "patch pods/cards-1 in bank", "answered with 200")],
    ),
    (
        "an event removed from the timeline alone",
        lambda w: w.forget("fence", journal=False),
        [(Kind.RECORD, "cut/1 fence", "the journal alone"), (Kind.UNCLAIMED, "patch pods/cards-1", "on a timeline")],
    ),
    (
        "the intent removed, its result kept",
        lambda w: setattr(w, "events", [e for e in w.events if not _is(e, ChangeIntended, "policy")]),
        [
            (Kind.RECORD, "cut/1 policy", "the journal alone"),
            (Kind.RECORD, "cut/1 policy", "an intent before its result"),
            (Kind.UNCLAIMED, "create networkpolicies/ringfence-f", "answered with 201"),
        ],
    ),
    (
        "a result removed",
        lambda w: setattr(w, "events", [e for e in w.events if not _is(e, ChangeResult, "policy")]),
        [
            (Kind.RECORD, "cut/1 policy", "no result"),
            (Kind.UNVERIFIABLE, "cut/1 policy", "the log has answered with 201"),
        ],
    ),
    (
        "an invented change, in both tables",
        lambda w: w.did(5, "invented", Verb.PATCH, OTHER_POD, "pods", code=None),
        [(Kind.MISSING, "cut/1 invented: patch pods/web-1 in bank", "the log covers that time")],
    ),
    (
        "an invented change, on the timeline alone",
        lambda w: _invent_on_the_timeline(w),
        [(Kind.RECORD, "cut/1 invented", "the timeline alone"), (Kind.MISSING, "cut/1 invented", "the log covers")],
    ),
    (
        "an invented change under a real Audit-ID",
        lambda w: _invent(w, under="fence"),
        [
            (Kind.RECORD, "cut/1 invented", "which follows from its step"),
            (Kind.DIFFERENT, "cut/1 invented", "object pods/cards-1 in bank"),
        ],
    ),
    (
        "another target",
        lambda w: w.rewrite("fence", ref=OTHER_POD),
        [(Kind.DIFFERENT, "cut/1 fence: patch pods/web-1 in bank", "object pods/cards-1 in bank")],
    ),
    (
        "another namespace",
        lambda w: w.rewrite("fence", ref=POD.model_copy(update={"namespace": "web"})),
        [(Kind.DIFFERENT, "patch pods/cards-1 in web", "object pods/cards-1 in bank")],
    ),
    (
        "another kind",
        lambda w: w.rewrite("fence", ref=ref("Endpoints", "cards-1")),
        [(Kind.DIFFERENT, "(Endpoints)", "object pods/cards-1 in bank")],
    ),
    (
        "another target on the timeline alone",
        lambda w: setattr(
            w,
            "events",
            [e.model_copy(update={"ref": OTHER_POD}) if _is(e, ChangeIntended, "fence") else e for e in w.events],
        ),
        [(Kind.RECORD, "cut/1 fence", "Pod bank/cards-1"), (Kind.DIFFERENT, "pods/web-1", "pods/cards-1")],
    ),
    (
        "another verb",
        lambda w: w.rewrite("delete", verb=Verb.PATCH),
        [(Kind.DIFFERENT, "cut/1 delete: patch pods", "verb delete")],
    ),
    (
        "another user",
        lambda w: w.rewrite("fence", actor="kubernetes:c1/alice"),
        [(Kind.DIFFERENT, "cut/1 fence", f"user {US}")],
    ),
    (
        "another time",
        lambda w: _move(w, "fence", -600),
        [(Kind.DIFFERENT, "cut/1 fence", "time 2026-11-24T03:00:01.2")],
    ),
    (
        "a refused call told as done",
        lambda w: swap(w, "fence", responseStatus={"code": 403}),
        [(Kind.DIFFERENT, "cut/1 fence", "answered with 403")],
    ),
    (
        "a call that was done told as failed",
        lambda w: w.outcome("fence", Failed(problem=PROBLEM)),
        [(Kind.DIFFERENT, "cut/1 fence", "answered with 200")],
    ),
    (
        "an outcome changed on the timeline alone",
        lambda w: setattr(
            w,
            "events",
            [
                e.model_copy(update={"outcome": Already(reason="x")}) if _is(e, ChangeResult, "fence") else e
                for e in w.events
            ],
        ),
        [(Kind.RECORD, "cut/1 fence", "applied")],
    ),
    (
        "a line removed from the log",
        lambda w: w.log.remove(w.line_of("policy")),
        [(Kind.MISSING, "cut/1 policy: create networkpolicies/ringfence-f in bank", "the log covers")],
    ),
    (
        "a line's user changed",
        lambda w: swap(w, "fence", user={"username": EVE}),
        [(Kind.DIFFERENT, "cut/1 fence", f"user {EVE}")],
    ),
    (
        "a line's object changed",
        lambda w: swap(w, "fence", objectRef={"resource": "pods", "namespace": "bank", "name": "web-1"}),
        [(Kind.DIFFERENT, "cut/1 fence", "object pods/web-1 in bank")],
    ),
    (
        "a line's object another of the same name",
        lambda w: swap(w, "fence", objectRef={"resource": "pods", "namespace": "bank", "name": "cards-1", "uid": "u9"}),
        [(Kind.DIFFERENT, "cut/1 fence", "uid u9")],
    ),
    (
        "a line from before the claim",
        lambda w: swap(w, "fence", **_moved(w.line_of("fence"), -600)),
        [(Kind.DIFFERENT, "cut/1 fence", "time 2026-11-24T02:50:01.2")],
    ),
    (
        "a line's subresource added",
        lambda w: swap(
            w,
            "fence",
            objectRef={"resource": "pods", "namespace": "bank", "name": "cards-1", "subresource": "status"},
        ),
        [(Kind.DIFFERENT, "cut/1 fence", "pods/cards-1/status")],
    ),
    (
        "a line made a dry run",
        lambda w: swap(w, "fence", requestURI="/x?dryRun=All"),
        [(Kind.DIFFERENT, "cut/1 fence", "a dry run")],
    ),
    ("a call outside", outside, [(Kind.UNCLAIMED, f"patch deployments/cards in bank by {US}", "by kubectl/v1.34")]),
    (
        "a call outside, whose answer decides nothing",
        lambda w: outside(w, code=504),
        [(Kind.UNCLAIMED, "patch deployments/cards", "answered with 504")],
    ),
    (
        "a call outside, in both of its stages",
        lambda w: w.log.extend(
            line(5, "x1", "patch", "pods", "web-1", code, stage=stage)
            for code, stage in ((None, "RequestReceived"), (200, "ResponseComplete"))
        ),
        [(Kind.UNCLAIMED, "patch pods/web-1", "answered with 200")],
    ),
    (
        "exec outside, still open",
        lambda w: w.log.append(line(5, "x2", "get", "pods", "web-1", 101, subresource="exec", stage="ResponseStarted")),
        [(Kind.UNCLAIMED, "get pods/web-1/exec in bank", "its answer is not in the log")],
    ),
    (
        "exec outside, dressed as a dry run",
        lambda w: w.log.append(
            line(5, "x2", "create", "pods", "web-1", 101, subresource="exec", requestURI="/exec?dryRun=All")
        ),
        [(Kind.UNCLAIMED, "create pods/web-1/exec", "answered with 101")],
    ),
    (
        "a token minted outside",
        lambda w: w.log.append(line(5, "x2", "create", "serviceaccounts", "cards", 201, subresource="token")),
        [(Kind.UNCLAIMED, "create serviceaccounts/cards/token", "answered with 201")],
    ),
    (
        "a call outside under an Audit-ID of ours",
        lambda w: w.log.append(line(5, w.audit_id("fence"), "delete", "pods", "web-1")),
        [(Kind.UNCLAIMED, "delete pods/web-1", "answered with 200")],
    ),
    (
        "the same call again, an hour's quarter later",
        lambda w: w.log.append(line(900, w.audit_id("fence"), "patch", "pods", "cards-1")),
        [(Kind.UNCLAIMED, "patch pods/cards-1", "T03:15:00")],
    ),
    (
        "somebody who acts as us",
        lambda w: outside(w, user=EVE, impersonatedUser={"username": US}),
        [(Kind.UNCLAIMED, f"by {EVE} as {US}", "answered")],
    ),
    (
        "our identity as somebody else",
        lambda w: outside(w, impersonatedUser={"username": "admin"}),
        [(Kind.UNCLAIMED, f"by {US} as admin", "answered")],
    ),
    (
        "a canary that is no more in the log",
        lambda w: setattr(w, "log", [one for one in w.log if one["auditID"] != TOKEN_ID]),
        [(Kind.MISSING, "canary of Pod bank/cards-1: create serviceaccounts/token in bank", "the log covers")],
    ),
    (
        "a token that tried a write, and is no more in the log",
        lambda w: (w.canary(3, "identity.kubernetes.write", OTHER_TOKEN), _strike(w, OTHER_TOKEN)),
        [(Kind.MISSING, "canary of Pod bank/cards-1: create serviceaccounts/token in bank", "the log covers")],
    ),
    (
        "a canary that is no more on the timeline",
        lambda w: setattr(w, "events", [e for e in w.events if not isinstance(e, CanaryTried)]),
        [(Kind.UNCLAIMED, "create serviceaccounts/cards/token", "answered with 201")],
    ),
    # --- what cannot be told -------------------------------------------------------
    (
        "a log that begins later",
        lambda w: setattr(w, "log", [one for one in w.log if one["requestReceivedTimestamp"] > "2026-11-24T03:00:04"]),
        [
            (Kind.UNVERIFIABLE, "cut/1 fence", "that time is not"),
            (Kind.UNVERIFIABLE, "cut/1 policy", "that time is not"),
            (Kind.UNVERIFIABLE, "cut/1 delete", "that time is not"),
        ],
    ),
    (
        "a log that ends before",
        lambda w: setattr(w, "log", [one for one in w.log if one["requestReceivedTimestamp"] < "2026-11-24T03:00:04"]),
        [
            (Kind.UNVERIFIABLE, "canary of Pod bank/cards-1", "that time is not"),
        ],
    ),
    (
        "another cluster's log",
        lambda w: [one.update(auditID="z", user={"username": "someone"}) for one in w.log],
        [(Kind.UNVERIFIABLE, name, "another cluster's log") for name in ("fence", "policy", "delete", "canary")],
    ),
    (
        "an empty log",
        lambda w: w.log.clear(),
        [(Kind.UNVERIFIABLE, name, "no event") for name in ("fence", "policy", "delete", "canary")],
    ),
    (
        "an answer that is not in the log",
        lambda w: swap(w, "fence", stage="RequestReceived", responseStatus=None),
        [(Kind.UNVERIFIABLE, "cut/1 fence", "its answer is not in the log")],
    ),
    (
        "an unknown outcome, which the log knows",
        lambda w: w.outcome("fence", Unknown(problem=PROBLEM)),
        [(Kind.UNVERIFIABLE, "cut/1 fence", "the log has answered with 200")],
    ),
    (
        "a crash between intent and result, before it was sent",
        lambda w: w.did(5, "late", Verb.PATCH, OTHER_POD, "pods", outcome=None, code=None),
        [(Kind.UNVERIFIABLE, "cut/1 late", "the log does not have it")],
    ),
    (
        "a deletion that says by its address that it is a dry run",
        lambda w: w.log.append(line(5, "x3", "delete", "pods", "web-1", requestURI="/x?dryRun=All")),
        [(Kind.UNVERIFIABLE, "delete pods/web-1", "audit deletions at level Request")],
    ),
    # --- worth knowing -------------------------------------------------------------
    (
        "a request that was carried out twice",
        lambda w: w.log.insert(2, line(1.3, w.audit_id("fence"), "patch", "pods", "cards-1")),
        [(Kind.NOTE, "cut/1 fence", "a gateway may have repeated it")],
    ),
    (
        "somebody else's request under an Audit-ID of ours",
        lambda w: w.log.append(line(5, w.audit_id("fence"), "get", "secrets", "x", user=EVE)),
        [(Kind.NOTE, f"get secrets/x in bank by {EVE}", "whoever sends one chooses it")],
    ),
]


def _is(event: Event, kind: type[Any], change: str) -> bool:
    return isinstance(event, kind) and getattr(event, "change", "") == change


def _strike(world: World, audit_id: str) -> None:
    world.log = [one for one in world.log if one["auditID"] != audit_id]


def _invent(world: World, *, under: str) -> None:
    name, taken = "invented", world.audit_id(under)
    world.did(5, name, Verb.PATCH, OTHER_POD, "pods", code=None)
    world.events = [
        event.model_copy(update={"audit_id": taken}) if getattr(event, "change", "") == name else event
        for event in world.events
    ]
    world.rows = [row.model_copy(update={"audit_id": taken}) if row.change.id == name else row for row in world.rows]


def _invent_on_the_timeline(world: World) -> None:
    world.did(5, "invented", Verb.PATCH, OTHER_POD, "pods", code=None)
    world.rows.pop()


def _move(world: World, name: str, seconds: float) -> None:
    world.rewrite(name, occurred_at=at(seconds))
    world.events = [
        event.model_copy(update={"answered_at": at(seconds + 1), "occurred_at": at(seconds + 1)})
        if _is(event, ChangeResult, name)
        else event
        for event in world.events
    ]


@pytest.mark.parametrize(("forge", "expected"), [case[1:] for case in FORGERIES], ids=[case[0] for case in FORGERIES])
def test_a_forgery_is_named_for_what_it_is(
    forge: Callable[[World], object], expected: list[tuple[Kind, str, str]]
) -> None:
    world = World()
    forge(world)
    done = world.compare()
    shown = [(one.kind.value, one.what, one.expected, one.found) for one in done.findings]
    assert sorted(one.kind.value for one in done.findings) == sorted(kind.value for kind, _, _ in expected), shown
    for kind, about, words in expected:
        assert any(
            one.kind is kind and about in one.what and words in f"{one.expected} {one.found}" for one in done.findings
        ), (kind, about, words, shown)
    assert bool(done.differences) == any(kind.is_difference for kind, _, _ in expected)


HARMLESS: list[tuple[str, Callable[[World], object]]] = [
    ("a dry run", lambda w: outside(w, requestURI="/apis/x?fieldManager=ringfence&dryRun=All")),
    (
        "a dry run without its answer",
        lambda w: outside(w, requestURI="/x?dryRun=All", stage="RequestReceived", code=None),
    ),
    (
        "credentials that act as our user",
        lambda w: [one.update(user={"username": "admin"}, impersonatedUser={"username": US}) for one in w.log],
    ),
    ("a call that was refused", lambda w: outside(w, code=403)),
    ("a call before the incident", lambda w: w.log.append(line(-60, "x", "delete", "pods", "web-1"))),
    ("a read", lambda w: w.log.append(line(5, "x", "list", "secrets", ""))),
    ("an attacker's call", lambda w: outside(w, user=EVE)),
    ("the other stages", lambda w: w.log.insert(2, {**w.line_of("fence"), "stage": "RequestReceived"})),
    (
        "a creation before its name is known",
        lambda w: w.log.insert(
            2,
            {
                **w.line_of("policy"),
                "stage": "RequestReceived",
                "responseStatus": None,
                "objectRef": {"resource": "networkpolicies", "namespace": "bank", "apiGroup": "networking.k8s.io"},
            },
        ),
    ),
    ("a throttled first try", lambda w: w.log.insert(2, {**w.line_of("fence"), "responseStatus": {"code": 429}})),
    ("clocks 4 s apart", lambda w: [one.update(_moved(one, 4)) for one in w.log]),
    (
        "a change that failed",
        lambda w: w.did(5, "f", Verb.PATCH, POD, "pods", outcome=Failed(problem=PROBLEM), code=403),
    ),
    (
        "a change that was never sent",
        lambda w: w.did(5, "f", Verb.PATCH, POD, "pods", outcome=Failed(problem=PROBLEM), code=None),
    ),
    (
        "a change whose answer was lost",
        lambda w: w.did(5, "f", Verb.PATCH, POD, "pods", outcome=Already(reason="live"), code=504),
    ),
    (
        "a change that somebody took back",
        lambda w: w.did(
            5, "f", Verb.PATCH, POD, "pods", outcome=Failed(problem=Problem(code="reverted", what="x")), code=200
        ),
    ),
    (
        "our own dry run of the deletion that came after it",
        lambda w: w.log.append(line(2.9, "x", "delete", "pods", "cards-1", requestURI="/x?dryRun=All")),
    ),
    ("an approver's own call", lambda w: _approve(w)),
    ("a token that tried a write", lambda w: w.canary(5, "identity.kubernetes.write", OTHER_TOKEN)),
    ("a token that tried a read", lambda w: w.canary(5, "identity.kubernetes.read", OTHER_TOKEN)),
    (
        "a token that found nothing to try",
        lambda w: w.canary(5, "identity.kubernetes.write", OTHER_TOKEN, "not-possible"),
    ),
]


def _moved(one: Json, seconds: float) -> Json:
    moment = datetime.fromisoformat(one["requestReceivedTimestamp"]) + timedelta(seconds=seconds)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"requestReceivedTimestamp": text, "stageTimestamp": text}


def _approve(world: World) -> None:
    outside(world, user="boss")
    world.events.append(
        ApprovalDecided.model_validate(
            {
                "occurred_at": at(4),
                "actor": "kubernetes:c1/boss",
                "approval": "A-1",
                "decision": "approved",
                "ceiling_sha256": "x",
                "reason": "r",
            }
        )
    )


@pytest.mark.parametrize("happen", [case[1] for case in HARMLESS], ids=[case[0] for case in HARMLESS])
def test_what_is_no_difference_is_not_named(happen: Callable[[World], object]) -> None:
    world = World()
    happen(world)
    done = world.compare()
    assert done.findings == ()
    assert done.matched >= 4


def test_a_named_identity_is_looked_for_too() -> None:
    world = World()
    outside(world, user="boss")
    (found,) = world.compare(identities=["boss"]).findings
    assert (found.kind, found.where) == (Kind.UNCLAIMED, "audit.log:7")


def test_clocks_further_apart_than_said_are_named() -> None:
    world = World()
    for one in world.log:
        one.update(_moved(one, 30))
    assert {one.kind for one in world.compare().findings} == {
        Kind.DIFFERENT,
    }
    assert world.compare(tolerance=timedelta(seconds=60)).findings == ()


def test_an_incident_that_is_over_answers_for_its_own_time() -> None:
    world = World(state=State.CLOSED)
    world.events.append(
        StateChanged(occurred_at=at(60), actor=ACTOR, before=State.CONTAINING, after=State.CLOSED, reason="done")
    )
    world.log.append(line(50, "x", "delete", "pods", "web-1"))
    world.log.append(line(600, "y", "delete", "pods", "web-2"))
    assert [one.what for one in world.compare().findings] == [f"delete pods/web-1 in bank by {US}"]


def test_what_came_after_the_end_belongs_to_it_until_the_last_change() -> None:
    world = World(state=State.CLOSED)
    world.events.append(StateChanged(occurred_at=at(4), actor=ACTOR, before=State.CONTAINING, after=State.CLOSED))
    world.did(300, "undo", Verb.PATCH, OTHER_POD, "pods")
    world.log.append(line(200, "x", "delete", "pods", "web-1"))
    assert [one.what for one in world.compare().findings] == [f"delete pods/web-1 in bank by {US}"]


def test_the_store_gives_the_claims_of_an_incident_and_apart_those_of_the_others(fresh_store: Store) -> None:
    who = Principal(issuer="kubernetes:c1", subject=US, kind="kubernetes")
    with fresh_store.write() as session:
        for number, cluster in ((1, "c1"), (2, "c1"), (3, "c2")):
            declared = incidents.declare(
                session,
                target=POD.model_copy(update={"cluster": cluster, "uid": f"u{number}"}),
                incident_type="t",
                severity=Severity.HIGH,
                title="t",
                principal=who,
                fence=f"f{number}",
                command="contain",
                now=T0,
            )
            change = Change(id="fence", ref=declared.target, verb=Verb.PATCH, effect="e")
            journal.intend(
                session,
                incident=declared.id,
                step="cut/1",
                action="a",
                ordinal=0,
                change=change,
                actor=ACTOR,
                now=at(1),
            )
    with fresh_store.read() as session:
        record = record_of(session, incidents.get(session, "INC-1"))
    assert [claim.label for claim in record.claims] == ["cut/1 fence"]
    assert [claim.label for claim in record.others] == ["INC-2 cut/1 fence"]
    assert (record.identities, record.findings, record.until) == (frozenset({US}), (), None)
    assert record.claims[0].expected is Expected.OPEN


def test_what_another_incident_claims_is_its_own_and_nothing_beside_it() -> None:
    mine, theirs = World(), World()
    theirs.did(5, "other", Verb.PATCH, OTHER_POD, "pods")
    row = next(row for row in theirs.rows if row.change.id == "other").model_copy(update={"answered_at": at(5.5)})
    mine.log.append(line(5.2, row.audit_id, "patch", "pods", "web-1"))
    mine.log.append(line(5.3, row.audit_id, "delete", "pods", "web-1"))
    record = record_from(mine.incident, mine.events, mine.rows, others=[claim_of(row)])
    read = [event_of(json.dumps(one).encode()) for one in mine.log]
    done = compare(record, read, lambda: ((at(-3600), at(3600)),))
    assert [one.what for one in done.findings] == [f"delete pods/web-1 in bank by {US}"]


def test_events_whose_text_was_erased_are_no_forgery() -> None:
    world = World()
    world.forget("fence", journal=False)
    kinds = [one.kind for one in world.compare(erased=2).findings if "cut/1 fence" in one.what]
    assert kinds == [Kind.UNVERIFIABLE]


def test_a_flood_under_an_id_that_can_be_foreseen_does_not_make_ours_look_forged() -> None:
    world = World()
    world.log[1:1] = [line(0.5, world.audit_id("fence"), "get", "pods", "x", user=EVE) for _ in range(100)]
    done = world.compare()
    assert done.matched == 4
    assert {one.kind for one in done.findings} == {Kind.NOTE}


@pytest.mark.parametrize("number", [1, 15, 16, 17, 40])
def test_each_call_under_an_id_of_ours_is_named_once(number: int) -> None:
    world = World()
    world.log += [line(5, world.audit_id("fence"), "delete", "pods", f"p{n}") for n in range(number)]
    done = world.compare()
    assert sorted(one.what for one in done.findings) == sorted(
        f"delete pods/p{n} in bank by {US}" for n in range(number)
    )


def test_a_flood_is_counted_and_hides_nothing() -> None:
    world = World()
    world.log += [line(5, world.audit_id("fence"), "delete", "pods", f"p{n}") for n in range(500)]
    world.log += [line(6, f"x{n}", "create", "pods", f"p{n}", stage="RequestReceived", code=None) for n in range(50)]
    done = world.compare()
    named = [one for one in done.findings if one.kind is Kind.UNCLAIMED]
    assert len(named) < 300
    assert "more, which are not named" in named[-1].found
    assert done.matched == 4
