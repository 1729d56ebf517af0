"""A cluster whose admission binds the responder too: the real Kyverno refuses labels, or deletes, and we say so.

What admission leaves possible is done; what it does not is Refused in its own words, with every row that stays open
still open, the evidence sealed all the same, and the next command named. By the program, with the rendered rights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import admission
from lab.admission import FIXED_LABELS, KEPT_PODS, REQUIRED_LABEL, REQUIRED_TEAM, Policy
from lab.kube import ApiError, wait_until
from tests.lab.admission import BoundNamespace
from tests.lab.program import Json, Responder, Ringfence
from tests.lab.space import Space

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
TEAM = {REQUIRED_LABEL: "cards"}
NETWORK = ("network.egress", "network.ingress", "network.dns")

APP_STAYS = Policy(
    name="app-stays",
    operations=("UPDATE",),
    expression="object.metadata.?labels[?'app'].orValue('') == oldObject.metadata.?labels[?'app'].orValue('')",
    message="the label app of a pod stays as it is",
)


@dataclass(frozen=True)
class Bound:
    """A namespace under admission, and the program."""

    space: Space
    admission: BoundNamespace
    ringfence: Ringfence

    def contain(self, pod: str, *more: str, code: int = 0) -> Json:
        found: Json = self.ringfence.json("contain", f"pod/{pod}", "-n", self.space.name, *more, code=code)
        return found

    def own_policies(self) -> list[str]:
        return [name for name in self.space.policies() if name.startswith("ringfence-")]


@pytest.fixture
def bound(bound_namespace: BoundNamespace, tmp_path: Path, responders: tuple[Responder, Responder]) -> Bound:
    space = Space(bound_namespace.lab, bound_namespace.kube, bound_namespace.name)
    return Bound(space, bound_namespace, Ringfence(space.lab, tmp_path, responders[0].kubeconfig))


def assert_open_and_said(bound: Bound, view: Json, pod: str, policy: Policy) -> None:
    """Nothing was cut: the pod is as it was, nothing of ours is left, and everything that is open is said to be."""
    before = bound.space.pod(pod)
    assert bound.space.fence_of(pod) is None
    assert "ringfence.dev/shape" not in (before["metadata"].get("annotations") or {})
    assert bound.own_policies() == []
    outcome = view["outcome"]
    assert outcome["kind"] == "refused"
    assert policy.message in outcome["reason"]
    assert policy.name in outcome["reason"]
    assert "exemption" in outcome["next_step"]
    assert f"ringfence respond cordon-node pod/{pod} -n {bound.space.name}" in outcome["next_step"]
    assert view["verdict"] == "NOT CONTAINED"
    rows = {row["path"]: row for row in view["rows"]}
    assert {path: rows[path]["state"] for path in NETWORK} == dict.fromkeys(NETWORK, "alive")
    assert view["evidence"]["seal"]["complete"] is True
    assert view["evidence"]["problem"] == ""
    assert view["incident"]["state"] == "declared", "nothing has been contained"

    incident = view["incident"]["id"]
    screen = bound.ringfence.ok("status", incident)
    assert "NOT CONTAINED" in screen
    assert "STILL OPEN" in screen
    assert any(policy.message in event["reason"] for event in bound.ringfence.events(incident, "refusal"))


# --- a required label ----------------------------------------------------------------
def test_a_pod_with_the_required_label_is_cut_and_keeps_it(bound: Bound) -> None:
    bound.space.workload("web", 1, labels=TEAM)
    (pod,) = bound.space.wait_pods(1, app="web")
    bound.admission.install(REQUIRED_TEAM)
    view = bound.contain(pod)
    assert view["outcome"] == {"kind": "applied"}
    live = bound.space.pod(pod)["metadata"]
    assert live["labels"][REQUIRED_LABEL] == TEAM[REQUIRED_LABEL]
    assert "app" not in live["labels"]
    assert bound.space.fence_of(pod) is not None
    assert view["verdict"] == "NOT FULLY CONTAINED"


def test_a_pod_whose_controller_holds_the_required_label_is_fenced_where_it_is(bound: Bound) -> None:
    """Its controller selects by nothing else: taking the pod out of it would take off the label that is required."""
    bound.space.workload("web", 1, labels=TEAM, selector=TEAM)
    (pod,) = bound.space.wait_pods(1, **TEAM)
    bound.admission.install(REQUIRED_TEAM)
    view = bound.contain(pod)
    assert view["outcome"] == {"kind": "applied"}
    assert_fenced_in_place(bound, view, pod, REQUIRED_TEAM)


def assert_fenced_in_place(bound: Bound, view: Json, pod: str, policy: Policy) -> None:
    live = bound.space.pod(pod)["metadata"]
    assert live["annotations"]["ringfence.dev/shape"] == "fence"
    assert live["labels"]["app"] == "web"
    assert live["ownerReferences"], "it has its controller still"
    assert bound.space.fence_of(pod) is not None
    rows = {row["path"]: row for row in view["rows"]}
    assert rows["network.egress"]["state"] == "unseen"
    (plan,) = bound.ringfence.events(view["incident"]["id"], "plan.made")
    assert plan["rationale"].startswith("fence in place: ")
    assert policy.message in plan["rationale"], "why it was not taken out, in the policy's own words"


def test_an_old_pod_without_the_required_label_can_be_cut_in_no_way(bound: Bound) -> None:
    bound.space.workload("web", 1)
    (pod,) = bound.space.wait_pods(1, app="web")
    bound.admission.install(REQUIRED_TEAM)
    view = bound.contain(pod, code=3)
    assert_open_and_said(bound, view, pod, REQUIRED_TEAM)
    assert bound.space.pod(pod)["metadata"]["ownerReferences"]


# --- no label changes ----------------------------------------------------------------
def test_where_no_label_may_change_nothing_is_cut_and_everything_is_said(bound: Bound) -> None:
    bound.space.run("suspect", {"app": "web"})
    bound.admission.install(FIXED_LABELS)
    view = bound.contain("suspect", code=3)
    assert_open_and_said(bound, view, "suspect", FIXED_LABELS)
    said = bound.ringfence.ends(3, "contain", "pod/suspect", "-n", bound.space.name)
    assert "NOT CUT: refused: " in said
    assert FIXED_LABELS.message in said
    assert "ask for an exemption" in said
    assert f"ringfence status {view['incident']['id']}" in said

    # The exemption is given: the same command cuts it, in the same incident.
    bound.admission.remove(FIXED_LABELS)
    again = bound.contain("suspect")
    assert again["outcome"] == {"kind": "applied"}
    assert again["incident"]["id"] == view["incident"]["id"]
    assert again["incident"]["state"] == "containing"
    assert bound.space.fence_of("suspect") is not None


def test_where_one_label_must_stay_the_pod_is_fenced_in_place(bound: Bound) -> None:
    bound.space.workload("web", 1)
    (pod,) = bound.space.wait_pods(1, app="web")
    enforce(bound, APP_STAYS, pod)
    view = bound.contain(pod)
    assert view["outcome"] == {"kind": "applied"}
    assert_fenced_in_place(bound, view, pod, APP_STAYS)

    # Who insists on a detach is told that it cannot be had, and the fence stays as it is.
    fence = bound.space.fence_of(pod)
    insisted = bound.contain(pod, "--shape", "detach", code=3)
    assert APP_STAYS.message in insisted["outcome"]["reason"]
    assert bound.space.fence_of(pod) == fence


def enforce(bound: Bound, policy: Policy, pod: str) -> None:
    """Puts a policy of this test's own in force, and waits until the pod shows it."""
    bound.admission.install()
    bound.space.kube.apply(policy.manifest(bound.space.name))
    path = f"/api/v1/namespaces/{bound.space.name}/pods/{pod}"

    def refuses() -> bool:
        body: dict[str, Any] = {"metadata": {"labels": {"app": "other"}}}
        try:
            bound.space.kube.request(
                "PATCH", path, body, query={"dryRun": "All"}, content_type="application/merge-patch+json"
            )
        except ApiError as error:
            if admission.DENIED not in str(error):
                raise
            return policy.message in str(error)
        return False

    wait_until(refuses, admission.IN_FORCE_SECONDS, f"Kyverno to enforce {policy.name}")


# --- no deletes ----------------------------------------------------------------------
def test_a_refused_delete_leaves_pod_and_fence_and_goes_through_once_it_is_allowed(bound: Bound) -> None:
    bound.space.workload("web", 1)
    (pod,) = bound.space.wait_pods(1, app="web")
    bound.admission.install(KEPT_PODS)
    contained = bound.contain(pod)
    incident = contained["incident"]["id"]
    assert contained["outcome"] == {"kind": "applied"}
    before, fence = bound.space.policies(), bound.space.fence_of(pod)

    refused = bound.ringfence.json("eradicate", incident, code=3)
    assert refused["outcome"]["kind"] == "refused"
    assert KEPT_PODS.message in refused["outcome"]["reason"]
    assert KEPT_PODS.name in refused["outcome"]["reason"]
    assert refused["outcome"]["next_step"]
    live = bound.space.pod(pod)["metadata"]
    assert "deletionTimestamp" not in live
    assert bound.space.fence_of(pod) == fence
    assert bound.space.policies() == before, "the fence of a pod that lives is not taken down"
    assert refused["incident"]["state"] == "containing", "nothing has been eradicated"
    rows = {row["path"]: row for row in refused["rows"]}
    assert rows["identity.kubernetes"]["state"] == "alive"
    assert refused["verdict"] == "NOT FULLY CONTAINED"
    screen = bound.ringfence.ends(3, "eradicate", incident)
    assert "ERADICATE" in screen
    assert "NOT DONE" in screen
    assert KEPT_PODS.message in screen
    # An eviction ends a pod without asking admission about deletes: nothing here may have taken that way.
    assert not bound.space.is_gone(pod)

    bound.admission.remove(KEPT_PODS)
    done = bound.ringfence.json("eradicate", incident)
    assert done["outcome"] == {"kind": "applied"}
    assert bound.space.is_gone(pod)
    assert bound.own_policies() == []
    rows = {row["path"]: row for row in done["rows"]}
    assert (rows["identity.kubernetes"]["state"], rows["identity.kubernetes"]["level"]) == ("dead", "proven")
