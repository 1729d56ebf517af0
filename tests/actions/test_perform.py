"""Sending one change: what counts as in place, and what becomes of an answer that never came."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.actions.perform import dry_run, in_place, perform, resolve
from ringfence.errors import Conflict, Denied, Invalid
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Unknown
from ringfence.model.plan import Change, Verb
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.fencing import deny_all
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from tests.simulator import Fault, Simulator

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
    api.faults.append(Fault(method, "", status))
    answer = perform(cluster, change, "a-1")
    assert isinstance(answer.outcome, Failed)
    assert answer.outcome.problem.code == code


@ALL_VERBS
def test_a_server_error_leaves_it_open_whether_it_happened(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    method = {Verb.CREATE: "POST", Verb.PATCH: "PATCH", Verb.DELETE: "DELETE"}[verb]
    api.faults.append(Fault(method, "", 500))
    assert isinstance(perform(cluster, change, "a-1").outcome, Unknown)
    resolved = resolve(cluster, change)
    assert isinstance(resolved.outcome, Failed), "live state shows that it did not"
    assert resolved.outcome.problem.code == "not-applied"


@ALL_VERBS
def test_a_lost_answer_is_unknown_until_live_state_is_read(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    method = {Verb.CREATE: "POST", Verb.PATCH: "PATCH", Verb.DELETE: "DELETE"}[verb]
    api.faults.append(Fault(method, "", lost=True))
    assert isinstance(perform(cluster, change, "a-1").outcome, Unknown)
    resolved = resolve(cluster, change)
    assert isinstance(resolved.outcome, Already)
    if verb is Verb.CREATE:
        assert resolved.uid, "the inverse will need to know what was made"


@ALL_VERBS
def test_it_stays_unknown_while_live_state_cannot_be_read(cluster: Cluster, api: Simulator, verb: Verb) -> None:
    change = change_of(api, verb)
    api.faults.append(Fault("GET", "", 503))
    assert isinstance(resolve(cluster, change).outcome, Unknown)


def test_a_refusal_is_reported_as_it_was_when_live_state_cannot_explain_it(cluster: Cluster, api: Simulator) -> None:
    api.faults += [Fault("POST", "", 409, "already exists"), Fault("GET", "", 403)]
    answer = perform(cluster, create(), "a-1")
    assert isinstance(answer.outcome, Failed)
    assert answer.outcome.problem.code == "conflict"


@pytest.mark.parametrize(("status", "kind"), [(409, Conflict), (422, Invalid), (401, Denied)])
def test_a_refused_dry_run_raises(cluster: Cluster, api: Simulator, status: int, kind: type[Exception]) -> None:
    api.faults.append(Fault("POST", "", status, dry=True))
    with pytest.raises(kind):
        dry_run(cluster, create())


def test_a_terminating_pod_is_not_deleted_twice(cluster: Cluster, api: Simulator) -> None:
    api.objects["/api/v1", "pods", "bank", "cards-1"]["metadata"]["finalizers"] = ["example.com/hold"]
    change = delete(uid_of(api))
    api.faults.append(Fault("DELETE", "", lost=True))
    assert isinstance(perform(cluster, change, "a-1").outcome, Unknown)
    assert isinstance(resolve(cluster, change).outcome, Already)
