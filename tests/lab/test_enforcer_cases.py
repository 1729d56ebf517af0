"""NetworkPolicy on the lab's node: real pods, real connections, one table of cases for what the API promises.

Covered: every field of networking.k8s.io/v1 NetworkPolicy in both directions; what policies never touch (the node's
own traffic, host network pods); changes of labels; Services; connections that are already open; new pods; healing.
SCTP, spoofing and cut flows need no cluster: test_enforcer_packets.py.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from ground import NETWORKING, Ground, inside, pod

from lab.enforcer import status
from lab.enforcer.kernel import Kernel
from lab.kube import Kube, Object, wait_until
from lab.layout import Lab

pytestmark = pytest.mark.lab

HOME = f"rfenf-home-{os.getpid()}"
AWAY = f"rfenf-away-{os.getpid()}"
WEB, ALT, HIGH, DATAGRAM = 8080, 8081, 9005, 5300
TCP_PORTS, UDP_PORTS = f"{WEB},{ALT},{HIGH}", f"{DATAGRAM}"
KUBELET = 10250

SERVER, CLIENT, OTHER = f"{HOME}/server", f"{HOME}/client", f"{HOME}/other"
FRIEND, STRANGER = f"{AWAY}/friend", f"{AWAY}/stranger"

TO_SERVER = {"podSelector": {"matchLabels": {"app": "server"}}}
TO_CLIENT = {"podSelector": {"matchLabels": {"app": "client"}}}


@dataclass(frozen=True)
class Case:
    """Policies of HOME (unless ``namespace`` says otherwise) and who then reaches what. A destination is
    ``POD:PORT[/udp]``, ``service:80``, ``kubelet`` or ``api``; ``outside`` as a source is a process of the host."""

    law: str
    policies: Sequence[Object]
    reached: Sequence[tuple[str, str]] = ()
    silent: Sequence[tuple[str, str]] = ()
    namespace: str = HOME


def ingress(*rules: Object, selector: Object | None = None) -> Object:
    return {
        "podSelector": {"matchLabels": {"app": "server"}} if selector is None else selector,
        "policyTypes": ["Ingress"],
        "ingress": list(rules),
    }


def egress(*rules: Object, selector: Object | None = None) -> Object:
    return {
        "podSelector": {"matchLabels": {"app": "client"}} if selector is None else selector,
        "policyTypes": ["Egress"],
        "egress": list(rules),
    }


def expression(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def web(*sources: str) -> list[tuple[str, str]]:
    return [(source, f"{SERVER}:{WEB}") for source in sources]


INGRESS = [
    Case(
        "without a policy everything is open",
        [],
        reached=[*web(CLIENT, FRIEND, "outside", "node"), (CLIENT, f"{SERVER}:{DATAGRAM}/udp"), (CLIENT, "service:80")],
    ),
    Case(
        "a policy without rules and policyTypes closes ingress and nothing else",
        [{"podSelector": {"matchLabels": {"app": "server"}}}],
        reached=[(SERVER, f"{CLIENT}:{WEB}"), (CLIENT, f"{OTHER}:{WEB}")],
        silent=[*web(CLIENT, OTHER, FRIEND, "outside"), (CLIENT, f"{SERVER}:{DATAGRAM}/udp"), (CLIENT, "service:80")],
    ),
    Case(
        "the node's own traffic passes whatever the policies say",
        [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}],
        reached=[*web("node"), ("node", f"{SERVER}:{DATAGRAM}/udp"), ("node", f"{OTHER}:{HIGH}")],
        silent=web(CLIENT),
    ),
    Case(
        "an empty rule lets everyone in",
        [ingress({})],
        reached=[*web(CLIENT, FRIEND, "outside"), (OTHER, f"{SERVER}:{DATAGRAM}/udp")],
    ),
    Case(
        "an empty from list lets everyone in",
        [ingress({"from": [], "ports": [{"port": WEB}]})],
        reached=web(CLIENT, FRIEND, "outside"),
        silent=[(CLIENT, f"{SERVER}:{ALT}")],
    ),
    Case(
        "an empty pod selector means the policy's own namespace",
        [ingress({"from": [{"podSelector": {}}]})],
        reached=web(CLIENT, OTHER),
        silent=web(FRIEND, STRANGER, "outside"),
    ),
    Case(
        "a pod selector alone never reaches into another namespace",
        [ingress({"from": [TO_CLIENT]})],
        reached=web(CLIENT),
        silent=web(OTHER, FRIEND),
    ),
    Case(
        "an empty namespace selector means every pod and nothing outside the cluster",
        [ingress({"from": [{"namespaceSelector": {}}]})],
        reached=web(CLIENT, FRIEND, STRANGER),
        silent=web("outside"),
    ),
    Case(
        "a namespace selector means all pods of the namespaces with those labels",
        [ingress({"from": [{"namespaceSelector": {"matchLabels": {"team": "away"}}}]})],
        reached=web(FRIEND, STRANGER),
        silent=web(CLIENT),
    ),
    Case(
        "namespaces can be named by the label that the API server sets",
        [ingress({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": AWAY}}}]})],
        reached=web(FRIEND),
        silent=web(CLIENT),
    ),
    Case(
        "both selectors in one peer must hold together",
        [ingress({"from": [{"namespaceSelector": {"matchLabels": {"team": "away"}}, **TO_CLIENT}]})],
        reached=web(FRIEND),
        silent=web(STRANGER, CLIENT),
    ),
    Case(
        "two peers are alternatives",
        [ingress({"from": [{"namespaceSelector": {"matchLabels": {"team": "away"}}}, TO_CLIENT]})],
        reached=web(FRIEND, STRANGER, CLIENT),
        silent=web(OTHER),
    ),
    Case(
        "In selects by value",
        [ingress({"from": [{"podSelector": expression("app", "In", "client", "nobody")}]})],
        reached=web(CLIENT),
        silent=web(OTHER),
    ),
    Case(
        "NotIn selects the others and those without the label",
        [ingress({"from": [{"podSelector": expression("tier", "NotIn", "back")}]})],
        reached=web(CLIENT),
        silent=web(OTHER),
    ),
    Case(
        "Exists selects by key",
        [ingress({"from": [{"podSelector": expression("tier", "Exists")}]})],
        reached=web(OTHER),
        silent=web(CLIENT),
    ),
    Case(
        "DoesNotExist selects by a missing key",
        [ingress({"from": [{"namespaceSelector": expression("team", "DoesNotExist")}]})],
        reached=web(CLIENT),
        silent=web(FRIEND),
    ),
    Case(
        "expressions choose the pods that a policy applies to as well",
        [ingress(selector=expression("app", "NotIn", "client", "other"))],
        reached=[(CLIENT, f"{OTHER}:{WEB}")],
        silent=web(CLIENT),
    ),
    Case(
        "an address block lets outsiders in",
        [ingress({"from": [{"ipBlock": {"cidr": "10.99.0.0/16"}}]})],
        reached=web("outside"),
        silent=web(CLIENT),
    ),
    Case(
        "the excluded part of a block stays out",
        [ingress({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.99.0.0/16"]}}]})],
        reached=web(CLIENT, FRIEND),
        silent=web("outside"),
    ),
    Case(
        "a port opens that port of TCP only",
        [ingress({"ports": [{"port": WEB}, {"port": DATAGRAM}]})],
        reached=[*web(CLIENT), (CLIENT, "service:80")],
        silent=[(CLIENT, f"{SERVER}:{ALT}"), (CLIENT, f"{SERVER}:{DATAGRAM}/udp")],
    ),
    Case(
        "a range opens both its ends and nothing around it",
        [ingress({"ports": [{"port": ALT, "endPort": HIGH}]})],
        reached=[(CLIENT, f"{SERVER}:{ALT}"), (CLIENT, f"{SERVER}:{HIGH}")],
        silent=web(CLIENT),
    ),
    Case(
        "a named port is the pod's own container port",
        [ingress({"ports": [{"port": "web"}]})],
        reached=[*web(CLIENT), (CLIENT, "service:80")],
        silent=[(CLIENT, f"{SERVER}:{ALT}")],
    ),
    Case(
        "a named port counts only with its protocol",
        [ingress({"ports": [{"port": "web", "protocol": "UDP"}, {"port": "feed", "protocol": "UDP"}]})],
        reached=[(CLIENT, f"{SERVER}:{DATAGRAM}/udp")],
        silent=web(CLIENT),
    ),
    Case(
        "a protocol without a port opens all its ports",
        [ingress({"ports": [{"protocol": "UDP"}]})],
        reached=[(CLIENT, f"{SERVER}:{DATAGRAM}/udp")],
        silent=web(CLIENT),
    ),
    Case(
        "peers and ports of one rule must hold together, rules are alternatives",
        [
            ingress(
                {"from": [TO_CLIENT], "ports": [{"port": WEB}]},
                {"from": [{"podSelector": {"matchLabels": {"app": "other"}}}], "ports": [{"port": ALT}]},
            )
        ],
        reached=[*web(CLIENT), (OTHER, f"{SERVER}:{ALT}")],
        silent=[*web(OTHER), (CLIENT, f"{SERVER}:{ALT}")],
    ),
    Case(
        "policies add up",
        [ingress(), ingress({"from": [TO_CLIENT]}), ingress({"ports": [{"port": ALT}]}, selector={})],
        reached=[*web(CLIENT), (OTHER, f"{SERVER}:{ALT}")],
        silent=web(OTHER),
    ),
    Case(
        "a policy does nothing outside its namespace",
        [ingress(selector={})],
        reached=web(CLIENT, FRIEND),
        silent=[(CLIENT, f"{FRIEND}:{WEB}")],
        namespace=AWAY,
    ),
]

EGRESS = [
    Case(
        "egress rules without policyTypes close ingress too",
        [{"podSelector": {"matchLabels": {"app": "client"}}, "egress": [{"to": [TO_SERVER]}]}],
        reached=web(CLIENT),
        silent=[(CLIENT, f"{OTHER}:{WEB}"), (OTHER, f"{CLIENT}:{WEB}")],
    ),
    Case(
        "policyTypes Egress without rules closes egress and nothing else",
        [egress()],
        reached=[(OTHER, f"{CLIENT}:{WEB}"), ("node", f"{CLIENT}:{WEB}")],
        silent=[*web(CLIENT), (CLIENT, f"{SERVER}:{DATAGRAM}/udp"), (CLIENT, "service:80")],
    ),
    Case(
        "closed egress includes the API server and the node itself",
        [egress()],
        silent=[(CLIENT, "api"), (CLIENT, "service-api"), (CLIENT, "kubelet"), (CLIENT, "gateway")],
        reached=[(OTHER, "api"), (OTHER, "service-api"), (OTHER, "kubelet"), (OTHER, "gateway")],
    ),
    Case(
        "an address block opens the way to the node",
        [egress({"to": [{"ipBlock": {"cidr": "10.99.0.0/16"}}], "ports": [{"port": KUBELET}]})],
        reached=[(CLIENT, "kubelet")],
        silent=[(CLIENT, "api"), (CLIENT, "gateway")],
    ),
    Case(
        "an empty rule lets everything out",
        [egress({})],
        reached=[*web(CLIENT), (CLIENT, "api"), (CLIENT, f"{FRIEND}:{DATAGRAM}/udp")],
    ),
    Case(
        "an empty to list with a port opens that port everywhere",
        [egress({"to": [], "ports": [{"port": ALT}]})],
        reached=[(CLIENT, f"{SERVER}:{ALT}"), (CLIENT, f"{FRIEND}:{ALT}")],
        silent=[*web(CLIENT), (CLIENT, "api")],
    ),
    Case(
        "an empty pod selector means the own namespace's pods, not the API server",
        [egress({"to": [{"podSelector": {}}]})],
        reached=[*web(CLIENT), (CLIENT, "service:80")],
        silent=[(CLIENT, f"{FRIEND}:{WEB}"), (CLIENT, "api")],
    ),
    Case(
        "namespace and pod selector choose destinations together",
        [egress({"to": [{"namespaceSelector": {"matchLabels": {"team": "away"}}, **TO_CLIENT}]})],
        reached=[(CLIENT, f"{FRIEND}:{WEB}")],
        silent=[(CLIENT, f"{STRANGER}:{WEB}"), *web(CLIENT)],
    ),
    Case(
        "a Service is reached when its pods may be, by the pods' port",
        [egress({"to": [TO_SERVER], "ports": [{"port": WEB}]})],
        reached=[(CLIENT, "service:80")],
        silent=[(CLIENT, f"{SERVER}:{ALT}")],
    ),
    Case(
        "a Service's own address and port open nothing",
        [egress({"to": [{"ipBlock": {"cidr": "10.96.0.0/16"}}]}, {"ports": [{"port": 80}]})],
        silent=[(CLIENT, "service:80")],
    ),
    Case(
        "a named port is each destination's own container port",
        [egress({"to": [{"podSelector": {}}, {"namespaceSelector": {}}], "ports": [{"port": "web"}]})],
        reached=[*web(CLIENT), (CLIENT, f"{OTHER}:{ALT}")],
        silent=[(CLIENT, f"{SERVER}:{ALT}"), (CLIENT, f"{OTHER}:{WEB}"), (CLIENT, f"{FRIEND}:{WEB}")],
    ),
    Case(
        "a range of UDP ports opens no TCP",
        [egress({"ports": [{"port": 5000, "endPort": 9999, "protocol": "UDP"}]})],
        reached=[(CLIENT, f"{SERVER}:{DATAGRAM}/udp")],
        silent=web(CLIENT),
    ),
    Case(
        "the excluded part of a block stays closed",
        [egress({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"]}}]})],
        reached=[(CLIENT, "api")],
        silent=[*web(CLIENT), (CLIENT, "service:80")],
    ),
    Case(
        "a connection needs both sides' consent",
        [egress({"to": [TO_SERVER]}), ingress({"from": [{"podSelector": {"matchLabels": {"app": "other"}}}]})],
        reached=web(OTHER),
        silent=web(CLIENT),
    ),
    Case(
        "a pod that may reach nobody still reaches itself through its Service",
        [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}],
        reached=[(SERVER, "service:80")],
        silent=[(CLIENT, "service:80")],
    ),
]


def names_of(ports: Mapping[str, tuple[int, str]]) -> list[Object]:
    return [{"name": name, "containerPort": port, "protocol": protocol} for name, (port, protocol) in ports.items()]


@pytest.fixture(scope="module")
def ground(lab: Lab) -> Iterator[Ground]:
    built = Ground(lab, Kube.of(lab))
    try:
        built.make_namespace(HOME, {})
        built.make_namespace(AWAY, {"team": "away"})
        server_ports = names_of({"web": (WEB, "TCP"), "feed": (DATAGRAM, "UDP")})
        both = {"tcp": TCP_PORTS, "udp": UDP_PORTS}
        built.run(
            pod("server", HOME, {"app": "server"}, ports=server_ports, **both),
            pod("client", HOME, {"app": "client"}, **both),
            pod("other", HOME, {"app": "other", "tier": "back"}, ports=names_of({"web": (ALT, "TCP")}), **both),
            pod("friend", AWAY, {"app": "client"}, **both),
            pod("stranger", AWAY, {"app": "stranger"}, **both),
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
        early = ground.order(f"{AWAY}/newcomer", "early")
        assert early["tried"] > 5
        assert early["open"] == 0
    finally:
        ground.kube.delete("v1", "Pod", "newcomer", AWAY, grace_seconds=0)


def test_dropped_packets_are_counted_for_the_pod_and_direction(ground: Ground) -> None:
    deny_all(ground)
    before = status.drops(ground.lab, HOME, "client")
    assert ground.order(CLIENT, "tcp", host=ground.addresses[FRIEND], port=WEB) == "silent"
    after = status.drops(ground.lab, HOME, "client")
    assert after["egress"].packets > before["egress"].packets
    assert after["ingress"] == before["ingress"]


def test_a_policy_is_in_force_within_a_moment(ground: Ground) -> None:
    ground.enforce(HOME, [])
    times = []
    for number in range(5):
        started = time.monotonic()
        ground.enforce(HOME, [(f"deny-{number}", {"podSelector": {}})])
        times.append(time.monotonic() - started)
    # Delete, create, watch, debounce, nft and the reading of the status; the enforcer's own share is far below.
    assert sorted(times)[2] < 0.5, times


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
