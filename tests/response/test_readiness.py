"""``doctor``: each check tells a good night from a bad one, and the rehearsal changes nothing and names who says no.

On a real cluster with real packets, RBAC and admission: tests/lab/test_cli_tools.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ringfence.actions.canary import Options
from ringfence.actions.registry import ACTIONS
from ringfence.errors import ConfigError, ExitCode, NotSent, StoreError
from ringfence.evidence.vault import Vault
from ringfence.model.canary import CanaryPath, CanaryReport, Seen
from ringfence.model.enforcement import Enforcement
from ringfence.model.objects import ObjectRef
from ringfence.model.permission import Permission
from ringfence.model.run import RunOrder
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import CORE_EVENT, NAMESPACE, POD
from ringfence.response.context import Context, now
from ringfence.response.readiness import Finding, Level, exit_code, local, network
from ringfence.response.readiness.cloud import check_cloud
from ringfence.response.readiness.cluster import check_audit, check_events
from ringfence.response.readiness.findings import fail, failed, ok, warn
from ringfence.response.readiness.monitoring import HEALTH, check_monitoring
from ringfence.response.readiness.network import _judged, check_network
from ringfence.response.readiness.rehearsal import Stage, rehearse
from ringfence.response.readiness.rights import rights
from ringfence.seal.signing import SigningKey, load_or_create
from ringfence.store import enforcement, incidents, runs
from ringfence.store.database import Store, open_store
from tests.response.readiness_of import may, with_templates
from tests.simulator import Fault, Simulator
from tests.small_bank import add_pod, pod_body
from tests.wire import Answer, Request, Wire

KYVERNO = (
    'admission webhook "validate.kyverno.svc-fail" denied the request: \n\nresource Pod/bank/cards-1 was blocked due '
    "to the following policies \n\nfixed-labels:\n  no-relabel: labels may not be changed\n"
)


def only(findings: Iterator[Finding] | list[Finding]) -> Finding:
    (one,) = findings
    return one


# --- codes ----------------------------------------------------------------------------------------------------------
def test_the_code_is_that_of_the_first_error_and_a_warning_is_none() -> None:
    error = ConfigError("x", location="y")
    assert exit_code([ok("a", "b"), warn("a", "b", "c")]) is ExitCode.OK
    assert exit_code([fail("a", "b", "c")]) is ExitCode.REFUSED
    assert exit_code([fail("a", "b", "c"), failed("d", error)]) is ExitCode.CONFIG


# --- this machine ---------------------------------------------------------------------------------------------------
def test_a_store_that_cannot_be_opened_fails_alone(fresh_store: Store) -> None:
    def broken() -> Store:
        raise ConfigError("no", location="store.url")

    assert only(local.check_store(broken, lambda: None)).level is Level.FAIL


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(f"process {os.getpid()} since 2026-11-23T00:00:00Z\n", "run by process", id="ours"),
        ("process 999999999 since 2026-11-23T00:00:00Z\n", "free"),
        ("", "free"),
        ("process ; rm -rf / since\x1b[2J", "free"),
        (None, "free"),
    ],
)
def test_a_dead_process_holds_no_engine(fresh_store: Store, tmp_path: Path, words: str | None, expected: str) -> None:
    lock = tmp_path / "engine.lock"
    if words is not None:
        lock.write_text(words)
    engine = list(local.check_store(lambda: fresh_store, lambda: lock))[1]
    assert (engine.level, expected in engine.saw) == (Level.OK, True)


def test_a_run_that_nobody_carries_on_is_said(context: Context, tmp_path: Path) -> None:
    target = ObjectRef(cluster="cluster-1", api_version="v1", kind="Pod", namespace="bank", name="x", uid="u")
    with context.store.write() as session:
        incident = incidents.declare(
            session,
            target=target,
            incident_type="x",
            severity=incidents.Severity.HIGH,
            title="x",
            principal=context.principal,
            fence="f",
            command="x",
            now=now(),
        )
        run = runs.start(
            session,
            incident.id,
            playbook="p",
            playbook_bytes=b"p",
            targets=[target],
            order=RunOrder(phases=("containing",)),
            principal=context.actor,
            now=now(),
        )
    engine = list(local.check_store(lambda: context.store, lambda: tmp_path / "none"))[1]
    assert engine.level is Level.WARN
    assert run.id in engine.saw


def test_a_vault_that_is_a_file_fails(tmp_path: Path) -> None:
    assert local.check_vault(Vault(tmp_path / "v")).level is Level.OK
    (tmp_path / "f").write_text("")
    broken = local.check_vault(Vault(tmp_path / "f"))
    assert (broken.level, exit_code([broken])) == (Level.FAIL, ExitCode.STORAGE)


def test_a_key_is_tried_not_only_looked_at(signing_key: SigningKey, tmp_path: Path) -> None:
    assert local.check_key(lambda: signing_key, "k").level is Level.OK
    other = load_or_create(tmp_path / "other.pem")
    wrong = SigningKey(other.signer, signing_key.public_key)
    assert local.check_key(lambda: wrong, "k").level is Level.FAIL


@pytest.mark.parametrize(
    ("roles", "missing"),
    [
        ((), "security, platform, on-call"),
        (("Head of Security", "PLATFORM team"), "on-call"),
        (("security", "platform", "On-Call engineer"), ""),
        (("security platform duty manager",), ""),
    ],
)
def test_somebody_of_each_role_must_be_there(roles: tuple[str, ...], missing: str) -> None:
    found = local.check_contacts(roles)
    assert found.level is (Level.WARN if missing else Level.OK)
    assert f"nobody for {missing} (" in found.saw or not missing


# --- the cluster ----------------------------------------------------------------------------------------------------
def with_echo(api: Simulator, wire: Wire, header: Callable[[str], dict[str, str]], log: Path | None = None) -> None:
    def respond(request: Request) -> Answer:
        answer, sent = api(request), request.headers.get("audit-id", "")
        if log is not None and sent:
            log.write_text(AUDIT_LINE % sent)
        return Answer(answer.status, answer.body, {**answer.headers, **header(sent)})

    wire.responder = respond


AUDIT_LINE = (
    '{"auditID":"%s","stage":"ResponseComplete","verb":"create","user":{"username":"alice"},'
    '"responseStatus":{"code":201}}\n'
)


def test_an_audit_log_that_has_our_request_is_the_only_proof_of_one(
    cluster: Cluster, api: Simulator, wire: Wire, tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    with_echo(api, wire, lambda sent: {"Audit-ID": sent}, log)
    assert [one.level for one in check_audit(cluster, "alice", log, wait=0)] == [Level.OK, Level.OK]
    assert [one.level for one in check_audit(cluster, "alice", None, wait=0)] == [Level.OK, Level.WARN]
    assert [one.level for one in check_audit(cluster, "bob", log, wait=0)] == [Level.OK, Level.WARN]


@pytest.mark.parametrize("header", [{}, {"Audit-ID": "of-a-proxy"}])
def test_an_audit_id_that_is_not_ours_is_no_match(
    cluster: Cluster, api: Simulator, wire: Wire, header: dict[str, str]
) -> None:
    with_echo(api, wire, lambda _sent: header)
    assert next(check_audit(cluster, "alice", None)).level is Level.WARN


def test_a_log_that_cannot_be_read_and_one_without_us_differ(
    cluster: Cluster, api: Simulator, wire: Wire, tmp_path: Path
) -> None:
    with_echo(api, wire, lambda sent: {"Audit-ID": sent})
    (tmp_path / "empty").write_text("")
    missing, empty = (list(check_audit(cluster, "alice", tmp_path / n, wait=0))[1] for n in ("none", "empty"))
    assert (missing.level, empty.level) == (Level.WARN, Level.WARN)
    assert "cannot be read" in missing.saw
    assert "does not have a request" in empty.saw


def age(api: Simulator, resource: Any, namespace: str, name: str, by: timedelta) -> None:
    at = (datetime.now(UTC) - by).strftime("%Y-%m-%dT%H:%M:%SZ")
    api.objects[(resource.path().rpartition("/")[0], resource.plural, namespace, name)]["metadata"][
        "creationTimestamp"
    ] = at


@pytest.mark.parametrize(
    ("born", "oldest", "level"),
    [
        (timedelta(days=90), timedelta(minutes=58), Level.WARN),  # the default: gone after an hour
        (timedelta(minutes=40), timedelta(minutes=39), Level.OK),  # nothing could be older
        (timedelta(days=90), timedelta(days=3), Level.OK),
        (timedelta(days=90), None, Level.WARN),
    ],
)
def test_events_that_do_not_last_are_said(
    cluster: Cluster, api: Simulator, born: timedelta, oldest: timedelta | None, level: Level
) -> None:
    age(api, NAMESPACE, "", "kube-system", born)
    for number, old in enumerate([timedelta(minutes=1), oldest] if oldest else []):
        api.add(CORE_EVENT, "bank", f"e{number}")
        age(api, CORE_EVENT, "bank", f"e{number}", old)
    assert check_events(cluster).level is level


# --- rights ---------------------------------------------------------------------------------------------------------
READ = Permission("pods/log", frozenset({"get"}), "logs")
LIST = Permission("networkpolicies.networking.k8s.io", frozenset({"list", "patch"}), "fence", everywhere=True)


def test_what_is_lacking_is_named_and_only_optional_things_may_lack(
    cluster: Cluster, api: Simulator, wire: Wire, pool: Any
) -> None:
    asked: list[dict[str, str]] = []

    def allowed(attributes: dict[str, str]) -> bool:
        asked.append(attributes)
        return attributes["verb"] != "patch" and attributes.get("namespace") != "shop"

    wire.responder = may(api, allowed)
    wanted = {"cut": (LIST,), "evidence": (READ,), "again": (READ,)}
    found = {
        one.check: one for one in rights(cluster, wanted, ("bank", "shop"), pool, optional=frozenset({"evidence"}))
    }
    assert found["rights: cut"].level is Level.FAIL
    assert found["rights: cut"].saw == "lacking: patch networkpolicies.networking.k8s.io in all namespaces"
    assert found["rights: evidence"].level is Level.WARN
    assert found["rights: evidence"].saw == "lacking: get pods/log in shop"
    assert found["rights: again"].level is Level.FAIL
    assert {"verb": "get", "resource": "pods", "subresource": "log", "namespace": "bank"} in asked
    assert len(asked) == 4, "each question once"


# --- the rehearsal --------------------------------------------------------------------------------------------------
@pytest.fixture
def stage(context: Context, api: Simulator) -> Stage:
    with_templates(api)
    return Stage(context.cluster, context.cluster_id, "alice", context.policy, context.pool)


def rehearsed(stage: Stage, *names: str, namespace: str = "bank") -> list[Finding]:
    return list(rehearse(stage, names or tuple(ACTIONS), (namespace,)))


def test_every_action_is_tried_and_nothing_is_written(stage: Stage, api: Simulator, wire: Wire) -> None:
    found = rehearsed(stage)
    assert {one.check for one in found} == {f"{name}: bank" for name in ACTIONS}
    assert {one.level for one in found} == {Level.OK}, [one.saw for one in found]
    assert api.writes == []
    assert not [request for request in wire.requests if request.path.endswith("/token")], "a dry run mints a token"
    dry = {
        (r.method, r.path.rsplit("/", 1)[0].rsplit("/", 1)[-1])
        for r in wire.requests
        if "dryRun" in f"{r.query}{r.body!r}"
    }
    assert {("DELETE", "pods"), ("PATCH", "pods"), ("PATCH", "nodes")} <= dry, "and each was really asked for"


def test_one_pod_stands_for_its_controller(stage: Stage) -> None:
    saw = only(rehearsed(stage, "pod.delete")).saw
    assert saw.count("Pod ") == 1
    assert "of ReplicaSet cards-6b7f" in saw


def test_rbac_that_refuses_is_not_taken_for_admission(stage: Stage, api: Simulator) -> None:
    words = 'pods "cards-1" is forbidden: User "alice" cannot delete resource "pods" in API group "" in the namespace'
    api.faults.append(Fault("DELETE", "/pods/cards-1", status=403, message=words, dry=True))
    found = only(rehearsed(stage, "pod.delete"))
    assert (found.level, found.exemption) == (Level.FAIL, "")
    assert found.saw.startswith("RBAC refuses it")
    assert "ringfence rbac" in found.next_step


def test_a_policy_that_refuses_is_named_with_the_exemption_to_ask_for(stage: Stage, api: Simulator) -> None:
    api.faults.append(Fault("DELETE", "/pods/cards-1", status=400, message=KYVERNO, dry=True))
    found = only(rehearsed(stage, "pod.delete"))
    assert found.level is Level.FAIL
    assert found.saw.startswith("Kyverno policy fixed-labels (rule no-relabel) refuses it on Pod cards-1")
    assert "policyName: fixed-labels" in found.exemption
    assert 'name: "alice"' in found.exemption
    assert '"DELETE"' in found.exemption


def test_a_cut_that_admission_bends_is_a_warning(stage: Stage, api: Simulator) -> None:
    """The relabel is refused and the added label is not: it is fenced in place, and stays in service."""
    api.faults.append(Fault("PATCH", "/pods/cards-1", status=400, message=KYVERNO, dry=True, times=1))
    found = rehearsed(stage, "network.quarantine")
    assert [one.level for one in found] == [Level.WARN, Level.OK]
    assert "refuses to detach Pod cards-1" in found[0].saw
    assert found[0].exemption


def test_what_an_action_is_not_for_is_no_failure(stage: Stage, api: Simulator) -> None:
    body = pod_body()
    body["spec"]["hostNetwork"] = True
    add_pod(api, "on-the-node", body, labels={"app": "other"})
    found = only(rehearsed(stage, "network.quarantine"))
    assert found.level is Level.OK
    assert "by design not for Pod on-the-node: the pod uses its node's network" in found.saw


def test_protected_things_are_left_out_and_said(stage: Stage, api: Simulator) -> None:
    api.add(POD, "kube-system", "dns", pod_body())
    found = rehearsed(stage, "pod.delete", namespace="kube-system")
    assert "namespace kube-system is protected" in found[0].saw
    assert found[1].saw == "not tried: there is no Pod that it could be tried on"


def test_a_namespace_where_nothing_runs_shows_nothing(stage: Stage) -> None:
    assert only(rehearsed(stage, namespace="shop")).level is Level.WARN


def test_a_namespace_that_cannot_be_read_does_not_end_the_others(stage: Stage, api: Simulator) -> None:
    api.faults.append(Fault("GET", "/namespaces/shop/pods", status=403, message='User "alice" cannot list', dry=None))
    found = list(rehearse(stage, ("pod.delete",), ("shop", "bank")))
    assert [(one.level, one.check) for one in found] == [
        (Level.WARN, "rehearsal: shop"),
        (Level.OK, "pod.delete: bank"),
    ]


def test_an_answer_that_never_came_is_neither_yes_nor_no(stage: Stage, api: Simulator) -> None:
    api.faults.append(Fault("DELETE", "/pods/cards-1", status=500, dry=True))
    found = only(rehearsed(stage, "pod.delete"))
    assert found.level is Level.WARN
    assert "could not be tried" in found.saw


# --- the rest -------------------------------------------------------------------------------------------------------
def test_monitoring_answers_or_not(tmp_path: Path) -> None:
    def respond(request: Request) -> Answer:
        return Answer({"/prom/-/ready": 200, "/-/ready": 503, "/api/health": 302}[request.path])

    with Wire(respond) as wire:
        urls = {"prometheus": f"{wire.url}/prom/", "alertmanager": wire.url, "grafana": wire.url}
        found = {one.check: one for one in check_monitoring(urls)}
    assert [found[name].level for name in HEALTH] == [Level.OK, Level.WARN, Level.WARN]
    assert len(wire.requests) == 3, "no redirect is followed"
    gone = {one.check: one for one in check_monitoring({"prometheus": f"http://user:secret@{wire.url[7:]}/x?token=t"})}
    assert gone["prometheus"].level is Level.WARN
    assert "secret" not in gone["prometheus"].saw
    assert "token" not in gone["prometheus"].saw
    assert gone["grafana"].saw == "not configured"


def test_pods_that_take_a_role_of_the_cloud_are_said(cluster: Cluster, api: Simulator) -> None:
    assert check_cloud(cluster, ("bank",)).level is Level.OK
    body = pod_body()
    body["spec"]["containers"][0]["env"] = [{"name": "AWS_ROLE_ARN", "value": "arn:x"}]
    add_pod(api, "with-role", body)
    found = check_cloud(cluster, ("bank",))
    assert found.level is Level.WARN
    assert "AWS_ROLE_ARN (bank/cards)" in found.saw


def test_no_packet_is_sent_unless_asked_for(stage: Stage, api: Simulator, kept: OpenStore) -> None:
    for probe in (False, True):
        found = only(check_network(stage, "bank", None, kept, probe=probe))
        assert (found.level, found.saw.startswith("not tried")) == (Level.WARN, True)
    assert api.writes == []


OpenStore = Callable[[], Store]


@pytest.fixture
def kept(_migrated: Path, tmp_path: Path) -> OpenStore:
    """Opens the store that doctor is configured with, as often as it is asked."""
    url = f"sqlite:///{shutil.copy(_migrated, tmp_path / 'kept.db')}"
    return lambda: open_store(url)


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Finding], None]:
    """What the packets of the next probe are to show."""
    pod = {"metadata": {"namespace": "bank"}, "spec": {"nodeName": "node-1"}}

    @contextlib.contextmanager
    def started(*_arguments: Any) -> Iterator[tuple[Any, str]]:
        yield pod, "fence"

    def shows(finding: Finding) -> None:
        monkeypatch.setattr(network, "_probe", started)
        monkeypatch.setattr(network, "_tried", lambda *_: iter([finding]))

    return shows


OPTIONS = Options(image="tools.test/python:3", namespace="probes", seconds=5)


def remembered(open_store: OpenStore) -> Enforcement | None:
    with contextlib.closing(open_store()) as store, store.read() as session:
        return enforcement.newest(session, "cluster-1")


@pytest.mark.parametrize(
    ("finding", "holds", "words"),
    [
        (ok("x", "it shut 4 paths"), True, "a deny-all held on node node-1"),
        (fail("x", "4 paths get through", "a plugin"), False, "a deny-all DID NOT HOLD on node node-1"),
    ],
    ids=["held", "did not hold"],
)
def test_what_packets_showed_is_kept_and_told_without_any(
    stage: Stage, kept: OpenStore, probing: Callable[[Finding], None], finding: Finding, holds: bool, words: str
) -> None:
    probing(finding)
    assert list(check_network(stage, "bank", OPTIONS, kept, probe=True)) == [finding]
    known = remembered(kept)
    assert known is not None
    assert (known.holds, known.saw, known.namespace, known.by) == (holds, finding.saw, "bank", "alice")
    told = only(check_network(stage, "bank", None, kept, probe=False))
    assert told.level is finding.level
    assert told.saw.startswith(words)
    assert "0 min ago" in told.saw
    assert finding.saw in told.saw


def test_a_try_that_shows_nothing_takes_nothing_away(
    stage: Stage, kept: OpenStore, probing: Callable[[Finding], None]
) -> None:
    probing(ok("x", "it shut 4 paths"))
    list(check_network(stage, "bank", OPTIONS, kept, probe=True))
    probing(warn("x", "not tried: no path was open", "elsewhere"))
    list(check_network(stage, "bank", OPTIONS, kept, probe=True))
    known = remembered(kept)
    assert known is not None
    assert (known.holds, known.saw) == (True, "it shut 4 paths")


def test_what_held_long_ago_is_to_be_tried_again_and_what_did_not_hold_stays_a_failure(
    stage: Stage, kept: OpenStore
) -> None:
    def seen(holds: bool, days: int) -> None:
        facts = {"cluster": "cluster-1", "holds": holds, "saw": "x", "namespace": "bank", "node": "n", "by": "bob"}
        with contextlib.closing(kept()) as store, store.write() as session:
            enforcement.keep(session, Enforcement.model_validate({**facts, "at": now() - timedelta(days=days)}))

    for holds, days, level in ((True, 6, Level.OK), (True, 8, Level.WARN), (False, 8, Level.FAIL)):
        seen(holds, days)
        told = only(check_network(stage, "bank", OPTIONS, kept, probe=False))
        assert (told.level, f"{days} d ago" in told.saw) == (level, True)
    other = dataclasses.replace(stage, cluster_id="cluster-2")
    assert only(check_network(other, "bank", OPTIONS, kept, probe=False)).saw.startswith("not tried")


def test_a_store_that_cannot_keep_it_is_said_beside_what_was_seen(
    stage: Stage, probing: Callable[[Finding], None]
) -> None:
    def broken() -> Store:
        raise StoreError("the store is gone", next_step="look for it")

    probing(ok("x", "it shut 4 paths"))
    seen, not_kept = check_network(stage, "bank", OPTIONS, broken, probe=True)
    assert (seen.level, not_kept.level, not_kept.next_step) == (Level.OK, Level.WARN, "look for it")
    assert only(check_network(stage, "bank", OPTIONS, broken, probe=False)).saw.startswith("not tried")


def path(row: Any, *seen: Seen) -> CanaryPath:
    return CanaryPath(row=row, way=f"way {row}", control=seen[0], fenced=seen[1], again=seen[2], at=now())


SHUT = (Seen.OPEN, Seen.SHUT, Seen.OPEN)
THROUGH = (Seen.OPEN, Seen.OPEN, Seen.OPEN)
DOWN = (Seen.SHUT, Seen.SHUT, Seen.SHUT)


@pytest.mark.parametrize(
    ("paths", "rows", "level"),
    [
        ((path("network.egress", *SHUT),), ("network.egress",), Level.OK),
        ((path("network.egress", *THROUGH),), ("network.egress",), Level.FAIL),
        (
            (path("network.egress", *SHUT), path("network.ingress", *THROUGH)),
            ("network.egress", "network.ingress"),
            Level.FAIL,
        ),
        # Policies of the namespace open that direction to every pod: what gets through says nothing.
        ((path("network.egress", *THROUGH), path("network.ingress", *SHUT)), ("network.ingress",), Level.OK),
        ((path("network.egress", *DOWN),), ("network.egress",), Level.WARN),
        ((path("network.egress", *THROUGH),), (), Level.WARN),
    ],
)
def test_only_a_path_that_opened_again_shows_enforcement(paths: Any, rows: Any, level: Level) -> None:
    target = ObjectRef(cluster="c", api_version="v1", kind="Pod", namespace="bank", name="x", uid="u")
    report = CanaryReport(
        target=target, canary="i", image="p", node="n", basis="b", started_at=now(), ended_at=now(), paths=paths
    )
    assert _judged(report, rows).level is level


def test_an_error_keeps_its_next_step() -> None:
    error = NotSent("no", system="kubernetes", verb="get", target="x", next_step="do this")
    assert failed("cluster", error).next_step == "do this"
