"""Every action × every fault × each of its mutating requests, through a proxy in front of the lab's API server.

The table (tests/faults/table.py) says what the step must say; the API server's own objects and audit log say whether
that is true: the write is there or it is not, it landed once at most, the journal and the chain hold, and ``reconcile``
ends at the truth. Not here: watches (the product has none, its readers poll), and packets.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lab.kube import Kube, wait_until
from lab.layout import Lab
from ringfence.actions.base import Action, Settings
from ringfence.actions.checkpoint import PERMISSIONS as CHECKPOINT
from ringfence.actions.checkpoint import Checkpoint
from ringfence.actions.node_helper import NODE_ACTIONS, PERMISSIONS
from ringfence.actions.registry import ACTIONS
from ringfence.cli.manifests import Account, rights, rights_in
from ringfence.errors import RingfenceError
from ringfence.evidence.vault import Vault
from ringfence.model.incident import Incident, Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Refused
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.principal import Principal
from ringfence.model.timeline import ChangeResult
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.identity import cluster_uid, whoami
from ringfence.platform.kubernetes.resources import resource_of
from ringfence.response import steps
from ringfence.response.context import Context, Policy, now
from ringfence.store import incidents, journal, timeline
from ringfence.store.database import Store, open_store
from tests.faults import table
from tests.faults.kubelet import Kubelet
from tests.faults.proxy import Aim, Dribble, Fault, Proxy, Upstream
from tests.faults.scenes import SCENES, Scene, Stage
from tests.faults.table import Row
from tests.lab.program import Office
from tests.wire import kubeconfig

pytestmark = pytest.mark.lab
WORKERS = 6
TOGETHER = 5
METHODS = {Verb.CREATE: "POST", Verb.PATCH: "PATCH", Verb.DELETE: "DELETE"}
SECONDS, HASTY_SECONDS = 5.0, 1.0
_RUN = re.compile(r"-[0-9a-f]{6}(?:[0-9a-f]{4})?$")
_AUDIT_ID = re.compile(rb'"auditID":"([^"]+)"')
Json = dict[str, Any]


@dataclass
class Range:
    """What all cases share: the lab, a store, a namespace for each worker."""

    lab: Lab
    kube: Kube
    upstream: Upstream
    cluster_id: str
    principal: Principal
    direct: Cluster
    store: Store
    folder: Path
    pool: ThreadPoolExecutor
    namespaces: list[str]
    numbers: Iterator[int]
    lock: threading.Lock
    kubelet: Kubelet

    def policy(self, *, witness: bool) -> Policy:
        return Policy(
            serving_floor=0,
            pre_cut_wait_ms=0,
            seal_max_age_seconds=900,
            delete_wait_seconds=1,
            token_canary=False,
            protected_namespaces=(),
            protected_label="ringfence.dev/protected",
            audit_log=self.lab.audit_log if witness else None,
        )

    def mark(self) -> tuple[int, int]:
        """A place in the audit log: its file and its length."""
        found = self.lab.audit_log.stat()
        return found.st_ino, found.st_size

    def landed(self, since: tuple[int, int], audit_ids: Collection[str]) -> Counter[str]:
        """Audit-ID → how often the API server answered such a mutating request with 2xx, by its own log."""
        found: Counter[str] = Counter()
        logs = sorted(self.lab.audit_log.parent.glob("audit*.jsonl"))  # it may have been rotated meanwhile
        names = [log.stat().st_ino for log in logs]
        assert since[0] in names, "the audit log was rotated away"
        for log, name in zip(logs, names, strict=True):
            if log != self.lab.audit_log and name != since[0]:
                continue
            with log.open("rb") as lines:
                lines.seek(since[1] if name == since[0] else 0)
                for line in lines:
                    named = _AUDIT_ID.search(line)
                    if named is None or named[1].decode() not in audit_ids:
                        continue
                    event = json.loads(line)
                    mutates = event["verb"] in ("create", "patch", "delete")
                    if mutates and event["stage"] == "ResponseComplete" and event["responseStatus"]["code"] < 300:
                        found[event["auditID"]] += 1
        return found


@pytest.fixture(scope="module")
def ground(
    argocd: Lab, keda: Lab, office: Office, _migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Range]:
    assert argocd == keda  # two of the actions are about Argo CD's and KEDA's objects
    lab = argocd
    folder = tmp_path_factory.mktemp("faults")
    store = open_store(f"sqlite:///{shutil.copy(_migrated, folder / 'faults.db')}")

    @sa.event.listens_for(store._engine, "connect")
    def relax(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    store._engine.dispose()
    # As a service account that has what ``ringfence rbac`` renders; only scenes are set by the administrator.
    opted_in = {"identity": {"legacy_tokens": True, "restore_bindings": True}}
    person = str(office.appoint("flo", settings=opted_in).kubeconfig)
    kube, upstream = Kube.of(lab), Upstream(person)
    direct = connect(person, None, 20.0)
    cluster_id = cluster_uid(direct)
    run = secrets.token_hex(3)
    names = [f"faults-{run}-{number}" for number in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool, Kubelet(lab) as kubelet:
        list(pool.map(lambda name: _namespace(kube, name), names))
        for name in names:
            _allow_helpers(kube, name, Account(office.namespace, "flo"))
        for manifest in rights(f"{run}-checkpoint", CHECKPOINT, Account(office.namespace, "flo")).objects:
            office.made.append(manifest)
            kube.create(manifest)
        yield Range(
            lab,
            kube,
            upstream,
            cluster_id,
            whoami(direct, cluster_id),
            direct,
            store,
            folder,
            pool,
            names,
            itertools.count(1),
            threading.Lock(),
            kubelet,
        )
        for name in names:
            kube.delete("v1", "Namespace", name)
        wait_until(lambda: all(kube.find("v1", "Namespace", n) is None for n in names), 60, "the namespaces to be gone")
    direct.close()
    upstream.close()
    kube.close()
    store.close()


def _namespace(kube: Kube, name: str) -> None:
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wait_until(lambda: kube.find("v1", "ServiceAccount", "default", name) is not None, 20, f"{name} to be ready")


def _allow_helpers(kube: Kube, namespace: str, account: Account) -> None:
    """The rights of the node helper, as ``ringfence rbac --node-helper`` renders them for that namespace."""
    for manifest in rights_in(namespace, "node-helper", PERMISSIONS, account).objects:
        kube.create(manifest)


# --- one case -----------------------------------------------------------------
@dataclass
class Case:
    """An action planned on objects of its own, and then carried out through a proxy."""

    ground: Range
    scene: Scene
    stage: Stage
    target: ObjectRef
    settings: Settings
    plan: Plan
    incident: Incident

    def again(self) -> Case:
        """The same objects and plan under an incident of its own: for where nothing was changed."""
        return replace(self, incident=declared(self.ground, self.target, secrets.token_hex(8)))

    def context(self, cluster: Cluster, *, witness: bool = False) -> Context:
        ground = self.ground
        return Context(
            cluster=cluster,
            cluster_id=ground.cluster_id,
            principal=ground.principal,
            store=ground.store,
            vault=Vault(ground.folder / "vault"),
            sealer=_no_sealer,
            policy=ground.policy(witness=witness),
            pool=ground.pool,
            logs_pool=ground.pool,
        )

    def action(self, cluster: Cluster) -> Action[Any]:
        return self.scene.act(cluster, self.settings, self.stage.namespace)

    def reach(self, proxy: Proxy, seconds: float, what: str = "") -> Cluster:
        path = self.ground.folder / f"kubeconfig-{self.stage.tag}{what}"
        return connect(kubeconfig(path, proxy.url), None, seconds)

    def live(self, change: Change) -> Json | None:
        ref = change.ref
        return self.ground.kube.find(ref.api_version, ref.kind, ref.name, ref.namespace)

    def outcome(self, change: Change) -> tuple[str, str]:
        """Kind and code of the change's outcome as the journal has it."""
        with self.ground.store.read() as session:
            record = journal.find(session, self.incident.id, "cut/1", change.id)
        assert record is not None
        assert record.outcome is not None
        return record.outcome.kind, table.code_of(record.outcome)

    def audit_id(self, change: Change) -> str:
        return change.audit_id(self.incident.id, self.incident.fence, "cut/1")


def _no_sealer() -> Any:
    raise AssertionError("no step of these seals")


def prepared(ground: Range, scene: Scene, namespace: str) -> Case:
    with ground.lock:
        number = next(ground.numbers)
    fence = secrets.token_hex(8)
    kubelet = (ground.kubelet.address, ground.kubelet.port)
    stage = Stage(ground.kube, namespace, f"case-{number}-{fence[:4]}", fence, kubelet)
    made = scene.build(stage)
    target = ObjectRef.of(ground.cluster_id, made)
    settings = Settings(fence, 0, delete_wait_seconds=0.0, rollout_wait_seconds=0.0, **scene.settings)
    action = scene.act(ground.direct, settings, namespace)
    with ThreadPoolExecutor(4) as pool:
        plan = scene.planned(action, target, action.look(ground.cluster_id, target, pool))
    assert isinstance(plan, Plan), plan
    return Case(ground, scene, stage, target, settings, plan, declared(ground, target, fence))


def declared(ground: Range, target: ObjectRef, fence: str) -> Incident:
    with ground.store.write() as session:
        return incidents.declare(
            session,
            target=target,
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title="a fault",
            principal=ground.principal,
            fence=fence,
            command="test",
            now=now(),
        )


def aim_at(change: Change, fault: Fault) -> Aim:
    ref = change.ref
    name = "" if change.verb is Verb.CREATE and not change.subresource else ref.name
    path = resource_of(ref).path(ref.namespace, name, change.subresource)
    return Aim(fault, METHODS[change.verb], path, dry=False)


def blind(change: Change) -> Aim:
    path = resource_of(change.ref).path(change.ref.namespace, change.ref.name)
    return Aim(Fault(table.SPOILS["503"], reaches=False), "GET", path, times=1_000)


def content(obj: Json | None) -> Any:
    """What our changes change of an object, without what controllers write."""
    if obj is None:
        return None
    meta = obj["metadata"]
    kept = {key: value for key, value in (meta.get("annotations") or {}).items() if "kubernetes.io/" not in key}
    spec = obj.get("spec", obj.get("subjects"))
    if obj["kind"] == "Node":
        spec = {"unschedulable": spec.get("unschedulable")}
    return meta["uid"], meta.get("deletionTimestamp") is None, meta.get("labels"), kept, spec


def carry_out(
    case: Case, change: Change, row: Row, *, witness: bool = False
) -> tuple[tuple[str, str], tuple[str, str], list[str]]:
    """Run the step under the fault; outcome before and after ``reconcile``, and what is wrong beside it."""
    wrong: list[str] = []
    aims = [aim_at(change, row.fault), *([blind(change)] if row.blind else [])]
    hasty = isinstance(row.fault.spoil, Dribble)
    with Proxy(case.ground.upstream, aims) as proxy:
        cluster = case.reach(proxy, HASTY_SECONDS if hasty else SECONDS)
        try:
            context = case.context(cluster, witness=witness)
            steps.carry_out(context, case.incident, "cut/1", case.action(cluster), case.plan)
            first = case.outcome(change)
            if not any(exchange.spoilt for exchange in proxy.writes):
                wrong.append("the fault hit no request")
            sent = [exchange.audit_id for exchange in proxy.writes]
            behind = case.plan.changes[case.plan.changes.index(change) + 1 :]
            if change.needed and first[0] in ("failed", "unknown") and {case.audit_id(c) for c in behind} & set(sent):
                wrong.append("a later change was sent although this one is needed and did not take effect")
            proxy.settle()
            proxy.aims.clear()
            steps.reconcile(context, case.incident)
        finally:
            cluster.close()
    return first, case.outcome(change), wrong


def truths(case: Case, change: Change, before: Json | None, *, landed: bool) -> list[str]:
    """What live state and the timeline have to say against it."""
    wrong = []
    if not case.scene.of_node and (content(case.live(change)) != content(before)) is not landed:
        wrong.append(f"live state: the change {'is missing' if landed else 'is there'}")
    with case.ground.store.read() as session:
        entries = timeline.read(session, case.incident.id)  # raises when the chain does not hold
        record = journal.find(session, case.incident.id, "cut/1", change.id)
    results = [e.event for e in entries if isinstance(e.event, ChangeResult) and e.event.change == change.id]
    if record is None or not results or results[-1].outcome != record.outcome:
        wrong.append("the timeline's last result is not the journal's")
    if sum(1 for result in results if result.sent_at is not None) != 1:
        wrong.append("the timeline does not have it sent exactly once")
    return wrong


Task = Callable[[str], list[str]]


def together(ground: Range, tasks: list[Task]) -> list[str]:
    """Run the tasks, each in a namespace of its own; what is wrong, altogether."""
    free = list(ground.namespaces)
    lock = threading.Lock()

    def one(task: Task) -> list[str]:
        with lock:
            namespace = free.pop()
        try:
            return task(namespace)
        finally:
            with lock:
                free.append(namespace)

    with ThreadPoolExecutor(WORKERS) as pool:
        return [words for found in pool.map(one, tasks) for words in found]


# --- the table -----------------------------------------------------------------
def test_every_registered_action_is_in_the_table() -> None:
    """node.freeze sends what node.cut does, with another order in it."""
    assert {scene.action for scene in SCENES} == {*ACTIONS, *NODE_ACTIONS, Checkpoint.name} - {"node.freeze"}
    assert [scene.action for scene in SCENES if scene.of_node] == [Checkpoint.name]


WITNESSED = ("connection cut", "500")


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_each_fault_of_each_request_ends_in_its_outcome(ground: Range, scene: Scene) -> None:
    expectations: dict[str, tuple[str, int]] = {}
    since, archives = ground.mark(), len(ground.kubelet.asked)

    def played(case: Case, position: int, row: Row, witness: bool) -> list[str]:
        change = case.plan.changes[position]
        title = f"{change.id}: {row.title}{', with the audit log' if witness else ''}"
        # An account that is recreated is there before it is deleted: what a create makes was never there.
        before = None if change.verb is Verb.CREATE else case.live(change)
        want = table.expected(row, change.verb, witness=witness, of_node=scene.of_node)
        first, then, wrong = carry_out(case, change, row, witness=witness)
        if first != (want.kind, want.code):
            wrong.append(f"it says {first}, not {(want.kind, want.code)}")
        if then != (want.then, want.then_code):
            wrong.append(f"after reconcile it says {then}, not {(want.then, want.then_code)}")
        wrong += truths(case, change, before, landed=want.landed)
        with ground.lock:
            expectations[case.audit_id(change)] = (title, int(want.landed))
        return [f"{title}: {words}" for words in wrong]

    def task(position: int, group: Sequence[tuple[Row, bool]]) -> Task:
        def run(namespace: str) -> list[str]:
            case = prepared(ground, scene, namespace)
            try:
                planned = tuple(
                    _RUN.sub("-{run}", change.id.replace(case.stage.tag, "{tag}").replace(namespace, "{namespace}"))
                    for change in case.plan.changes
                )
                if planned != scene.changes:
                    return [f"the plan has {planned}"]
                return [words for row, witness in group for words in played(case.again(), position, row, witness)]
            finally:
                case.stage.clear()

        return run

    tasks = [
        task(position, group)
        for position in range(scene.shared, len(scene.changes))
        for group in _groups(scene, position)
    ]
    wrong = together(ground, tasks)
    landed = ground.landed(since, expectations)
    wrong += [
        f"{title}: it landed {landed[audit_id]} times by the audit log, not {times}"
        for audit_id, (title, times) in expectations.items()
        if landed[audit_id] != times
    ]
    if scene.of_node:
        made = len(ground.kubelet.asked) - archives
        wrong += [f"{made} archives"] if made != sum(times for _, times in expectations.values()) else []
    each = sum(2 if row.name in WITNESSED else 1 for row in table.rows(of_node=scene.of_node))
    assert len(expectations) == (len(scene.changes) - scene.shared) * each
    assert not wrong, f"{len(wrong)} of {len(expectations)} cases:\n" + "\n".join(wrong)


def _groups(scene: Scene, position: int) -> Iterator[list[tuple[Row, bool]]]:
    """The rows, those together that can be played on the same objects because they change nothing."""
    still: list[tuple[Row, bool]] = []
    for row in table.rows(of_node=scene.of_node):
        for witness in (False, True) if row.name in WITNESSED else (False,):
            # Where a change is not needed, the ones behind it are made all the same.
            goes_on = scene.changes[position].startswith(("exclude-", "unbind-", "create-account", "delete-case"))
            moves = (table.expected(row, Verb.PATCH).landed and not scene.of_node) or goes_on
            if moves:
                yield [(row, witness)]
            else:
                still.append((row, witness))
    for first in range(0, len(still), TOGETHER):
        yield still[first : first + TOGETHER]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_what_somebody_else_does_meanwhile_is_not_taken_for_ours(ground: Range, scene: Scene) -> None:
    def task(position: int, what: str, witness: bool) -> Task:
        def run(namespace: str) -> list[str]:
            case = prepared(ground, scene, namespace)
            try:
                change = case.plan.changes[position]
                want = table.interfered(what, change.verb, witness=witness, of_node=scene.of_node)
                if want is None:
                    return []
                row = Row(
                    what, Fault(table.SPOILS["connection cut"], True, meanwhile=_meddling(case, change, what)), what
                )
                if what == "vanished":
                    row = replace(row, fault=Fault(row.fault.spoil, True))
                    _end(case, change)
                first, then, wrong = _meddled(case, change, row, witness=witness)
                if not first == then == want:
                    wrong.append(f"it says {first}, then {then}, not {want}")
                return [f"{change.id}: {what}{', with the audit log' if witness else ''}: {w}" for w in wrong]
            finally:
                case.stage.clear()

        return run

    tasks = [
        task(position, what, witness)
        for position in range(scene.shared, len(scene.changes))
        for what in ("vanished", "reverted", "ended")
        for witness in (False, True)
    ]
    wrong = together(ground, tasks)
    assert not wrong, "\n".join(wrong)


def _meddled(
    case: Case, change: Change, row: Row, *, witness: bool
) -> tuple[tuple[str, str], tuple[str, str], list[str]]:
    if row.name != "vanished":
        return carry_out(case, change, row, witness=witness)
    context = case.context(case.ground.direct, witness=witness)
    steps.carry_out(context, case.incident, "cut/1", case.action(case.ground.direct), case.plan)
    first = case.outcome(change)
    steps.reconcile(context, case.incident)
    return first, case.outcome(change), []


def _meddling(case: Case, change: Change, what: str) -> Callable[[], object]:
    if what == "ended":
        return lambda: _end(case, change)
    ref = change.ref

    def put_back() -> None:
        before, live = change.prior or {}, case.live(change)
        assert live is not None
        said = {member: before[member] for member in ("spec", "subjects") if member in before}
        back = {**live, **said, "metadata": {**live["metadata"]}}
        for member in ("labels", "annotations"):
            back["metadata"][member] = before["metadata"].get(member)
        # A custom resource is replaced only by who names its version; no controller looks at these.
        if not ref.api_version.startswith(("argoproj.io/", "keda.sh/")):
            del back["metadata"]["resourceVersion"]  # whatever a controller has written meanwhile
        path = resource_of(ref).path(ref.namespace, ref.name)
        case.ground.kube.request("PUT", path, back)

    return put_back


def _end(case: Case, change: Change) -> None:
    ref = change.ref
    case.ground.kube.delete(ref.api_version, ref.kind, ref.name, ref.namespace, grace_seconds=0, wait=10)


# --- planning -----------------------------------------------------------------
READING = (
    *("401", "403, the authoriser", "404, a page", "429, come back in 1 h", "500", "503", "connection cut", "body cut"),
    *("200, a login page", "200, other JSON", "200, no body", "302 to a login page"),
)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_plan_is_never_made_from_answers_of_a_stranger(ground: Range, scene: Scene) -> None:
    """Neither reads nor dry runs that fail make a plan, and nothing is written."""
    case = prepared(ground, scene, ground.namespaces[0])
    tried = [change for change in case.plan.changes if change.needed and not scene.of_node]  # no kubelet has a dry run
    methods = {"GET", *(METHODS[change.verb] for change in tried)}

    def task(name: str, method: str) -> Task:
        def run(_namespace: str) -> list[str]:
            spoil = table.EXPIRED if name == "410" else table.SPOILS[name]
            aim = Aim(Fault(spoil, reaches=False), method, dry=None if method == "GET" else True, times=1_000)
            with Proxy(ground.upstream, [aim]) as proxy:
                cluster = case.reach(proxy, SECONDS, f"{method}-{name}")
                action = case.action(cluster)
                try:
                    with ThreadPoolExecutor(4) as pool:
                        around = action.look(ground.cluster_id, case.target, pool)
                        made = scene.planned(action, case.target, around)
                except RingfenceError:
                    made = None
                finally:
                    cluster.close()
            wrong = [f"{method} {name}: it wrote {proxy.writes}"] if proxy.writes else []
            if made is not None and not isinstance(made, Refused):
                wrong.append(f"{method} {name}: it planned {made}")
            return wrong

        return run

    try:
        wrong = together(ground, [task(name, method) for name in (*READING, "410") for method in sorted(methods)])
    finally:
        case.stage.clear()
    assert not wrong, "\n".join(wrong)


def test_a_throttled_night_does_not_stop_the_cut(ground: Range) -> None:
    """Each request is turned away once, with a second to wait: reads, dry runs and writes all come back."""
    case = prepared(ground, SCENES[1], ground.namespaces[0])
    fault = Fault(table.SPOILS["429, come back in 1 s"], reaches=False)
    seen: set[str] = set()
    aims = [Aim(fault, method, times=2) for method in ("GET", "POST", "PATCH")]
    with Proxy(ground.upstream, aims) as proxy, ThreadPoolExecutor(4) as pool:
        cluster = case.reach(proxy, SECONDS)
        action = case.action(cluster)
        began = time.monotonic()
        plan = action.plan(case.target, action.look(ground.cluster_id, case.target, pool))
        assert isinstance(plan, Plan)
        result = steps.carry_out(case.context(cluster), case.incident, "cut/1", action, plan)
        took = time.monotonic() - began
        cluster.close()
        seen.update(exchange.method for exchange in proxy.exchanges if exchange.spoilt)
    case.stage.clear()
    assert seen == {"GET", "POST", "PATCH"}
    assert result.outcome.kind == "applied"
    assert took >= 1.0, "it waited as it was told to"
