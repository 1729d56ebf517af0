"""The edits that cut a pod off, one by one: exact patches, their guards, and what a label change takes and leaves.

Whole clusters before and after are in ``test_fencing.py``. How an API server takes the patches is for the lab.
"""

from __future__ import annotations

import pytest

from ringfence.platform.kubernetes import fencing
from ringfence.platform.kubernetes.policies import PolicyError
from ringfence.platform.kubernetes.selectors import SelectorError
from tests.platform.network_worlds import FENCE, Json, PatchRefused, patched

VALUE = "8f2c"


def policy(selector: Json | None, **spec: object) -> Json:
    return {
        "metadata": {"namespace": "bank", "name": "allow", "uid": "u1", "resourceVersion": "7"},
        "spec": {**({} if selector is None else {"podSelector": selector}), "egress": [{}], **spec},
    }


TESTS = (
    {"op": "test", "path": "/metadata/uid", "value": "u1"},
    {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
)
EXPRESSION = {"key": FENCE, "operator": "DoesNotExist"}


@pytest.mark.parametrize(
    ("selector", "operations"),
    [
        (None, [{"op": "add", "path": "/spec/podSelector", "value": {"matchExpressions": [EXPRESSION]}}]),
        (
            {},
            [
                {"op": "test", "path": "/spec/podSelector", "value": {}},
                {"op": "replace", "path": "/spec/podSelector", "value": {"matchExpressions": [EXPRESSION]}},
            ],
        ),
        (
            {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]},
            [
                {
                    "op": "test",
                    "path": "/spec/podSelector",
                    "value": {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]},
                },
                {
                    "op": "replace",
                    "path": "/spec/podSelector",
                    "value": {
                        "matchLabels": {"app": "a"},
                        "matchExpressions": [{"key": "tier", "operator": "Exists"}, EXPRESSION],
                    },
                },
            ],
        ),
        ({"matchExpressions": [EXPRESSION]}, None),
    ],
)
def test_an_exclusion_is_one_guarded_edit_of_the_pod_selector(selector: Json | None, operations: list | None) -> None:
    expected = () if operations is None else (*TESTS, *operations)
    assert fencing.exclusion(policy(selector), FENCE) == expected


@pytest.mark.parametrize(
    "moved",
    [
        {"metadata": {"namespace": "bank", "name": "allow", "uid": "other", "resourceVersion": "7"}},
        {"metadata": {"namespace": "bank", "name": "allow", "uid": "u1", "resourceVersion": "8"}},
        {"spec": {"podSelector": {"matchLabels": {"app": "b"}}, "egress": [{}]}},
        {"spec": {"egress": [{}]}},
    ],
)
def test_an_exclusion_is_refused_by_an_object_that_moved_on(moved: Json) -> None:
    live = policy({"matchLabels": {"app": "a"}})
    with pytest.raises(PatchRefused):
        patched({**live, **moved}, fencing.exclusion(live, FENCE))


def test_a_policy_that_allows_nothing_is_not_excluded() -> None:
    with pytest.raises(PolicyError, match="not to be excluded"):
        fencing.exclusion(fencing.deny_all("d", "bank", key=FENCE, value=VALUE, labels={}), FENCE)
    with pytest.raises(PolicyError, match="not to be excluded"):
        fencing.exclusion(policy({}, policyTypes=["Ingress"]), FENCE)


def test_a_policy_that_was_not_read_from_the_server_is_not_patched() -> None:
    draft = policy({})
    del draft["metadata"]["resourceVersion"]
    with pytest.raises(PolicyError, match="cannot be patched safely"):
        fencing.exclusion(draft, FENCE)


def test_putting_back_is_guarded_like_the_exclusion() -> None:
    excluded = patched(policy({}), fencing.exclusion(policy({}), FENCE))
    assert fencing.without_exclusion(excluded, FENCE, prior={}, pods=()) == (
        *TESTS,
        {"op": "test", "path": "/spec/podSelector", "value": {"matchExpressions": [EXPRESSION]}},
        {"op": "replace", "path": "/spec/podSelector", "value": {}},
    )


def test_members_that_the_server_writes_out_empty_are_nobodys_edit() -> None:
    live = policy({"matchLabels": {}, "matchExpressions": [EXPRESSION]})
    assert fencing.without_exclusion(live, FENCE, prior={}, pods=())
    assert fencing.without_exclusion(policy({"matchLabels": {}}), FENCE, prior=None, pods=()) == ()


def test_somebody_elses_edit_of_an_excluded_policy_is_not_overwritten() -> None:
    live = patched(
        policy({"matchLabels": {"app": "a"}}), fencing.exclusion(policy({"matchLabels": {"app": "a"}}), FENCE)
    )
    live["spec"]["podSelector"]["matchLabels"]["tier"] = "b"
    with pytest.raises(PolicyError, match="cannot be put back") as refusal:
        fencing.without_exclusion(live, FENCE, prior={"matchLabels": {"app": "a"}}, pods=())
    assert "changed by somebody" in refusal.value.why


def test_an_exclusion_stays_for_a_pod_that_another_incident_fenced() -> None:
    excluded = patched(policy({}), fencing.exclusion(policy({}), FENCE))
    other = {"metadata": {"namespace": "bank", "name": "web-1", "labels": {FENCE: "77aa"}}}
    elsewhere = {"metadata": {"namespace": "shop", "name": "web-1", "labels": {FENCE: "77aa"}}}
    with pytest.raises(PolicyError, match="not to be put back yet") as refusal:
        fencing.without_exclusion(excluded, FENCE, prior={}, pods=(other,))
    assert "web-1" in refusal.value.why
    assert fencing.without_exclusion(excluded, FENCE, prior={}, pods=(elsewhere,))


def test_the_deny_all_isolates_both_ways_and_is_nobody_elses() -> None:
    manifest = fencing.deny_all("fence-8f2c", "bank", key=FENCE, value=VALUE, labels={"managed-by": "ringfence"})
    assert manifest == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "fence-8f2c", "namespace": "bank", "labels": {"managed-by": "ringfence"}},
        "spec": {"podSelector": {"matchLabels": {FENCE: VALUE}}, "policyTypes": ["Ingress", "Egress"]},
    }
    with pytest.raises(PolicyError, match="GitOps"):
        fencing.deny_all("d", "bank", key=FENCE, value=VALUE, labels={"app.kubernetes.io/instance": "cards"})


POD = {
    "app": "cards",
    "pod-template-hash": "7d9f",
    "team": "payments",
    "app.kubernetes.io/instance": "cards",
    "version": "v3",
}
REPLICA_SET = {
    "kind": "ReplicaSet",
    "metadata": {"namespace": "bank", "name": "cards-7d9f"},
    "spec": {"selector": {"matchLabels": {"app": "cards", "pod-template-hash": "7d9f"}}},
}
SERVICE = {"metadata": {"namespace": "bank", "name": "cards"}, "spec": {"selector": {"app": "cards"}}}
FENCED = {"fence_key": FENCE, "fence_value": VALUE}


def test_a_detach_takes_what_selectors_need_and_leaves_the_rest() -> None:
    change = fencing.detached_labels("bank", POD, **FENCED, controllers=[REPLICA_SET], services=[SERVICE])
    assert change.labels == {"team": "payments", "version": "v3", FENCE: VALUE}
    assert [(label.key, label.needed_by) for label in change.removed] == [
        ("app", ("ReplicaSet cards-7d9f", "Service cards")),
        ("app.kubernetes.io/instance", ("GitOps tracking",)),
        ("pod-template-hash", ("ReplicaSet cards-7d9f",)),
    ]
    assert change.detaches


def test_a_label_that_admission_requires_stays_and_what_it_keeps_selected_is_named() -> None:
    by_team = {"metadata": {"namespace": "bank", "name": "all"}, "spec": {"selector": {"team": "payments"}}}
    change = fencing.detached_labels("bank", POD, **FENCED, services=[by_team], keep=["team"])
    assert change.labels["team"] == "payments"
    assert change.services == ("Service all",)
    assert not change.detaches


def test_a_budget_lets_go_of_the_orphan() -> None:
    budget = {"metadata": {"namespace": "bank", "name": "v3"}, "spec": {"selector": {"matchLabels": {"version": "v3"}}}}
    change = fencing.detached_labels("bank", POD, **FENCED, budgets=[budget])
    assert "version" not in change.labels
    assert change.budgets == ()
    everyone = {"metadata": {"namespace": "bank", "name": "all"}, "spec": {"selector": {}}}
    assert fencing.detached_labels("bank", POD, **FENCED, budgets=[everyone]).budgets == ("PodDisruptionBudget all",)


def test_a_policy_that_only_isolates_costs_the_pod_no_label() -> None:
    deny = policy({"matchLabels": {"team": "payments"}}, egress=[], policyTypes=["Ingress", "Egress"])
    change = fencing.detached_labels("bank", POD, **FENCED, policies=[deny])
    assert change.labels["team"] == "payments"
    assert change.to_exclude == ()


def test_objects_of_other_namespaces_are_passed_over() -> None:
    elsewhere = [{**obj, "metadata": {"namespace": "shop", "name": "x"}} for obj in (REPLICA_SET, SERVICE)]
    change = fencing.detached_labels("bank", POD, **FENCED, controllers=elsewhere[:1], services=elsewhere[1:])
    assert [label.key for label in change.removed] == ["app.kubernetes.io/instance"]


def test_a_tracking_label_that_admission_requires_stays() -> None:
    change = fencing.detached_labels("bank", POD, **FENCED, keep=["app.kubernetes.io/instance"])
    assert change.removed == ()


def test_a_policy_that_begins_to_match_is_told_apart() -> None:
    begins = policy({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]})
    always = policy({})
    change = fencing.detached_labels("bank", POD, **FENCED, services=[SERVICE], policies=[begins, always])
    assert change.to_exclude == (begins, always)
    assert change.newly_selecting == (begins,)


def test_a_removal_that_makes_a_further_selector_match_is_followed_up() -> None:
    """Without ``app`` a second policy begins to match; it needs ``version``, so that goes too."""
    second = policy(
        {"matchLabels": {"version": "v3"}, "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}
    )
    change = fencing.detached_labels("bank", POD, **FENCED, services=[SERVICE], policies=[second])
    assert "version" not in change.labels
    assert change.to_exclude == ()


def test_a_controller_with_a_broader_selector_would_adopt_the_orphan_and_is_named() -> None:
    broad = {
        "kind": "ReplicaSet",
        "metadata": {"namespace": "bank", "name": "stray"},
        "spec": {"selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}},
    }
    change = fencing.detached_labels("bank", POD, **FENCED, controllers=[REPLICA_SET, broad])
    assert change.controllers == ("ReplicaSet stray",)
    assert not change.detaches


def test_a_replication_controller_selects_by_a_plain_map() -> None:
    legacy = {**SERVICE, "kind": "ReplicationController"}
    change = fencing.detached_labels("bank", {"app": "cards"}, **FENCED, controllers=[legacy])
    assert change.labels == {FENCE: VALUE}
    with pytest.raises(SelectorError, match="controller cards cannot be read"):
        fencing.detached_labels("bank", {"app": "cards"}, **FENCED, controllers=[SERVICE])


def test_a_policy_planted_on_the_fence_label_is_to_be_excluded() -> None:
    planted = policy({"matchExpressions": [{"key": FENCE, "operator": "Exists"}]})
    change = fencing.fenced_labels("bank", POD, **FENCED, policies=[planted])
    assert change.to_exclude == change.newly_selecting == (planted,)
    detaching = fencing.detached_labels("bank", POD, **FENCED, policies=[planted])
    assert detaching.labels[FENCE] == VALUE
    assert detaching.to_exclude == (planted,)
    closed = patched(planted, fencing.exclusion(planted, FENCE))
    assert fencing.fenced_labels("bank", POD, **FENCED, policies=[closed]).to_exclude == ()


def test_a_relabel_is_guarded_by_the_labels_it_was_made_for() -> None:
    pod = {"metadata": {"uid": "p1", "resourceVersion": "5", "labels": {"app": "a"}}}
    assert fencing.relabel(pod, {FENCE: VALUE}) == (
        {"op": "test", "path": "/metadata/uid", "value": "p1"},
        {"op": "test", "path": "/metadata/labels", "value": {"app": "a"}},
        {"op": "replace", "path": "/metadata/labels", "value": {FENCE: VALUE}},
    )
    assert fencing.relabel(pod, {"app": "a"}) == ()
    bare = {"metadata": {"uid": "p1", "resourceVersion": "5"}}
    assert fencing.relabel(bare, {FENCE: VALUE}) == (
        {"op": "test", "path": "/metadata/uid", "value": "p1"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "5"},
        {"op": "add", "path": "/metadata/labels", "value": {FENCE: VALUE}},
    )
