"""A kubelet checkpoint on a real node: what this node answers is said as it is, and is no success.

Covered: off by default; with the responder's usual rights the API server refuses, and that is said with the command
that renders the right; with the rendered right the kubelet itself answers, for every container, and its words are in
the record, the seal and the audit log; the pod goes on untouched. The success path needs CRIU: tests/response.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab.images import PYTHON
from tests.lab.program import Json, Office, Ringfence
from tests.lab.space import Space

pytestmark = pytest.mark.lab

SLEEP = ["python3", "-c", "import signal, time; signal.signal(15, lambda *_: exit(0)); time.sleep(3600)"]


def start(space: Space) -> str:
    containers = [
        {"name": name, "image": PYTHON, "imagePullPolicy": "Never", "command": SLEEP} for name in ("main", "side")
    ]
    space.kube.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "victim", "namespace": space.name, "labels": {"app": "victim"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": containers},
        }
    )
    uid: str = space.kube.wait_ready(["victim"], space.name, 60)["victim"]["metadata"]["uid"]
    return uid


@pytest.mark.slow
def test_what_the_node_answers_is_said_sealed_and_in_the_audit_log(
    space: Space, tmp_path: Path, office: Office
) -> None:
    uid = start(space)
    person = office.appoint("cara", limited=True)
    ringfence = Ringfence(space.lab, tmp_path, person.kubeconfig)
    made = ringfence.json("declare", "pod/victim", "-n", space.name, "--reason", "talks to strangers")
    incident = made["incident"]["id"]
    assert "off in the configuration" in ringfence.run("node", incident, "checkpoint").stderr

    ringfence.configure("checkpoint", enabled=True, seconds=30)
    (refused,) = ringfence.json("node", incident, "checkpoint", code=9)
    assert {one["container"]: one["outcome"]["problem"]["code"] for one in refused["containers"]} == {
        "main": "denied",
        "side": "denied",
    }
    assert "ringfence rbac --checkpoint" in refused["containers"][0]["outcome"]["problem"]["next_step"]

    account = f"{office.namespace}/{person.name}"
    rendered = ringfence.ok("rbac", "--name", f"{space.name}-r", "--checkpoint", "--service-account", account)
    role, binding = (dict(one) for one in yaml.safe_load_all(rendered))
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["create"]}]
    for manifest in (role, binding):
        space.kube.create(manifest)
    try:
        (asked,) = ringfence.json("node", incident, "checkpoint", code=9)
    finally:
        for manifest in (binding, role):
            space.kube.delete(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])

    problems: dict[str, Json] = {one["container"]: one["outcome"]["problem"] for one in asked["containers"]}
    assert set(problems) == {"main", "side"}
    for name, problem in problems.items():
        assert problem["code"] == "checkpoint-unavailable", problem
        assert "runtime" in problem["what"], problem
        assert f"checkpointing of {space.name}/victim/{name} failed" in problem["why"], problem
    assert asked["proof"]["level"] == "none"
    items = {item["id"]: item for item in ringfence.json("evidence", "list", incident)["items"]}
    assert items["checkpoint/main"]["result"] == "failed"
    assert "checkpointing of" in items["checkpoint/side"]["reason"]
    assert space.pod("victim")["metadata"]["uid"] == uid
    assert [one["restartCount"] for one in space.pod("victim")["status"]["containerStatuses"]] == [0, 0]
    checked = ringfence.json("evidence", "verify", incident, "--audit-log", str(space.lab.audit_log))["audit_log"]
    assert [finding for finding in checked["findings"] if finding["kind"] != "note"] == []
