"""The network canary on the simulated API: what it proves and what it does not, and that it always takes itself away.

A small kubelet plays the pods: each look at a log is one more round, and ``World.word`` says what each try comes to.
Real packets: tests/lab/test_canary.py. The program in the pods: tests/platform/test_canary_program.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from ringfence.actions import examination
from ringfence.actions.base import Settings
from ringfence.actions.canary import Canary, Options, proof_of
from ringfence.actions.examination import Send
from ringfence.actions.network import FENCE_KEY
from ringfence.actions.perform import perform
from ringfence.actions.tries import host_and_port
from ringfence.errors import Denied, StoreError
from ringfence.model.canary import CanaryReport, CanaryResult
from ringfence.model.outcome import Already, Failed, Outcome, Problem, Refused, Unknown
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.canaries import CANARY_KEY, CANARY_OF_KEY, ORDERS_KEY
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import NAMESPACE, NETWORK_POLICY, POD, REPLICA_SET
from tests.actions.planning import FENCE, answer, apply, planned, record, ref_of, refused
from tests.simulator import Fault, Key, Refusal, Simulator, owner_reference
from tests.small_bank import CARDS, add_pod, furnish, pod_body
from tests.wire import Answer, Request

pytestmark = pytest.mark.slow  # each case waits for pods to start and to answer

Json = dict[str, Any]
ROWS = ("network.egress", "network.ingress", "network.dns")
ACCEPTED, REFUSED, NOT_POSSIBLE = CanaryResult.ACCEPTED, CanaryResult.REFUSED, CanaryResult.NOT_POSSIBLE
OPTIONS = Options(image="tools.test/python:3", namespace="probes", seconds=1)
Word = Callable[[str, str, Json, int], str]
"""Pod's name, phase, order, number of the round within the phase → what the try comes to."""


def enforced(_pod: str, phase: str, _order: Json, _round: int) -> str:
    return "silent" if phase == "fenced" else "open"


class World(Simulator):
    """The simulator with a kubelet for the canary's pods."""

    def __init__(self) -> None:
        super().__init__()
        self.word: Word = enforced
        self.lines: dict[str, list[Json]] = {}
        self.starts = True

    def _answer(self, request: Request) -> Answer:
        for pod in self.all(POD):
            if CANARY_KEY in pod["metadata"].get("labels", {}) and self.starts:
                pod["status"] = {"phase": "Running", "podIP": f"10.1.0.{len(pod['metadata']['name'])}"}
                pod["spec"].setdefault("nodeName", "node-2")
        return super()._answer(request)

    def _log(self, request: Request, key: Key) -> Answer:
        pod = self._get(key)
        if CANARY_KEY not in pod["metadata"].get("labels", {}):
            return super()._log(request, key)
        if not self.starts:
            raise Refusal(400, "container is waiting to start")
        settings = json.loads(pod["spec"]["containers"][0]["command"][3])
        own = f"{key[2]}/{key[3]}"
        hello = {
            "hello": settings["id"],
            "api": "10.96.0.1:443",
            "resolvers": ["10.96.0.10"],
            "tcp": {str(port): port + (20000 if port < 1024 else 0) for port in settings["tcp"]},
            "udp": {str(port): port for port in settings["udp"]},
        }
        lines = self.lines.setdefault(own, [hello])
        if orders := json.loads(pod["metadata"]["annotations"][ORDERS_KEY] or "null"):
            phase = orders["phase"]
            before = sum(1 for line in lines[1:] if line["phase"] == phase)
            results = [self.word(own, phase, order, before + 1) for order in orders["to"]]
            lines.append({"round": len(lines), "phase": phase, "results": results})
        text = "".join(f"2026-11-23T03:00:00.000000000Z {json.dumps(line)}\n" for line in lines)
        return Answer(body=text.encode(), headers={"Content-Type": "text/plain"})


@pytest.fixture
def api() -> World:
    """The small bank; cards-1 is fenced in place, with its ports declared."""
    world = World()
    furnish(world)
    world.add(NAMESPACE, "", "probes")
    body = pod_body()
    body["spec"]["containers"][0]["ports"] = [{"containerPort": 8080}, {"containerPort": 443}]
    del world.objects["/api/v1", "pods", "bank", "cards-1"]
    owner = world.get(REPLICA_SET, "bank", "cards-6b7f")
    assert owner is not None
    owners = [owner_reference(owner)]
    labels = {**CARDS, "team": "blue", FENCE_KEY: FENCE}
    add_pod(world, "cards-1", body, labels=labels, ownerReferences=owners)
    exclude = [{"key": FENCE_KEY, "operator": "DoesNotExist"}]
    for policy in world.all(NETWORK_POLICY):
        if policy["metadata"]["name"] != "default-deny":
            policy["spec"]["podSelector"]["matchExpressions"] = exclude
    deny = {"podSelector": {"matchLabels": {FENCE_KEY: FENCE}}, "policyTypes": ["Ingress", "Egress"]}
    world.add(NETWORK_POLICY, "bank", f"ringfence-{FENCE}", {"spec": deny})
    return world


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(examination, "_STALLED_SECONDS", 0.1)
    monkeypatch.setattr(examination, "_GONE_SECONDS", 0.2)


@pytest.fixture
def action(cluster: Cluster) -> Canary:
    return canary(cluster)


def canary(cluster: Cluster, options: Options | None = OPTIONS) -> Canary:
    return Canary(cluster, Settings(fence=FENCE, serving_floor=1), options)


Examine = Callable[..., CanaryReport]


@pytest.fixture
def examine(api: World, action: Canary, pool: ThreadPoolExecutor) -> Examine:
    """Plan and examine; ``send`` may stand in for what the engine does with a change. Nothing may stay behind, whatever
    happens, unless the test says so."""

    def run(send: Send | None = None, *, of: Canary = action, stays: bool = False) -> CanaryReport:
        target = ref_of(api, POD, "cards-1")
        around = of.look("cluster-1", target, pool)
        plan = of.plan(target, around)
        assert isinstance(plan, Plan), plan
        try:
            return of.examine(plan, around, send or sender(of))
        finally:
            assert stays or left(api) == []

    return run


def sender(action: Canary) -> Send:
    return lambda change: perform(action.cluster, change, f"audit-{change.id}").outcome


def ways(report: CanaryReport, result: CanaryResult) -> tuple[str, ...]:
    return tuple(path.way for path in report.of(ROWS, result))


def left(api: World) -> list[str]:
    return [obj["metadata"]["name"] for obj in (*api.all(POD), *api.all(NETWORK_POLICY)) if _ours(obj)]


def _ours(obj: Json) -> bool:
    return CANARY_KEY in obj["metadata"].get("labels", {})


# --- planning -------------------------------------------------------------------------------------------------------


def test_the_canary_keeps_what_the_policies_see_and_loses_what_serves_it(
    api: World, action: Canary, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    (created,) = [change.body for change in plan.changes if change.id.startswith("create-canary")]
    labels = created["metadata"]["labels"]
    assert labels["team"] == "blue"
    assert not {"app", "pod-template-hash", FENCE_KEY} & labels.keys(), "a Service or the ReplicaSet would take it"
    assert "app, pod-template-hash" in " ".join(plan.caveats)
    assert created["spec"]["nodeName"] == "node-1"


def test_its_pods_have_no_rights_no_token_and_an_end(api: World, action: Canary, pool: ThreadPoolExecutor) -> None:
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    for change in plan.changes:
        if change.ref.kind != "Pod":
            continue
        spec = change.body["spec"]
        assert (spec["restartPolicy"], spec["automountServiceAccountToken"]) == ("Never", False)
        assert 0 < spec["activeDeadlineSeconds"] <= 4 * OPTIONS.seconds + 60
        assert spec["securityContext"]["runAsNonRoot"] is True
        (container,) = spec["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["command"][:2] == ["python3", "-c"]
        assert not {"env", "envFrom"} & container.keys()
    assert not [request for request in api.writes if request.method != "GET"], "a plan writes nothing"


def test_the_way_through_is_for_these_pods_alone_and_ends_with_the_fence(
    api: World, action: Canary, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    policies = [change.body for change in plan.changes if change.ref.kind == "NetworkPolicy"]
    assert {policy["metadata"]["namespace"] for policy in policies} == {"bank", "probes"}
    for policy in policies:
        selector = policy["spec"]["podSelector"]
        assert selector["matchLabels"].keys() == {CANARY_KEY}
        assert selector["matchExpressions"] == [{"key": FENCE_KEY, "operator": "DoesNotExist"}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pod: pod["metadata"]["labels"].pop(FENCE_KEY), "no fence of this incident"),
        (lambda pod: pod["metadata"]["labels"].update({FENCE_KEY: "another"}), "no fence of this incident"),
        (lambda pod: pod["spec"].update(hostNetwork=True), "node's network"),
        (lambda pod: pod["spec"].pop("nodeName"), "on no node"),
        (lambda pod: pod["status"].update(phase="Succeeded"), "ended already"),
    ],
)
def test_what_cannot_be_tried_is_refused(
    api: World, action: Canary, pool: ThreadPoolExecutor, change: Callable[[Json], object], words: str
) -> None:
    change(api.objects["/api/v1", "pods", "bank", "cards-1"])
    assert words in refused(action, ref_of(api, POD, "cards-1"), pool).reason


def test_without_configuration_nothing_starts(api: World, cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    assert "canary.image" in refused(canary(cluster, None), ref_of(api, POD, "cards-1"), pool).next_step


def test_a_canary_that_a_controller_would_adopt_is_refused(
    api: World, action: Canary, pool: ThreadPoolExecutor
) -> None:
    selector = {"matchExpressions": [{"key": "gone", "operator": "DoesNotExist"}]}
    api.add(REPLICA_SET, "bank", "greedy", {"spec": {"replicas": 0, "selector": {**selector, "matchLabels": {}}}})
    assert "ReplicaSet greedy" in refused(action, ref_of(api, POD, "cards-1"), pool).reason


def test_a_policy_that_opens_the_canary_and_not_the_pod_is_named(
    api: World, action: Canary, pool: ThreadPoolExecutor
) -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}
    api.add(NETWORK_POLICY, "bank", "strays", {"spec": {"podSelector": selector, "egress": [{}]}})
    assert "strays" in refused(action, ref_of(api, POD, "cards-1"), pool).reason


def test_admission_may_refuse_the_canary_and_a_peer_is_done_without(
    api: World, action: Canary, pool: ThreadPoolExecutor
) -> None:
    target = ref_of(api, POD, "cards-1")
    api.faults.append(Fault("POST", "/namespaces/probes/pods", 422, "label team is required", dry=True))
    assert "team is required" in " ".join(planned(action, target, pool).caveats)
    api.faults.append(Fault("POST", "/namespaces/bank/pods", 422, "no bare pods here", dry=True))
    assert "no bare pods here" in refused(action, target, pool).reason


def test_missing_rights_are_not_taken_for_a_reason(api: World, action: Canary, pool: ThreadPoolExecutor) -> None:
    denied = 'pods is forbidden: User "alice" cannot create resource "pods" in API group ""'
    api.faults.append(Fault("POST", "/namespaces/bank/pods", 403, denied, dry=True))
    with pytest.raises(Denied):
        answer(action, ref_of(api, POD, "cards-1"), pool)


# --- what is shown --------------------------------------------------------------------------------------------------


def test_open_shut_open_is_proven(examine: Examine) -> None:
    report = examine()
    assert report.why == ""
    assert not ways(report, ACCEPTED)
    assert not ways(report, NOT_POSSIBLE)
    assert {path.row for path in report.paths} == set(ROWS)
    assert any("443 (tried on 20443" in way for way in ways(report, REFUSED)), "another port is said"
    assert any("in namespace probes on node-2" in way for way in ways(report, REFUSED))
    assert proof_of(report).level is Level.PROVEN
    assert CanaryReport.model_validate(report.to_json()) == report


def test_a_fence_that_nobody_enforces_is_accepted(api: World, examine: Examine) -> None:
    api.word = lambda *_: "open"
    report = examine()
    assert not ways(report, REFUSED)
    assert {path.row for path in report.of(ROWS, ACCEPTED)} == set(ROWS)
    assert proof_of(report).level is Level.OBSERVED


def test_a_destination_that_died_meanwhile_is_not_taken_for_shut(api: World, examine: Examine) -> None:
    def dies(pod: str, phase: str, order: Json, number: int) -> str:
        return "refused" if order["host"] == "10.96.0.1" and phase != "control" else enforced(pod, phase, order, number)

    api.word = dies
    report = examine()
    (path,) = report.of(ROWS, NOT_POSSIBLE)
    assert "API server" in path.way
    assert "did not open again" in path.why


@pytest.mark.parametrize("answered", ["silent", "refused", "wrong", "unresolved"])
def test_what_was_never_open_is_not_taken_for_shut(api: World, examine: Examine, answered: str) -> None:
    def closed(pod: str, phase: str, order: Json, number: int) -> str:
        return answered if order["host"] == "10.96.0.1" else enforced(pod, phase, order, number)

    api.word = closed
    report = examine()
    assert [path.way for path in report.of(ROWS, NOT_POSSIBLE)] == ["the API server (10.96.0.1:443)"]


def test_when_nothing_is_open_without_the_fence_the_fence_is_not_tried(api: World, examine: Examine) -> None:
    api.word = lambda *_: "silent"
    report = examine()
    assert "no path was open without the fence" in report.why
    assert not ways(report, REFUSED)
    assert not [request for request in api.writes if b'"phase\\":\\"fenced' in request.body]


def test_a_fence_that_takes_a_while_is_waited_for(api: World, examine: Examine) -> None:
    api.word = lambda _pod, phase, _order, number: "silent" if phase == "fenced" and number > 4 else "open"
    assert not ways(examine(), ACCEPTED)


def test_one_packet_among_the_last_ones_is_one_too_many(api: World, examine: Examine) -> None:
    api.word = lambda _pod, phase, _order, number: "silent" if phase == "fenced" and number % 2 else "open"
    report = examine()
    assert not ways(report, REFUSED)
    assert ways(report, ACCEPTED)


def test_somebody_else_who_answers_behind_the_fence_is_no_refusal(api: World, examine: Examine) -> None:
    api.word = lambda _pod, phase, _order, _number: "wrong" if phase == "fenced" else "open"
    report = examine()
    assert not ways(report, REFUSED)
    assert not ways(report, ACCEPTED)
    assert "no clear answer" in report.paths[0].why


def test_without_a_peer_the_way_in_is_not_shown(api: World, cluster: Cluster, examine: Examine) -> None:
    alone = canary(cluster, replace(OPTIONS, namespace=""))

    def send(change: Change) -> Outcome:
        if change.id.startswith("create-near"):
            return Refused(reason="no bare pods here")
        return sender(alone)(change)

    report = examine(send, of=alone)
    assert report.result("network.ingress") is NOT_POSSIBLE
    assert report.result("network.egress") is REFUSED
    assert "no bare pods here" in " ".join(report.notes)


def test_the_label_and_the_orders_come_in_one_request_and_the_canary_first(api: World, examine: Examine) -> None:
    report = examine()
    patches = [(r.path, json.loads(r.body)) for r in api.writes if r.method == "PATCH"]
    fenced = [(path, body) for path, body in patches if '"phase":"fenced"' in body[-1]["value"]]
    assert fenced[0][0].endswith(f"ringfence-canary-{report.canary}")
    assert [op["value"] for op in fenced[0][1] if op["path"].endswith("ringfence.dev~1fence")] == [FENCE]


@pytest.mark.parametrize(
    "meddle",
    [
        lambda api: api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["labels"].update(app="other"),
        lambda api: api.add(NETWORK_POLICY, "bank", "more", {"spec": {"podSelector": {}, "egress": [{}]}}),
        lambda api: api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["labels"].pop(FENCE_KEY),
        lambda api: api.objects.pop(("/api/v1", "pods", "bank", "cards-1")),
    ],
)
def test_a_fence_that_changes_while_it_is_tried_is_not_shown(
    api: World, action: Canary, examine: Examine, meddle: Callable[[World], object]
) -> None:
    def send(change: Change) -> Outcome:
        if change.id.startswith("fenced-far"):
            meddle(api)
        return sender(action)(change)

    report = examine(send)
    assert report.why
    assert report.result("network.egress") is NOT_POSSIBLE
    assert proof_of(report).level is Level.NONE


# --- nothing stays --------------------------------------------------------------------------------------------------

SENT = 5 + 9
"""Two policies, three pods; three phases in which three pods are told."""
BROKEN = Problem(code="unanswered", what="no answer")


@pytest.mark.parametrize("number", range(SENT))
@pytest.mark.parametrize("landed", [True, False])
def test_whichever_request_is_lost_nothing_stays(
    api: World, action: Canary, examine: Examine, number: int, landed: bool
) -> None:
    count = iter(range(1000))

    def send(change: Change) -> Outcome:
        if next(count) == number:
            if landed:
                sender(action)(change)
            return Unknown(problem=BROKEN)
        return sender(action)(change)

    report = examine(send)
    assert report.why or report.notes
    assert bool(report.left_behind) == (number < 5 and not landed), "a create without an answer may land later"


def test_a_delete_that_fails_is_sent_again_as_a_request_of_its_own(action: Canary, examine: Examine) -> None:
    sent: list[Change] = []

    def send(change: Change) -> Outcome:
        sent.append(change)
        if change.verb is Verb.DELETE and change.id.endswith("-1"):
            return Failed(problem=BROKEN)
        return sender(action)(change)

    assert examine(send).left_behind == ()
    assert len({change.id for change in sent}) == len(sent)


def test_what_cannot_be_deleted_is_named(api: World, action: Canary, examine: Examine) -> None:
    def send(change: Change) -> Outcome:
        return Failed(problem=BROKEN) if change.verb is Verb.DELETE else sender(action)(change)

    report = examine(send, stays=True)
    assert len(report.left_behind) == len(left(api)) == 5
    assert ways(report, REFUSED), "what was shown stays shown"


def test_a_pod_that_does_not_go_is_named(api: World, action: Canary, examine: Examine) -> None:
    def send(change: Change) -> Outcome:
        if change.id.startswith("control-canary"):
            api.objects["/api/v1", "pods", "bank", change.ref.name]["metadata"]["finalizers"] = ["x.test/hold"]
        return sender(action)(change)

    (named,) = examine(send, stays=True).left_behind
    assert "still there" in named


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StoreError("the disk is full")])
@pytest.mark.parametrize("at", ["create-near", "fenced-canary"])
def test_what_ends_the_program_ends_the_canary_first(
    action: Canary, examine: Examine, error: BaseException, at: str
) -> None:
    def send(change: Change) -> Outcome:
        outcome = sender(action)(change)
        if change.id.startswith(at):
            raise error
        return outcome

    with pytest.raises(type(error)):
        examine(send)


def test_a_canary_that_does_not_begin_is_not_waited_for_longer_than_its_phase(api: World, examine: Examine) -> None:
    api.starts = False
    report = examine()
    assert "could not be started" in report.why
    assert "within 1 s" in report.why


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b'{"round":2,"phase":"control","results":[]}',
        b'{"hello":"another"}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"round":1,"phase":"control","results":["\x1b[31m"]}',
    ],
)
def test_what_a_pod_says_out_of_turn_makes_its_word_worthless(api: World, examine: Examine, line: bytes) -> None:
    honest = api._log

    def forged(request: Request, key: Key) -> Answer:
        good = honest(request, key)
        return Answer(body=good.body + b"2026-11-23T03:00:00Z " + line + b"\n", headers=good.headers)

    api._log = forged  # type: ignore[method-assign]
    report = examine()
    assert "not to be trusted" in report.why
    assert not ways(report, REFUSED)


# --- after a crash --------------------------------------------------------------------------------------------------


def crashed(api: World, action: Canary, pool: ThreadPoolExecutor) -> None:
    """As after kill -9: everything was made, nobody takes it away."""
    for change in planned(action, ref_of(api, POD, "cards-1"), pool).changes:
        perform(action.cluster, change, "audit")
    assert len(left(api)) == 5


def test_leftovers_are_found_and_cleared_by_the_next_examination(
    api: World, action: Canary, examine: Examine, pool: ThreadPoolExecutor
) -> None:
    crashed(api, action, pool)
    assert action.verify(ref_of(api, POD, "cards-1"), ()).claim.startswith("5 objects")
    report = examine()
    assert ways(report, REFUSED)
    assert report.left_behind == ()
    assert "nothing of the canary is left" in action.verify(ref_of(api, POD, "cards-1"), ()).claim


def test_leftovers_are_found_where_pods_of_all_namespaces_cannot_be_listed(
    api: World, action: Canary, pool: ThreadPoolExecutor
) -> None:
    crashed(api, action, pool)
    api.faults.append(Fault("GET", "/api/v1/pods", 403, 'User "alice" cannot list resource "pods" in API group ""'))
    found = action.leftovers(ref_of(api, POD, "cards-1"))
    assert len(found) == 5
    for change in found:
        perform(action.cluster, change, "audit")


def test_leftovers_are_those_of_this_fence_and_this_pod_alone(
    api: World, cluster: Cluster, action: Canary, pool: ThreadPoolExecutor
) -> None:
    crashed(api, action, pool)
    other = Canary(cluster, Settings(fence="another", serving_floor=1), OPTIONS)
    assert other.leftovers(ref_of(api, POD, "cards-1")) == ()
    assert action.leftovers(ref_of(api, POD, "cards-2")) == ()
    (value,) = {pod["metadata"]["labels"][CANARY_OF_KEY] for pod in api.all(POD) if _ours(pod)}
    assert FENCE not in value
    for change in action.leftovers(ref_of(api, POD, "cards-1")):
        perform(cluster, change, "audit")


def test_undo_deletes_what_was_made_and_nothing_else(
    api: World, action: Canary, examine: Examine, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, ref_of(api, POD, "cards-1"), pool)
    answers = apply(action, plan)
    for change in plan.changes:
        undo = action.undo(record(plan, change.id, answers))
        assert isinstance(undo, Change)
        assert undo.verb is Verb.DELETE
        perform(action.cluster, undo, "audit")
        assert isinstance(action.undo(record(plan, change.id, answers)), Already)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("10.0.0.1:443", ("10.0.0.1", 443)),
        ("[fd00::1]:53", ("fd00::1", 53)),
        ("db.bank.svc:5432", ("db.bank.svc", 5432)),
    ],
)
def test_a_destination_is_a_host_and_a_port(words: str, expected: tuple[str, int]) -> None:
    assert host_and_port(words) == expected


@pytest.mark.parametrize(
    "words", ["", "host", "host:", ":443", "host:0", "host:65536", "fd00::1:53", "[host]:5", "h:x"]
)
def test_anything_else_is_none(words: str) -> None:
    with pytest.raises(ValueError):
        host_and_port(words)
