"""Many pods at once: each with its own result, customers kept above their floor, and a second person above the cap.

Most pods here are such as no node ever runs: for the API, and so for the cut, they are pods like any other.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from lab.kube import ApiError, wait_until
from tests.faults.proxy import Aim, Fault, Proxy, Relabelled, Upstream
from tests.lab.program import Json, Responder, Ringfence, steps_on
from tests.lab.space import Space

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
ADMISSION = "admissionregistration.k8s.io/v1"
MANY = 50
FEW = 5
MORE_MEMORY = 120 * 1024 * 1024


@pytest.fixture
def ringfence(space: Space, tmp_path: Path, responders: tuple[Responder, Responder]) -> Ringfence:
    return Ringfence(space.lab, tmp_path, responders[0].kubeconfig)


@pytest.fixture
def other(ringfence: Ringfence, responders: tuple[Responder, Responder]) -> Ringfence:
    """The same store in somebody else's hands."""
    return ringfence.by(responders[1])


def idle_pods(space: Space, count: int, stem: str) -> tuple[str, list[str]]:
    """Their image, which nobody else asks for, and their names."""
    image = f"rf-test/{uuid.uuid4().hex[:12]}:1"
    names = [f"{stem}-{number:02}" for number in range(count)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: space.idle(name, {"app": stem}, image=image), names))
    return image, names


# --- fifty ---------------------------------------------------------------------------
def test_fifty_pods_are_cut_behind_one_fence_in_flat_memory(space: Space, ringfence: Ringfence) -> None:
    few_image, _ = idle_pods(space, FEW, "few")
    many_image, names = idle_pods(space, MANY, "many")
    few = ringfence.measured("contain", "--image", few_image, "-o", "json")
    assert few.returncode == 0, few.stderr
    before = set(space.policies())
    many = ringfence.measured("contain", "--image", many_image, "-o", "json")
    assert many.returncode == 0, many.stdout + many.stderr
    assert many.peak <= few.peak + MORE_MEMORY, f"{few.peak >> 20} MiB for {FEW} pods, {many.peak >> 20} for {MANY}"

    view = json.loads(many.stdout)
    assert {name: o["kind"] for name, o in steps_on(view, "cut").items()} == dict.fromkeys(names, "applied")
    assert {name: o["kind"] for name, o in steps_on(view, "seal").items()} == dict.fromkeys(names, "applied")
    pods = space.pods(app="many")
    fences = {pod["metadata"]["labels"]["ringfence.dev/fence"] for pod in pods.values()}
    assert len(fences) == 1
    assert set(space.policies()) - before == {f"ringfence-{fences.pop()}"}, "one deny-all for all of them"
    incident = view["incident"]["id"]
    made = [e for e in ringfence.events(incident, "change.intended") if e["verb"] == "create"]
    assert len(made) == 1, "and it was sent once"
    assert f"{MANY} of {MANY} pods sealed" in ringfence.ok("status", incident)
    assert ringfence.rows(incident)["network.egress"]["state"] == "unseen"


# --- one fails, the others do not ----------------------------------------------------
@contextlib.contextmanager
def no_relabel_of(space: Space, pod: str) -> Iterator[str]:
    """A ValidatingAdmissionPolicy of the API server itself, by which the labels of that one pod are fixed."""
    name = f"{space.name}-{pod}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    expression = f"object.metadata.name != '{pod}' || object.metadata.?labels == oldObject.metadata.?labels"
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": expression, "message": "this one is not to be relabelled"}],
    }
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"rf-own": space.name}}},
    }
    kinds = {"ValidatingAdmissionPolicy": policy, "ValidatingAdmissionPolicyBinding": binding}
    try:
        for kind, spec in kinds.items():
            space.kube.create({"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
        wait_until(lambda: is_fixed(space, pod), 60, f"the API server to enforce {name}", interval=0.3)
        yield name
    finally:
        for kind in reversed(kinds):
            space.kube.delete(ADMISSION, kind, name)


def is_fixed(space: Space, pod: str) -> bool:
    try:
        space.kube.request(
            "PATCH",
            f"/api/v1/namespaces/{space.name}/pods/{pod}",
            {"metadata": {"labels": {"tried": "yes"}}},
            query={"dryRun": "All"},
            content_type="application/merge-patch+json",
        )
    except ApiError as error:
        return "not to be relabelled" in str(error)
    return False


def through(proxy: Proxy, responder: Responder, home: Path) -> Path:
    """The responder's kubeconfig, but by way of the proxy."""
    config: Json = yaml.safe_load(responder.kubeconfig.read_text())
    for cluster in config["clusters"]:
        cluster["cluster"] = {"server": proxy.url}
    file = home / "proxied.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def test_what_befalls_some_pods_meanwhile_hinders_no_other(
    space: Space, ringfence: Ringfence, responders: tuple[Responder, Responder], tmp_path: Path
) -> None:
    _, names = idle_pods(space, 12, "many")
    fixed, gone, protected = names[4], names[7], names[9]

    def meanwhile() -> None:
        """The first pod is cut, no other has been begun: one goes, and one is put under protection."""
        space.kube.delete("v1", "Pod", gone, space.name, grace_seconds=0, wait=30)
        body = {"metadata": {"labels": {"ringfence.dev/protected": "yes"}}}
        space.kube.patch("v1", "Pod", protected, space.name, body=body)

    first_cut = Aim(
        Fault(Relabelled("application/json"), reaches=True, meanwhile=meanwhile),
        "PATCH",
        rf"/api/v1/namespaces/{space.name}/pods/{names[0]}",
        dry=False,
    )
    upstream = Upstream(str(responders[0].kubeconfig), as_caller=True)
    with no_relabel_of(space, fixed) as policy, Proxy(upstream, [first_cut]) as proxy:
        ringfence.configure("cluster", kubeconfig=str(through(proxy, responders[0], tmp_path)))
        view = ringfence.json("contain", *(f"pod/{name}" for name in names), "-n", space.name, code=9)
    upstream.close()
    assert first_cut.times == 0, "it happened in the middle of the run"

    cut = steps_on(view, "cut")
    hindered = {fixed, gone, protected}
    assert {name: o["kind"] for name, o in cut.items() if name not in hindered} == dict.fromkeys(
        [name for name in names if name not in hindered], "applied"
    )
    assert cut[fixed]["kind"] == "refused"
    assert "this one is not to be relabelled" in cut[fixed]["reason"]
    assert policy in cut[fixed]["reason"]
    assert cut[gone]["kind"] == "skipped"
    assert "is gone" in cut[gone]["reason"]
    assert cut[protected]["kind"] == "refused"
    assert "carries the label ringfence.dev/protected" in cut[protected]["reason"]
    fenced = {
        name for name, pod in space.pods(app="many").items() if "ringfence.dev/fence" in pod["metadata"]["labels"]
    }
    assert fenced == set(names) - hindered

    # The command as a whole was not done, and says how much of it and why.
    assert view["outcome"]["kind"] == "failed"
    assert view["outcome"]["problem"]["what"] == "3 of 12 were not done"
    assert "this one is not to be relabelled" in view["outcome"]["problem"]["why"]
    assert view["verdict"] == "NOT CONTAINED"
    rows = {row["path"]: row for row in view["rows"]}
    assert rows["network.egress"]["state"] == "alive"
    assert fixed in rows["network.egress"]["why"]
    assert protected in rows["network.egress"]["why"]
    # Evidence is taken from pods that could not be cut, too.
    sealed = steps_on(view, "seal")
    assert {name for name, outcome in sealed.items() if outcome["kind"] == "applied"} == set(names) - {gone}


# --- customers -----------------------------------------------------------------------
@pytest.fixture
def serving(space: Space) -> list[str]:
    """The names of four pods that serve behind a Service."""
    space.service("web")
    space.workload("web", 4)
    names = space.wait_pods(4, app="web")
    space.wait_serving("web", 4)
    return names


def held_of(view: Json) -> tuple[set[str], Json]:
    """Which pods were cut, and what became of the only other one."""
    cut = steps_on(view, "cut")
    applied = {name for name, outcome in cut.items() if outcome["kind"] == "applied"}
    (held,) = (outcome for name, outcome in cut.items() if name not in applied)
    return applied, held


def test_as_many_are_cut_as_customers_can_spare_and_the_rest_is_held(
    space: Space, ringfence: Ringfence, serving: list[str]
) -> None:
    view = ringfence.json("contain", *(f"pod/{name}" for name in serving), "-n", space.name, code=9)
    cut, held = held_of(view)
    assert len(cut) == 3
    assert held["kind"] == "refused"
    assert "web would have 0 of 4 serving (floor 1)" in held["reason"]
    assert "--accept-outage" in held["next_step"]
    (left,) = set(serving) - cut
    assert space.fence_of(left) is None
    assert all(space.fence_of(name) for name in cut)
    assert view["waiting"] == [], "nobody was asked: less was done"

    # The replacements serve: now the last one can go, and customers keep their floor.
    space.wait_pods(4, app="web")
    space.wait_serving("web", 4)
    again = ringfence.json("contain", f"pod/{left}", "-n", space.name)
    assert again["incident"]["id"] == view["incident"]["id"]
    assert again["outcome"] == {"kind": "applied"}
    assert space.fence_of(left) is not None


def test_above_the_cap_a_second_person_approves_and_not_the_first(
    space: Space, ringfence: Ringfence, other: Ringfence, responders: tuple[Responder, Responder], serving: list[str]
) -> None:
    for one in (ringfence, other):
        one.configure("guardrails", blast_radius_pods=2)
    said = ringfence.ends(9, "contain", "deployment/web", "-n", space.name, "--accept-outage")
    (waits,) = [line for line in said.splitlines() if line.startswith("WAITS")]
    assert "INC-1/approval/1" in waits
    assert "web would have 0 of 4 serving (floor 1)" in waits
    assert "4 pods would stop; above 2 (guardrails.blast_radius_pods)" in waits
    assert "ringfence approve INC-1/approval/1" in said
    uncut = [name for name in serving if space.fence_of(name) is None]
    assert len(uncut) == 1

    mine = ringfence.run("approve", "INC-1", "--reason", "I am sure")
    assert mine.returncode == 3
    assert "needs a second person" in mine.stderr
    assert responders[0].user in mine.stderr
    assert space.fence_of(uncut[0]) is None
    assert ringfence.json("status", "INC-1")["waiting"][0]["decision"] == "pending"

    view = other.json("approve", "INC-1/approval/1", "--reason", "the shop can wait")
    assert view["run"]["state"] == "done"
    assert {name: o["kind"] for name, o in steps_on(view, "cut").items()} == dict.fromkeys(serving, "applied")
    assert all(space.fence_of(name) for name in serving)
    (decided,) = ringfence.events("INC-1", "approval.decided")
    assert decided["decision"] == "approved"
    assert responders[1].user in decided["actor"]
    assert ringfence.run("approve", "INC-1").returncode == 4, "nothing waits any more"


def test_a_rejected_and_an_expired_approval_are_a_no(
    space: Space, ringfence: Ringfence, other: Ringfence, serving: list[str]
) -> None:
    for one in (ringfence, other):
        one.configure("guardrails", blast_radius_pods=2)
    ringfence.ends(9, "contain", "deployment/web", "-n", space.name, "--accept-outage")
    (left,) = [name for name in serving if space.fence_of(name) is None]
    rejected = other.json("reject", "INC-1", "--reason", "customers pay today")
    _, held = held_of(rejected)
    assert held["kind"] == "refused"
    assert "said no: customers pay today" in held["reason"]
    assert rejected["run"]["state"] == "done", "the run saw to its evidence, and is over"
    assert space.fence_of(left) is None
    assert steps_on(rejected, "seal")[left]["kind"] == "applied"
    assert other.run("approve", "INC-1").returncode == 4

    # Asked again, nobody answers; a late yes is none, and the run ends with a no.
    space.wait_serving("web", 4)
    waits = ringfence.json("contain", "deployment/web", "-n", space.name, "--accept-outage", code=9)
    left = [name for name in space.wait_pods(4, app="web") if space.fence_of(name) is None]
    expire(ringfence, waits["waiting"][0]["id"])
    late = other.run("approve", "INC-1", "--reason", "all right")
    assert late.returncode == 4
    assert "expired" in late.stderr
    assert "that is a no" in late.stderr
    ended = ringfence.json("resume", "INC-1", code=9)
    _, held = held_of(ended)
    assert held["kind"] == "refused"
    assert "in time, and that is a no" in held["reason"]
    assert all(space.fence_of(name) is None for name in left)


def expire(ringfence: Ringfence, approval: str) -> None:
    """As if its time had passed."""
    change = """UPDATE approval SET expires_at = '2020-01-01 00:00:00.000000',
        body = json_set(body, '$.expires_at', '2020-01-01T00:00:00Z') WHERE id = ?"""
    with contextlib.closing(sqlite3.connect(ringfence.home / "ringfence.db", timeout=30)) as store, store:
        assert store.execute(change, (approval,)).rowcount == 1
