"""A stolen token on the real API server: what it writes is refused by the policy, what it reads by the bindings.

The thief is the test itself: it takes the token that the kubelet put into the pod's files, as an attacker in it would,
and uses it from outside. The responder has the rendered rights alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.kube import ApiError, Kube, wait_until
from tests.lab.program import Json, Office, Responder, Ringfence, steps_on
from tests.lab.space import Space
from tests.lab.thief import Thief, steal

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
RBAC = "rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"
ADMISSION = "admissionregistration.k8s.io/v1"
ACCOUNT = "till"
SERVICE_ACCOUNT = "kubernetes.io/service-account"


@pytest.fixture(scope="module")
def binder(office: Office) -> Responder:
    """Somebody who may put bindings back."""
    return office.appoint("dee", settings={"identity": {"restore_bindings": True}})


@pytest.fixture(scope="module")
def unbinder(office: Office) -> Responder:
    """Somebody who may not: what the API server refuses them is what is tested."""
    return office.appoint("eve", limited=True)


@pytest.fixture
def bound(space: Space) -> Iterator[Space]:
    """An account with rights by a binding of its own, by one that it shares, and by a cluster-wide one."""
    for name in (ACCOUNT, "clerk"):
        space.account(name)
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create", "delete"]}]
    space.kube.create({"apiVersion": RBAC, "kind": "Role", "metadata": _meta(space, ACCOUNT), "rules": rules})
    execs = [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]}]
    space.kube.create({"apiVersion": RBAC, "kind": "Role", "metadata": _meta(space, "exec"), "rules": execs})
    bind(space, "RoleBinding", "own", ("Role", ACCOUNT), ACCOUNT)
    bind(space, "RoleBinding", "execs", ("Role", "exec"), ACCOUNT)
    bind(space, "RoleBinding", "shared", ("ClusterRole", "view"), ACCOUNT, "clerk")
    bind(space, "ClusterRoleBinding", space.name, ("ClusterRole", "system:discovery"), ACCOUNT)
    yield space
    space.kube.delete(RBAC, "ClusterRoleBinding", space.name)
    for pod in space.kube.list("v1", "Pod", space.name):
        for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
            for name in set(policies(space.kube, pod["metadata"]["uid"])):
                space.kube.delete(ADMISSION, kind, name)


def _meta(space: Space, name: str) -> Json:
    return {"name": name, "namespace": space.name, "labels": {"team": "till"}, "annotations": {"why": "it must"}}


def bind(space: Space, kind: str, name: str, role: tuple[str, str], *accounts: str) -> None:
    meta = _meta(space, name)
    if kind == "ClusterRoleBinding":
        del meta["namespace"]
    space.kube.create(
        {
            "apiVersion": RBAC,
            "kind": kind,
            "metadata": meta,
            "roleRef": {"apiGroup": GROUP, "kind": role[0], "name": role[1]},
            "subjects": [{"kind": "ServiceAccount", "name": one, "namespace": space.name} for one in accounts],
        }
    )


def bindings(space: Space) -> dict[str, Json]:
    """Every binding that the test made, less what the server counts."""
    found = [*space.kube.list(RBAC, "RoleBinding", space.name), *space.kube.list(RBAC, "ClusterRoleBinding")]
    return {
        f"{one['kind']} {one['metadata']['name']}": {
            "labels": one["metadata"].get("labels"),
            "annotations": one["metadata"].get("annotations"),
            "roleRef": one["roleRef"],
            "subjects": one.get("subjects"),
        }
        for one in found
        if (one["metadata"].get("labels") or {}).get("team") == "till"
        and one["metadata"].get("namespace", one["metadata"]["name"]) == space.name
    }


def policies(kube: Kube, uid: str) -> list[str]:
    return [
        one["metadata"]["name"]
        for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        for one in kube.list(ADMISSION, kind)
        if one["metadata"]["name"].endswith(uid)
    ]


def refusal(act: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        act(*arguments)
    return caught.value.status, str(caught.value)


def contained(ringfence: Ringfence, space: Space, pod: str) -> str:
    view = ringfence.json("contain", f"pod/{pod}", "-n", space.name)
    assert view["outcome"] == {"kind": "applied"}
    return str(view["incident"]["id"])


@pytest.fixture
def thief(bound: Space) -> Iterator[Thief]:
    bound.run("till-1", {"app": "till"}, account=ACCOUNT)
    with steal(bound, "till-1") as stolen:
        yield stolen


def test_the_policy_refuses_what_the_stolen_token_writes_and_nobody_elses(
    bound: Space, thief: Thief, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    bound.run("till-2", {"app": "till"}, account=ACCOUNT)
    uid = bound.pod("till-1")["metadata"]["uid"]
    thief.write("before")
    ringfence = Ringfence(bound.lab, tmp_path, responders[0].kubeconfig)
    incident = contained(ringfence, bound, "till-1")
    assert "works from anywhere" in ringfence.rows(incident)["identity.kubernetes"]["why"]
    plan = ringfence.json("cut-identity", incident, "--dry-run", code=3)
    assert policies(bound.kube, uid) == [], "a dry run"
    assert "till-2" in json.dumps(plan), "who shares the account is said"

    view = ringfence.json("cut-identity", incident)
    assert view["outcome"] == {"kind": "applied"}
    assert view["proof"]["level"] == "proven", view["proof"]
    assert steps_on(view, "rights")["till-1"]["kind"] == "skipped", "till-2 uses the account as well"
    name = policies(bound.kube, uid)[0]
    status, words = refusal(thief.write, "after")
    assert (status, name in words) == (403, True), words
    assert "cut off in a security incident" in words
    status, words = refusal(thief.execute, "till-2")
    assert (status, name in words) == (403, True), words
    assert thief.read("before"), "admission sees no reads"
    with steal(bound, "till-2") as sibling:
        sibling.write("by-a-sibling")
    row = ringfence.rows(incident)["identity.kubernetes"]
    assert row["state"] == "alive"
    assert "refuses its writes" in row["why"]
    assert "configmaps" in row["why"]

    tries = [event for event in ringfence.events(incident, "canary.tried") if event["path"].endswith(".write")]
    assert [event["result"] for event in tries] == ["intended", "accepted", "refused"]
    seen = audited(bound, tries[-1]["audit_id"])
    assert seen["responseStatus"]["code"] == 403
    assert seen["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [uid]
    assert {one["metadata"]["name"] for one in bound.kube.list("v1", "ConfigMap", bound.name)} >= {"before"}
    assert not [one for one in bound.kube.list("v1", "ConfigMap", bound.name) if "canary" in one["metadata"]["name"]]

    ringfence.ok("undo", incident, f"writes/{view['run']['number']}")
    assert policies(bound.kube, uid) == []
    wait_until(lambda: thief.may_write("again"), 20, "the policy to be out of force")
    assert "refuses its writes" not in ringfence.rows(incident)["identity.kubernetes"]["why"]


def test_the_bindings_are_taken_and_come_back_object_by_object(
    bound: Space, thief: Thief, tmp_path: Path, binder: Responder
) -> None:
    before = bindings(bound)
    assert len(before) == 4
    ringfence = Ringfence(bound.lab, tmp_path, binder.kubeconfig)
    incident = contained(ringfence, bound, "till-1")
    view = ringfence.json("cut-identity", incident)
    assert steps_on(view, "rights")["till-1"] == {"kind": "applied"}, view["steps"]
    left = bindings(bound)
    assert set(left) == {"RoleBinding shared"}
    assert [one["name"] for one in left["RoleBinding shared"]["subjects"]] == ["clerk"]
    status, words = refusal(thief.read, "kube-root-ca.crt")
    assert (status, "cannot get resource" in words) == (403, True)
    assert refusal(thief.write, "x")[0] == 403
    row = ringfence.rows(incident)["identity.kubernetes"]
    assert (row["state"], row["level"]) == ("dead", "proven"), row
    assert thief.whoami() == f"system:serviceaccount:{bound.name}:{ACCOUNT}", "the token is accepted, and may nothing"

    ringfence.ok("undo", incident, f"rights/{view['run']['number']}")
    assert bindings(bound) == before
    wait_until(lambda: thief.may_read("kube-root-ca.crt"), 20, "the bindings to hold again")
    assert ringfence.rows(incident)["identity.kubernetes"]["state"] == "alive"


def test_who_may_not_bind_gets_the_binding_as_a_manifest(
    bound: Space, thief: Thief, tmp_path: Path, unbinder: Responder
) -> None:
    before = bindings(bound)
    ringfence = Ringfence(bound.lab, tmp_path, unbinder.kubeconfig)
    incident = contained(ringfence, bound, "till-1")
    view = ringfence.json("cut-identity", incident, code=9)
    outcome = steps_on(view, "rights")["till-1"]
    assert outcome["kind"] == "failed", "the shared binding cannot be changed by who has not its role's rights"
    assert "not currently held" in outcome["problem"]["why"]
    assert set(bindings(bound)) == {"RoleBinding shared"}
    assert refusal(thief.write, "x")[0] == 403
    row = ringfence.rows(incident)["identity.kubernetes"]
    assert (row["state"], "RoleBinding" in row["why"]) == ("alive", True)

    said = ringfence.run("undo", incident, f"rights/{view['run']['number']}")
    assert said.returncode != 0
    printed = said.stdout + said.stderr
    assert "cannot be put back by us" in printed
    for name in ("own", "execs"):
        start = printed.index('{"apiVersion"', printed.index(f"RoleBinding {bound.name}/{name}"))
        manifest, _ = json.JSONDecoder().raw_decode(printed[start:].replace("\n", " "))
        bound.kube.create(manifest)
    assert {name: bindings(bound)[name] for name in ("RoleBinding own", "RoleBinding execs")} == {
        name: before[name] for name in ("RoleBinding own", "RoleBinding execs")
    }


def audited(space: Space, audit_id: str) -> Json:
    """The event of that Audit-ID in the API server's own log."""
    found: list[Json] = []

    def there() -> bool:
        with space.lab.audit_log.open("rb") as log:
            found[:] = [json.loads(line) for line in log if audit_id.encode() in line and b"ResponseComplete" in line]
        return bool(found)

    wait_until(there, 20, f"{audit_id} to be in the audit log", interval=0.2)
    return found[0]


def test_the_account_anew_kills_the_stolen_token_and_the_audit_log_says_what_it_did(
    bound: Space, thief: Thief, tmp_path: Path, responders: tuple[Responder, Responder]
) -> None:
    thief.write("a-door")
    before = bound.kube.get("v1", "ServiceAccount", ACCOUNT, bound.name)
    ringfence = Ringfence(bound.lab, tmp_path, responders[0].kubeconfig)
    ringfence.configure("audit", log=str(bound.lab.audit_log))
    incident = contained(ringfence, bound, "till-1")
    did = ringfence.rows(incident)["persistence"]
    assert (did["state"], did["level"]) == ("alive", "observed"), did
    assert f"create configmaps {bound.name}/a-door" in did["why"]

    plan = ringfence.json("cut-identity", incident, "--recreate", "--dry-run")
    assert [ref["kind"] for ref in plan["plan"]["destroys"]] == ["ServiceAccount"]
    view = ringfence.json("cut-identity", incident, "--recreate")
    assert view["outcome"] == {"kind": "applied"}
    after = bound.kube.get("v1", "ServiceAccount", ACCOUNT, bound.name)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert refusal(thief.whoami)[0] == 401
    row = ringfence.rows(incident)["identity.kubernetes"]
    assert (row["state"], "401" in row["why"]) == ("alive", True), "the pod runs on, and gets a new token"
    seal = next(event for event in reversed(ringfence.events(incident, "evidence.sealed")))
    assert seal["complete"] is True
    said = ringfence.run("undo", incident, f"recreate/{view['run']['number']}")
    assert (said.returncode, "cannot be brought back" in said.stdout) == (3, True)


def test_tokens_in_secrets_are_found_by_metadata_and_deleted(bound: Space, office: Office, tmp_path: Path) -> None:
    secret = {"name": "till-forever", "namespace": bound.name, "annotations": {f"{SERVICE_ACCOUNT}.name": ACCOUNT}}
    bound.kube.create({"apiVersion": "v1", "kind": "Secret", "metadata": secret, "type": f"{SERVICE_ACCOUNT}-token"})
    bound.run("till-1", {"app": "till"}, account=ACCOUNT)
    opted_in = {"identity": {"legacy_tokens": True}}
    ringfence = Ringfence(bound.lab, tmp_path, office.appoint("gus", settings=opted_in).kubeconfig)
    began = bound.lab.audit_log.stat().st_size
    incident = contained(ringfence, bound, "till-1")
    assert ringfence.rows(incident)["identity.legacy"]["state"] == "unseen"
    refused = ringfence.json("cut-identity", incident, "--legacy-tokens", code=3)
    assert "identity.legacy_tokens" in refused["outcome"]["next_step"]

    ringfence.configure("identity", legacy_tokens=True)
    row = ringfence.rows(incident)["identity.legacy"]
    assert (row["state"], "till-forever" in row["why"]) == ("alive", True)
    assert ringfence.json("cut-identity", incident, "--legacy-tokens")["outcome"] == {"kind": "applied"}
    assert bound.kube.find("v1", "Secret", "till-forever", bound.name) is None
    row = ringfence.rows(incident)["identity.legacy"]
    assert (row["state"], row["level"]) == ("dead", "observed")
    with bound.lab.audit_log.open("rb") as log:
        log.seek(began if bound.lab.audit_log.stat().st_size >= began else 0)
        asked = [json.loads(line) for line in log if b'"resource":"secrets"' in line and b":gus" in line]
    assert {event["verb"] for event in asked} <= {"list", "get", "delete"}
    assert asked
