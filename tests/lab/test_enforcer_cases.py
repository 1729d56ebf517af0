"""NetworkPolicy on the lab's node: real pods, real connections, one table of cases for what the API promises.

Covered: every field of networking.k8s.io/v1 NetworkPolicy in both directions; what policies never touch (the node's
own traffic, host network pods); changes of labels; Services; connections that are already open; new pods; healing.
SCTP, spoofing and cut flows need no cluster: test_enforcer_packets.py.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.enforcer import status
from lab.enforcer.kernel import Kernel
from lab.kube import Kube, Object, wait_until
from lab.layout import Lab
from tests.lab.ground import NETWORKING, Ground, inside, pod
from tests.lab.policy_cases import (
    ALT,
    AWAY,
    CLIENT,
    DATAGRAM,
    EGRESS,
    FRIEND,
    HOME,
    INGRESS,
    KUBELET,
    OTHER,
    SERVER,
    TCP_PORTS,
    UDP_PORTS,
    WEB,
    Case,
    ingress,
)

pytestmark = pytest.mark.lab


def names_of(ports: Mapping[str, tuple[int, str]]) -> list[Object]:
    return [{"name": name, "containerPort": port, "protocol": protocol} for name, (port, protocol) in ports.items()]


@pytest.fixture(scope="module")
def ground(lab: Lab) -> Iterator[Ground]:
    built = Ground(lab, Kube.of(lab))
    try:
        built.make_namespace(HOME, {})
        built.make_namespace(AWAY, {"team": "away"})
        server_ports = names_of({"web": (WEB, "TCP"), "feed": (DATAGRAM, "UDP")})
        built.run(
            pod("server", HOME, {"app": "server"}, ports=server_ports, tcp=TCP_PORTS, udp=UDP_PORTS),
            pod("client", HOME, {"app": "client"}, tcp=TCP_PORTS, udp=UDP_PORTS),
            pod(
                "other",
                HOME,
                {"app": "other", "tier": "back"},
                ports=names_of({"web": (ALT, "TCP")}),
                tcp=TCP_PORTS,
                udp=UDP_PORTS,
            ),
            pod("friend", AWAY, {"app": "client"}, tcp=TCP_PORTS, udp=UDP_PORTS),
            pod("stranger", AWAY, {"app": "stranger"}, tcp=TCP_PORTS, udp=UDP_PORTS),
        )
        built.kube.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "server", "namespace": HOME},
                "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": "web"}]},
            }
        )
        built.addresses["service"] = built.kube.get("v1", "Service", "server", HOME)["spec"]["clusterIP"]
        wait_until(
            lambda: built.order(CLIENT, "tcp", host=built.addresses["service"], port=80) == "open",
            10,
            "kube-proxy to know the Service",
        )
        yield built
    finally:
        built.remove()


@pytest.fixture(autouse=True)
def open_ground(ground: Ground) -> Iterator[None]:
    yield
    for namespace in (HOME, AWAY):
        ground.enforce(namespace, [])


def attempt(ground: Ground, source: str, destination: str) -> str:
    """What came of one connection attempt: open, refused or silent."""
    lab = ground.lab
    fixed = {
        "api": (lab.host_address, lab.api_port),
        "service-api": (lab.kubernetes_service, 443),
        "kubelet": (lab.node_address, KUBELET),
        # Any port of the node's gateway address answers at least with a refusal.
        "gateway": (lab.pod_cidr.replace("0/24", "1"), KUBELET),
    }
    target, protocol = destination.removesuffix("/udp"), "udp" if destination.endswith("/udp") else "tcp"
    name, _, number = target.rpartition(":")
    host, port = fixed[target] if target in fixed else (ground.addresses[name], int(number))
    if source in ("outside", "node"):
        return inside(lab.node_netns, lambda: _dial(host, port, protocol)) if source == "node" else _dial(host, port)
    found: str = ground.order(source, protocol, host=host, port=port)
    return found


def _dial(host: str, port: int, protocol: str = "tcp") -> str:
    try:
        if protocol == "tcp":
            socket.create_connection((host, port), 0.5).close()
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(0.5)
                client.sendto(b"ping", (host, port))
                client.recv(16)
    except TimeoutError:
        return "silent"
    return "open"


def outcomes(ground: Ground, case: Case) -> dict[tuple[str, str], str]:
    """All attempts of a case at once: a silent one costs its whole time-out."""
    attempts = [*case.reached, *case.silent]
    with ThreadPoolExecutor(len(attempts)) as threads:
        found = threads.map(lambda pair: attempt(ground, *pair), attempts)
        return dict(zip(attempts, found, strict=True))


@pytest.mark.parametrize("case", [*INGRESS, *EGRESS], ids=lambda case: case.law.replace(" ", "_"))
def test_case(ground: Ground, case: Case) -> None:
    ground.enforce(case.namespace, [(f"p{number}", spec) for number, spec in enumerate(case.policies)])
    found = outcomes(ground, case)
    expected = dict.fromkeys(case.reached, True) | dict.fromkeys(case.silent, False)
    # A refused connection was reached: the answer came back (nobody listens on the gateway's kubelet port).
    assert {pair: outcome != "silent" for pair, outcome in found.items()} == expected


def deny_all(ground: Ground, namespace: str = HOME) -> None:
    ground.enforce(namespace, [("deny-all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})])


def test_an_open_connection_outlives_a_deny_all_and_a_new_one_is_not_made(ground: Ground) -> None:
    server = {"host": ground.addresses[SERVER], "port": WEB}
    assert ground.order(CLIENT, "hold", name="kept", **server) == "open"
    deny_all(ground)
    assert ground.order(CLIENT, "held", name="kept") is True
    assert ground.order(CLIENT, "tcp", **server) == "silent"


def test_a_pod_relabelled_into_a_policy_is_cut_and_back_out_is_open(ground: Ground) -> None:
    ground.enforce(HOME, [("fence", {"podSelector": {"matchLabels": {"fence": "x"}}, "policyTypes": ["Egress"]})])
    server = {"host": ground.addresses[SERVER], "port": WEB}
    for value, expected in (("x", "silent"), (None, "open")):
        body = {"metadata": {"labels": {"fence": value}}}
        status.wait_for_pod(ground.lab, ground.kube.patch("v1", "Pod", "other", HOME, body=body))
        assert ground.order(OTHER, "tcp", **server) == expected


def test_a_relabelled_namespace_changes_who_comes_in(ground: Ground) -> None:
    ground.enforce(HOME, [("team", ingress({"from": [{"namespaceSelector": {"matchLabels": {"guest": "yes"}}}]}))])
    server = {"host": ground.addresses[SERVER], "port": WEB}
    for value, expected in (("yes", "open"), (None, "silent")):
        body = {"metadata": {"labels": {"guest": value}}}
        version = int(ground.kube.patch("v1", "Namespace", AWAY, body=body)["metadata"]["resourceVersion"])

        def seen(version: int = version) -> bool:
            found = status.read(ground.lab)
            return found is not None and found.namespaces_version >= version

        wait_until(seen, 5, "the namespace's labels to be in force")
        assert ground.order(FRIEND, "tcp", **server) == expected


def test_host_network_pods_are_not_subject_to_policies(ground: Ground) -> None:
    ground.enforce(HOME, [("deny-all", {"podSelector": {"matchLabels": {"app": "hostnet"}}})])
    ground.kube.create(pod("hostnet", HOME, {"app": "hostnet"}, hostNetwork=True, tcp="18080"))
    try:
        ground.kube.wait_ready(["hostnet"], HOME)
        assert ground.order(CLIENT, "tcp", host=ground.lab.node_address, port=18080) == "open"
        assert not status.drops(ground.lab, HOME, "hostnet")
    finally:
        ground.kube.delete("v1", "Pod", "hostnet", HOME, grace_seconds=0, wait=20)


def test_an_isolated_pod_stays_ready_because_probes_pass(ground: Ground) -> None:
    deny_all(ground)
    # Three failures in a row, a second apart, would make it unready.
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        ground.kube.wait_ready(["server"], HOME, timeout=0)
        time.sleep(0.5)


def test_a_new_pod_is_covered_before_its_first_connection(ground: Ground) -> None:
    deny_all(ground, AWAY)
    target = f"{ground.addresses[SERVER]}:{WEB}"
    manifest = pod("newcomer", AWAY, {"app": "newcomer"}, early=target)
    ground.run(manifest)
    try:

        def early() -> dict[str, int]:
            return ground.order(f"{AWAY}/newcomer", "early")

        wait_until(lambda: early()["tried"] > 5, 20, "the newcomer to have tried more than five times")
        assert early()["open"] == 0
    finally:
        ground.kube.delete("v1", "Pod", "newcomer", AWAY, grace_seconds=0)


def test_dropped_packets_are_counted_for_the_pod_and_direction(ground: Ground) -> None:
    deny_all(ground)
    before = status.drops(ground.lab, HOME, "client")
    assert ground.order(CLIENT, "tcp", host=ground.addresses[FRIEND], port=WEB) == "silent"
    after = status.drops(ground.lab, HOME, "client")
    assert after["egress"].packets > before["egress"].packets
    assert after["ingress"] == before["ingress"]


def test_a_table_that_vanished_comes_back(ground: Ground) -> None:
    deny_all(ground)
    server = {"host": ground.addresses[SERVER], "port": WEB}
    kernel = Kernel(ground.lab.node_netns)
    before = status.read(ground.lab)
    assert before is not None
    kernel.replace("delete table inet ringfence_lab")
    assert ground.order(CLIENT, "tcp", **server) == "open"

    def healed() -> bool:
        found = status.read(ground.lab)
        return found is not None and found.generation > before.generation

    wait_until(healed, 10, "the enforcer to write its table again")
    assert ground.order(CLIENT, "tcp", **server) == "silent"


def test_rules_leave_the_service_proxy_alone(ground: Ground) -> None:
    tables = subprocess.run(
        ["nsenter", f"--net=/var/run/netns/{ground.lab.node_netns}", "nft", "list", "tables"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    assert "table ip kube-proxy" in tables
    assert "table inet ringfence_lab" in tables


def test_deleting_the_policies_opens_again(ground: Ground) -> None:
    deny_all(ground)
    server = {"host": ground.addresses[SERVER], "port": WEB}
    assert ground.order(CLIENT, "tcp", **server) == "silent"
    ground.kube.delete(NETWORKING, "NetworkPolicy", "deny-all", HOME)
    status.wait_for_policies(ground.lab, HOME, [])
    assert ground.order(CLIENT, "tcp", **server) == "open"
