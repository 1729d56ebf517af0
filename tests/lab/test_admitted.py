"""A hole that a policy closes, tried on the real API server: a ValidatingAdmissionPolicy, Pod Security, and Kyverno.

Covered: nothing in force, a policy that only audits, one that is enforced, and the template that it must let pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import admission
from lab.admission import REQUIRED_LABEL, REQUIRED_TEAM
from lab.kube import ApiError, wait_until
from lab.layout import Lab
from tests.lab.program import Json, Office, Responder, Ringfence, steps_on
from tests.lab.space import Space

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(300)]

GROUP = "admissionregistration.k8s.io/v1"
CAPABILITY = {"capabilities": {"add": ["NET_ADMIN"]}}
NO_CAPABILITY = (
    "!object.spec.containers.exists(c, c.?securityContext.?capabilities.?add.orValue([]).exists(a, a == 'NET_ADMIN'))"
)
PLAYBOOK = """\
apiVersion: ringfence.dev/v1
kind: Playbook
metadata:
  name: hole
  title: Is it closed
  description: Asks admission.
spec:
  incident: {type: compromised-workload, severity: high}
  targets: [Pod]
  steps:
    - id: tightened
      title: A policy refuses what the attacker used
      action: recovery.hole
      phase: recovering
      with: {closed_by: tightened-policy}
"""


@pytest.fixture
def responder(space: Space, office: Office) -> Responder:
    """Somebody with the rendered rights, who may create pods in that namespace as well, and is to be refused some."""
    person = office.appoint(f"dan-{space.name[-8:]}", limited=True)
    meta = {"name": "try-pods", "namespace": space.name}
    kind, group = "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]
    space.kube.create({"apiVersion": kind, "kind": "Role", "metadata": meta, "rules": rules})
    who = {"kind": "User", "name": person.user, "apiGroup": group}
    role = {"apiGroup": group, "kind": "Role", "name": meta["name"]}
    space.kube.create({"apiVersion": kind, "kind": "RoleBinding", "metadata": meta, "roleRef": role, "subjects": [who]})
    return person


@pytest.fixture
def bind(space: Space) -> Iterator[Callable[[str], None]]:
    """Binds a policy to the namespace, with what is to be done about a pod that breaks it."""
    about = {"matchLabels": {"kubernetes.io/metadata.name": space.name}}
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    spec = {
        "matchConstraints": {"namespaceSelector": about, "resourceRules": rules},
        "validations": [{"expression": NO_CAPABILITY, "message": "no pod gets NET_ADMIN here"}],
    }
    meta = {"name": space.name}
    space.kube.create({"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicy", "metadata": meta, "spec": spec})

    def unbind() -> None:
        space.kube.delete(GROUP, "ValidatingAdmissionPolicyBinding", space.name)

    def to(action: str) -> None:
        unbind()
        bound = {"policyName": space.name, "validationActions": [action]}
        manifest = {"apiVersion": GROUP, "kind": "ValidatingAdmissionPolicyBinding", "metadata": meta, "spec": bound}
        space.kube.create(manifest)

    try:
        yield to
    finally:
        unbind()
        space.kube.delete(GROUP, "ValidatingAdmissionPolicy", space.name)


def shape(space: Space, context: Json | None) -> None:
    """The workload's container with that security context."""
    live = space.kube.get("apps/v1", "Deployment", "web", space.name)
    (container,) = live["spec"]["template"]["spec"]["containers"]
    container = {key: value for key, value in container.items() if key != "securityContext"}
    container |= {"securityContext": context} if context else {}
    body = {"spec": {"template": {"spec": {"containers": [container]}}}}
    space.kube.patch("apps/v1", "Deployment", "web", space.name, body=body)


def suspect(space: Space) -> str:
    """A pod with a capability too many, which came from its workload's template."""
    space.workload("web", 1)
    shape(space, CAPABILITY)

    def is_up() -> bool:
        found = [one for one in space.pods(app="web").values() if one["spec"]["containers"][0].get("securityContext")]
        return len(found) == 1 == len(space.pods(app="web"))

    wait_until(is_up, 120, "the pod with the capability", interval=0.2)
    (name,) = space.wait_pods(1, app="web")
    return name


def wait_refused(space: Space, wanted: bool) -> None:
    def refused() -> bool:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "try", "namespace": space.name},
            "spec": {"containers": [{"name": "a", "image": "none", "securityContext": CAPABILITY}]},
        }
        try:
            space.kube.request("POST", f"/api/v1/namespaces/{space.name}/pods", pod, query={"dryRun": "All"})
        except ApiError as error:
            if error.status not in (403, 422):
                raise
            return True
        return False

    wait_until(lambda: refused() is wanted, 30, "the policy to be as it was bound", interval=0.2)


def judged(ringfence: Ringfence, space: Space, pod: str, code: int) -> tuple[Json, Any]:
    view = ringfence.json("respond", str(ringfence.home / "hole.yaml"), f"pod/{pod}", "-n", space.name, code=code)
    (step,) = [one for one in view["steps"] if one["step"] == "tightened"]
    assert steps_on(view, "tightened") == {"": step["outcome"]}
    return step["outcome"], step["proof"]


def test_a_policy_that_is_enforced_closes_it_and_one_that_audits_does_not(
    space: Space, tmp_path: Path, responder: Responder, bind: Callable[[str], None]
) -> None:
    ringfence = Ringfence(space.lab, tmp_path, responder.kubeconfig)
    (ringfence.home / "hole.yaml").write_text(PLAYBOOK)
    pod = suspect(space)
    ringfence.json("contain", f"pod/{pod}", "-n", space.name, "--shape", "fence", "--accept-outage")
    before = set(space.pods())

    refused, _ = judged(ringfence, space, pod, 3)
    assert f"a pod like Pod {space.name}/{pod} would be admitted" in refused["reason"]
    bind("Audit")
    assert f"a pod like Pod {space.name}/{pod} would be admitted" in judged(ringfence, space, pod, 3)[0]["reason"]

    bind("Deny")
    wait_refused(space, True)
    refused, _ = judged(ringfence, space, pod, 3)
    assert f"the template of Deployment {space.name}/web, which is to come, is refused" in refused["reason"]

    space.kube.patch("apps/v1", "Deployment", "web", space.name, body={"spec": {"paused": True}})
    shape(space, None)
    outcome, proof = judged(ringfence, space, pod, 0)
    assert outcome == {"kind": "applied"}
    assert proof["level"] == "proven"
    assert f"ValidatingAdmissionPolicy {space.name}, which refuses a pod like Pod {space.name}/{pod}" in proof["by"]
    assert "no pod gets NET_ADMIN here" in proof["by"]
    assert set(space.pods()) == before, "nothing was created"


def test_pod_security_is_such_a_policy(space: Space, tmp_path: Path, responder: Responder) -> None:
    ringfence = Ringfence(space.lab, tmp_path, responder.kubeconfig)
    (ringfence.home / "hole.yaml").write_text(PLAYBOOK)
    pod = suspect(space)
    ringfence.json("contain", f"pod/{pod}", "-n", space.name, "--shape", "fence", "--accept-outage")
    space.kube.patch("apps/v1", "Deployment", "web", space.name, body={"spec": {"paused": True}})
    shape(space, None)
    enforced = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    space.kube.patch("v1", "Namespace", space.name, body=enforced)
    wait_refused(space, True)
    outcome, proof = judged(ringfence, space, pod, 0)
    assert outcome == {"kind": "applied"}
    assert "Pod Security baseline, which refuses a pod like" in proof["by"]


def test_a_policy_of_kyverno_is_such_a_policy(kyverno: Lab, space: Space, tmp_path: Path, responder: Responder) -> None:
    """A webhook that answers 400 without a reason. The suspect is from before the policy; the template is after it."""
    ringfence = Ringfence(kyverno, tmp_path, responder.kubeconfig)
    (ringfence.home / "hole.yaml").write_text(PLAYBOOK)
    space.workload("web", 1)
    (pod,) = space.wait_pods(1, app="web")
    ringfence.json("contain", f"pod/{pod}", "-n", space.name, "--shape", "fence", "--accept-outage")
    refused, _ = judged(ringfence, space, pod, 3)
    assert f"a pod like Pod {space.name}/{pod} would be admitted" in refused["reason"]
    try:
        admission.install(space.kube, space.name, REQUIRED_TEAM)
        refused, _ = judged(ringfence, space, pod, 3)
        assert f"the template of Deployment {space.name}/web, which is to come, is refused" in refused["reason"]
        template = {"metadata": {"labels": {REQUIRED_LABEL: "cards"}}}
        body = {"spec": {"paused": True, "template": template}}
        space.kube.patch("apps/v1", "Deployment", "web", space.name, body=body)
        outcome, proof = judged(ringfence, space, pod, 0)
        assert outcome == {"kind": "applied"}
        assert proof["level"] == "proven"
        assert REQUIRED_TEAM.name in proof["by"]
        assert f"which refuses a pod like Pod {space.name}/{pod}" in proof["by"]
    finally:
        admission.remove(space.kube, space.name, REQUIRED_TEAM)
