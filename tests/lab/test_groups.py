"""Groups of pods, other playbooks, and the way back, by the program and with the rendered rights alone.

What is named decides what is hit, and never more: every test looks at bystanders too. After a release every policy and
every pod that survives is as before, object by object.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.kube import Kube, Object
from tests.lab.program import Responder, Ringfence, steps_on
from tests.lab.space import Space

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
NEVER = 9e9


@pytest.fixture
def ringfence(space: Space, tmp_path: Path, responders: tuple[Responder, Responder]) -> Ringfence:
    return Ringfence(space.lab, tmp_path, responders[0].kubeconfig)


def named_image() -> str:
    """An image that nobody else on the lab asks for: what is said about it hits these pods alone."""
    return f"rf-test/{uuid.uuid4().hex[:12]}:1"


def untouched(space: Space, *names: str) -> dict[str, Object]:
    """What a response could have changed of these pods."""
    return {name: _as_made(space.pod(name)) for name in names}


def _as_made(pod: Object) -> Object:
    meta = pod["metadata"]
    return {
        **{key: meta.get(key) for key in ("uid", "labels", "annotations", "ownerReferences", "deletionTimestamp")},
        "spec": pod["spec"],
    }


# --- what a name means ---------------------------------------------------------------
def test_an_account_means_its_pods_and_release_puts_every_object_back(space: Space, ringfence: Ringfence) -> None:
    space.account("payer")
    for number in range(3):
        space.idle(f"payer-{number}", {"app": "payer", "part": str(number)}, account="payer")
    space.idle("other", {"app": "payer"})
    policies, pods = space.policies(), untouched(space, "payer-0", "payer-1", "payer-2", "other")

    view = ringfence.json("contain", "sa/payer", "-n", space.name, "--reason", "its token was seen elsewhere")
    incident = view["incident"]["id"]
    cut = steps_on(view, "cut")
    assert {name: outcome["kind"] for name, outcome in cut.items()} == dict.fromkeys(pods.keys() - {"other"}, "applied")
    fences = {space.fence_of(name) for name in cut}
    assert len(fences) == 1
    assert None not in fences
    assert space.fence_of("other") is None
    # One deny-all holds all of them, and the policy that would open them passes over them.
    fresh = space.policies().keys() - policies.keys()
    assert fresh == {f"ringfence-{fences.pop()}"}
    assert space.policies()["allow-dns"]["spec"] != policies["allow-dns"]["spec"]
    assert ringfence.rows(incident)["network.egress"]["state"] == "unseen"

    released = ringfence.json("release", incident)
    assert released["outcome"]["kind"] == "applied"
    assert released["incident"]["state"] == "closed"
    assert space.policies() == policies
    assert untouched(space, *pods) == pods


def test_an_image_means_the_pods_that_run_it_and_those_that_ask_for_it(space: Space, ringfence: Ringfence) -> None:
    image = named_image()
    for number in range(2):
        space.idle(f"asks-{number}", {"app": "asks"}, image=image)
    space.idle("another", {"app": "asks"}, image=named_image())
    view = ringfence.json("contain", "--image", image)
    assert steps_on(view, "cut").keys() == {"asks-0", "asks-1"}
    assert space.fence_of("another") is None

    # By the digest that runs, here in one namespace: the same image runs in others' as well.
    running = space.run("runs", {"app": "runs"})
    digest = running["status"]["containerStatuses"][0]["imageID"]
    view = ringfence.json("contain", "--image", re.search("sha256:[0-9a-f]{64}", digest)[0], "-n", space.name)  # type: ignore[index]
    assert steps_on(view, "cut").keys() == {"runs"}
    unknown = ringfence.run("contain", "--image", named_image())
    assert unknown.returncode == 4
    assert "no pod runs" in unknown.stderr


def test_siblings_are_the_pods_of_the_same_image_and_of_the_same_account(space: Space, ringfence: Ringfence) -> None:
    image = named_image()
    space.account("payer")
    space.idle("suspect", {"app": "a"}, image=image, account="payer")
    space.idle("same-image", {"app": "b"}, image=image)
    space.idle("same-account", {"app": "c"}, image=named_image(), account="payer")
    space.idle("stranger", {"app": "a"}, image=named_image())
    view = ringfence.json("contain", "pod/suspect", "-n", space.name, "--siblings")
    assert {name: outcome["kind"] for name, outcome in steps_on(view, "cut").items()} == dict.fromkeys(
        ("suspect", "same-image", "same-account"), "applied"
    )
    assert space.fence_of("stranger") is None
    rows = {row["path"]: row for row in view["rows"]}
    assert rows["siblings.image"]["state"] != "alive", "each of them is in the incident itself"


def test_a_deployment_means_its_pods_and_each_is_replaced_in_it(space: Space, ringfence: Ringfence) -> None:
    space.workload("web", 2)
    space.workload("bystander", 1)
    first = space.wait_pods(2, app="web")
    (aside,) = space.wait_pods(1, app="bystander")
    policies = space.policies()
    view = ringfence.json("contain", "deployment/web", "-n", space.name)
    incident = view["incident"]["id"]
    assert {name: o["kind"] for name, o in steps_on(view, "cut").items()} == dict.fromkeys(first, "applied")
    assert space.fence_of(aside) is None
    heirs = space.wait_pods(2, app="web")
    assert not set(heirs) & set(first), "the fenced pods are out of their Deployment, and others are in it"

    ringfence.json("release", incident)
    assert all(space.is_gone(name) for name in first), "a detached suspect is never adopted again"
    assert space.wait_pods(2, app="web") == heirs
    assert space.policies() == policies


# --- again, and gone -----------------------------------------------------------------
def test_a_later_target_joins_and_a_vanished_one_is_what_it_became(space: Space, ringfence: Ringfence) -> None:
    space.workload("web", 1)
    (suspect,) = space.wait_pods(1, app="web")
    space.idle("aside", {"app": "aside"})
    first = ringfence.json("contain", f"pod/{suspect}", "-n", space.name)
    incident = first["incident"]["id"]
    joined = ringfence.json("contain", f"pod/{suspect}", "pod/aside", "-n", space.name)
    assert joined["incident"]["id"] == incident
    assert {ref["name"] for ref in joined["targets"]} == {suspect, "aside"}
    assert space.fence_of("aside") == space.fence_of(suspect)
    assert len([name for name in space.policies() if name.startswith("ringfence-")]) == 1
    assert [one["id"] for one in ringfence.json("incidents")] == [incident]

    ringfence.json("eradicate", incident)
    assert space.is_gone(suspect)
    (heir,) = space.wait_pods(1, app="web")
    done = ringfence.run("contain", f"pod/{suspect}", "-n", space.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"pod/{suspect} is gone; its controller runs {heir} in its place: that one is meant" in done.stderr
    assert space.fence_of(heir) is not None

    # Which of two took over is not knowable: nobody is cut on a guess.
    space.kube.patch("apps/v1", "Deployment", "web", space.name, body={"spec": {"replicas": 2}})
    two = space.wait_pods(2, app="web")
    asked = ringfence.run("contain", f"pod/{suspect}", "-n", space.name)
    assert asked.returncode == 4
    assert all(f"pod/{name}" in asked.stderr for name in two)
    assert [space.fence_of(name) for name in two] == [None, None]


# --- one step back -------------------------------------------------------------------
def test_one_step_is_taken_back_and_no_other(space: Space, ringfence: Ringfence) -> None:
    for number in range(2):
        space.idle(f"bare-{number}", {"app": "bare"})
    policies, pods = space.policies(), untouched(space, "bare-0", "bare-1")
    view = ringfence.json("contain", "pod/bare-0", "pod/bare-1", "-n", space.name)
    incident = view["incident"]["id"]
    unknown = ringfence.run("undo", incident, "cut/7")
    assert unknown.returncode == 4
    assert "cut/1/1" in unknown.stderr, "the steps that there are"

    # The second pod comes out; the fence holds the first, and stays for it.
    ringfence.ok("undo", incident, "cut/1/2")
    assert untouched(space, "bare-1") == {"bare-1": pods["bare-1"]}
    assert space.fence_of("bare-0") is not None
    assert space.policies() != policies
    ringfence.ok("undo", incident, "cut/1/2")  # once more changes nothing

    ringfence.ok("undo", incident, "cut/1")
    assert untouched(space, *pods) == pods
    assert space.policies() == policies


def test_a_detached_pod_is_not_taken_back_into_its_controller(space: Space, ringfence: Ringfence) -> None:
    space.workload("web", 1)
    (suspect,) = space.wait_pods(1, app="web")
    incident = ringfence.json("contain", f"pod/{suspect}", "-n", space.name)["incident"]["id"]
    done = ringfence.run("undo", incident, "cut/1")
    assert done.returncode == 3
    assert "never goes back to its controller" in done.stdout
    assert "fence still holds" in done.stdout
    assert space.fence_of(suspect) is not None
    assert [name for name in space.policies() if name.startswith("ringfence-")]


# --- whole playbooks -----------------------------------------------------------------
def test_a_stopped_workload_stops_when_a_person_says_so_and_undo_brings_it_back(
    space: Space, ringfence: Ringfence
) -> None:
    space.workload("web", 2)
    pods = space.wait_pods(2, app="web")
    waits = ringfence.json("respond", "stop-workload", "deployment/web", "-n", space.name, code=9)
    incident, approval = waits["incident"]["id"], waits["waiting"][0]
    assert approval["second_person"] is False
    assert "Its customers are not served then" in approval["reason"]
    assert waits["run"]["state"] == "waiting"
    assert sorted(space.pods()) == pods, "nothing ended before the yes, and nothing unsealed began beside it"
    assert all(space.fence_of(name) for name in pods)
    assert replicas(space.kube, space.name) == 2

    stopped = ringfence.json("approve", incident, "--reason", "it is the attacker's by now")
    assert steps_on(stopped, "stop") == {"web": {"kind": "applied"}}
    assert replicas(space.kube, space.name) == 0
    assert space.pods(app="web") == {}

    ringfence.ok("undo", incident, f"stop/{stopped['run']['number']}")
    assert replicas(space.kube, space.name) == 2
    assert not set(space.wait_pods(2, app="web")) & set(pods)


def replicas(kube: Kube, namespace: str) -> int:
    return int(kube.get("apps/v1", "Deployment", "web", namespace)["spec"]["replicas"])


def test_a_stop_that_somebody_rejects_stops_nothing(space: Space, ringfence: Ringfence) -> None:
    space.workload("web", 1)
    (pod,) = space.wait_pods(1, app="web")
    incident = ringfence.json("respond", "stop-workload", "deployment/web", "-n", space.name, code=9)["incident"]["id"]
    rejected = ringfence.json("reject", incident, "--reason", "the shop is open")
    assert rejected["run"]["state"] == "failed"
    assert steps_on(rejected, "stop") == {}
    assert replicas(space.kube, space.name) == 1
    assert space.fence_of(pod) is not None, "what is in force stays"
    assert ringfence.run("approve", incident).returncode == 4, "a no is not taken back by a later yes"


def test_restart_clean_refuses_the_same_image_and_replaces_every_pod_when_it_is_accepted(
    space: Space, ringfence: Ringfence
) -> None:
    space.workload("web", 2)
    before = space.wait_pods(2, app="web")
    incident = ringfence.json("respond", "restart-clean", "deployment/web", "-n", space.name, code=9)["incident"]["id"]
    refused = ringfence.json("approve", incident, code=9)
    (outcome,) = steps_on(refused, "restart").values()
    assert outcome["kind"] == "refused"
    assert "--accept-same-image" in outcome["next_step"]
    assert "--accept-same-image" in refused["outcome"]["problem"]["next_step"]
    assert space.wait_pods(2, app="web") == before

    ringfence.json("respond", "restart-clean", "deployment/web", "-n", space.name, "--accept-same-image", code=9)
    restarted = ringfence.json("approve", incident)
    assert steps_on(restarted, "restart") == {"web": {"kind": "applied"}}
    assert not set(space.wait_pods(2, app="web")) & set(before)


@pytest.fixture
def node(space: Space) -> Iterator[str]:
    """A node that no kubelet stands behind and that repels every pod which does not name it."""
    name = f"{space.name}-node"
    taints = [{"key": "ringfence-test", "effect": effect} for effect in ("NoSchedule", "NoExecute")]
    space.kube.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": taints}})
    try:
        yield name
    finally:
        space.kube.delete("v1", "Node", name)


def test_a_node_is_cordoned_by_the_pod_on_it_and_uncordoned_by_undo(
    space: Space, ringfence: Ringfence, node: str
) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "on-it", "namespace": space.name},
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
            "containers": [{"name": "none", "image": named_image()}],
        },
    }
    space.kube.create(manifest)
    others = {name: cordoned for name, cordoned in cordons(space.kube).items() if name != node}
    view = ringfence.json("respond", "cordon-node", "pod/on-it", "-n", space.name)
    incident = view["incident"]["id"]
    assert cordons(space.kube)[node] is True
    assert {name: c for name, c in cordons(space.kube).items() if name != node} == others
    assert steps_on(view, "cordon") == {node: {"kind": "applied"}}
    ringfence.ok("undo", incident, f"cordon/{view['run']['number']}")
    assert cordons(space.kube)[node] is False


def cordons(kube: Kube) -> dict[str, bool]:
    return {node["metadata"]["name"]: bool(node["spec"].get("unschedulable")) for node in kube.list("v1", "Node")}


OWN = """\
apiVersion: ringfence.dev/v1
kind: Playbook
metadata:
  name: only-look
  title: Seal and look
  description: Our own order of things.
spec:
  incident: {type: suspected-pod, severity: medium}
  targets: [Pod]
  steps:
    - id: keep
      title: Seal it first
      action: evidence.seal
      phase: containing
    - id: close-in
      title: Cut it off in place
      action: network.quarantine
      phase: containing
      with: {shape: fence}
      when: 'steps["keep"].outcome == "applied"'
    - id: never
      title: Delete it when it was not sealed
      action: pod.delete
      phase: recovering
      when: 'steps["keep"].outcome != "applied"'
"""


def test_a_playbook_of_ones_own_runs_in_its_own_order(space: Space, ringfence: Ringfence) -> None:
    space.workload("web", 1)
    (pod,) = space.wait_pods(1, app="web")
    file = ringfence.home / "only-look.yaml"
    file.write_text(OWN)
    view = ringfence.json("respond", str(file), f"pod/{pod}", "-n", space.name)
    assert steps_on(view, "keep") == {pod: {"kind": "applied"}}
    assert steps_on(view, "close-in") == {pod: {"kind": "applied"}}
    assert steps_on(view, "never")[pod]["kind"] == "skipped"
    assert view["incident"]["severity"] == "medium"
    assert space.fence_of(pod) is not None
    assert list(space.wait_pods(1, app="web")) == [pod], "in place, as its shape says: it has its controller still"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("action: pod.delete", "action: shell.run", 23, "shell.run"),
        ("shape: fence", "shape: fense", 19, "fense"),
        ("      phase: recovering\n", "      phase: recovering\n      retries: 3\n", 25, "retries"),
        ("targets: [Pod]", "targets: []", 9, "targets"),
        # What is wrong with the order of steps has no line of its own.
        ("      phase: recovering\n", "      phase: eradicating\n", 0, "step never: pod.delete destroys"),
    ],
)
def test_a_wrong_playbook_starts_nothing_and_names_file_and_line(
    space: Space, ringfence: Ringfence, old: str, new: str, line: int, words: str
) -> None:
    space.idle("bare", {"app": "bare"})
    file = ringfence.home / "only-look.yaml"
    assert OWN.count(old) == 1
    file.write_text(OWN.replace(old, new))
    done = ringfence.run("respond", str(file), "pod/bare", "-n", space.name)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "only-look.yaml" in done.stderr
    assert (f"line {line}:" in done.stderr) is (line > 0)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert ringfence.json("incidents") == []
    assert space.fence_of("bare") is None
