"""``identity.cut``: a policy that knows one pod's uid and nothing else; what weakens it is noticed, and undo takes it
away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ringfence.actions.account import Tried
from ringfence.actions.base import Settings
from ringfence.actions.identity import CutIdentity
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied
from ringfence.model.proof import Level
from ringfence.platform.kubernetes import token_policy
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    POD,
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
)
from tests.actions.planning import FENCE, answer, apply, planned, record, records, ref_of, refused, undone
from tests.simulator import Fault, Simulator


@pytest.fixture
def action(cluster: Cluster) -> CutIdentity:
    return CutIdentity(cluster, Settings(FENCE, 1))


@pytest.fixture
def target(api: Simulator) -> ObjectRef:
    return ref_of(api, POD, "cards-1")


def policies(api: Simulator) -> int:
    return len(api.all(VALIDATING_ADMISSION_POLICY)) + len(api.all(VALIDATING_ADMISSION_POLICY_BINDING))


def test_the_policy_comes_before_its_binding_and_undo_takes_both_away(
    action: CutIdentity, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, target, pool)
    assert [change.id for change in plan.changes] == ["policy", "binding"]
    assert (plan.destroys, plan.impact.pods, action.destructive) == ((), 0, False)
    answers = apply(action, plan)
    proof = action.verify(target, records(plan, answers))
    assert (proof.level, bool(proof.why_not_higher)) == (Level.COMPUTED, True)
    assert isinstance(answer(action, target, pool), Already)
    for change in ("binding", "policy"):
        assert undone(action, plan, answers, change).outcome == Applied()
        assert isinstance(action.undo(record(plan, change, answers)), Already)
    assert policies(api) == 0


def test_only_a_token_of_that_pod_is_meant(target: ObjectRef) -> None:
    (condition,) = token_policy.policy(FENCE, target.uid)["spec"]["matchConditions"]
    assert (
        f'"{target.uid}" in request.userInfo.extra["authentication.kubernetes.io/pod-uid"]' in condition["expression"]
    )
    assert condition["expression"].startswith("has(request.userInfo.extra) && "), "a user without extra is no error"
    (rule,) = token_policy.policy(FENCE, target.uid)["spec"]["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["*/*"], "subresources are among it: exec, attach, port-forward, proxy"
    assert set(rule["operations"]) == {"CREATE", "UPDATE", "DELETE", "CONNECT"}


def test_what_a_refused_caller_reads_names_no_incident() -> None:
    assert FENCE not in token_policy.MESSAGE
    assert "INC" not in token_policy.MESSAGE


def test_a_canary_that_was_refused_proves_it_and_one_that_was_not_says_why(
    action: CutIdentity, target: ObjectRef, pool: ThreadPoolExecutor
) -> None:
    plan = planned(action, target, pool)
    answers = apply(action, plan)
    action.canary = lambda _ref: Tried(True, "a canary")
    assert action.verify(target, records(plan, answers)).level is Level.PROVEN
    action.canary = lambda _ref: Tried(False, "it got through")
    proof = action.verify(target, records(plan, answers))
    assert (proof.level, proof.why_not_higher) == (Level.COMPUTED, "it got through")


@pytest.mark.parametrize("what", ["gone", "binding", "condition", "validation", "warning"])
def test_a_policy_that_somebody_weakened_is_not_in_force_and_not_taken_for_ours(
    action: CutIdentity, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor, what: str
) -> None:
    plan = planned(action, target, pool)
    answers = apply(action, plan)
    action.canary = lambda _ref: Tried(True, "never asked")
    name = plan.changes[0].ref.name
    policy = next(obj for obj in api.all(VALIDATING_ADMISSION_POLICY) if obj["metadata"]["name"] == name)
    binding = next(obj for obj in api.all(VALIDATING_ADMISSION_POLICY_BINDING) if obj["metadata"]["name"] == name)
    match what:
        case "gone":
            api.objects = {key: obj for key, obj in api.objects.items() if obj is not policy}
        case "binding":
            binding["spec"]["validationActions"] = ["Audit"]
        case "condition":
            policy["spec"]["matchConditions"].append({"name": "never", "expression": "false"})
        case "validation":
            policy["spec"]["validations"][0]["expression"] = "true"
        case _:
            policy["status"] = {"typeChecking": {"expressionWarnings": [{"fieldRef": "spec", "warning": "no"}]}}
    proof = action.verify(target, records(plan, answers))
    assert (proof.level, bool(proof.why_not_higher)) == (Level.REQUESTED, True)
    if what in ("binding", "condition", "validation"):
        assert "somebody has changed it" in refused(action, target, pool).reason


def test_what_it_does_not_cover_is_said(
    action: CutIdentity, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    role = {"kind": "ClusterRole", "name": "lister"}
    rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    api.add(CLUSTER_ROLE, "", "lister", {"rules": rules})
    everybody = [{"kind": "Group", "name": "system:serviceaccounts"}]
    api.add(CLUSTER_ROLE_BINDING, "", "all-list", {"roleRef": role, "subjects": everybody})
    plan = planned(action, target, pool)
    said = "; ".join(plan.caveats)
    for words in ("goes on reading", "can take the policy away", "bound to no pod", "all-list", "list on nodes"):
        assert words in said
    assert "get, create on configmaps in bank" in plan.rationale


def test_a_cluster_without_such_policies_is_told_the_harder_way(
    action: CutIdentity, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor
) -> None:
    api.faults.append(Fault("GET", "/validatingadmissionpolicies", 404, dry=None))
    assert "--bindings" in refused(action, target, pool).next_step


def test_admission_is_heard(action: CutIdentity, target: ObjectRef, api: Simulator, pool: ThreadPoolExecutor) -> None:
    api.faults.append(Fault("POST", "/validatingadmissionpolicies", 403, 'admission webhook "g" denied it', dry=True))
    assert '"g"' in refused(action, target, pool).reason
    assert policies(api) == 0
