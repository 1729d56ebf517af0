"""Whether NetworkPolicies are enforced. Nothing in the API says so; packets do, when it is asked for that.

What they showed is kept in the store, so that plans and screens of later incidents know it without a canary.
"""

from __future__ import annotations

import contextlib
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

from ringfence.actions.base import Settings
from ringfence.actions.canary import Canary, Options
from ringfence.actions.fence import FENCE_KEY
from ringfence.errors import PlatformError, RingfenceError, StoreError, Unanswered
from ringfence.model.base import Json
from ringfence.model.canary import CanaryPath, CanaryReport, CanaryResult, Row
from ringfence.model.enforcement import Enforcement
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Outcome, Refused
from ringfence.model.plan import Change
from ringfence.platform.kubernetes import fencing
from ringfence.platform.kubernetes.policies import Direction, evaluate
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD, Resource
from ringfence.platform.kubernetes.selectors import printable
from ringfence.response.context import now
from ringfence.response.readiness.findings import Finding, Level, fail, failed, ok, warn
from ringfence.response.readiness.rehearsal import Stage
from ringfence.store import enforcement
from ringfence.store.database import Store

_CHECK = "network enforcement"
_LABELS = {"app.kubernetes.io/managed-by": "ringfence"}
_LIVES_SECONDS = 600
_GONE_SECONDS = 20.0
_POLL_SECONDS = 0.3
_LONG_AGO = timedelta(days=7)
_PLUGIN = "a network plugin that enforces NetworkPolicies; until then only the node helper cuts (node_helper)"
_ROWS: dict[Direction, Row] = {Direction.EGRESS: "network.egress", Direction.INGRESS: "network.ingress"}


def check_network(
    stage: Stage, namespace: str, options: Options | None, open_store: Callable[[], Store], *, probe: bool
) -> Iterator[Finding]:
    """Without ``probe`` nothing is started, and what was seen last is told.

    With it: a pod behind a deny-all of its own, and a canary that tries it.
    """
    if not probe or options is None:
        asked = "doctor --probe" if options is not None else "canary.image in the configuration, then doctor --probe"
        if not probe and (known := _known(open_store, stage.cluster_id)) is not None:
            yield _remembered(known, asked)
            return
        saw = "not tried: nothing in the API says whether NetworkPolicies are enforced"
        yield warn(_CHECK, saw, f"to try it: {asked}")
        return
    try:
        with _probe(stage, namespace, options) as (pod, fence):
            for finding in _tried(stage, pod, fence, options):
                yield finding
                if finding.level is not Level.WARN:
                    yield from _keep(open_store, _seen(stage, pod, finding))
    except RingfenceError as error:
        yield failed(_CHECK, error)


def _seen(stage: Stage, pod: Json, finding: Finding) -> Enforcement:
    return Enforcement(
        cluster=stage.cluster_id,
        holds=finding.level is Level.OK,
        saw=finding.saw,
        namespace=printable(pod["metadata"]["namespace"]),
        node=printable(str(pod["spec"].get("nodeName", ""))),
        at=now(),
        by=stage.user,
    )


def _keep(open_store: Callable[[], Store], seen: Enforcement) -> Iterator[Finding]:
    try:
        with contextlib.closing(open_store()) as store, store.write() as session:
            enforcement.keep(session, seen)
    except StoreError as error:
        yield warn(_CHECK, f"what was seen is not kept: {error}", error.next_step)


def _known(open_store: Callable[[], Store], cluster: str) -> Enforcement | None:
    try:
        with contextlib.closing(open_store()) as store, store.read() as session:
            return enforcement.newest(session, cluster)
    except RingfenceError:
        return None  # the store has a finding of its own


def _remembered(known: Enforcement, asked: str) -> Finding:
    moment = now()
    words = f"{known.words(moment)}: {known.saw}"
    if not known.holds:
        return fail(_CHECK, words, f"{_PLUGIN}; when there is one: {asked}")
    if moment - known.at > _LONG_AGO:
        return warn(_CHECK, words, f"that is long ago: {asked}")
    return ok(_CHECK, words)


@contextlib.contextmanager
def _probe(stage: Stage, namespace: str, options: Options) -> Iterator[tuple[Json, str]]:
    """A pod that does nothing, behind a fence that selects it alone; both are gone afterwards, whatever happens."""
    fence, name = secrets.token_hex(8), f"ringfence-doctor-{secrets.token_hex(4)}"
    deny = fencing.deny_all(name, namespace, key=FENCE_KEY, value=fence, labels=_LABELS)
    pod = _manifest(name, namespace, fence, options)
    try:
        stage.cluster.create(NETWORK_POLICY, namespace, deny, audit_id=str(uuid.uuid4()))
        stage.cluster.create(POD, namespace, pod, audit_id=str(uuid.uuid4()))
        yield _running(stage, pod, options.seconds), fence
    finally:
        # Also what was asked for and never answered.
        for resource in (POD, NETWORK_POLICY):
            _remove(stage, resource, namespace, name)


def _manifest(name: str, namespace: str, fence: str, options: Options) -> Json:
    container = {
        "name": "probe",
        "image": options.image,
        "imagePullPolicy": options.pull_policy,
        "command": ["python3", "-c", f"import time; time.sleep({_LIVES_SECONDS})"],
        "ports": [{"containerPort": 8080}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {**_LABELS, FENCE_KEY: fence}},
        "spec": {
            "activeDeadlineSeconds": _LIVES_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    }


def _running(stage: Stage, pod: Json, seconds: float) -> Json:
    """The pod as soon as it runs. Raises Unanswered when it does not, NotFound when somebody deletes it."""
    meta = pod["metadata"]
    deadline = time.monotonic() + max(seconds, 20)
    while True:
        live = stage.cluster.get(POD, meta["namespace"], meta["name"])
        phase = (live.get("status") or {}).get("phase")
        if phase == "Running":
            return live
        if phase in ("Failed", "Succeeded") or time.monotonic() >= deadline:
            raise Unanswered(
                f"the probe pod {meta['name']} does not run",
                system="kubernetes",
                verb="create",
                target=f"pods/{meta['name']} in {meta['namespace']}",
                why=f"its phase is {phase}",
                next_step=f"kubectl describe a pod with canary.image in namespace {meta['namespace']}",
            )
        time.sleep(_POLL_SECONDS)


def _remove(stage: Stage, resource: Resource, namespace: str, name: str) -> None:
    """Delete it and see it go; the name is of our own making, so whatever has it is ours. What stays ends by itself."""
    deadline = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(PlatformError):
            live = stage.cluster.find(resource, namespace, name)
            if live is None:
                return
            if not live["metadata"].get("deletionTimestamp"):
                uid = live["metadata"]["uid"]
                stage.cluster.delete(resource, namespace, name, uid=uid, audit_id=str(uuid.uuid4()))
        time.sleep(_POLL_SECONDS)


def _tried(stage: Stage, pod: Json, fence: str, options: Options) -> Iterator[Finding]:
    canary = Canary(stage.cluster, Settings(fence, stage.policy.serving_floor), options)
    target = ObjectRef.of(stage.cluster_id, {**pod, "apiVersion": POD.api_version, "kind": POD.kind})
    around = canary.look(stage.cluster_id, target, stage.pool)
    plan = canary.plan(target, around)
    if isinstance(plan, Refused):
        yield warn(_CHECK, f"not tried: {plan.reason}", plan.next_step)
        return

    def send(change: Change) -> Outcome:
        return canary.apply(change, str(uuid.uuid4())).outcome

    report = canary.examine(plan, around, send)
    isolation = evaluate(around.pod, around.policies)
    yield _judged(report, tuple(row for direction, row in _ROWS.items() if isolation.shut(direction)))
    if report.left_behind:
        yield warn(
            _CHECK, f"not seen to be gone: {', '.join(report.left_behind)}", "delete them; they end by themselves"
        )


def _judged(report: CanaryReport, rows: tuple[Row, ...]) -> Finding:
    """``rows`` are the directions that the policies shut: of the others, nothing can be said by what gets through."""
    opened, shut = report.of(rows, CanaryResult.ACCEPTED), report.of(rows, CanaryResult.REFUSED)
    if opened:
        return fail(
            _CHECK,
            f"a deny-all does not hold: {len(opened)} of {len(report.paths)} paths get through ({_named(opened)})",
            _PLUGIN,
        )
    if shut:
        return ok(_CHECK, f"a deny-all shut {len(shut)} paths that are open without it ({_named(shut)})")
    why = report.why or (
        "no path was open without the fence" if rows else "policies with an empty selector open every pod there"
    )
    return warn(_CHECK, f"not tried: {why}", "try another namespace: doctor --probe -n NAMESPACE")


def _named(paths: tuple[CanaryPath, ...]) -> str:
    shown = "; ".join(path.way for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
