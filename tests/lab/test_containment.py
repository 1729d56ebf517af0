"""The main job on a real cluster: cut off, sealed, said honestly, ended; and what must not happen on the way.

Covered: new connections stop on packets and DNS fails while the old flow and the token live and are said to; every
change is in the API server's own audit log; eradicate ends both; release leaves everything as it was; the evidence
gate and break-glass; joining; bad input with its exit codes. Policies case by case: ``test_enforcer_cases.py``.
Bundles byte by byte: ``tests/seal``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import attack, attacker, bank
from lab.client import Customer
from lab.demo import felt
from lab.kube import Kube, wait_until
from lab.layout import Lab
from tests.lab.program import BIN, Json, Responder, Ringfence

pytestmark = pytest.mark.lab


@pytest.fixture
def kube(lab: Lab) -> Iterator[Kube]:
    client = Kube.of(lab)
    yield client
    client.close()


@pytest.fixture
def clean_bank(lab: Lab) -> Lab:
    """The bank as its manifests have it."""
    bank.reset(lab)
    return lab


@pytest.fixture
def ringfence(clean_bank: Lab, tmp_path: Path, responders: tuple[Responder, Responder]) -> Ringfence:
    """With the rights that ``ringfence rbac`` renders, and no others."""
    return Ringfence(clean_bank, tmp_path, responders[0].kubeconfig)


def cards(kube: Kube) -> list[Json]:
    return kube.list("v1", "Pod", bank.NAMESPACE, labels="app=cards")


def containers(pod: Json) -> list[str]:
    return [container["containerID"] for container in pod["status"]["containerStatuses"]]


def policies(kube: Kube) -> dict[str, Json]:
    """Name → uid, labels and spec: what must be as before."""
    return {
        p["metadata"]["name"]: {
            "uid": p["metadata"]["uid"],
            "labels": p["metadata"].get("labels"),
            "annotations": p["metadata"].get("annotations"),
            "spec": p["spec"],
        }
        for p in kube.list("networking.k8s.io/v1", "NetworkPolicy", bank.NAMESPACE)
    }


def new_connections(lab: Lab, hostile: attack.Attack, since: float) -> int:
    return sum(
        1 for kind in ("beacon", "scan") for _ in attacker.records(lab, kind=kind, attack=hostile.attack, since=since)
    )


def wait_for_flow(lab: Lab, hostile: attack.Attack, after: float) -> float:
    """When something came over the open connection, as soon as that is later than ``after``."""

    def last() -> float:
        flow = attacker.last(lab, "flow", hostile.attack)
        return 0.0 if flow is None else float(flow["t"])

    wait_until(lambda: last() > after, 60, "the open connection to bring something")
    return last()


def is_refused(lab: Lab, hostile: attack.Attack, since: float) -> bool:
    """Whether the newest use of the stolen token came after that time and was refused."""
    call = attacker.last(lab, "api", hostile.attack)
    return call is not None and call["t"] > since and call["status"] == 401


def resolves(lab: Lab, address: str) -> bool:
    """Whether a DNS query sent from inside the pod's network namespace is answered."""
    query = (
        "import socket,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(1.5);"
        "s.bind((sys.argv[1],0));"
        "s.sendto(bytes.fromhex('abcd01000001000000000000056361726473'"
        "+'0462616e6b03737663'+'07636c7573746572056c6f63616c0000010001'),(sys.argv[2],53));print(len(s.recv(512)))"
    )
    entered = ["nsenter", f"--net={pod_namespace(lab, address)}"]
    done = subprocess.run(
        [*entered, sys.executable, "-c", query, address, lab.dns_service], capture_output=True, text=True, timeout=20
    )
    return done.returncode == 0


def pod_namespace(lab: Lab, address: str) -> str:
    """The network namespace (a path) whose interface has the pod's address: found through the processes in it."""
    seen = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inode = (process / "ns" / "net").readlink()
            if inode in seen:
                continue
            seen.add(inode)
            if f"|-- {address}\n" in (process / "net" / "fib_trie").read_text():
                local = subprocess.run(
                    ["nsenter", f"--net={process}/ns/net", "ip", "-o", "-4", "addr"], capture_output=True, text=True
                )
                if f" {address}/" in local.stdout:
                    return f"{process}/ns/net"
        except OSError:
            continue
    raise AssertionError(f"no process has the network of {address}")


def audit_events(lab: Lab, ids: set[str]) -> dict[str, Json]:
    """Audit-ID → its last stage in the API server's audit log."""
    found = {}
    with lab.audit_log.open() as lines:
        for line in lines:
            event = json.loads(line)
            if event["auditID"] in ids:
                found[event["auditID"]] = event
    return found


def test_an_attack_is_cut_sealed_told_honestly_and_ended(ringfence: Ringfence, lab: Lab, kube: Kube) -> None:
    before = policies(kube)
    hostile = attack.beacon(lab)
    assert resolves(lab, hostile.address), "the test itself must work: DNS answers before the cut"
    assert wait_for_flow(lab, hostile, 0.0) > 0

    contained = ringfence.json("contain", f"pod/{hostile.pod}", "-n", bank.NAMESPACE, "--reason", "beacons")
    cut_at = time.time()
    incident = contained["incident"]["id"]
    assert contained["outcome"]["kind"] == "applied"
    assert contained["proof"]["level"] == "computed"
    assert contained["verdict"] == "NOT FULLY CONTAINED"

    # New connections are cut on packets; what was open is not, in the lab's default; and it is said so.
    assert wait_for_flow(lab, hostile, cut_at + 3) > cut_at + 3
    assert new_connections(lab, hostile, cut_at + 0.2) == 0
    assert not resolves(lab, hostile.address)
    call = attacker.last(lab, "api", hostile.attack)
    assert call is not None
    assert call["status"] in (200, 201)
    rows = ringfence.rows(incident)
    assert (rows["network.egress"]["state"], rows["network.egress"]["level"]) == ("unseen", "computed")
    assert rows["network.dns"]["state"] == "unseen"
    assert rows["network.established"]["state"] == "alive"
    assert rows["identity.kubernetes"]["state"] == "alive"

    # It lives on as evidence, detached, under an opaque label; the bank has its two replicas back.
    live = kube.get("v1", "Pod", hostile.pod, bank.NAMESPACE)
    assert live["metadata"]["uid"] == hostile.uid
    assert live["status"]["phase"] == "Running"
    assert not live["metadata"].get("ownerReferences")
    fence = live["metadata"]["labels"]["ringfence.dev/fence"]
    assert incident.lower() not in fence.lower()
    assert hostile.pod not in {
        (e.get("targetRef") or {}).get("name")
        for s in kube.list("discovery.k8s.io/v1", "EndpointSlice", bank.NAMESPACE)
        for e in s.get("endpoints") or ()
    }

    # Every change that we claim is in the cluster's own log, with our Audit-ID.
    intended = {e["audit_id"]: e for e in ringfence.events(incident, "change.intended")}
    witnessed = audit_events(lab, set(intended))
    assert set(witnessed) == set(intended)
    for audit_id, event in witnessed.items():
        assert event["verb"] == intended[audit_id]["verb"]
        assert event["objectRef"]["name"] == intended[audit_id]["ref"]["name"]

    # The seal verifies with our verifier, with openssl alone, and holds what must be there.
    bundle = contained["evidence"]["seal"]["path"]
    key = ringfence.home / "seal.pem.pub"
    verifier = [str(BIN / "ringfence-verify"), bundle, "--key", str(key)]
    verified = subprocess.run(verifier, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    parts = ringfence.home / "parts"
    subprocess.run([*verifier, "--extract", str(parts)], check=True)
    openssl = ["openssl", "dgst", "-sha256", "-verify", str(key), "-signature"]
    signed = subprocess.run([*openssl, str(parts / "signature.der"), str(parts / "pae.bin")], capture_output=True)
    assert signed.returncode == 0, signed.stderr
    items = {item["id"]: item for item in contained["evidence"]["items"]}
    for name in ("pod", "logs/cards/current", "logs/config-check/current", "serviceaccount", "rbac/applying", "node"):
        assert items[name]["result"] == "collected", name
    restarts = {one["name"]: one["restartCount"] for one in live["status"]["containerStatuses"]}
    assert items["logs/cards/previous"]["result"] == ("collected" if restarts["cards"] else "absent")
    assert items["memory"]["result"] == "not-taken"
    assert "cards-config" in ringfence.ok("evidence", "show", incident, "rbac/applying")

    # The end of it: the flow and the token die with the pod, and the policies are as they were.
    ended = ringfence.json("eradicate", incident)
    assert ended["outcome"]["kind"] == "applied"
    ended_at = time.time()
    # The attacker's own host goes on with the token that it stole: that nothing more came is known when it is refused.
    wait_until(lambda: is_refused(lab, hostile, ended_at), 60, "the stolen token to be refused")
    flow = attacker.last(lab, "flow", hostile.attack)
    assert flow is not None
    assert flow["t"] < ended_at
    rows = ringfence.rows(incident)
    assert (rows["network.established"]["state"], rows["network.established"]["level"]) == ("dead", "observed")
    assert (rows["identity.kubernetes"]["state"], rows["identity.kubernetes"]["level"]) == ("dead", "proven")
    assert rows["workload.replacement"]["state"] == "alive"
    assert ringfence.json("status", incident)["verdict"] == "NOT FULLY CONTAINED"
    assert policies(kube) == before

    # What is left is a person's to take on; only then is it contained.
    for path, row in rows.items():
        if row["state"] in ("alive", "unseen"):
            ringfence.ok("accept", incident, path, "--reason", "the template is fixed in the next release")
    assert ringfence.json("status", incident)["verdict"] == "CONTAINED"

    # The report says what happened.
    ringfence.ok("report", incident, "--out", str(ringfence.home / "report"))
    text = (ringfence.home / "report" / "report.md").read_text()
    assert contained["evidence"]["seal"]["bundle_sha256"] in text


def test_release_leaves_everything_as_it_was_and_readopts_no_suspect(
    ringfence: Ringfence, lab: Lab, kube: Kube
) -> None:
    before, pods_before = policies(kube), cards(kube)
    suspect, sibling = pods_before[0], pods_before[1]
    name = suspect["metadata"]["name"]
    incident = ringfence.json("contain", f"pod/{name}", "-n", bank.NAMESPACE)["incident"]["id"]
    released = ringfence.json("release", incident)
    assert released["outcome"]["kind"] == "applied"
    assert released["incident"]["state"] == "closed"

    assert policies(kube) == before
    kube.wait_ready([p["metadata"]["name"] for p in cards(kube)], bank.NAMESPACE)
    after = {p["metadata"]["uid"]: p for p in cards(kube)}
    assert len(after) == 2
    assert suspect["metadata"]["uid"] not in after, "a suspect is never adopted again"
    assert sibling["metadata"]["uid"] in after, "a clean replica is never killed"
    assert containers(after[sibling["metadata"]["uid"]]) == containers(sibling), "nor restarted"
    assert kube.find("v1", "Pod", name, bank.NAMESPACE) is None

    # Sealed once more, then deleted, and only then was the fence taken down: the audit log's own order.
    events = ringfence.json("timeline", incident)
    seq = {
        "seal": max(e["seq"] for e in events if e["event"]["type"] == "evidence.sealed"),
        "delete": next(e["seq"] for e in events if e["event"].get("change") == "delete"),
        "unfence": next(e["seq"] for e in events if str(e["event"].get("change")).startswith("undo-deny-all")),
    }
    assert seq["seal"] < seq["delete"] < seq["unfence"]
    witnessed = audit_events(lab, {e["event"]["audit_id"] for e in events if e["event"]["type"] == "change.intended"})
    deletes = sorted(
        (e["requestReceivedTimestamp"], e["objectRef"]["resource"]) for e in witnessed.values() if e["verb"] == "delete"
    )
    assert [resource for _, resource in deletes] == ["pods", "networkpolicies"]


def test_eradicate_needs_a_fresh_seal_and_breaking_the_glass_heads_the_report(ringfence: Ringfence, kube: Kube) -> None:
    ringfence.configure("containment", seal_max_age_seconds=1)
    name = cards(kube)[0]["metadata"]["name"]
    incident = ringfence.json("contain", f"pod/{name}", "-n", bank.NAMESPACE)["incident"]["id"]
    time.sleep(1.5)
    refused = ringfence.run("eradicate", incident)
    assert refused.returncode == 3
    assert "s old, 1 s allowed" in refused.stdout
    assert kube.find("v1", "Pod", name, bank.NAMESPACE) is not None
    assert ringfence.events(incident, "refusal")[0]["gate"] == "evidence"

    reason = "ransomware is spreading on the node"
    ringfence.ok("eradicate", incident, "--break-glass", reason)
    assert kube.find("v1", "Pod", name, bank.NAMESPACE) is None
    ringfence.ok("report", incident, "--out", str(ringfence.home))
    report = (ringfence.home / "report.md").read_text()
    assert report.index(reason) < report.lower().index("residual access")


def test_customers_see_no_more_errors_than_the_plan_has_predicted(ringfence: Ringfence, lab: Lab, kube: Kube) -> None:
    name = cards(kube)[0]["metadata"]["name"]
    with Customer(bank.gateway_url(lab)) as customer:
        time.sleep(1)
        made = ringfence.json("contain", f"pod/{name}", "-n", bank.NAMESPACE)
        time.sleep(8)
    windows = felt.predicted(ringfence.json("timeline", made["incident"]["id"]))
    assert [(one.service, one.taken, one.of, one.until is not None) for one in windows] == [("cards", 1, 2, True)]
    found = felt.compared(customer.calls, windows)
    assert found.as_predicted, found.lines()
    ringfence.ok("release", made["incident"]["id"])


def test_a_second_contain_joins_the_incident(ringfence: Ringfence, kube: Kube) -> None:
    name = cards(kube)[0]["metadata"]["name"]
    first = ringfence.json("contain", f"pod/{name}", "-n", bank.NAMESPACE)
    second = ringfence.json("contain", f"pod/{name}", "-n", bank.NAMESPACE)
    assert second["incident"]["id"] == first["incident"]["id"]
    assert second["outcome"]["kind"] in ("applied", "already")
    assert len([p for p in policies(kube) if p.startswith("ringfence-")]) == 1
    ringfence.ok("release", first["incident"]["id"])


def test_a_dry_run_changes_and_stores_nothing(ringfence: Ringfence, kube: Kube) -> None:
    before, name = policies(kube), cards(kube)[0]["metadata"]["name"]
    plan = ringfence.json("contain", f"pod/{name}", "-n", bank.NAMESPACE, "--dry-run")["plan"]
    assert [change["verb"] for change in plan["changes"]] == ["create", "patch", "patch"]
    assert policies(kube) == before
    assert kube.get("v1", "Pod", name, bank.NAMESPACE)["metadata"]["ownerReferences"]
    assert ringfence.json("incidents") == []


def test_a_vault_that_cannot_be_written_does_not_stop_the_cut(ringfence: Ringfence, kube: Kube) -> None:
    ringfence.configure("vault", path="/dev/null/vault")
    name = cards(kube)[0]["metadata"]["name"]
    done = ringfence.run("contain", f"pod/{name}", "-n", bank.NAMESPACE)
    assert done.returncode == 8
    assert "NOT SEALED" in done.stdout
    assert "/dev/null/vault" in done.stdout
    assert "ringfence.dev/fence" in kube.get("v1", "Pod", name, bank.NAMESPACE)["metadata"]["labels"]
    assert ringfence.run("eradicate", "INC-1").returncode == 3, "nothing is destroyed that was not sealed"


def test_a_closed_pipe_does_not_stop_a_containment(ringfence: Ringfence, kube: Kube) -> None:
    name = cards(kube)[0]["metadata"]["name"]
    reader, writer = os.pipe()
    os.close(reader)
    done = ringfence.run("contain", f"pod/{name}", "-n", bank.NAMESPACE, stdout=writer)
    os.close(writer)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert ringfence.json("incidents")[0]["state"] == "containing"
    assert ringfence.events("INC-1", "evidence.sealed")


def test_bad_input_gets_one_clear_message_and_its_exit_code(
    ringfence: Ringfence, lab: Lab, kube: Kube, tmp_path: Path
) -> None:
    name = cards(kube)[0]["metadata"]["name"]
    broken = tmp_path / "broken.yaml"
    broken.write_text("{nonsense")
    weak = tmp_path / "weak.yaml"
    weak.write_text(json.dumps(weak_kubeconfig(lab, kube)))
    nowhere = tmp_path / "nowhere.yaml"
    nowhere.write_text(lab.kubeconfig.read_text().replace(str(lab.api_port), "1"))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("vault: {folder: /tmp}\n")
    target = ("contain", f"pod/{name}", "-n", bank.NAMESPACE)
    table = [
        (("contain", "pod/cards-gone", "-n", bank.NAMESPACE), 4, "there is no pod cards-gone in namespace bank"),
        (("contain", "pod/x", "-n", "nonsuch"), 4, "there is no pod x in namespace nonsuch"),
        (("contain", "deployment/card", "-n", bank.NAMESPACE), 4, "there are cards"),
        (("contain", "configmap/cards", "-n", bank.NAMESPACE), 4, "configmap is not a kind that can be named"),
        (("contain", "pod/ledger-0", "-n", bank.NAMESPACE, "--shape", "detach"), 3, "StatefulSet"),
        (("contain", f"pod/{dns_pod(kube)}", "-n", "kube-system"), 3, "namespace kube-system is protected"),
        ((*target, "--kubeconfig", str(weak)), 5, "not allowed to"),
        ((*target, "--kubeconfig", str(nowhere)), 6, "cannot be reached"),
        ((*target, "--kubeconfig", str(broken)), 7, "broken.yaml"),
        ((*target, "--kubeconfig", str(tmp_path / "none.yaml")), 7, "none.yaml"),
        ((*target, "--context", "nonsuch"), 7, "nonsuch"),
        ((*target, "--config", str(wrong)), 7, "vault.folder: no such key"),
        (("status", "INC-77"), 4, "INC-77"),
        (("evidence", "verify", "INC-77"), 4, "INC-77"),
        (("contain",), 2, "pod/NAME"),
    ]
    for arguments, code, words in table:
        done = ringfence.run(*arguments)
        said = done.stdout + done.stderr
        assert done.returncode == code, (arguments, done.returncode, said)
        assert words in said, (arguments, said)
        assert "Traceback" not in said, said


def dns_pod(kube: Kube) -> str:
    return str(kube.list("v1", "Pod", "kube-system", labels="k8s-app=kube-dns")[0]["metadata"]["name"])


def weak_kubeconfig(lab: Lab, kube: Kube) -> Json:
    """A kubeconfig of the loans account, which may do nothing."""
    import yaml

    answer = kube.request(
        "POST",
        f"/api/v1/namespaces/{bank.NAMESPACE}/serviceaccounts/loans/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}},
    )
    config: Json = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": answer["status"]["token"]}
    return config


def test_status_without_the_cluster_shows_what_was_known_and_when(ringfence: Ringfence, kube: Kube) -> None:
    name = cards(kube)[0]["metadata"]["name"]
    incident = ringfence.json("contain", f"pod/{name}", "-n", bank.NAMESPACE)["incident"]["id"]
    nowhere = ringfence.home / "nowhere.yaml"
    nowhere.write_text(ringfence.lab.kubeconfig.read_text().replace(str(ringfence.lab.api_port), "1"))
    done = ringfence.run("status", incident, "--kubeconfig", str(nowhere))
    assert done.returncode == 0
    assert "NOT FULLY CONTAINED" in done.stdout
    assert "cannot be read now" in done.stdout
    ringfence.ok("release", incident)
