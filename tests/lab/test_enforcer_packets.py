"""The enforcer's rules against real packets: three namespaces, a router and its nftables, no cluster.

Covered: what only the packet level can show: both directions, Service translation, ports and ranges of each protocol,
exceptions of address ranges, the node's own addresses, established flows kept or cut, spoofed sources, IPv6 around the
rules, counters that survive a replacement, a table of someone else that stays.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest

from lab.enforcer.model import Object
from lab.enforcer.render import SPOOFED, Flows, chain_name
from tests.lab.router import DROPPED, GATEWAY, NODE, SERVICE, Router, answers, hears, ip, running

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("root")]


def policy(name: str, spec: Object) -> Object:
    return {"metadata": {"namespace": "bank", "name": name}, "spec": spec}


def everyone(*types: str, **rules: object) -> Object:
    return policy("everyone", {"podSelector": {}, "policyTypes": list(types), **rules})


def sctp_init(source: int, destination: int) -> bytes:
    """An SCTP packet that opens an association (RFC 9260, INIT); the kernel need not have SCTP sockets for it."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1)
    header = struct.pack("!HHI", source, destination, 0)
    checksum = 0xFFFFFFFF
    for byte in header + bytes(4) + chunk:  # CRC32c, reflected
        checksum ^= byte
        for _ in range(8):
            checksum = (checksum >> 1) ^ (0x82F63B78 if checksum & 1 else 0)
    return header + struct.pack("<I", checksum ^ 0xFFFFFFFF) + chunk


@pytest.fixture(scope="module")
def built(root: None) -> Iterator[Router]:
    with running() as found:
        yield found


@pytest.fixture
def router(built: Router) -> Router:
    built.enforce()
    return built


def test_without_policies_everything_passes(router: Router) -> None:
    assert router.reaches("a", router.address("b"), 8080)
    assert router.reaches_udp("c", router.address("a"), 5300)
    assert router.reaches("a", NODE, 10250)
    assert router.reaches("a", SERVICE, 80)


def test_ports_and_ranges_match_the_destination_port_and_no_other(router: Router) -> None:
    ports = [{"port": 8080}, {"port": 5000, "endPort": 5400, "protocol": "UDP"}, {"port": 8081}]
    router.enforce(everyone("Ingress", ingress=[{"ports": ports}]))
    assert router.reaches("c", router.address("b"), 8080)
    assert router.reaches_udp("c", router.address("b"), 5300)
    assert not router.reaches("c", router.address("b"), 9000)


def test_a_port_of_one_protocol_does_not_open_the_other(router: Router) -> None:
    router.enforce(everyone("Ingress", ingress=[{"ports": [{"port": 5300}, {"port": 9000}]}]))
    assert not router.reaches_udp("c", router.address("b"), 5300)
    assert router.reaches("c", router.address("b"), 9000)


def test_sctp_ports_match_like_the_others(router: Router) -> None:
    sink = router.inside("b", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP))
    client = router.inside("c", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP))
    router.open += [sink, client]
    router.enforce(everyone("Ingress", ingress=[{"ports": [{"port": 9000, "protocol": "SCTP"}]}]))
    client.sendto(sctp_init(4001, 9001), (router.address("b"), 0))
    assert not hears(sink)
    client.sendto(sctp_init(4001, 9000), (router.address("b"), 0))
    assert hears(sink)


def test_an_excluded_part_of_a_range_stays_closed(router: Router) -> None:
    block = {"cidr": "10.244.200.0/24", "except": ["10.244.200.4/32", "10.244.200.4/31", "10.244.200.128/25"]}
    router.enforce(everyone("Ingress", ingress=[{"from": [{"ipBlock": block}]}]))
    assert router.reaches("a", router.address("b"), 8080)
    assert not router.reaches("c", router.address("b"), 8080)


def test_egress_rules_see_the_pod_behind_a_service(router: Router) -> None:
    router.enforce(
        everyone(
            "Egress", egress=[{"to": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": "http"}]}]
        )
    )
    assert router.reaches("a", SERVICE, 80)
    router.enforce(everyone("Egress", egress=[{"to": [{"ipBlock": {"cidr": f"{SERVICE}/32"}}]}]))
    assert not router.reaches("a", SERVICE, 80)


def test_an_isolated_pod_still_reaches_itself_through_a_service(router: Router) -> None:
    router.enforce(everyone("Ingress", "Egress"))
    assert router.reaches("a", SERVICE, 81)
    assert not router.reaches("a", SERVICE, 80)


@pytest.mark.parametrize("flows", Flows)
def test_the_node_reaches_an_isolated_pod_and_not_the_other_way(router: Router, flows: Flows) -> None:
    router.enforce(everyone("Ingress", "Egress"), flows=flows)
    assert router.reaches("node", router.address("a"), 8080)
    assert router.reaches_udp("node", router.address("a"), 5300)
    assert not router.reaches("a", NODE, 10250)
    assert not router.reaches("a", GATEWAY, 10250)
    assert not router.reaches_udp("a", GATEWAY, 5300)


def test_kept_flows_outlive_a_deny_all_and_new_ones_do_not_start(router: Router) -> None:
    connection = router.connect("a", router.address("c"), 8080)
    assert connection is not None
    assert answers(connection)
    router.enforce(everyone("Ingress", "Egress"))
    assert answers(connection)
    assert not router.reaches("a", router.address("c"), 8080)


@pytest.mark.parametrize("types", [("Ingress",), ("Egress",), ("Ingress", "Egress")])
def test_cut_flows_die_in_both_directions(router: Router, types: tuple[str, ...]) -> None:
    server = router.inside("a", lambda: socket.create_server((router.address("a"), 0)))
    client = router.inside("b", lambda: socket.create_connection(server.getsockname()))
    accepted, _ = server.accept()
    outgoing = router.connect("a", router.address("b"), 8080)
    service = router.connect("a", SERVICE, 80)
    assert outgoing is not None
    assert service is not None
    router.open += [server, client, accepted]
    client.send(b"x")
    assert hears(accepted)
    only_a = policy("only-a", {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": list(types)})
    router.enforce(only_a, flows=Flows.CUT)
    accepted.send(b"from the isolated pod")
    assert hears(client) is ("Ingress" not in types)
    client.send(b"to the isolated pod")
    assert hears(accepted) is ("Ingress" not in types)
    assert answers(outgoing) is ("Egress" not in types)
    assert answers(service) is ("Egress" not in types)


def test_cut_keeps_the_flows_that_the_new_rules_allow(router: Router) -> None:
    to_b, to_c = (router.connect("a", router.address(name), 8080) for name in "bc")
    through_service = router.connect("a", SERVICE, 80)
    assert to_b
    assert to_c
    assert through_service
    to_pods_of_b = {"to": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": 8080}]}
    router.enforce(everyone("Egress", egress=[to_pods_of_b]), flows=Flows.CUT)
    assert answers(to_b)
    assert answers(through_service)
    assert not answers(to_c)


def test_cut_stops_answers_to_a_datagram_that_went_out_before(router: Router) -> None:
    sink = router.inside("c", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = router.inside("a", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    router.open += [sink, client]
    sink.bind((router.address("c"), 6000))
    client.sendto(b"x", (router.address("c"), 6000))
    _, sender = sink.recvfrom(16)
    router.enforce(everyone("Egress"), flows=Flows.CUT)
    sink.sendto(b"late answer", sender)
    assert not hears(client)


def test_a_spoofed_source_is_dropped_and_counted(router: Router) -> None:
    router.enforce(everyone("Egress"))
    before = router.kernel.drops()[SPOOFED].packets
    ip("-n", f"{router.prefix}-a", "addr", "add", "10.244.200.77/32", "dev", "eth0")
    spoofer = router.inside("a", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    router.open.append(spoofer)
    spoofer.bind(("10.244.200.77", 0))
    sink = router.inside("c", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    router.open.append(sink)
    sink.bind((router.address("c"), 6001))
    spoofer.sendto(b"x", (router.address("c"), 6001))
    assert not hears(sink)
    assert router.kernel.drops()[SPOOFED].packets > before


def test_link_local_ipv6_does_not_go_around_the_rules(router: Router) -> None:
    found = subprocess.run(
        ["ip", "-n", router.node, "-6", "-o", "addr", "show", "dev", "vetha", "scope", "link"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    node_address = found[found.index("inet6") + 1].partition("/")[0]
    server = router.inside("node", lambda: socket.create_server(("::", 7001), family=socket.AF_INET6))
    router.open.append(server)

    def dial() -> bool:
        scope = socket.if_nametoindex("eth0")
        with socket.socket(socket.AF_INET6) as client:
            client.settimeout(DROPPED)
            try:
                client.connect((node_address, 7001, 0, scope))
            except TimeoutError:
                return False
            return True

    router.kernel.replace("delete table inet ringfence_lab")
    assert router.inside("a", dial), "the way round must exist, or this test shows nothing"
    router.enforce(everyone("Egress"))
    assert not router.inside("a", dial)


def test_drop_counters_outlive_a_replacement_and_go_with_their_pod(router: Router) -> None:
    router.enforce(everyone("Ingress"))
    assert not router.reaches("c", router.address("b"), 8080)
    counted = router.dropped("ingress", "b")
    assert counted > 0
    router.enforce(everyone("Ingress", "Egress"))
    assert router.dropped("ingress", "b") == counted
    router.enforce()
    assert chain_name("ingress", "bank/b") not in router.kernel.drops()


def test_replacing_heals_an_empty_kernel_and_leaves_other_tables_alone(router: Router) -> None:
    router.enforce(everyone("Ingress"))
    router.kernel.replace("delete table inet ringfence_lab")
    assert router.kernel.listing() is None
    router.enforce(everyone("Egress"))
    assert router.kernel.chains() == {"egress-bank/a", "egress-bank/b"}
    assert router.reaches("c", SERVICE, 80)


def test_a_listing_repeats_exactly_so_that_tampering_shows(router: Router) -> None:
    router.enforce(everyone("Ingress", "Egress", ingress=[{"from": [{"podSelector": {}}]}]))
    listing = router.kernel.listing()
    assert not router.reaches("c", router.address("b"), 8080)
    assert router.kernel.listing() == listing
    router.kernel.replace("flush chain inet ringfence_lab ingress-bank/b")
    assert router.kernel.listing() != listing
