"""``identity.unbind``: every binding that names the account, and nobody else's; back exactly, or handed out."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringfence.actions.account import Tried
from ringfence.actions.base import Settings
from ringfence.actions.unbind import Unbind
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Refused
from ringfence.model.proof import Level
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, POD, ROLE_BINDING, Resource
from tests.actions.planning import (
    FENCE,
    answer,
    apply,
    planned,
    record,
    records,
    ref_of,
    refused,
    undone,
    without_server_fields,
)
from tests.simulator import Fault, Simulator

Json = dict[str, Any]
MINE = {"kind": "ServiceAccount", "name": "cards", "namespace": "bank"}
OTHER = {"kind": "ServiceAccount", "name": "payments", "namespace": "bank"}
AS_USER = {"kind": "User", "name": "system:serviceaccount:bank:cards", "apiGroup": "rbac.authorization.k8s.io"}
HELD = 'clusterroles "view": user "ada" is attempting to grant RBAC permissions not currently held'


@pytest.fixture
def action(cluster: Cluster) -> Unbind:
    return Unbind(cluster, Settings(FENCE, 1, share_account=True))


@pytest.fixture
def target(api: Simulator) -> ObjectRef:
    return ref_of(api, POD, "cards-1")


def bind(api: Simulator, resource: Resource, name: str, *subjects: Json, namespace: str = "") -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    body = {"roleRef": role, "subjects": list(subjects)}
    api.add(resource, namespace, name, body, labels={"a": "b"}, annotations={"why": "it must"})


def subjects(api: Simulator, resource: Resource, name: str, namespace: str = "") -> list[Json] | None:
    found = api.get(resource, namespace, name)
    return None if found is None else list(found["subjects"])


def content(api: Simulator) -> list[Json]:
    found = [without_server_fields(one) for one in (*api.all(ROLE_BINDING), *api.all(CLUSTER_ROLE_BINDING))]
    return [{**one, "metadata": {k: v for k, v in one["metadata"].items() if k != "uid"}} for one in found]


def test_the_account_is_taken_out_everywhere_and_everything_comes_back_as_it_was(
    action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    bind(api, ROLE_BINDING, "elsewhere", MINE, namespace="shop")
    bind(api, ROLE_BINDING, "shared", OTHER, MINE, namespace="bank")
    bind(api, ROLE_BINDING, "not-mine", OTHER, namespace="bank")
    bind(api, ROLE_BINDING, "namesake", {"kind": "ServiceAccount", "name": "cards"}, namespace="shop")
    bind(api, CLUSTER_ROLE_BINDING, "by-user", AS_USER)
    before = sorted(content(api), key=json.dumps)
    plan = planned(action, target, pool)
    assert (plan.destroys, plan.impact.pods, action.destructive) == ((), 0, False)
    answers = apply(action, plan)
    assert {one.outcome.kind for one in answers.values()} == {"applied"}
    assert subjects(api, ROLE_BINDING, "elsewhere", "shop") is None
    assert subjects(api, CLUSTER_ROLE_BINDING, "by-user") is None
    assert subjects(api, ROLE_BINDING, "shared", "bank") == [OTHER]
    assert subjects(api, ROLE_BINDING, "not-mine", "bank") == [OTHER]
    assert subjects(api, ROLE_BINDING, "namesake", "shop") is not None, "that account is shop's"
    assert action.verify(target, records(plan, answers)).level is Level.COMPUTED
    action.canary = lambda _ref: Tried(True, "a canary")
    assert action.verify(target, records(plan, answers)).level is Level.PROVEN
    assert isinstance(answer(action, target, pool), Already)
    for change in reversed(plan.changes):
        assert undone(action, plan, answers, change.id).outcome == Applied()
        assert isinstance(action.undo(record(plan, change.id, answers)), Already)
    assert sorted(content(api), key=json.dumps) == before


def test_others_of_the_account_are_not_hit_unless_that_is_taken_on_and_then_they_are_named(
    cluster: Cluster, action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    careful = Unbind(cluster, Settings(FENCE, 1))
    said = refused(careful, target, pool)
    assert "cards-2" in said.reason
    assert "--bindings" in said.next_step
    assert any("cards-2" in caveat for caveat in planned(action, target, pool).caveats)
    other = next(pod for pod in api.all(POD) if pod["metadata"]["name"] == "cards-2")
    other["metadata"]["labels"]["ringfence.dev/fence"] = FENCE
    planned(careful, target, pool)  # a suspect of the same incident is no bystander
    other["metadata"]["labels"]["ringfence.dev/fence"] = "another incident's"
    assert "cards-2" in refused(careful, target, pool).reason


def test_a_binding_that_somebody_puts_back_is_seen(
    action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, target, pool)
    answers = apply(action, plan)
    bind(api, CLUSTER_ROLE_BINDING, "a-door", MINE)
    action.canary = lambda _ref: Tried(True, "never asked")
    proof = action.verify(target, records(plan, answers))
    assert (proof.level, proof.why_not_higher) == (Level.REQUESTED, "ClusterRoleBinding a-door")


def test_subjects_that_changed_meanwhile_are_not_overwritten(
    action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    bind(api, ROLE_BINDING, "shared", OTHER, MINE, namespace="bank")
    plan = planned(action, target, pool)
    live = next(one for one in api.all(ROLE_BINDING) if one["metadata"]["name"] == "shared")
    new = {"kind": "User", "name": "new"}
    live["subjects"].append(new)
    answers = apply(action, plan)
    assert isinstance(answers["unbind-RoleBinding-bank-shared"].outcome, Failed)
    assert subjects(api, ROLE_BINDING, "shared", "bank") == [OTHER, MINE, new]
    again = planned(action, target, pool)
    answers = apply(action, again)
    live = next(one for one in api.all(ROLE_BINDING) if one["metadata"]["name"] == "shared")
    live["subjects"] = [new]
    assert undone(action, again, answers, "unbind-RoleBinding-bank-shared").outcome == Applied()
    assert subjects(api, ROLE_BINDING, "shared", "bank") == [new, MINE], "what others did stays"


def test_a_binding_of_another_role_by_now_is_not_given_the_account(
    action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, target, pool)
    answers = apply(action, plan)
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    api.add(ROLE_BINDING, "bank", "cards", {"roleRef": role, "subjects": [OTHER]})
    said = action.undo(record(plan, "unbind-RoleBinding-bank-cards", answers))
    assert isinstance(said, Refused)
    assert "cluster-admin" in said.reason


def test_what_we_may_not_put_back_is_handed_out_as_it_was(
    action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    before = content(api)
    plan = planned(action, target, pool)
    answers = apply(action, plan)
    api.faults.append(Fault("POST", "/rolebindings", 403, HELD, dry=True))
    said = action.undo(record(plan, plan.changes[0].id, answers))
    assert isinstance(said, Refused)
    assert HELD in said.reason
    manifest = json.loads(said.next_step[said.next_step.index("{") :])
    api.add(ROLE_BINDING, "bank", manifest["metadata"]["name"], manifest)
    assert content(api) == before


def test_a_binding_that_cannot_be_changed_stays_and_is_said(
    action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    bind(api, ROLE_BINDING, "shared", OTHER, MINE, namespace="bank")
    api.faults.append(Fault("PATCH", "/rolebindings/shared", 403, HELD, dry=None))
    plan = planned(action, target, pool)
    assert any("one binding will stay" in caveat for caveat in plan.caveats)
    answers = apply(action, plan)
    assert answers["unbind-RoleBinding-bank-cards"].outcome == Applied()
    assert isinstance(answers["unbind-RoleBinding-bank-shared"].outcome, Failed)
    api.faults.append(Fault("DELETE", "/rolebindings/cards", 403, HELD, dry=None))
    assert not any(change.needed for change in plan.changes), "one that stays keeps no other"


def test_when_no_binding_can_be_changed_it_is_refused_with_the_key_of_the_configuration(
    action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.faults.append(Fault("DELETE", "/rolebindings/cards", 403, HELD, dry=None))
    assert "identity.restore_bindings" in refused(action, target, pool).next_step


def test_rights_by_group_are_no_success_in_silence(
    action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.add(CLUSTER_ROLE, "", "view", {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]})
    bind(api, CLUSTER_ROLE_BINDING, "all-view", {"kind": "Group", "name": "system:serviceaccounts:bank"})
    assert any("all-view" in caveat for caveat in planned(action, target, pool).caveats)
    apply(action, planned(action, target, pool))
    already = answer(action, target, pool)
    assert isinstance(already, Already)
    assert "all-view" in already.reason


def test_who_puts_it_back_is_said(action: Unbind, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor) -> None:
    live = next(one for one in api.all(ROLE_BINDING) if one["metadata"]["name"] == "cards")
    live["metadata"]["annotations"] = {
        "argocd.argoproj.io/tracking-id": "x",
        "rbac.authorization.kubernetes.io/autoupdate": "true",
    }
    said = "; ".join(planned(action, target, pool).caveats)
    assert "Argo CD may put it back" in said
    assert "when it starts" in said
