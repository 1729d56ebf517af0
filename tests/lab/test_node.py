"""The node helper on a real node: a cut that no policy makes, processes that stand still, evidence from outside.

Covered: an open connection and new ones stop in both directions with the node cut alone (no NetworkPolicy is in the
way), go on stopping after the container was restarted, and the same connection goes on after the undo; the rows of the
statement; freezing, its refusal and its undo; what is collected, and that a link planted in the pod leads nowhere; off
by default, refused without its rights; nothing stays behind, also after a kill in the middle; the same contain comes to
the node where admission lets nobody touch the pod.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lab import admission
from lab.images import PYTHON
from lab.kube import Kube, wait_until
from tests.lab.program import BIN, Json, Office, Responder, Ringfence, steps_on
from tests.lab.space import Space

pytestmark = pytest.mark.lab

NETWORK_ROWS = ("network.egress", "network.ingress", "network.dns", "network.established")
QUIET_SECONDS = 2.0

SERVER = """
import socket, threading
def serve(c, peer):
    for line in c.makefile():
        print("tcp", peer[1], line.strip(), flush=True)
def heard():
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", 9001))
    while True:
        print("udp", u.recv(64).decode(), flush=True)
threading.Thread(target=heard, daemon=True).start()
s = socket.create_server(("", 9000))
while True:
    c, peer = s.accept()
    threading.Thread(target=serve, args=(c, peer), daemon=True).start()
"""
VICTIM = """
import itertools, os, pathlib, signal, socket, sys, threading, time
signal.signal(15, lambda *_: os._exit(0))
for place in ("/scratch", "/var/tmp"):
    pathlib.Path(place).mkdir(parents=True, exist_ok=True)
    pathlib.Path(place, "loot").write_text("stolen from " + place)
    try: os.symlink("/etc/shadow", place + "/link")
    except FileExistsError: pass
gone = open("/var/tmp/gone", "w"); gone.write("deleted, and open"); gone.flush(); os.unlink("/var/tmp/gone")
def listening():
    s = socket.create_server(("", 9002))
    while True:
        s.accept()[0].close()
threading.Thread(target=listening, daemon=True).start()
host = sys.argv[1]
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c = None
for n in itertools.count():
    print("beat", n, flush=True)
    try:
        u.sendto(str(n).encode(), (host, 9001))
        if c is None:
            c = socket.create_connection((host, 9000), 1); c.settimeout(None)
        c.sendall(b"%d\\n" % n)
    except OSError:
        c = None
    time.sleep(0.1)
"""
DIAL = "import socket,sys; socket.create_connection((sys.argv[1], 9002), 1.5)"


def program(text: str, *arguments: str) -> Json:
    return {"name": "main", "image": PYTHON, "imagePullPolicy": "Never", "command": ["python3", "-c", text, *arguments]}


@dataclass
class Scene:
    """A victim that talks to a server all the time, and the namespace of the node helper."""

    space: Space
    kube: Kube
    helpers: str
    server: str

    def start(self, name: str = "victim", **more: object) -> str:
        container = {**program(VICTIM, self.server), "volumeMounts": [{"name": "s", "mountPath": "/scratch"}], **more}
        self.kube.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": self.space.name, "labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "volumes": [{"name": "s", "emptyDir": {}}],
                    "containers": [container],
                },
            }
        )
        ready = self.kube.wait_ready([name], self.space.name, 60)[name]
        address: str = ready["status"]["podIP"]
        return address

    def heard(self, kind: str) -> list[str]:
        lines = self.kube.logs("server", self.space.name).decode().splitlines()
        return [line for line in lines if line.startswith(kind)]

    def speaks(self, kind: str) -> bool:
        """Whether anything of the victim comes to the server now."""
        before = len(self.heard(kind))
        deadline = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < deadline:
            if len(self.heard(kind)) > before:
                return True
            time.sleep(0.2)
        return False

    def dialled(self, address: str) -> bool:
        """Whether the server can open a connection to the victim."""
        command = ["exec", "server", "-n", self.space.name, "--", "python3", "-c", DIAL, address]
        return kubectl(self.space, *command).returncode == 0

    def beats(self, name: str = "victim") -> int:
        return self.kube.logs(name, self.space.name).count(b"beat")

    def restarts(self, name: str = "victim") -> int:
        return int(self.space.pod(name)["status"]["containerStatuses"][0]["restartCount"])

    def left(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.kube.list("v1", "Pod", self.helpers)]


def kubectl(space: Space, *arguments: str) -> subprocess.CompletedProcess[str]:
    from lab import packages

    command = [packages.find("kubectl"), "--kubeconfig", str(space.lab.kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def scene(space: Space) -> Iterator[Scene]:
    helpers = f"rf-node-{uuid.uuid4().hex[:8]}"
    kube = space.kube
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": helpers}})
    try:
        admission.wait_service_account(kube, helpers)
        space.policy("open", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})
        kube.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "server", "namespace": space.name},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [program(SERVER)]},
            }
        )
        address = kube.wait_ready(["server"], space.name, 60)["server"]["status"]["podIP"]
        yield Scene(space, kube, helpers, address)
    finally:
        kube.delete("v1", "Namespace", helpers)


@pytest.fixture
def ringfence(scene: Scene, tmp_path: Path, responders: tuple[Responder, Responder]) -> Ringfence:
    made = Ringfence(scene.space.lab, tmp_path, responders[0].kubeconfig)
    made.configure(
        "node_helper", enabled=True, image=PYTHON, namespace=scene.helpers, image_pull_policy="Never", seconds=30
    )
    return made


@pytest.fixture
def allowed(scene: Scene, ringfence: Ringfence, office: Office, responders: tuple[Responder, Responder]) -> Json:
    """The rights of the helper, as they are rendered, for the first responder."""
    return allow(scene, ringfence, office, responders[0])


def allow(scene: Scene, ringfence: Ringfence, office: Office, person: Responder) -> Json:
    account = f"{office.namespace}/{person.name}"
    rendered = ringfence.ok("rbac", "--node-helper", "--service-account", account)
    role, binding = yaml.safe_load_all(rendered)
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", scene.helpers)
    for manifest in (role, binding):
        scene.kube.create(manifest)
    return dict(binding)


def incident_on(ringfence: Ringfence, scene: Scene, name: str = "victim") -> str:
    made = ringfence.json("declare", f"pod/{name}", "-n", scene.space.name, "--reason", "talks to strangers")
    return str(made["incident"]["id"])


def until(question: Callable[[], bool], what: str) -> None:
    wait_until(question, 30, what, interval=0.3)


@pytest.mark.slow
def test_a_node_cut_ends_what_is_open_and_gives_it_back(scene: Scene, ringfence: Ringfence, allowed: Json) -> None:
    address = scene.start()
    until(lambda: scene.speaks("tcp"), "the victim to speak to the server")
    flow = scene.heard("tcp")[-1].split()[1]
    assert scene.dialled(address)
    incident = incident_on(ringfence, scene)
    ringfence.ok("node", incident, "on", "--reason", "an open connection that nothing cuts")

    (cut,) = ringfence.json("node", incident, "cut")

    assert cut["outcome"]["kind"] == "applied", cut
    assert cut["proof"]["level"] == "proven", cut
    time.sleep(0.5)  # what was in a buffer
    assert not scene.speaks("tcp")
    assert not scene.speaks("udp")
    assert not scene.dialled(address)
    rows = ringfence.rows(incident)
    assert {rows[row]["state"] for row in NETWORK_ROWS} == {"dead"}
    assert {rows[row]["level"] for row in NETWORK_ROWS} == {"observed"}
    assert scene.left() == []

    # A container that starts anew has the same interface.
    kubectl(scene.space, "exec", "victim", "-n", scene.space.name, "--", "python3", "-c", "import os; os.kill(1, 15)")
    until(lambda: scene.restarts() == 1 and scene.beats() > 5, "the container to be started again")
    assert not scene.speaks("udp")
    (status,) = ringfence.json("node", incident, "status")
    assert status["report"]["network"]["in_force"]
    assert status["report"]["network"]["dropped_out"] > cut["report"]["network"]["dropped_out"]

    (again,) = ringfence.json("node", incident, "cut")
    assert again["outcome"]["kind"] == "already", "it is found in force, and its counters go on"
    (uncut,) = ringfence.json("node", incident, "uncut")
    assert uncut["outcome"]["kind"] == "applied"
    assert uncut["report"]["network"]["through"] == {"out": True, "into": True}
    until(lambda: scene.speaks("tcp"), "the victim to speak again")
    # What the container that ended had not sent yet may come first.
    until(lambda: scene.heard("tcp")[-1].split()[1] != flow, "a connection of the new container")
    assert scene.dialled(address)
    rows = ringfence.rows(incident)
    assert "dead" not in {rows[row]["state"] for row in NETWORK_ROWS}
    assert scene.left() == []
    ringfence.ok("node", incident, "off", "--reason", "done")


@pytest.mark.slow
def test_the_same_connection_goes_on_after_the_undo_of_its_step(
    scene: Scene, ringfence: Ringfence, allowed: Json
) -> None:
    scene.start()
    until(lambda: scene.speaks("tcp"), "the victim to speak to the server")
    flow = scene.heard("tcp")[-1].split()[1]
    incident = incident_on(ringfence, scene)
    ringfence.ok("node", incident, "on", "--reason", "x")
    (cut,) = ringfence.json("node", incident, "cut")
    assert not scene.speaks("tcp")
    ringfence.ok("undo", incident, cut["step"])
    until(lambda: scene.speaks("tcp"), "the connection to go on")
    assert scene.heard("tcp")[-1].split()[1] == flow
    assert scene.left() == []


@pytest.mark.slow
def test_a_frozen_pod_stands_still_and_goes_on_where_it_was(scene: Scene, ringfence: Ringfence, allowed: Json) -> None:
    scene.start()
    incident = incident_on(ringfence, scene)
    ringfence.ok("node", incident, "on", "--reason", "x")
    (frozen,) = ringfence.json("node", incident, "freeze")
    assert frozen["outcome"]["kind"] == "applied", frozen
    assert frozen["report"]["frozen"] is True
    time.sleep(0.5)
    beats = scene.beats()
    time.sleep(1.5)
    assert scene.beats() == beats
    (thawed,) = ringfence.json("node", incident, "thaw")
    assert thawed["report"]["frozen"] is False
    until(lambda: scene.beats() > beats, "the victim to go on")
    assert scene.restarts() == 0
    assert scene.left() == []


@pytest.mark.slow
def test_a_pod_that_its_liveness_probe_would_kill_is_frozen_only_if_one_insists(
    scene: Scene, ringfence: Ringfence, allowed: Json
) -> None:
    probe = {"exec": {"command": ["/bin/true"]}, "periodSeconds": 3600, "failureThreshold": 3}
    scene.start(livenessProbe=probe)
    incident = incident_on(ringfence, scene)
    ringfence.ok("node", incident, "on", "--reason", "x")
    (refused,) = ringfence.json("node", incident, "freeze", code=3)
    assert refused["outcome"]["kind"] == "refused"
    assert "liveness" in refused["outcome"]["reason"]
    beats = scene.beats()
    until(lambda: scene.beats() > beats, "the victim to be untouched")
    (frozen,) = ringfence.json("node", incident, "freeze", "--despite-liveness")
    assert frozen["report"]["frozen"] is True
    ringfence.ok("node", incident, "thaw")


@pytest.mark.slow
def test_what_lies_on_the_node_is_collected_and_no_link_is_followed(
    scene: Scene, ringfence: Ringfence, allowed: Json
) -> None:
    scene.start()
    incident = incident_on(ringfence, scene)
    ringfence.ok("node", incident, "on", "--reason", "x")
    (done,) = ringfence.json("node", incident, "collect")
    assert done["outcome"]["kind"] == "applied", done
    found = ringfence.json("evidence", "list", incident)
    items = {item["id"]: item for item in found["items"] if item["id"].startswith("node/")}
    assert {item["result"] for item in items.values()} == {"collected"}, items
    assert found["seal"]["complete"]

    processes = [json.loads(line) for line in shown(ringfence, incident, "node/processes.json").splitlines()]
    victim = next(one for one in processes if one["command_line"][:2] == ["python3", "-c"])
    assert len(victim["executable_sha256"]) == 64
    assert any(one["to"].startswith("socket:") for one in victim["files"])
    assert any("deleted" in one["to"] and one["links"] == 0 for one in victim["files"])
    assert b"232A" in shown(ringfence, incident, "node/sockets/tcp") + shown(ringfence, incident, "node/sockets/tcp6")
    deleted = [shown(ringfence, incident, name) for name in items if name.startswith("node/deleted/")]
    assert b"deleted, and open" in deleted
    layers = [shown(ringfence, incident, name) for name in items if name.startswith("node/layers/")]
    holding = [tar for tar in layers if "var/tmp/loot" in names_of(tar)]
    (volume,) = (shown(ringfence, incident, name) for name in items if name.startswith("node/volumes/"))
    for tar, prefix in ((holding[0], "var/tmp/"), (volume, "")):
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            content = archive.extractfile(f"{prefix}loot")
            assert content is not None
            assert content.read().startswith(b"stolen from /")
            link = archive.getmember(f"{prefix}link")
            assert (link.issym(), link.linkname, link.size) == (True, "/etc/shadow", 0)
    assert b"root:" not in b"".join([*layers, volume])
    with tarfile.open(fileobj=io.BytesIO(shown(ringfence, incident, "node/logs.tar"))) as archive:
        logs = [archive.extractfile(one) for one in archive.getmembers() if one.isfile()]
        assert any(one is not None and b"beat 0" in one.read() for one in logs)
    ringfence.ok("evidence", "verify", incident)
    assert scene.left() == []


@pytest.mark.slow
def test_it_is_off_until_it_is_switched_on_and_that_needs_its_rights(
    scene: Scene, ringfence: Ringfence, office: Office, responders: tuple[Responder, Responder]
) -> None:
    scene.start()
    incident = incident_on(ringfence, scene)
    ringfence.ends(3, "node", incident, "cut")
    ringfence.ends(3, "node", incident, "on", "--reason", "without its rights")
    assert ringfence.events(incident, "node_helper.switched") == []
    binding = allow(scene, ringfence, office, responders[0])
    ringfence.ends(3, "node", incident, "cut")
    ringfence.ok("node", incident, "on", "--reason", "now it may")
    ringfence.ok("node", incident, "cut")
    said = ringfence.run("node", incident, "off", "--reason", "over")
    assert "stays in force" in said.stderr
    assert "rights" in said.stderr
    ringfence.ends(3, "node", incident, "uncut")
    assert [event["on"] for event in ringfence.events(incident, "node_helper.switched")] == [True, False]
    ringfence.ok("node", incident, "on", "--reason", "to take it back")
    ringfence.ok("node", incident, "uncut")
    meta = binding["metadata"]
    scene.kube.delete(binding["apiVersion"], "RoleBinding", meta["name"], meta["namespace"])


@pytest.fixture
def untouchable(scene: Scene) -> Iterator[None]:
    """Admission of the API server itself lets nobody change a label of a pod there."""
    name, api = f"labels-stay-{scene.space.name}", "admissionregistration.k8s.io/v1"
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.space.name}}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    same = {"expression": "object.metadata.labels == oldObject.metadata.labels", "message": "labels of pods stay"}
    policy = {"matchConstraints": {**here, "resourceRules": [rule]}, "validations": [same]}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    kinds = {"ValidatingAdmissionPolicy": policy, "ValidatingAdmissionPolicyBinding": binding}
    for kind, spec in kinds.items():
        scene.kube.create({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec})
    yield
    for kind in reversed(kinds):
        scene.kube.delete(api, kind, name)


@pytest.mark.slow
def test_where_nobody_may_touch_the_pod_the_same_contain_comes_to_its_node(
    scene: Scene, ringfence: Ringfence, allowed: Json, untouchable: None
) -> None:
    scene.start()
    until(lambda: scene.speaks("tcp"), "the victim to speak to the server")
    relabel = ("label", "pod", "victim", "-n", scene.space.name, "a=b", "--dry-run=server")
    until(lambda: kubectl(scene.space, *relabel).returncode != 0, "admission to refuse a label")
    order = ("contain", "pod/victim", "-n", scene.space.name, "--reason", "talks to strangers")

    off = ringfence.json(*order, code=3)

    incident = off["incident"]["id"]
    there = steps_on(off, "cut-on-node")["victim"]
    assert (there["kind"], there["next_step"]) == ("refused", f"ringfence node {incident} on --reason WHY")
    assert f"ringfence node {incident} on --reason …" in off["next"]
    assert off["evidence"]["seal"]["complete"]
    assert scene.speaks("tcp")
    ringfence.ok("node", incident, "on", "--reason", "nobody may touch the pod")

    cut = ringfence.json(*order)

    assert (cut["incident"]["id"], cut["outcome"]["kind"]) == (incident, "applied")
    assert not scene.speaks("tcp")
    rows = ringfence.rows(incident)
    assert {rows[row]["state"] for row in NETWORK_ROWS} == {"dead"}
    assert ringfence.json(*order)["outcome"]["kind"] == "already"
    assert scene.left() == []
    step = next(one["step"] for one in cut["steps"] if one["action"] == "node.cut")
    ringfence.ok("undo", incident, f"{step}/2")
    until(lambda: scene.speaks("tcp"), "the victim to speak again")


@pytest.mark.slow
def test_a_pod_on_its_nodes_network_is_refused(scene: Scene, ringfence: Ringfence, allowed: Json) -> None:
    spec = {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 0,
        "containers": [program("import time; time.sleep(9e5)")],
    }
    meta = {"name": "outside", "namespace": scene.space.name}
    scene.kube.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    scene.kube.wait_ready(["outside"], scene.space.name, 60)
    incident = incident_on(ringfence, scene, "outside")
    ringfence.ok("node", incident, "on", "--reason", "x")
    (refused,) = ringfence.json("node", incident, "cut", code=3)
    assert refused["outcome"]["kind"] == "refused"
    assert "network" in refused["outcome"]["reason"]
    assert scene.left() == []


@pytest.mark.slow
def test_a_helper_that_a_crash_left_behind_is_taken_away(scene: Scene, ringfence: Ringfence, allowed: Json) -> None:
    scene.start()
    incident = incident_on(ringfence, scene)
    ringfence.ok("node", incident, "on", "--reason", "x")
    child = subprocess.Popen(
        [str(BIN / "ringfence"), "node", incident, "cut"],
        env=ringfence.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: scene.left() != [], "the helper to be started")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert scene.left() != []
    (cut,) = ringfence.json("node", incident, "cut")
    # The helper outlives who ordered it: it may have made the cut by then.
    assert cut["outcome"]["kind"] in ("applied", "already"), cut
    assert scene.left() == []
    assert not scene.speaks("udp")
    ringfence.ok("node", incident, "uncut")


def shown(ringfence: Ringfence, incident: str, item: str) -> bytes:
    command = [str(BIN / "ringfence"), "evidence", "show", incident, item, "--raw"]
    return subprocess.run(command, env=ringfence.environment(), capture_output=True, check=True, timeout=60).stdout


def names_of(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()
