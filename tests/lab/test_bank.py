"""The reference bank on the lab's cluster: it serves, its policies hold, it comes and goes gracefully, and a reset puts
back whatever an incident left behind.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from lab import bank, images, programs
from lab.bank.deploy import manifests
from lab.client import Customer
from lab.kube import Kube, wait_until
from lab.layout import Lab

pytestmark = pytest.mark.lab

CONNECT = "import socket; socket.create_connection(('{}', {}), 2).close(); print('open')"


@pytest.fixture(scope="module")
def kube(lab: Lab) -> Iterator[Kube]:
    client = Kube.of(lab)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def pristine(lab: Lab) -> Iterator[None]:
    yield
    bank.reset(lab)


def pods(kube: Kube, app: str) -> list[dict[str, Any]]:
    return kube.list("v1", "Pod", bank.NAMESPACE, labels=f"app={app}")


def connects(lab: Lab, pod: str, host: str, port: int) -> bool:
    """Whether a connection from inside that pod is accepted."""
    command = [str(programs.path("kubectl")), f"--kubeconfig={lab.kubeconfig}", "-n", bank.NAMESPACE, "exec", pod, "--"]
    program = ["python3", "-c", CONNECT.format(host, port)]
    result = subprocess.run([*command, *program], capture_output=True, text=True, timeout=30)
    assert result.returncode == 0 or "Error" in result.stderr, result.stderr
    return result.stdout == "open\n"


def test_a_customer_gets_an_overview_through_the_gateway(lab: Lab) -> None:
    with urllib.request.urlopen(f"{bank.gateway_url(lab)}/overview/9", timeout=5) as answer:
        overview = json.loads(answer.read())
    assert [*overview] == ["customer", "accounts", "cards", "loans"]
    assert overview["cards"][0]["balance_cents"] == 101_271


def test_accounts_pods_do_not_reach_cards_but_the_gateway_does(lab: Lab, kube: Kube) -> None:
    accounts, gateway = pods(kube, "accounts")[0], pods(kube, "gateway")[0]
    assert connects(lab, gateway["metadata"]["name"], "cards", 8080)
    assert not connects(lab, accounts["metadata"]["name"], "cards", 8080)
    address = pods(kube, "cards")[0]["status"]["podIP"]
    assert not connects(lab, accounts["metadata"]["name"], address, 8080)


def test_cards_reach_the_outside_on_443_only_and_not_the_api_server(lab: Lab, kube: Kube) -> None:
    cards = pods(kube, "cards")[0]["metadata"]["name"]
    assert connects(lab, cards, lab.attacker_address, 443)
    assert not connects(lab, cards, lab.attacker_address, 53)
    assert not connects(lab, cards, "kubernetes.default.svc", 443)


def test_each_ledger_replica_answers_by_a_name_of_its_own(lab: Lab, kube: Kube) -> None:
    cards = pods(kube, "cards")[0]["metadata"]["name"]
    assert connects(lab, cards, "ledger-0.ledger", 8080)
    assert connects(lab, cards, "ledger-1.ledger", 8080)


def test_containers_run_the_image_that_was_built(kube: Kube) -> None:
    built = images.build(images.describe(images.BANK))
    statuses = [pod["status"]["containerStatuses"][0] for pod in kube.list("v1", "Pod", bank.NAMESPACE, labels="app")]
    assert len(statuses) == 10
    assert {status["imageID"] for status in statuses} == {built.digest}


def test_what_containerd_has_is_not_imported_again(lab: Lab) -> None:
    assert images.ensure(lab) == []


def test_the_init_container_leaves_a_log(kube: Kube) -> None:
    name = pods(kube, "cards")[0]["metadata"]["name"]
    (line,) = kube.logs(name, bank.NAMESPACE, container="config-check").splitlines()
    assert json.loads(line)["msg"] == "configuration accepted"


def test_a_second_deploy_changes_nothing(lab: Lab, kube: Kube) -> None:
    def state() -> dict[str, Any]:
        found = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in kube.list("v1", "Pod", bank.NAMESPACE)}
        for kind in ("Deployment", "StatefulSet"):
            for workload in kube.list("apps/v1", kind, bank.NAMESPACE):
                found[workload["metadata"]["name"]] = workload["metadata"]["generation"]
        found["password"] = kube.get("v1", "Secret", "cards-db", bank.NAMESPACE)["data"]["password"]
        return found

    before = state()
    bank.deploy(lab)
    assert state() == before


def test_a_deleted_pod_is_gone_within_seconds_and_no_customer_feels_it(lab: Lab, kube: Kube) -> None:
    """Readiness off, drain, end: without it the pod would take its whole grace period, and requests would break."""
    name = pods(kube, "cards")[0]["metadata"]["name"]
    with Customer(bank.gateway_url(lab), interval=0.1) as customer:
        time.sleep(0.5)
        began = time.monotonic()
        kube.delete("v1", "Pod", name, bank.NAMESPACE, wait=9.0)
        gone_after = time.monotonic() - began
        time.sleep(1)
        summary = customer.stop()
    assert gone_after < 8, "the grace period is 10 s: it was killed, and did not end by itself"
    assert summary.failures == 0, [call.error for call in customer.calls if not call.ok]


def test_reset_puts_back_what_an_incident_left(lab: Lab, kube: Kube) -> None:
    orphan = pods(kube, "cards")[0]["metadata"]
    relabel = {"metadata": {"labels": {"app": None, "pod-template-hash": None, "quarantine": "x"}}}
    kube.patch("v1", "Pod", orphan["name"], bank.NAMESPACE, body=relabel)
    fenced = pods(kube, "ledger")[0]["metadata"]
    kube.patch("v1", "Pod", fenced["name"], bank.NAMESPACE, body={"metadata": {"labels": {"fenced": "x"}}})
    kube.patch("apps/v1", "Deployment", "loans", bank.NAMESPACE, body={"spec": {"replicas": 0, "paused": True}})
    selector = {"spec": {"selector": {"app": "accounts", "gone": "yes"}}}
    kube.patch("v1", "Service", "accounts", bank.NAMESPACE, body=selector)
    kube.delete("rbac.authorization.k8s.io/v1", "RoleBinding", "cards-config", bank.NAMESPACE)
    note = {"metadata": {"annotations": {"note": "x"}}}
    kube.patch("apps/v1", "StatefulSet", "ledger", bank.NAMESPACE, body=note)
    kube.patch("v1", "ConfigMap", "cards-config", bank.NAMESPACE, body={"data": {"extra": "x"}})
    named: dict[str, Any] = {"metadata": {"name": "backdoor", "namespace": bank.NAMESPACE}}
    kube.create({"apiVersion": "v1", "kind": "ServiceAccount", **named})
    everyone: dict[str, Any] = {"spec": {"podSelector": {}}}
    kube.create({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **named, **everyone})

    bank.reset(lab)

    found = {pod["metadata"]["uid"]: pod for pod in kube.list("v1", "Pod", bank.NAMESPACE)}
    assert len(found) == 10
    assert orphan["uid"] not in found
    assert fenced["uid"] not in found
    assert kube.get("apps/v1", "Deployment", "loans", bank.NAMESPACE)["spec"]["replicas"] == 2
    assert kube.get("v1", "Service", "accounts", bank.NAMESPACE)["spec"]["selector"] == {"app": "accounts"}
    assert kube.find("rbac.authorization.k8s.io/v1", "RoleBinding", "cards-config", bank.NAMESPACE)
    wanted = {entry["metadata"]["name"] for entry in manifests() if entry["kind"] == "NetworkPolicy"}
    policies = kube.list("networking.k8s.io/v1", "NetworkPolicy", bank.NAMESPACE)
    assert {policy["metadata"]["name"] for policy in policies} == wanted
    assert kube.find("v1", "ServiceAccount", "backdoor", bank.NAMESPACE) is None
    ledger = kube.get("apps/v1", "StatefulSet", "ledger", bank.NAMESPACE)
    assert "annotations" not in ledger["metadata"]
    assert "extra" not in kube.get("v1", "ConfigMap", "cards-config", bank.NAMESPACE)["data"]


def test_reset_of_a_pristine_bank_replaces_no_pod(lab: Lab, kube: Kube) -> None:
    bank.reset(lab)
    before = {pod["metadata"]["uid"] for pod in kube.list("v1", "Pod", bank.NAMESPACE)}
    bank.reset(lab)
    assert {pod["metadata"]["uid"] for pod in kube.list("v1", "Pod", bank.NAMESPACE)} == before


def test_a_bank_without_its_cards_is_felt_and_counted(lab: Lab, kube: Kube) -> None:
    with Customer(bank.gateway_url(lab), interval=0.1) as customer:
        time.sleep(0.5)
        kube.patch("apps/v1", "Deployment", "cards", bank.NAMESPACE, body={"spec": {"replicas": 0}})
        wait_until(lambda: sum(not call.ok for call in customer.calls) >= 5, 20, "customers to feel it")
        summary = customer.stop()
    assert summary.longest_outage > 0.3
    assert summary.success < 1
