"""The lab's name service: what pods and the node get for names of Services and endpoints, and for names without one.

Covered: cluster addresses, headless Services, host names of pods, removal of records, UDP and TCP, NXDOMAIN and
refusal, and that name service is traffic like any other for NetworkPolicy.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Iterator

import pytest

from lab.kube import Kube, Object, wait_until
from lab.layout import Lab
from tests.lab.ground import Ground, inside, pod

pytestmark = pytest.mark.lab

HOME = f"rfenf-names-{os.getpid()}"
CLIENT = f"{HOME}/client"
NO_ERROR, NXDOMAIN, REFUSED = 0, 3, 5
# Records follow events; dnsmasq reads the file by inotify.
SOON = 3.0


@pytest.fixture(scope="module")
def ground(lab: Lab) -> Iterator[Ground]:
    built = Ground(lab, Kube.of(lab))
    try:
        built.make_namespace(HOME, {})
        impatient = {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "1"}]}
        built.run(
            pod("client", HOME, {"app": "client"}, dnsConfig=impatient),
            pod("member-0", HOME, {"app": "member"}, tcp="8080", hostname="member-0", subdomain="members"),
            pod("member-1", HOME, {"app": "member"}, tcp="8080", hostname="member-1", subdomain="members"),
        )
        built.kube.create(service("members", clusterIP="None", selector={"app": "member"}))
        yield built
    finally:
        built.remove()


def service(name: str, **spec: object) -> Object:
    content = {"ports": [{"port": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": HOME}, "spec": content}


def resolve(ground: Ground, name: str) -> list[str] | str:
    found: list[str] | str = ground.order(CLIENT, "resolve", name=name)
    return found


def soon(ground: Ground, name: str, expected: list[str] | str) -> None:
    wait_until(lambda: resolve(ground, name) == expected, SOON, f"{name} to be {expected}")


def query(lab: Lab, name: str, *, tcp: bool = False, kind: int = 1) -> tuple[int, int]:
    """Asks the Service from the node; the response code and the number of answers (RFC 1035)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    identity = secrets.randbits(16)
    question = struct.pack("!6H", identity, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.connect((lab.dns_service, 53))
            client.send(struct.pack("!H", len(question)) + question if tcp else question)
            return client.recv(1024)[2 if tcp else 0 :]

    found, flags, _, answers, _, _ = struct.unpack("!6H", inside(lab.node_netns, ask)[:12])
    assert found == identity
    return flags & 0xF, answers


def test_a_service_resolves_to_its_cluster_address_by_short_and_full_name(ground: Ground) -> None:
    address = ground.kube.create(service("ledger"))["spec"]["clusterIP"]
    for name in (f"ledger.{HOME}.svc.cluster.local", f"ledger.{HOME}", "ledger"):
        soon(ground, name, [address])


def test_the_api_server_has_its_usual_name(ground: Ground) -> None:
    assert resolve(ground, "kubernetes.default") == [ground.lab.kubernetes_service]


def test_a_headless_service_resolves_to_its_pods(ground: Ground) -> None:
    members = sorted([ground.addresses[f"{HOME}/member-0"], ground.addresses[f"{HOME}/member-1"]])
    soon(ground, f"members.{HOME}.svc.cluster.local", members)


def test_a_pod_of_a_headless_service_has_a_name_of_its_own(ground: Ground) -> None:
    for name in ("member-0", "member-1"):
        soon(ground, f"{name}.members", [ground.addresses[f"{HOME}/{name}"]])


def test_a_deleted_service_has_no_name_any_more_and_others_keep_theirs(ground: Ground) -> None:
    address = ground.kube.create(service("passing"))["spec"]["clusterIP"]
    soon(ground, "passing", [address])
    ground.kube.delete("v1", "Service", "passing", HOME)
    # The last of the search path is a name outside the cluster, which nobody answers for.
    name = f"passing.{HOME}.svc.cluster.local."
    soon(ground, name, "no such name")
    assert resolve(ground, "kubernetes.default") == [ground.lab.kubernetes_service]


def test_a_service_that_changes_its_address_has_only_the_new_one(ground: Ground) -> None:
    first = ground.kube.create(service("moving"))["spec"]["clusterIP"]
    soon(ground, "moving", [first])
    ground.kube.delete("v1", "Service", "moving", HOME)
    second = ground.kube.create(service("moving"))["spec"]["clusterIP"]
    soon(ground, "moving", [second])


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_an_unknown_name_of_the_cluster_does_not_exist(ground: Ground, tcp: bool) -> None:
    assert query(ground.lab, f"nobody.{HOME}.svc.cluster.local", tcp=tcp) == (NXDOMAIN, 0)
    assert query(ground.lab, "kubernetes.default.svc.cluster.local", tcp=tcp) == (NO_ERROR, 1)


def test_a_name_without_an_ipv6_address_exists_all_the_same(ground: Ground) -> None:
    assert query(ground.lab, "kubernetes.default.svc.cluster.local", kind=28) == (NO_ERROR, 0)


def test_names_outside_the_cluster_are_refused_at_once(ground: Ground) -> None:
    assert query(ground.lab, "evil.example") == (REFUSED, 0)
    assert isinstance(resolve(ground, "evil.example"), str)


def test_a_cut_off_pod_resolves_nothing_until_name_service_is_allowed(ground: Ground) -> None:
    name = "kubernetes.default.svc.cluster.local."
    server = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    rule = {"to": [server], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    closed = {"podSelector": {}, "policyTypes": ["Egress"]}
    try:
        ground.enforce(HOME, [("names", {**closed, "egress": [rule]})])
        assert resolve(ground, name) == [ground.lab.kubernetes_service]
        ground.enforce(HOME, [("closed", closed)])
        assert resolve(ground, name) == "try again"
        assert ground.order(CLIENT, "tcp", host=ground.lab.dns_service, port=53) == "silent"
    finally:
        ground.enforce(HOME, [])
