"""The table of NetworkPolicy cases: policies, and who then reaches what. test_enforcer_cases.py plays them.

The ground: in HOME the pods server (app=server; container ports web and feed), client (app=client) and other
(app=other, tier=back; its port web is another number); in AWAY (team=away) friend (app=client) and stranger
(app=stranger).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from lab.kube import Object

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
