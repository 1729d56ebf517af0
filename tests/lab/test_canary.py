"""The network canary on real packets: a fence that holds is proven, one that does not is named, nothing stays behind.

Covered: every path out and in of a fenced pod from both namespaces; a policy that opens it and an enforcer that stands
still; a path that nobody answers, and a namespace where the control itself is refused; interrupted and killed midway;
the rights that the action asks for are enough.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab import processes
from lab.enforcer import status
from lab.images import PYTHON
from lab.kube import Kube, Object
from lab.layout import Lab
from ringfence.access import facts
from ringfence.access.statement import rows
from ringfence.actions.base import Settings
from ringfence.actions.canary import Canary, Options, proof_of
from ringfence.actions.network import FENCE_KEY, Quarantine
from ringfence.actions.perform import perform
from ringfence.actions.rbac import rules_with_reasons
from ringfence.model.access import AccessPath, PathState
from ringfence.model.canary import CanaryReport, CanaryResult, Seen
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Applied, Outcome
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.canaries import CANARY_KEY
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.identity import cluster_uid
from ringfence.platform.kubernetes.resources import ENDPOINT_SLICE, NETWORK_POLICY, POD
from tests.lab.ground import NETWORKING, Ground, pod
from tests.lab.program import Responder

pytestmark = pytest.mark.lab

HOME, AWAY = f"rfcan-home-{os.getpid()}", f"rfcan-away-{os.getpid()}"
VICTIM = "victim"
ROWS = ("network.egress", "network.ingress", "network.dns")
ACCEPTED, REFUSED, NOT_POSSIBLE = CanaryResult.ACCEPTED, CanaryResult.REFUSED, CanaryResult.NOT_POSSIBLE
DENY_ALL = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
Hook = Callable[[Change], None]


def nothing(_change: Change) -> None:
    pass


@dataclass
class Case:
    """The fenced pod ``victim`` of HOME, and an examination of it. ``sent`` is what was asked of the cluster."""

    lab: Lab
    kube: Kube
    cluster: Cluster
    cluster_id: str
    pool: ThreadPoolExecutor
    fence: str
    target: ObjectRef
    sent: list[Change] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(fence=self.fence, serving_floor=0)

    def action(self, cluster: Cluster | None = None, **options: Any) -> Canary:
        chosen = {"image": PYTHON, "namespace": AWAY, "pull_policy": "Never", "seconds": 8, **options}
        return Canary(cluster or self.cluster, self.settings, Options(**chosen))

    def examine(self, action: Canary, *, before: Hook = nothing, after: Hook = nothing) -> CanaryReport:
        around = action.look(self.cluster_id, self.target, self.pool)
        plan = action.plan(self.target, around)
        assert isinstance(plan, Plan), plan

        def send(change: Change) -> Outcome:
            before(change)
            self.sent.append(change)
            outcome = perform(action.cluster, change, "").outcome
            after(change)
            return outcome

        return action.examine(plan, around, send)

    def rows(self, report: CanaryReport | None) -> dict[str, AccessPath]:
        found = facts.gather(
            self.cluster,
            self.cluster.get(POD, HOME, self.target.name),
            self.target,
            since=datetime.now(UTC),
            token_refused=False,
            pool=self.pool,
            network_canary=report,
        )
        return {row.path: row for row in rows(found)}

    def left(self) -> list[str]:
        """Everything of a canary that is there, in any namespace."""
        found = [*self.cluster.list(POD, labels=CANARY_KEY), *self.cluster.list(NETWORK_POLICY, labels=CANARY_KEY)]
        return [f"{one['kind']} {one['metadata']['name']}" for one in found]

    def enforce(self, name: str, spec: dict[str, Any]) -> None:
        """One more policy of HOME, in force."""
        manifest = {"apiVersion": NETWORKING, "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": HOME}}
        self.kube.create({**manifest, "spec": spec})
        status.wait_for_policies(self.lab, HOME, self.kube.list(NETWORKING, "NetworkPolicy", HOME))


@pytest.fixture(scope="module")
def ground(lab: Lab) -> Iterator[Ground]:
    built = Ground(lab, Kube.of(lab))
    ports: list[Object] = [{"containerPort": 8080}, {"containerPort": 80}, {"containerPort": 5300, "protocol": "UDP"}]
    try:
        built.make_namespace(HOME, {})
        built.make_namespace(AWAY, {})
        built.kube.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "server", "namespace": HOME},
                "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
            }
        )
        built.run(
            pod("server", HOME, {"app": "server"}, tcp="8080"),
            pod(VICTIM, HOME, {"app": "victim", "team": "blue"}, tcp="8080", ports=ports),
        )
        yield built
    finally:
        built.remove()


@pytest.fixture(scope="module")
def cluster(canary_responder: Responder) -> Iterator[Cluster]:
    """As a service account that has what ``ringfence rbac`` renders."""
    connected = connect(str(canary_responder.kubeconfig), None, 20.0)
    yield connected
    connected.close()


@pytest.fixture
def case(ground: Ground, cluster: Cluster) -> Iterator[Case]:
    with fenced(ground, cluster, VICTIM) as made:
        yield made


@contextlib.contextmanager
def fenced(ground: Ground, cluster: Cluster, name: str) -> Iterator[Case]:
    """A pod of HOME behind a fence of its own; afterwards nothing of it, and nothing of a canary."""
    cluster_id = cluster_uid(cluster)
    victim = cluster.get(POD, HOME, name)
    fence, target = secrets.token_hex(8), ObjectRef.of(cluster_id, victim)
    with ThreadPoolExecutor(8) as pool:
        cut = Quarantine(cluster, Settings(fence=fence, serving_floor=0))
        plan = cut.plan(target, cut.look(cluster_id, target, pool))
        assert isinstance(plan, Plan), plan
        for change in plan.changes:
            assert isinstance(cut.apply(change, "").outcome, Applied)
        made = Case(ground.lab, ground.kube, cluster, cluster_id, pool, fence, target)
        yield made
        still = made.left()
        for change in made.action().leftovers(target):
            perform(cluster, change, "")
    ground.enforce(HOME, [])
    key = FENCE_KEY.replace("/", "~1")
    cluster.patch(POD, HOME, name, [{"op": "remove", "path": f"/metadata/labels/{key}"}])
    assert still == []


def ways(report: CanaryReport, result: CanaryResult) -> list[str]:
    return [path.way for path in report.of(ROWS, result)]


def test_a_fence_that_holds_is_proven_on_every_path_and_nothing_stays(case: Case) -> None:
    before = case.cluster.get(POD, HOME, VICTIM)
    report = case.examine(case.action())
    assert report.why == ""
    assert ways(report, ACCEPTED) == ways(report, NOT_POSSIBLE) == []
    tried = " | ".join(ways(report, REFUSED))
    for expected in (
        *(f"{protocol} to a peer in namespace {place}" for protocol in ("TCP", "UDP") for place in (HOME, AWAY)),
        *("the API server", "DNS over UDP", "DNS over TCP", "Service server"),
        *(f"TCP port 8080, from a peer in namespace {place}" for place in (HOME, AWAY)),
        *(f"UDP port 5300, from a peer in namespace {place}" for place in (HOME, AWAY)),
        "TCP port 80",
    ):
        assert expected in tried
    found = case.rows(report)
    assert {path: (found[path].state, found[path].level) for path in ROWS} == dict.fromkeys(
        ROWS, (PathState.DEAD, Level.PROVEN)
    )
    assert proof_of(report).level is Level.PROVEN
    assert case.left() == []
    assert report.left_behind == ()
    assert case.cluster.get(POD, HOME, VICTIM) == before, "the victim is not touched"
    verbs = [change.verb for change in case.sent]
    assert verbs.count(Verb.CREATE) == verbs.count(Verb.DELETE) == 5
    assert len({change.id for change in case.sent}) == len(case.sent), "each request has a place in the journal"


def test_the_rights_that_it_asks_for_are_enough(case: Case) -> None:
    rights = "rbac.authorization.k8s.io/v1"
    case.kube.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "canary", "namespace": HOME}})
    rules = [rule.to_json() for rule in rules_with_reasons(Canary.permissions)]
    for namespace in (HOME, AWAY):
        meta = {"name": "canary", "namespace": namespace}
        case.kube.create({"apiVersion": rights, "kind": "Role", "metadata": meta, "rules": rules})
        binding = {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "canary"},
            "subjects": [{"kind": "ServiceAccount", "name": "canary", "namespace": HOME}],
        }
        case.kube.create({"apiVersion": rights, "kind": "RoleBinding", "metadata": meta, **binding})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    path = f"/api/v1/namespaces/{HOME}/serviceaccounts/canary/token"
    token = case.kube.request("POST", path, request)["status"]["token"]
    with case.cluster.as_bearer(token) as theirs:
        report = case.examine(case.action(theirs))
    assert report.why == ""
    assert len(ways(report, REFUSED)) == len(report.paths) > 10


def test_the_canary_stands_where_the_victim_stands_and_nothing_serves_it(case: Case) -> None:
    seen: list[dict[str, Any]] = []

    def look(change: Change) -> None:
        if change.id.startswith("fenced-far"):
            seen.extend(case.cluster.list(POD, HOME, labels=f"{FENCE_KEY}={case.fence}"))

    case.examine(case.action(), after=look)
    (canary,) = [one for one in seen if one["metadata"]["name"] != VICTIM]
    assert canary["spec"]["nodeName"] == case.cluster.get(POD, HOME, VICTIM)["spec"]["nodeName"]
    assert canary["metadata"]["labels"].items() >= {"app": "victim", "team": "blue"}.items()
    assert {c["type"]: c["status"] for c in canary["status"]["conditions"]}["Ready"] == "False"


def test_a_canary_of_a_stateful_sets_pod_is_neither_adopted_nor_served(ground: Ground, cluster: Cluster) -> None:
    labels = {"app": "ledger", "team": "blue"}
    template = pod("unused", HOME, labels, tcp="8080")
    spec = {
        "serviceName": "ledger",
        "replicas": 1,
        "selector": {"matchLabels": {"app": "ledger"}},
        "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
    }
    meta = {"name": "ledger", "namespace": HOME}
    service = {"selector": {"app": "ledger"}, "ports": [{"port": 80, "targetPort": 8080}]}
    ground.kube.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service})
    ground.kube.create({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec})
    ground.kube.wait_ready(["ledger-0"], HOME)
    seen: list[dict[str, Any]] = []

    def look(change: Change) -> None:
        if change.id.startswith("again-far"):
            seen.extend(cluster.list(POD, HOME, labels=f"{CANARY_KEY},team=blue"))
            seen.extend(cluster.list(ENDPOINT_SLICE, HOME, labels="kubernetes.io/service-name=ledger"))

    try:
        with fenced(ground, cluster, "ledger-0") as case:
            report = case.examine(case.action(), after=look)
            canary, endpoints = seen
            assert "ownerReferences" not in canary["metadata"]
            assert "app" not in canary["metadata"]["labels"]
            assert [one["targetRef"]["uid"] for one in endpoints["endpoints"]] == [case.target.uid]
            assert report.why == ""
            assert case.rows(report)["network.egress"].level is Level.PROVEN
            assert cluster.get(POD, HOME, "ledger-0")["metadata"]["uid"] == case.target.uid
    finally:
        ground.kube.delete("apps/v1", "StatefulSet", "ledger", HOME)
        ground.kube.delete("v1", "Service", "ledger", HOME)


def test_a_policy_that_opens_the_fence_is_found_on_packets(case: Case) -> None:
    spec = {"podSelector": {"matchLabels": {"app": "victim"}}, "policyTypes": ["Egress"], "egress": [{}]}
    case.enforce("leak", spec)
    report = case.examine(case.action())
    assert {path.row for path in report.of(ROWS, ACCEPTED)} == {"network.egress", "network.dns"}
    assert {path.row for path in report.of(ROWS, REFUSED)} == {"network.ingress"}
    found = case.rows(report)
    assert found["network.egress"].state is PathState.ALIVE
    assert "leak" in found["network.egress"].why
    assert (found["network.ingress"].state, found["network.ingress"].level) == (PathState.DEAD, Level.PROVEN)
    assert proof_of(report).level is Level.OBSERVED


def test_a_plugin_that_does_not_enforce_the_fence_leaves_the_rows_alive(case: Case) -> None:
    pid = processes.running(case.lab, "enforcer")
    assert pid is not None

    def stand_still(change: Change) -> None:
        if change.id.startswith("fenced-canary"):
            os.kill(pid, signal.SIGSTOP)

    try:
        report = case.examine(case.action(seconds=5), before=stand_still)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ways(report, REFUSED) == []
    found = case.rows(report)
    for path in ROWS:
        assert (found[path].state, found[path].level) == (PathState.ALIVE, Level.OBSERVED)
    assert "API server" in found["network.egress"].why
    assert "port 8080" in found["network.ingress"].why


def test_a_fence_that_is_changed_later_is_proven_no_more(case: Case) -> None:
    report = case.examine(case.action())
    case.enforce("another", DENY_ALL)
    found = case.rows(report)
    for path in ROWS:
        assert found[path].state is PathState.UNSEEN
        assert "changed since" in found[path].why


def test_a_path_that_nobody_answers_proves_nothing_and_is_said(case: Case) -> None:
    report = case.examine(case.action(destinations=("203.0.113.9:443",)))
    (path,) = report.of(ROWS, NOT_POSSIBLE)
    assert (path.way, path.control) == ("203.0.113.9:443", Seen.SHUT)
    row = case.rows(report)["network.egress"]
    assert row.state is PathState.DEAD
    assert "could not be tried: 203.0.113.9:443 (not open without the fence either)" in row.why


def test_where_the_control_is_refused_the_rows_stay_unseen(case: Case) -> None:
    case.enforce("everyone", DENY_ALL)

    def forbid(change: Change) -> None:
        if change.id.startswith("allow-"):
            case.kube.delete(NETWORKING, "NetworkPolicy", change.ref.name, change.ref.namespace)

    report = case.examine(case.action(namespace="", seconds=5), after=forbid)
    assert "no path was open without the fence" in report.why
    found = case.rows(report)
    for path in ROWS:
        assert (found[path].state, found[path].level) == (PathState.UNSEEN, Level.COMPUTED)
        assert "no path was open" in found[path].why
    assert proof_of(report).level is Level.NONE


def test_an_image_that_is_not_there_is_no_proof(case: Case) -> None:
    began = time.monotonic()
    report = case.examine(case.action(image="ringfence.local/none:1", seconds=60))
    assert "ErrImageNeverPull" in report.why
    assert time.monotonic() - began < 50, "what cannot begin is not waited for"
    assert case.rows(report)["network.egress"].state is PathState.UNSEEN


@pytest.mark.parametrize("at", ["create-near", "control-canary", "fenced-canary", "again-canary"])
def test_interrupted_at_any_point_nothing_stays(case: Case, at: str) -> None:
    def interrupt(change: Change) -> None:
        if change.id.startswith(at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.examine(case.action(), after=interrupt)
    assert case.left() == []


def test_killed_midway_its_leftovers_are_found_and_the_next_one_clears_them(
    case: Case, canary_responder: Responder
) -> None:
    arguments = [str(canary_responder.kubeconfig), HOME, AWAY, case.fence]
    script = f"from tests.lab.test_canary import examine_until_killed; examine_until_killed(*{arguments!r})"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("fenced-canary"):
                break
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert len(case.left()) == 5
    action = case.action()
    assert {change.verb for change in action.leftovers(case.target)} == {Verb.DELETE}
    assert len(action.leftovers(case.target)) == 5
    report = case.examine(action)
    assert ways(report, REFUSED)
    assert case.left() == []


def examine_until_killed(kubeconfig: str, home: str, away: str, fence: str) -> None:
    """The child of the test above: an examination that tells each change that it sent."""
    cluster = connect(kubeconfig, None, 20.0)
    target = ObjectRef.of(cluster_uid(cluster), cluster.get(POD, home, VICTIM))
    action = Canary(
        cluster,
        Settings(fence=fence, serving_floor=0),
        Options(image=PYTHON, namespace=away, pull_policy="Never", seconds=60),
    )
    with ThreadPoolExecutor(8) as pool:
        around = action.look(target.cluster, target, pool)
    plan = action.plan(target, around)
    assert isinstance(plan, Plan)

    def send(change: Change) -> Outcome:
        outcome = perform(cluster, change, "").outcome
        print(change.id, flush=True)
        return outcome

    action.examine(plan, around, send)
