"""The attack on the lab's bank: it comes in by the gateway, changes no object, is heard by the attacker, and ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import attack, attacker, bank
from lab.attack import Attack
from lab.errors import LabError
from lab.kube import Kube, wait_until
from lab.layout import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def kube(lab: Lab) -> Iterator[Kube]:
    client = Kube.of(lab)
    yield client
    client.close()


@pytest.fixture(scope="module")
def victim(lab: Lab, kube: Kube) -> Iterator[tuple[dict[str, Any], Attack]]:
    """A cards pod as it was before the attack, and the attack on it."""
    bank.reset(lab)
    before = kube.list("v1", "Pod", bank.NAMESPACE, labels="app=cards")[1]
    yield before, attack.beacon(lab, before["metadata"]["name"])
    attack.stop(lab)
    bank.reset(lab)


def test_the_named_pod_turns_hostile_and_the_cluster_shows_nothing_of_it(
    kube: Kube, victim: tuple[dict[str, Any], Attack]
) -> None:
    before, found = victim
    assert (found.pod, found.uid) == (before["metadata"]["name"], before["metadata"]["uid"])
    now = kube.get("v1", "Pod", found.pod, bank.NAMESPACE)
    assert now["spec"] == before["spec"]
    assert now["metadata"]["labels"] == before["metadata"]["labels"]
    # Not zero: a container that was slow to come up on a busy machine has been restarted before.
    (was,), (is_now,) = before["status"]["containerStatuses"], now["status"]["containerStatuses"]
    assert is_now["containerID"] == was["containerID"]


def test_heartbeats_come_over_one_connection_and_beacons_over_many(
    lab: Lab, victim: tuple[dict[str, Any], Attack]
) -> None:
    since = time.time()
    time.sleep(2)
    flows = list(attacker.records(lab, kind="flow", attack=victim[1].attack, since=since))
    beacons = list(attacker.records(lab, kind="beacon", attack=victim[1].attack, since=since))
    assert len({record["connection"] for record in flows}) == 1
    assert len(flows) >= 4
    assert len({record["connection"] for record in beacons}) >= 6
    assert {record["source"].split(":")[0] for record in flows + beacons} == {victim[1].address}


def test_the_stolen_token_works_from_the_attackers_host(lab: Lab, victim: tuple[dict[str, Any], Attack]) -> None:
    found = victim[1]
    whoami = [record for record in attacker.records(lab, kind="api", attack=found.attack) if record["user"]]
    assert whoami[-1]["user"] == "system:serviceaccount:bank:cards"
    assert whoami[-1]["token_pod"] == found.pod
    listed = [
        record for record in attacker.records(lab, kind="api", attack=found.attack) if record["request"] == "configmaps"
    ]
    assert listed[-1]["status"] == 200


def test_the_token_is_in_a_file_of_roots_alone_and_in_no_record(
    lab: Lab, victim: tuple[dict[str, Any], Attack]
) -> None:
    file = lab.attacker / "tokens" / victim[1].attack
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() not in (lab.attacker / "requests.jsonl").read_text()


def test_the_scan_finds_what_the_policy_lets_cards_reach(lab: Lab, victim: tuple[dict[str, Any], Attack]) -> None:
    wait_until(lambda: attacker.last(lab, "scan", victim[1].attack) is not None, 15, "a scan's report")
    scan = attacker.last(lab, "scan", victim[1].attack)
    assert scan is not None
    assert "ledger:8080" in scan["answered"]
    assert not {"gateway:8080", "accounts:8080", "loans:8080", "kubernetes:443"} & set(scan["answered"])
    assert scan["asked"] > 250


def test_policies_keep_direct_dns_to_the_attacker_out(lab: Lab, victim: tuple[dict[str, Any], Attack]) -> None:
    assert not [record for record in attacker.records(lab, kind="dns") if victim[1].attack in record["name"]]


def test_the_way_in_is_in_the_banks_own_access_log(kube: Kube, victim: tuple[dict[str, Any], Attack]) -> None:
    lines = [json.loads(line) for line in kube.logs(victim[1].pod, bank.NAMESPACE, container="cards").splitlines()]
    assert [line for line in lines if "__import__" in line.get("path", "")]


def test_status_counts_what_arrived(lab: Lab, victim: tuple[dict[str, Any], Attack]) -> None:
    (entry,) = [entry for entry in attack.status(lab) if entry["attack"] == victim[1].attack]
    assert entry["counts"]["token"] >= 1
    assert time.time() - entry["last"]["beacon"]["t"] < 30
    assert not entry["ended"]


def test_an_attack_on_a_pod_that_is_not_there_names_those_that_are(lab: Lab, kube: Kube) -> None:
    with pytest.raises(LabError, match=r"choose from cards-"):
        attack.beacon(lab, "cards-none")


def test_after_stop_nothing_arrives_and_the_token_is_no_longer_used(lab: Lab) -> None:
    found = attack.beacon(lab)
    assert [entry["ended"] for entry in attack.stop(lab) if entry["attack"] == found.attack] == [True]
    time.sleep(1.5)  # A use of the token may have been under way.
    since = time.time()
    time.sleep(1.5)
    assert list(attacker.records(lab, attack=found.attack, since=since)) == []


def test_an_agent_that_nobody_can_tell_to_end_is_killed_by_the_way_it_came(lab: Lab) -> None:
    found = attack.beacon(lab)
    attacker.stop(lab)
    try:
        assert [entry["ended"] for entry in attack.stop(lab) if entry["attack"] == found.attack] == [True]
    finally:
        attacker.start(lab)
    since = time.time()
    time.sleep(2)
    assert list(attacker.records(lab, attack=found.attack, since=since)) == []
