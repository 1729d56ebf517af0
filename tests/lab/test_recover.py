"""The way back on a real cluster with a real Argo CD: what is approved comes, anything else does not, and at the end
everything is as it was but for what recovery was asked to change. With the rendered rights alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import gitops
from lab.argocd_controller import API_VERSION, NAMESPACE
from lab.gitops import Variant
from lab.images import BANK, MENDED_BANK
from lab.kube import STRATEGIC_PATCH, wait_until
from lab.layout import Lab
from tests.lab.gitops import DEPLOYMENT, Estate, established, mended
from tests.lab.program import Responder, Ringfence, steps_on
from tests.lab.space import Space

Json = dict[str, Any]
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]
VARIANTS: tuple[Variant, ...] = ("plain", "parent")
SERVER_FIELDS = ("resourceVersion", "generation", "managedFields", "uid", "creationTimestamp")


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


def everything(estate: Estate) -> dict[str, Json]:
    """The namespace's objects that a person or Git has made, less what the server writes by itself."""
    kube, name = estate.space.kube, estate.space.name
    kinds = (
        *(("apps/v1", "Deployment"), ("networking.k8s.io/v1", "NetworkPolicy"), ("v1", "ServiceAccount")),
        *(("rbac.authorization.k8s.io/v1", "RoleBinding"), ("v1", "Service"), ("v1", "ConfigMap")),
    )
    found: dict[str, Json] = {}
    for api_version, kind in kinds:
        for obj in kube.list(api_version, kind, name):
            meta = {key: value for key, value in obj["metadata"].items() if key not in SERVER_FIELDS}
            meta["annotations"] = {
                key: value for key, value in (meta.get("annotations") or {}).items() if "kubernetes.io/" not in key
            }
            content = {key: value for key, value in obj.items() if key not in ("metadata", "status", "secrets")}
            found[f"{kind} {meta['name']}"] = {**content, "metadata": meta}
    return found


def as_it_is(estate: Estate) -> dict[str, Json]:
    """``everything``, the pods as they run, and the Applications, whole but for Argo CD's own notes."""
    kube, name = estate.space.kube, estate.space.name
    found = everything(estate)
    for pod in kube.list("v1", "Pod", name):
        found[f"Pod {pod['metadata']['name']}"] = {"uid": pod["metadata"]["uid"], "spec": pod["spec"]}
    for app in kube.list(API_VERSION, "Application", NAMESPACE):
        meta = {key: value for key, value in app["metadata"].items() if key not in SERVER_FIELDS}
        found[f"Application {meta['name']}"] = {"metadata": meta, "spec": app["spec"]}
    return found


def changed_by(lab: Lab, user: str, since: int) -> list[str]:
    """What that user has had the API server change since that byte of its own log."""
    found = []
    with lab.audit_log.open("rb") as log:
        log.seek(since if lab.audit_log.stat().st_size >= since else 0)
        for line in log:
            if user.encode() not in line:
                continue
            event = json.loads(line)
            asks = event["verb"] in ("get", "list", "watch") or "selfsubject" in event["requestURI"]
            if event["user"]["username"] == user and not asks and "dryRun=All" not in event["requestURI"]:
                found.append(f"{event['verb']} {event['requestURI']}")
    return found


def compare_anew(estate: Estate) -> None:
    """Somebody has Argo CD compare with Git, as its web page's button does."""
    kube, name = estate.space.kube, estate.delivered.application
    mark = "argocd.argoproj.io/refresh"
    kube.patch(API_VERSION, "Application", name, NAMESPACE, body={"metadata": {"annotations": {mark: "normal"}}})

    def done() -> bool:
        meta = kube.get(API_VERSION, "Application", name, NAMESPACE)["metadata"]
        return mark not in (meta.get("annotations") or {})

    wait_until(done, 60, "Argo CD to compare with Git")


def bind(estate: Estate) -> None:
    """A role for the account of the workload, which somebody gave it by hand; of no rights, so that all may bind it."""
    kube, name = estate.space.kube, estate.space.name
    account = estate.space.kube.get("apps/v1", "Deployment", DEPLOYMENT, name)["spec"]["template"]["spec"][
        "serviceAccountName"
    ]
    group = "rbac.authorization.k8s.io"
    meta = {"name": "by-hand", "namespace": name}
    kube.create({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": []})
    kube.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": meta["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": name}],
        }
    )


def accept_what_is_open(ringfence: Ringfence, incident: str, *but: str) -> None:
    for path, row in ringfence.rows(incident).items():
        if row["state"] in ("alive", "unseen") and path not in but:
            ringfence.ok("accept", incident, path, "--reason", "drill")


def stop(ringfence: Ringfence, estate: Estate) -> str:
    target = ("deployment/loans", "-n", estate.space.name)
    incident: str = ringfence.json("respond", "stop-workload", *target, "--accept-outage", code=9)["incident"]["id"]
    ringfence.json("cut-identity", incident, "--bindings")
    stopped = ringfence.json("approve", incident.removesuffix("\n"), "--reason", "nothing of it may go on")
    assert steps_on(stopped, "stop") == {DEPLOYMENT: {"kind": "applied"}}
    return incident


def test_the_approved_commit_comes_back_and_everything_is_as_before(estate: Estate, ringfence: Ringfence) -> None:
    bind(estate)
    before, suspects = everything(estate), {pod["metadata"]["uid"] for pod in estate.space.pods().values()}
    incident = stop(ringfence, estate)
    estate.stays(lambda: estate.replicas() == 0)

    # Nothing is accepted yet: the first gate that is shut is named, and nothing has moved.
    refused = ringfence.json("recover", incident, code=3)
    assert refused["outcome"]["kind"] == "refused"
    accept_what_is_open(ringfence, incident, "workload.replacement", "gitops.reversal")
    unmended = ringfence.json("recover", incident, code=3)
    assert "would start the suspects' image again" in unmended["outcome"]["reason"]

    commit = mended(estate)
    other = "1" * 40
    wrong = ringfence.json("recover", incident, "--revision", other, code=3)
    assert f"would deliver {commit}" in wrong["outcome"]["reason"]
    assert commit in wrong["outcome"]["next_step"]
    assert (estate.replicas(), estate.applications() == estate.before) == (0, False)

    view = ringfence.json("recover", incident, "--revision", commit[:10], "--watch", "5s")
    assert view["incident"]["state"] == "post-incident", view["outcome"]
    assert view["verdict"] == "CONTAINED"
    estate.space.wait_pods(2, app=DEPLOYMENT)

    assert estate.applications() == estate.before
    after = everything(estate)
    for container in before[f"Deployment {DEPLOYMENT}"]["spec"]["template"]["spec"]["containers"]:
        assert container["image"] == BANK
        container["image"] = MENDED_BANK
    assert after == before
    pods = estate.space.pods(app=DEPLOYMENT)
    assert not suspects & {pod["metadata"]["uid"] for pod in pods.values()}, "a suspect was adopted again"
    gates = {step["step"]: step["proof"] for step in view["steps"]}
    assert commit in gates["source"]["claim"]
    assert gates["try-all"]["level"] == "observed"

    closed = ringfence.ok("close", incident, "--root-cause", "a template engine", "--lesson", "review it")
    assert "closed" in closed


@pytest.fixture
def plain(argocd: Lab, space: Space) -> Iterator[Estate]:
    made = established(space, "plain")
    try:
        yield made
    finally:
        gitops.withdraw(space.kube, made.delivered)


def test_a_dry_run_says_what_then_comes_and_changes_nothing(
    plain: Estate, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    estate, lab = plain, plain.space.lab
    ringfence = Ringfence(lab, tmp_path, responders[0].kubeconfig)
    incident = stop(ringfence, estate)
    accept_what_is_open(ringfence, incident, "workload.replacement", "gitops.reversal")
    commit, other = mended(estate), "1" * 40
    compare_anew(estate)

    def foreseen(*arguments: str, code: int) -> dict[str, Json]:
        before, timeline = as_it_is(estate), ringfence.json("timeline", incident)
        since = lab.audit_log.stat().st_size
        found = ringfence.json("recover", incident, *arguments, "--dry-run", code=code)
        assert changed_by(lab, responders[0].user, since) == []
        assert as_it_is(estate) == before
        assert ringfence.json("timeline", incident) == timeline
        return {one["step"]: one for one in found["steps"]}

    unapproved = foreseen(code=3)["source"]
    assert unapproved["stand"] == "shut"
    assert f"would deliver {commit}, and nobody has approved that" in unapproved["outcome"]["reason"]
    wrong = foreseen("--revision", other, code=3)["source"]
    approved = foreseen("--revision", commit[:10], code=0)
    assert approved["source"]["stand"] == "passes"
    assert commit in approved["source"]["proof"]["claim"]
    (thaw,) = approved["unfreeze"]["changes"]
    assert thaw["ref"]["name"] == estate.delivered.application

    # The real ones: the same refusal in the same words, and then that very commit.
    refused = ringfence.json("recover", incident, "--revision", other, code=3)["outcome"]
    assert (refused["reason"], refused["next_step"]) == (wrong["outcome"]["reason"], wrong["outcome"]["next_step"])
    view = ringfence.json("recover", incident, "--revision", commit[:10], "--watch", "3s")
    assert view["incident"]["state"] == "post-incident", view["outcome"]
    claims = {step["step"]: step["proof"]["claim"] for step in view["steps"] if step["proof"]}
    assert claims["source"] == approved["source"]["proof"]["claim"]
    delivered = estate.space.kube.get(API_VERSION, "Application", estate.delivered.application, NAMESPACE)
    assert delivered["status"]["sync"]["revision"] == commit
    assert estate.applications() == estate.before


def test_what_comes_back_in_the_window_is_cut_off(
    plain: Estate, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    """Somebody gets into a restored pod while it is watched: it is fenced, and the incident goes on."""
    estate = plain
    ringfence = Ringfence(estate.space.lab, tmp_path, responders[0].kubeconfig)
    incident = stop(ringfence, estate)
    commit = mended(estate)
    accept_what_is_open(ringfence, incident, "workload.replacement", "gitops.reversal")

    views: list[Json] = []

    def recover() -> None:
        views.append(ringfence.json("recover", incident, "--revision", commit, "--watch", "90s", code=3))

    thread = threading.Thread(target=recover)
    thread.start()
    deadline = time.monotonic() + 240
    looking = Ringfence(estate.space.lab, ringfence.home)
    looking.config = ringfence.home / "looking.yaml"
    looking.settings = dict(ringfence.settings)
    while not looking.events(incident, "recovery.watch") and time.monotonic() < deadline:
        time.sleep(1)
    # Whoever may, puts a container into a pod that was restored.
    name = estate.space.wait_pods(2, app=DEPLOYMENT)[0]
    body = {"spec": {"ephemeralContainers": [{"name": "back-again", "image": BANK, "command": ["sleep", "600"]}]}}
    estate.space.kube.patch(
        "v1",
        "Pod",
        name,
        estate.space.name,
        body=body,
        content_type=STRATEGIC_PATCH,
        subresource="ephemeralcontainers",
    )
    thread.join(300)
    (view,) = views
    assert "back-again" in view["outcome"]["reason"]
    assert estate.space.fence_of(name)
    assert view["incident"]["state"] == "containing"
