"""Real Argo CD puts back what a response changes, and leaves it once the smallest thing is frozen; then all is as
before. Each of the three ways in which a platform has its Applications made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import gitops
from lab.argocd_controller import API_VERSION, NAMESPACE
from lab.gitops import AUTOMATED, Variant
from lab.kube import NotFound
from lab.layout import Lab
from tests.lab.gitops import DEPLOYMENT, Estate, established
from tests.lab.program import Responder, Ringfence, steps_on
from tests.lab.space import Space

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]
VARIANTS: tuple[Variant, ...] = ("plain", "set", "parent")
POLICY, UNMINDED = "dns-listed", "dns-empty"


@pytest.fixture(params=VARIANTS)
def estate(request: pytest.FixtureRequest, argocd: Lab, space: Space) -> Iterator[Estate]:
    made = established(space, request.param)
    try:
        yield made
    finally:
        gitops.withdraw(space.kube, made.delivered)


@pytest.fixture
def ringfence(estate: Estate, tmp_path: Path, responders: tuple[Responder, Responder]) -> Ringfence:
    return Ringfence(estate.space.lab, tmp_path, responders[0].kubeconfig)


def selector_of(estate: Estate, policy: str = POLICY) -> Any:
    return estate.policy(policy)["podSelector"]


def pass_over(estate: Estate, policy: str) -> None:
    """As a cut does it."""
    before = selector_of(estate, policy).get("matchExpressions") or []
    selector = {"matchExpressions": [*before, {"key": "ringfence.dev/fence", "operator": "DoesNotExist"}]}
    body = {"spec": {"podSelector": selector}}
    estate.space.kube.patch("networking.k8s.io/v1", "NetworkPolicy", policy, estate.space.name, body=body)


def cut(ringfence: Ringfence, estate: Estate) -> str:
    """Contain one pod of the delivered workload; the incident."""
    pod = sorted(estate.space.pods(app=DEPLOYMENT))[0]
    view = ringfence.json("contain", f"pod/{pod}", "-n", estate.space.name, "--reason", "drill", "--accept-outage")
    assert [outcome["kind"] for outcome in steps_on(view, "freeze").values()] == ["applied"]
    assert [outcome["kind"] for outcome in steps_on(view, "cut").values()] == ["applied"]
    return str(view["incident"]["id"])


def test_without_a_freeze_a_scale_and_a_policy_change_are_put_back(estate: Estate) -> None:
    """The proof that the lab bites, however the Application came to be."""
    estate.scale(0)
    estate.wait_healed(lambda: estate.replicas() == 2)
    before = selector_of(estate)
    pass_over(estate, POLICY)
    estate.wait_healed(lambda: selector_of(estate) == before)
    pass_over(estate, UNMINDED)
    passing_over = selector_of(estate, UNMINDED)
    estate.commit()
    estate.stays(lambda: selector_of(estate, UNMINDED) == passing_over)


def compared(ringfence: Ringfence, incident: str) -> dict[str, Any]:
    """The row once Argo CD has compared everything with Git again, which it does in its own time; as it is else."""
    deadline = time.monotonic() + 90
    while True:
        row: dict[str, Any] = ringfence.rows(incident)["gitops.reversal"]
        if "not yet compared" not in row["why"] or time.monotonic() > deadline:
            return row
        time.sleep(1)


def test_a_cut_is_not_put_back_and_after_a_release_everything_is_as_before(
    estate: Estate, ringfence: Ringfence
) -> None:
    before = selector_of(estate)
    incident = cut(ringfence, estate)
    fenced = selector_of(estate)
    assert fenced != before
    estate.commit()
    estate.stays(lambda: selector_of(estate) == fenced)

    row = compared(ringfence, incident)
    assert (row["state"], row["level"]) == ("dead", "observed"), row["why"]
    assert "OutOfSync" in row["why"]

    ringfence.json("release", incident)
    assert estate.applications() == estate.before
    estate.wait_healed(lambda: selector_of(estate) == before)
    assert compared(ringfence, incident)["state"] == "dead"
    # It syncs again: what was committed meanwhile arrives.
    estate.wait_healed(
        lambda: estate.space.kube.find("v1", "ConfigMap", "delivered-later", estate.space.name) is not None
    )


def test_a_stopped_workload_stays_stopped_and_undo_restores_the_sync_policy_exactly(
    estate: Estate, ringfence: Ringfence
) -> None:
    target = ("deployment/loans", "-n", estate.space.name)
    incident = ringfence.json("respond", "stop-workload", *target, "--accept-outage", code=9)["incident"]["id"]
    assert estate.applications() != estate.before
    stopped = ringfence.json("approve", incident, "--reason", "nothing of it may go on")
    assert steps_on(stopped, "stop") == {DEPLOYMENT: {"kind": "applied"}}
    estate.commit()
    estate.stays(lambda: estate.replicas() == 0)

    ringfence.ok("undo", incident, f"freeze/{stopped['run']['number']}")
    assert estate.applications() == estate.before
    estate.wait_healed(lambda: estate.replicas() == 2)


def test_the_smallest_thing_is_frozen(estate: Estate, ringfence: Ringfence) -> None:
    """Above the Application nothing stops syncing: a parent goes on, an ApplicationSet leaves this one alone."""
    cut(ringfence, estate)
    now, name = estate.applications(), estate.delivered.application
    match estate.delivered.top:
        case None:
            before = dict(estate.before[f"Application {name}"])
            assert before.pop("syncPolicy") == {"automated": AUTOMATED}
            assert now == {f"Application {name}": before}
        case ("ApplicationSet", top):
            key = f"ApplicationSet {top}"
            left_alone = [{"name": name, "jsonPointers": ["/spec/syncPolicy"]}]
            assert now[key] == {**estate.before[key], "ignoreApplicationDifferences": left_alone}
            assert not now[f"Application {name}"].get("syncPolicy")
        case (kind, top):
            assert now[f"{kind} {top}"] == estate.before[f"{kind} {top}"]
            disabled = {"automated": {**AUTOMATED, "enabled": False}}
            assert now[f"Application {name}"]["syncPolicy"] == disabled


def test_a_namespace_that_nobody_delivers_needs_nothing(
    argocd: Lab, space: Space, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    space.idle("suspect", {"app": "suspect"})
    view = Ringfence(argocd, tmp_path, responders[0].kubeconfig).json(
        "contain", "pod/suspect", "-n", space.name, "--reason", "drill"
    )
    assert [outcome["kind"] for outcome in steps_on(view, "freeze").values()] == ["already"]
    assert "gitops.reversal" not in {row["path"] for row in view["rows"]}


def test_the_profile_has_left_what_it_delivered(argocd: Lab, space: Space) -> None:
    """Withdrawn Applications leave their objects: nothing is pruned behind a test's back."""
    made = established(space, "plain")
    gitops.withdraw(space.kube, made.delivered)
    with pytest.raises(NotFound):
        space.kube.get(API_VERSION, "Application", made.delivered.application, NAMESPACE)
    assert made.replicas() == 2
