"""Sending one change: what counts as in place, and what becomes of an answer that never came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ringfence.actions.perform import dry_run, in_place, perform, resolve
from ringfence.errors import Conflict, Denied, Invalid
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Problem, Unknown
from ringfence.model.plan import Change, Verb
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.fencing import deny_all
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from tests.faults.proxy import Aim, Fault, Instead, Proxy, Upstream
from tests.simulator import Fault as Refuses
from tests.simulator import Simulator
from tests.wire import Wire, kubeconfig

Json = dict[str, Any]
FENCE = "ringfence.dev/fence"
DENY = deny_all("deny", "bank", key=FENCE, value="f1", labels={})
LABELS = "/metadata/labels"
ALL_VERBS = pytest.mark.parametrize("verb", list(Verb))


def ref(kind: str, name: str, uid: str = "") -> ObjectRef:
    version = "v1" if kind == "Pod" else "networking.k8s.io/v1"
    return ObjectRef(cluster="c1", api_version=version, kind=kind, namespace="bank", name=name, uid=uid)


def create(body: Json = DENY) -> Change:
    return Change(id="deny-all", ref=ref("NetworkPolicy", "deny"), verb=Verb.CREATE, body=body, effect="e")


def patch(uid: str, *operations: Json) -> Change:
    body = [{"op": "test", "path": "/metadata/uid", "value": uid}, *operations]
    return Change(id="detach", ref=ref("Pod", "cards-1", uid), verb=Verb.PATCH, body=body, effect="e")


def relabel(uid: str, labels: Json) -> Change:
    return patch(uid, {"op": "replace", "path": LABELS, "value": labels})


def delete(uid: str, **changes: Any) -> Change:
    return Change(id="delete", ref=ref("Pod", "cards-1", uid), verb=Verb.DELETE, effect="e", **changes)


def uid_of(api: Simulator, name: str = "cards-1") -> str:
    pod = api.get(POD, "bank", name)
    assert pod is not None
    return str(pod["metadata"]["uid"])


def change_of(api: Simulator, verb: Verb) -> Change:
    match verb:
        case Verb.CREATE:
            return create()
        case Verb.PATCH:
            return relabel(uid_of(api), {FENCE: "f1"})
        case Verb.DELETE:
            return delete(uid_of(api))


# --- in place (pure) ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "there"),
    [
        (None, False),
        (DENY, True),
        ({**DENY, "metadata": {"name": "deny", "uid": "u", "labels": {"x": "y"}}}, True),
        ({"spec": {**DENY["spec"], "ingress": []}}, True),  # empty members may be written or left out
        ({"spec": {**DENY["spec"], "egress": None}}, True),
        ({"spec": {**DENY["spec"], "egress": [{}]}}, False),  # somebody opened it
        ({"spec": {**DENY["spec"], "ingress": [{"ports": [{"port": 80}]}]}}, False),
        ({"spec": {**DENY["spec"], "policyTypes": ["Ingress"]}}, False),
        ({"spec": {**DENY["spec"], "podSelector": {}}}, False),
        ({"spec": {**DENY["spec"], "podSelector": {"matchLabels": {FENCE: "other"}}}}, False),
        ({}, False),
    ],
)
def test_a_created_object_is_in_place_when_it_is_the_one_that_was_wanted(live: Json | None, there: bool) -> None:
    assert in_place(create(), live) is there


def pod(labels: Json | None, uid: str = "u1", **meta: Any) -> Json:
    return {"metadata": {"name": "cards-1", "uid": uid, **({} if labels is None else {"labels": labels}), **meta}}


@pytest.mark.parametrize(
    ("live", "there"),
    [
        (None, False),
        (pod({FENCE: "f1"}), True),
        (pod({FENCE: "f1"}, uid="u2"), False),  # another pod of that name
        (pod({FENCE: "f1", "app": "cards"}), False),
        (pod({"app": "cards"}), False),
        (pod(None), False),
    ],
)
def test_a_patch_is_in_place_when_the_same_object_shows_it(live: Json | None, there: bool) -> None:
    assert in_place(relabel("u1", {FENCE: "f1"}), live) is there


def test_every_operation_of_a_patch_must_show() -> None:
    both = patch(
        "u1",
        {"op": "add", "path": "/metadata/annotations/karpenter.sh~1do-not-disrupt", "value": "true"},
        {"op": "remove", "path": "/metadata/labels/app"},
    )
    annotated: Json = {"annotations": {"karpenter.sh/do-not-disrupt": "true"}}
    assert in_place(both, pod({}, **annotated))
    assert not in_place(both, pod({"app": "cards"}, **annotated))
    assert not in_place(both, pod({}))


def test_a_path_into_a_list_is_followed() -> None:
    change = patch("u1", {"op": "replace", "path": "/spec/egress/1/ports", "value": []})
    assert in_place(change, {**pod({}), "spec": {"egress": [{}, {"ports": []}]}})
    shapes: list[Any] = [[], [{}], [{}, {"ports": [1]}], {"1": {"ports": []}}, None]
    for egress in shapes:
        found = in_place(change, {**pod({}), "spec": {"egress": egress}})
        assert found is (egress == {"1": {"ports": []}})


@pytest.mark.parametrize(
    ("live", "there"),
    [
        (None, True),
        (pod({}, uid="u2"), True),
        (pod({}), False),
        (pod({}, deletionTimestamp="2026-11-23T03:00:00Z"), True),  # the request was taken; the kubelet ends it
    ],
)
def test_a_delete_is_in_place_when_the_object_is_gone_or_going(live: Json | None, there: bool) -> None:
    assert in_place(delete("u1"), live) is there


# --- sending --------------------------------------------------------------------------------------------------------


@ALL_VERBS
def test_a_change_is_applied_under_its_audit_id(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    answer = perform(cluster, change, "a-1")
    assert answer.outcome == Applied()
    assert in_place(change, api.get(NETWORK_POLICY if verb is Verb.CREATE else POD, "bank", change.ref.name))
    assert [request.headers["audit-id"] for request in api.writes] == ["a-1"]
    if verb is not Verb.DELETE:
        assert answer.uid


@ALL_VERBS
def test_a_dry_run_changes_nothing(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    before = repr(api.objects)
    dry_run(cluster, change_of(api, verb))
    assert (repr(api.objects), api.writes) == (before, [])


@ALL_VERBS
def test_a_change_that_is_made_twice_is_already_so(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    first = perform(cluster, change, "a-1")
    second = perform(cluster, change, "a-1")
    # A patch to the same content is taken by the server and changes nothing.
    assert isinstance(second.outcome, Applied if verb is Verb.PATCH else Already)
    assert second.uid == first.uid


def test_an_object_of_that_name_that_is_not_ours_is_a_failure(cluster: Cluster, api: Simulator) -> None:
    api.add(NETWORK_POLICY, "bank", "deny", {"spec": {**DENY["spec"], "egress": [{}]}})
    answer = perform(cluster, create(), "a-1")
    assert isinstance(answer.outcome, Failed)
    assert answer.outcome.problem.code == "conflict"


def test_a_pod_that_has_been_replaced_is_never_touched(cluster: Cluster, api: Simulator) -> None:
    relabelled = perform(cluster, relabel("an-older-pod", {FENCE: "f1"}), "a-1")
    assert isinstance(relabelled.outcome, Failed)
    deleted = perform(cluster, delete("an-older-pod"), "a-2")
    assert isinstance(deleted.outcome, Already), "that one is gone"
    live = api.get(POD, "bank", "cards-1")
    assert live is not None
    assert FENCE not in live["metadata"]["labels"]


@pytest.mark.parametrize("seconds", [None, 0, 5])
def test_the_grace_period_is_the_plans(cluster: Cluster, api: Simulator, seconds: int | None) -> None:
    perform(cluster, delete(uid_of(api), grace_seconds=seconds), "a-1")
    body = api.writes[0].body
    assert (b"gracePeriodSeconds" in body) is (seconds is not None)


@ALL_VERBS
@pytest.mark.parametrize(("status", "code"), [(401, "denied"), (429, "throttled"), (422, "invalid"), (403, "invalid")])
def test_a_refusal_is_a_failure_that_says_which(
    cluster: Cluster, api: Simulator, verb: Verb, status: int, code: str
) -> None:
    change = change_of(api, verb)
    method = {Verb.CREATE: "POST", Verb.PATCH: "PATCH", Verb.DELETE: "DELETE"}[verb]
    api.faults.append(Refuses(method, "", status))
    answer = perform(cluster, change, "a-1")
    assert isinstance(answer.outcome, Failed)
    assert answer.outcome.problem.code == code


@ALL_VERBS
def test_a_server_error_leaves_it_open_whether_it_happened(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    method = {Verb.CREATE: "POST", Verb.PATCH: "PATCH", Verb.DELETE: "DELETE"}[verb]
    api.faults.append(Refuses(method, "", 500))
    assert isinstance(perform(cluster, change, "a-1").outcome, Unknown)
    resolved = resolve(cluster, change)
    assert isinstance(resolved.outcome, Failed), "live state shows that it did not"
    assert resolved.outcome.problem.code == "not-applied"


@ALL_VERBS
def test_a_lost_answer_is_unknown_until_live_state_is_read(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    method = {Verb.CREATE: "POST", Verb.PATCH: "PATCH", Verb.DELETE: "DELETE"}[verb]
    api.faults.append(Refuses(method, "", lost=True))
    assert isinstance(perform(cluster, change, "a-1").outcome, Unknown)
    resolved = resolve(cluster, change)
    assert isinstance(resolved.outcome, Already)
    if verb is Verb.CREATE:
        assert resolved.uid, "the inverse will need to know what was made"


@ALL_VERBS
def test_it_stays_unknown_while_live_state_cannot_be_read(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    api.faults.append(Refuses("GET", "", 503))
    assert isinstance(resolve(cluster, change).outcome, Unknown)


def test_a_refusal_is_reported_as_it_was_when_live_state_cannot_explain_it(cluster: Cluster, api: Simulator) -> None:
    api.faults += [Refuses("POST", "", 409, "already exists"), Refuses("GET", "", 403)]
    answer = perform(cluster, create(), "a-1")
    assert isinstance(answer.outcome, Failed)
    assert answer.outcome.problem.code == "conflict"


@pytest.mark.parametrize(("status", "kind"), [(409, Conflict), (422, Invalid), (401, Denied)])
def test_a_refused_dry_run_raises(cluster: Cluster, api: Simulator, status: int, kind: type[Exception]) -> None:
    api.faults.append(Refuses("POST", "", status, dry=True))
    with pytest.raises(kind):
        dry_run(cluster, create())


def test_a_terminating_pod_is_not_deleted_twice(cluster: Cluster, api: Simulator) -> None:
    api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["finalizers"] = ["example.com/hold"]
    change = delete(uid_of(api))
    api.faults.append(Refuses("DELETE", "", lost=True))
    assert isinstance(perform(cluster, change, "a-1").outcome, Unknown)
    assert isinstance(resolve(cluster, change).outcome, Already)


# --- answers that nobody vouches for --------------------------------------------------------------------------------


@pytest.fixture
def spoilt(wire: Wire, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """A connection through a proxy that gives another answer to the next write."""
    with ExitStack() as stack:
        upstream = Upstream(kubeconfig(tmp_path / "upstream", wire.url))
        stack.callback(upstream.close)

        def through(body: bytes, *, status: int = 200, reaches: bool) -> Cluster:
            fault = Fault(Instead(status, body, {"Content-Type": "application/json"}), reaches)
            aims = [Aim(fault, method) for method in ("POST", "PATCH", "DELETE")]
            proxy = stack.enter_context(Proxy(upstream, aims))
            connected = connect(kubeconfig(tmp_path / "through", proxy.url), None, 5.0)
            stack.callback(connected.close)
            return connected

        yield through


@ALL_VERBS
@pytest.mark.parametrize("reaches", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"login": "required"}',
        b'{"kind": "Status", "status": "Failure"}',
        b'{"kind": "Pod", "metadata": {"name": "another", "uid": "another"}}',
        b'{"kind": "PodList", "metadata": {}, "items": []}',
    ],
)
def test_an_answer_that_speaks_of_something_else_is_no_success(
    spoilt: Callable[..., Cluster], api: Simulator, verb: Verb, body: bytes, reaches: bool
) -> None:
    change = change_of(api, verb)
    cluster = spoilt(body, reaches=reaches)
    assert isinstance(perform(cluster, change, "a-1").outcome, Unknown)
    assert isinstance(resolve(cluster, change).outcome, Already if reaches else Failed)


@ALL_VERBS
@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 429])
def test_a_refusal_that_live_state_contradicts_is_already_so(
    spoilt: Callable[..., Cluster], api: Simulator, verb: Verb, status: int
) -> None:
    """A gateway sent it twice by itself, or a filter did not like the answer."""
    change = change_of(api, verb)
    body = json.dumps({"kind": "Status", "message": "no", "code": status}).encode()
    answer = perform(spoilt(body, status=status, reaches=True), change, "a-1")
    assert isinstance(answer.outcome, Already)


@ALL_VERBS
def test_a_strangers_404_is_not_the_objects_absence(spoilt: Callable[..., Cluster], api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    answer = perform(spoilt(b"404 page not found", status=404, reaches=False), change, "a-1")
    assert isinstance(answer.outcome, Unknown)


# --- two witnesses -------------------------------------------------------------------------------------------------


def says(word: bool | None) -> Callable[[Change, str], bool | None]:
    return lambda _change, _audit_id: word


@pytest.mark.parametrize(
    ("verb", "live", "word", "kind", "code"),
    [
        # live state shows it
        (Verb.CREATE, "there", True, "applied", ""),
        (Verb.PATCH, "there", True, "applied", ""),
        (Verb.DELETE, "there", True, "applied", ""),
        (Verb.PATCH, "there", None, "already", ""),
        (Verb.PATCH, "there", False, "already", ""),  # somebody else did it
        # live state does not show it
        (Verb.CREATE, "not", None, "failed", "not-applied"),
        (Verb.CREATE, "not", False, "failed", "not-applied"),
        (Verb.CREATE, "not", True, "failed", "reverted"),
        (Verb.PATCH, "not", None, "failed", "not-applied"),
        (Verb.PATCH, "not", True, "failed", "reverted"),
        (Verb.DELETE, "not", None, "failed", "not-applied"),
        (Verb.DELETE, "not", True, "unknown", "contradiction"),
        # the object has ended since
        (Verb.PATCH, "ended", None, "failed", "not-applied"),
        (Verb.PATCH, "ended", False, "failed", "not-applied"),
        (Verb.PATCH, "ended", True, "applied", ""),
        # live state cannot be read
        (Verb.CREATE, "unread", None, "unknown", "unanswered"),
        (Verb.CREATE, "unread", False, "failed", "not-applied"),
        (Verb.CREATE, "unread", True, "unknown", "unanswered"),  # its uid is not known: it could not be taken back
        (Verb.PATCH, "unread", None, "unknown", "unanswered"),
        (Verb.PATCH, "unread", True, "applied", ""),
        (Verb.DELETE, "unread", True, "applied", ""),
    ],
)
def test_live_state_and_the_audit_log_decide_together(
    cluster: Cluster, api: Simulator, verb: Verb, live: str, word: bool | None, kind: str, code: str
) -> None:
    change = change_of(api, verb)
    match live:
        case "there":
            perform(cluster, change, "a-1")
        case "ended":
            perform(cluster, delete(uid_of(api)), "a-2")
        case "unread":
            api.faults.append(Refuses("GET", "", 503))
    outcome = resolve(cluster, change, audit_id="a-1", witness=says(word)).outcome
    problem = getattr(outcome, "problem", None)
    assert (outcome.kind, problem.code if problem else "") == (kind, code)


def test_why_the_answer_was_lost_is_said_with_what_was_found(cluster: Cluster, api: Simulator) -> None:
    lost = Problem(code="unanswered", what="no answer to patch pods/cards-1", why="timed out")
    change = change_of(api, Verb.PATCH)
    failed = resolve(cluster, change, lost=lost).outcome
    assert isinstance(failed, Failed)
    assert "timed out; live state does not show it" in failed.problem.why
    api.faults.append(Refuses("GET", "", 503, "etcd is away"))
    unknown = resolve(cluster, change, lost=lost).outcome
    assert isinstance(unknown, Unknown)
    assert unknown.problem.what == lost.what
    assert "timed out; live state cannot be read" in unknown.problem.why
    assert "etcd is away" in unknown.problem.why


def test_without_an_audit_id_no_witness_is_asked(cluster: Cluster, api: Simulator) -> None:
    assert isinstance(resolve(cluster, change_of(api, Verb.PATCH), witness=says(True)).outcome, Failed)


# --- what others add -----------------------------------------------------------------------------------------------

CANARY: Json = {
    "metadata": {"name": "canary", "labels": {FENCE: "f1"}},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "env": []}]},
}
ADMITTED: Json = {
    "metadata": {"name": "canary", "uid": "u9", "labels": {FENCE: "f1", "team": "x"}},
    "spec": {
        "restartPolicy": "Never",
        "dnsPolicy": "ClusterFirst",
        "containers": [{"name": "sidecar"}, {"name": "c", "image": "i", "volumeMounts": [{"name": "token"}]}],
    },
}


@pytest.mark.parametrize(
    ("live", "there"),
    [
        (ADMITTED, True),
        ({**ADMITTED, "metadata": {**ADMITTED["metadata"], "deletionTimestamp": "2026-11-23T03:00:00Z"}}, False),
        ({**ADMITTED, "metadata": {"name": "canary", "labels": {FENCE: "f2"}}}, False),
        ({**ADMITTED, "spec": {**ADMITTED["spec"], "restartPolicy": "Always"}}, False),
        ({**ADMITTED, "spec": {**ADMITTED["spec"], "containers": [{"name": "c", "image": "other"}]}}, False),
    ],
)
def test_a_created_pod_is_ours_with_what_admission_adds_to_it(live: Json, there: bool) -> None:
    change = Change(id="canary", ref=ref("Pod", "canary"), verb=Verb.CREATE, body=CANARY, effect="e")
    assert in_place(change, live) is there


def test_labels_that_others_add_do_not_hide_a_relabel() -> None:
    change = relabel("u1", {FENCE: "f1"}).model_copy(update={"prior": pod({"app": "cards", "tier": "web"})})
    assert in_place(change, pod({FENCE: "f1", "added": "later"}))
    assert not in_place(change, pod({FENCE: "f1", "app": "cards"})), "this one was to go"
    assert not in_place(change, pod({"added": "later"}))


def test_a_selector_with_more_in_it_is_another_selector() -> None:
    wanted: Json = {"matchLabels": {"app": "cards"}}
    change = patch("u1", {"op": "replace", "path": "/spec/podSelector", "value": wanted})
    change = change.model_copy(update={"prior": {**pod({}), "spec": {"podSelector": {}}}})
    assert in_place(change, {**pod({}), "spec": {"podSelector": wanted}})
    assert not in_place(change, {**pod({}), "spec": {"podSelector": {**wanted, "matchExpressions": [1]}}})
