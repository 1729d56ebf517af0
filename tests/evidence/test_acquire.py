"""Acquiring: bytes unchanged, each way of not getting them told apart, and the logs of every container."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    NotSent,
    PlatformError,
    Throttled,
    Unanswered,
    VaultError,
)
from ringfence.evidence.acquire import LIMITS, Acquirer, StreamLimits, What
from ringfence.evidence.collect import collect
from ringfence.evidence.logs import LogCapture
from ringfence.evidence.sealing import shortfall, stored_blob
from ringfence.evidence.vault import Vault
from ringfence.model.evidence import Collected, EvidenceItem
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import CORE_EVENT, EVENT, POD, ROLE_BINDING
from ringfence.platform.kubernetes.snapshot import Snapshot
from ringfence.platform.kubernetes.surroundings import read_pod, read_surroundings
from ringfence.seal.blob import BlobFolder, read_blob
from tests.simulator import Fault, Simulator
from tests.small_bank import add_pod, pod_body
from tests.wire import Answer, Wire

Json = dict[str, Any]
WHAT = What("pod", "Pod", "/api/v1/namespaces/bank/pods/cards-1", "get", volatility=2)
LOG = What("logs/cards/previous", "log", "/log", "get", volatility=2, required=True, absent_on_invalid=True)
ODD = b'\xff\xfe{"a" : 1}\x00\r\n' * 9000


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFolder:
    return Vault(tmp_path / "vault").blobs("INC-1")


@pytest.fixture
def acquirer(cluster: Cluster, blobs: BlobFolder) -> Acquirer:
    return Acquirer(cluster, blobs, operator="k/alice", authority="incident INC-1")


def raw(blobs: BlobFolder, item: EvidenceItem) -> bytes:
    assert item.blob is not None
    blob = stored_blob(item.blob)
    with blobs.open(blob) as stored:
        return b"".join(read_blob(stored, blob, item.id))


def failing(error: Exception, first: tuple[bytes, ...] = (b"half of ",)) -> Any:
    def fetch() -> Iterator[bytes]:
        yield from first
        raise error

    return fetch


def problem(kind: type[PlatformError], status: int | None) -> PlatformError:
    return kind("no", system="kubernetes", verb="get", target="x", status=status, why="the reason")


def test_bytes_are_kept_as_sent_with_their_hash(acquirer: Acquirer, blobs: BlobFolder) -> None:
    item = acquirer.read(WHAT, lambda: (ODD[:7], b"", ODD[7:]))
    assert raw(blobs, item) == ODD
    assert item.blob is not None
    assert (item.blob.raw_sha256, item.blob.raw_size) == (hashlib.sha256(ODD).hexdigest(), len(ODD))
    assert (item.operator, item.authority, item.result) == ("k/alice", "incident INC-1", Collected.COLLECTED)
    assert item.started_at <= item.ended_at


def test_the_same_bytes_twice_are_one_blob(acquirer: Acquirer, blobs: BlobFolder) -> None:
    first, second = (acquirer.read(WHAT, lambda: (ODD,)) for _ in range(2))
    assert first.blob == second.blob
    assert len(list(blobs.path.iterdir())) == 1


@pytest.mark.parametrize(
    ("kind", "status", "what", "result"),
    [
        (NotFound, 404, WHAT, Collected.ABSENT),
        (Denied, 403, WHAT, Collected.DENIED),
        (Denied, 401, WHAT, Collected.DENIED),
        (Invalid, 400, WHAT, Collected.FAILED),
        (Invalid, 400, LOG, Collected.ABSENT),  # the kubelet: there is no previous instance
        (Invalid, 204, LOG, Collected.ABSENT),  # the API server: no node has the pod
        (Invalid, 204, WHAT, Collected.FAILED),
        (Invalid, 302, LOG, Collected.FAILED),  # a redirect says nothing about the log
        (Invalid, 403, LOG, Collected.FAILED),  # nor does a refusal by admission
        (Invalid, 422, LOG, Collected.FAILED),
        (Denied, 403, LOG, Collected.DENIED),
        (Conflict, 409, WHAT, Collected.FAILED),
        (Throttled, 429, LOG, Collected.FAILED),
        (Unanswered, 500, LOG, Collected.FAILED),
        (Unanswered, None, WHAT, Collected.FAILED),
        (NotSent, None, WHAT, Collected.FAILED),
    ],
)
def test_each_failure_is_an_item_that_says_why(
    acquirer: Acquirer, blobs: BlobFolder, kind: type[PlatformError], status: int | None, what: What, result: Collected
) -> None:
    item = acquirer.read(what, failing(problem(kind, status)))
    assert (item.result, item.blob) == (result, None)
    assert "the reason" in item.reason
    assert list(blobs.path.iterdir()) == [], "half an item leaves nothing behind"


def test_a_stream_says_when_it_is_open_also_when_it_will_never_be(acquirer: Acquirer) -> None:
    opened = threading.Event()

    @contextmanager
    def stream() -> Iterator[list[bytes]]:
        yield [b"x"]

    (item,) = acquirer.stream(LOG, stream, on_open=opened.set)
    assert item.result is Collected.COLLECTED
    assert opened.is_set()

    opened.clear()
    refused = contextmanager(failing(problem(Invalid, 400), first=()))
    (item,) = acquirer.stream(LOG, refused, on_open=opened.set)
    assert item.result is Collected.ABSENT
    assert opened.is_set()


def test_only_the_vault_raises(cluster: Cluster, tmp_path: Path) -> None:
    acquirer = Acquirer(cluster, BlobFolder(tmp_path / "nowhere"), operator="o", authority="a")
    with pytest.raises(VaultError):
        acquirer.read(WHAT, lambda: (b"x",))


def test_a_vault_in_the_way_of_a_file_names_its_place(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("")
    vault = Vault(tmp_path / "vault")
    for use in (vault.check, lambda: vault.blobs("INC-1")):
        with pytest.raises(VaultError, match="vault"):
            use()


def test_the_vault_is_its_owners_alone_and_bundles_never_share_a_name(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    vault.check()
    vault.blobs("INC-1")
    assert [path.stat().st_mode & 0o077 for path in (vault.root, vault.root / "INC-1")] == [0, 0]
    first = vault.bundle("INC-1", 1)
    first.write_text("an unrecorded bundle")
    assert vault.bundle("INC-1", 1) not in (first, vault.bundle("INC-1", 2))


# --- logs -----------------------------------------------------------------------------------------------------------


def capture(
    acquirer: Acquirer, pool: ThreadPoolExecutor, name: str = "cards-1", limits: StreamLimits = LIMITS
) -> dict[str, EvidenceItem]:
    logs = LogCapture(acquirer, read_pod(acquirer.cluster, "bank", name)[0], pool, limits)
    logs.wait_opened(2)
    items = logs.finish()
    assert len({item.id for item in items}) == len(items)
    return {item.id: item for item in items}


def test_current_later_and_previous_logs_of_a_running_container(
    acquirer: Acquirer, blobs: BlobFolder, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.logs["cards-1", "cards", False] = ODD
    items = capture(acquirer, pool)
    assert {name: item.result for name, item in items.items()} == {
        "logs/cards/current": Collected.COLLECTED,
        "logs/cards/after-cut": Collected.COLLECTED,
        "logs/cards/previous": Collected.ABSENT,
    }
    assert raw(blobs, items["logs/cards/current"]) == ODD
    assert items["logs/cards/current"].required
    assert items["logs/cards/previous"].required


def test_every_container_is_asked_also_those_of_the_attacker(
    acquirer: Acquirer, blobs: BlobFolder, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    body = pod_body()
    body["spec"] |= {"initContainers": [{"name": "setup"}], "ephemeralContainers": [{"name": "debugger"}]}
    body["status"]["ephemeralContainerStatuses"] = [{"name": "debugger", "state": {"terminated": {}}}]
    add_pod(api, "busy", body)
    api.logs["busy", "debugger", False] = b"id\n"
    api.logs["busy", "cards", True] = b"the instance before\n"
    items = capture(acquirer, pool, "busy")
    assert raw(blobs, items["logs/debugger/current"]) == b"id\n"
    assert raw(blobs, items["logs/cards/previous"]) == b"the instance before\n"
    assert not items["logs/setup/current"].required, "it was never started: it cannot have written anything"
    assert items["logs/setup/current"].result is Collected.ABSENT
    assert shortfall([acquirer.read(WHAT, lambda: (b"x",)), *items.values()]) == ()


def test_a_current_log_that_is_missing_for_a_started_container_is_no_absence_that_opens_the_gate(
    acquirer: Acquirer, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    del api.logs["cards-1", "cards", False]
    items = capture(acquirer, pool)
    assert items["logs/cards/current"].result is Collected.FAILED
    assert any("logs/cards/current" in why for why in shortfall(items.values()))


@pytest.mark.parametrize("status", [302, 403, 500])
def test_a_previous_log_that_could_not_be_asked_for_keeps_the_gate_shut(
    acquirer: Acquirer, wire: Wire, api: Simulator, pool: ThreadPoolExecutor, status: int
) -> None:
    wire.responder = lambda request: Answer(status, b"<html>") if "previous" in request.query else api(request)
    items = capture(acquirer, pool)
    assert items["logs/cards/previous"].result in (Collected.FAILED, Collected.DENIED)
    assert any("logs/cards/previous" in why for why in shortfall(items.values()))


def test_a_slow_log_does_not_hold_up_the_cut(
    acquirer: Acquirer, wire: Wire, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    pod = read_pod(acquirer.cluster, "bank", "cards-1")[0]
    slow = threading.Event()

    def respond(request: Any) -> Answer:
        if request.path.endswith("/log"):
            slow.wait(5)
        return api(request)

    wire.responder = respond
    logs = LogCapture(acquirer, pod, pool)
    try:
        assert (logs.streams, logs.wait_opened(0.05)) == (1, 0)
    finally:
        slow.set()
    assert {item.id for item in logs.finish()} >= {"logs/cards/current"}


def test_of_a_log_that_breaks_off_the_beginning_is_kept_and_the_gate_stays_shut(
    acquirer: Acquirer, blobs: BlobFolder, wire: Wire, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.logs["cards-1", "cards", False] = ODD
    wire.responder = lambda request: (
        replace(api(request), sends=70_001) if request.query.keys() == {"container", "timestamps"} else api(request)
    )
    items = capture(acquirer, pool)
    whole, part = items["logs/cards/current"], items["logs/cards/current.partial"]
    assert (whole.result, whole.required, whole.blob) == (Collected.FAILED, True, None)
    assert "broke off" in whole.reason
    assert "70001 bytes" in whole.reason
    assert part.id in whole.reason
    assert (part.result, part.required) == (Collected.COLLECTED, False)
    assert "broke off" in part.reason
    assert raw(blobs, part) == ODD[:70_001], "to the last byte that came"
    assert items["logs/cards/after-cut"].result is Collected.COLLECTED, "one stream that breaks stops no other"
    pod = acquirer.read(WHAT, lambda: (b"x",))
    assert [why.split(":")[0] for why in shortfall([pod, *items.values()])] == ["logs/cards/current"]


def test_a_log_of_which_nothing_came_leaves_nothing_behind(
    acquirer: Acquirer, blobs: BlobFolder, wire: Wire, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    def respond(request: Any) -> Answer:
        answer = api(request)
        return Answer(200, answer.body, sends=0) if request.path.endswith("/log") else answer

    wire.responder = respond
    items = capture(acquirer, pool)
    assert {name for name in items if name.endswith(".partial")} == set()
    assert {item.result for item in items.values()} == {Collected.FAILED}
    assert list(blobs.path.iterdir()) == []


def test_a_log_beyond_the_limit_is_cut_and_says_whose_limit_it_was(
    acquirer: Acquirer, blobs: BlobFolder, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.logs["cards-1", "cards", False] = ODD
    items = capture(acquirer, pool, limits=StreamLimits(max_bytes=100_000))
    whole, part = items["logs/cards/current"], items["logs/cards/current.partial"]
    assert raw(blobs, part) == ODD[:100_000]
    assert whole.result is Collected.FAILED
    assert "Ringfence's own limit of 100000 bytes" in whole.reason
    assert any(why.startswith("logs/cards/current: failed") for why in shortfall(items.values()))


def test_a_log_that_is_as_long_as_the_limit_is_whole(
    acquirer: Acquirer, blobs: BlobFolder, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.logs["cards-1", "cards", False] = ODD
    items = capture(acquirer, pool, limits=StreamLimits(max_bytes=len(ODD)))
    assert raw(blobs, items["logs/cards/current"]) == ODD


def test_a_log_that_never_ends_is_cut_by_the_clock(acquirer: Acquirer, blobs: BlobFolder) -> None:
    @contextmanager
    def endless() -> Iterator[Iterator[bytes]]:
        def tick() -> Iterator[bytes]:
            while True:
                yield b"tick\n"

        yield tick()

    whole, part = acquirer.stream(LOG, endless, limits=StreamLimits(max_seconds=0.05))
    assert "limit of 0.05 s" in whole.reason
    assert raw(blobs, part).startswith(b"tick\ntick\n")


def test_names_of_containers_that_are_no_names_stop_neither_logs_nor_seal(
    acquirer: Acquirer, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    body = pod_body()
    names = ["../x", "a/previous", "\x1b[2J", "ü" * 500, "cards"]
    body["spec"]["containers"] = [{"name": name} for name in names]
    body["status"]["containerStatuses"] = [{"name": name, "state": {"running": {}}} for name in names]
    add_pod(api, "odd", body)
    items = capture(acquirer, pool, "odd")
    assert len(items) == 3 * len(names)
    for item in items.values():
        assert re.fullmatch(r"logs/[!-.0-~]{1,200}/(current|after-cut|previous)", item.id)
        assert not item.id.endswith("/previous") or item.result is Collected.ABSENT


@pytest.mark.parametrize("kind", ["No Name", "\x1b[2J", "ü", "x" * 400, ""])
def test_the_kind_of_an_owner_that_anybody_may_write_stops_no_seal(
    acquirer: Acquirer, api: Simulator, pool: ThreadPoolExecutor, kind: str
) -> None:
    owner = {"apiVersion": "evil/v1", "kind": kind, "name": "x" * 70_000, "uid": "u", "controller": True}
    add_pod(api, "owned", ownerReferences=[owner])
    pod, reading = read_pod(acquirer.cluster, "bank", "owned")
    around = read_surroundings(acquirer.cluster, "cluster-1", pod, reading, pool)
    items = collect(acquirer, around, pool, Snapshot(acquirer.cluster))
    (found,) = [item for item in items if item.id.startswith("owners/")]
    assert found.result is Collected.FAILED
    assert re.fullmatch("[!-~]{1,256}", found.id)
    assert re.fullmatch("[!-~]{1,256}", found.kind)
    assert len(found.source) < 9000


def test_an_owner_of_a_name_that_no_object_can_have_does_not_stop_the_response(
    acquirer: Acquirer, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    for name in ("..", "x" * 70_000):
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": True}
        add_pod(api, "owned", ownerReferences=[owner])
        pod, reading = read_pod(acquirer.cluster, "bank", "owned")
        (found,) = read_surroundings(acquirer.cluster, "cluster-1", pod, reading, pool).owners
        assert "no object can have such a name" in found.why


# --- everything else ------------------------------------------------------------------------------------------------


def collected(acquirer: Acquirer, pool: ThreadPoolExecutor, api: Simulator, *faults: Fault) -> dict[str, EvidenceItem]:
    pod, reading = read_pod(acquirer.cluster, "bank", "cards-1")
    around = read_surroundings(acquirer.cluster, "cluster-1", pod, reading, pool)
    api.faults += faults
    items = collect(acquirer, around, pool, Snapshot(acquirer.cluster))
    assert len({item.id for item in items}) == len(items)
    return {item.id: item for item in items}


def test_the_pod_is_kept_as_it_was_found_and_as_it_is_now(
    acquirer: Acquirer, blobs: BlobFolder, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    pod, reading = read_pod(acquirer.cluster, "bank", "cards-1")
    around = read_surroundings(acquirer.cluster, "cluster-1", pod, reading, pool)
    acquirer.cluster.patch(POD, "bank", "cards-1", [{"op": "add", "path": "/metadata/labels/cut", "value": "yes"}])
    items = {i.id: i for i in collect(acquirer, around, pool, Snapshot(acquirer.cluster))}
    assert raw(blobs, items["pod"]) == reading.raw[0]
    assert b'"cut"' in raw(blobs, items["pod/after-cut"])
    assert items["pod"].required


def test_what_is_not_taken_is_said(acquirer: Acquirer, api: Simulator, pool: ThreadPoolExecutor) -> None:
    items = collected(acquirer, pool, api)
    assert {name for name, item in items.items() if item.result is Collected.NOT_TAKEN} == {"memory", "disk"}
    assert all(item.reason for item in items.values() if item.result is not Collected.COLLECTED)


def test_one_item_that_fails_stops_no_other(acquirer: Acquirer, api: Simulator, pool: ThreadPoolExecutor) -> None:
    before = collected(acquirer, pool, api)
    denied = 'x is forbidden: User "alice" cannot list resource "x" in API group ""'
    after = collected(
        acquirer,
        pool,
        api,
        Fault("GET", "/nodes/node-1", 403, denied),
        Fault("GET", "/clusterrolebindings", 500),
        Fault("GET", "/pods/cards-1", 404),
    )
    assert set(before) == set(after)
    changed = {name: item.result for name, item in after.items() if item.result is not before[name].result}
    assert changed == {
        "node": Collected.DENIED,
        "rbac/clusterrolebindings": Collected.FAILED,
        "pod/after-cut": Collected.ABSENT,
    }


def test_bindings_that_could_not_be_read_are_named_beside_those_that_apply(
    acquirer: Acquirer, blobs: BlobFolder, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    subject = {"kind": "ServiceAccount", "name": "cards", "namespace": "bank"}
    role = {"kind": "ClusterRole", "name": "admin"}
    api.add(ROLE_BINDING, "bank", "b", {"roleRef": role, "subjects": [subject]})
    items = collected(acquirer, pool, api, Fault("GET", "/clusterrolebindings", 500))
    text = raw(blobs, items["rbac/applying"]).decode()
    assert '"ClusterRole/admin"' in text
    assert "clusterrolebindings: " in text


def test_events_are_taken_from_both_apis_in_every_namespace(
    acquirer: Acquirer, blobs: BlobFolder, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    pod = api.get(POD, "bank", "cards-1")
    assert pod is not None
    uid = pod["metadata"]["uid"]
    api.add(CORE_EVENT, "default", "by-kyverno", {"involvedObject": {"uid": uid}})
    api.add(CORE_EVENT, "bank", "of-another", {"involvedObject": {"uid": "other"}})
    api.add(EVENT, "bank", "new-style", {"regarding": {"uid": uid}})
    items = collected(acquirer, pool, api)
    core, new = (raw(blobs, items[f"events/{group}"]) for group in ("core", "events.k8s.io"))
    assert b"by-kyverno" in core
    assert b"of-another" not in core
    assert b"new-style" in new


def test_events_of_all_namespaces_that_are_denied_are_taken_from_the_pods_own(
    acquirer: Acquirer, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    denied = 'events is forbidden: User "alice" cannot list resource "events" in API group ""'
    items = collected(acquirer, pool, api, Fault("GET", "/api/v1/events", 403, denied))
    assert items["events/core"].result is Collected.COLLECTED
    assert "/namespaces/bank/" in items["events/core"].source


def test_secrets_are_never_read(acquirer: Acquirer, wire: Wire, api: Simulator, pool: ThreadPoolExecutor) -> None:
    body = pod_body()
    body["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "db"}}]
    api.add(POD, "bank", "cards-1", body)
    collected(acquirer, pool, api)
    capture(acquirer, pool)
    assert [request.path for request in wire.requests if "secret" in request.path] == []
    assert {request.method for request in wire.requests} == {"GET"}, "nothing is run or changed in the victim"
