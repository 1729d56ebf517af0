"""The lab's networks: the node's namespace, the attacker's, the links between them, and the host's routes.

    host ──veth── node ──veth── attacker
                   └──ptp── pods (made by CNI)

The host reaches pods and ClusterIPs through the node; the attacker's default route is the node, so pod addresses
are visible to it, and it reaches the API server at the host's end of the first link. Every packet of a pod passes the
node's ``forward`` hook.
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.layout import Lab

NAMESPACES = Path("/run/netns")


def namespace_path(name: str) -> Path:
    """The file of a named network namespace, for ``nsenter --net=``."""
    return NAMESPACES / name


def ensure(lab: Lab) -> None:
    """Makes what is missing; what is there stays.

    Raises:
        LabError: an address range of the lab is routed elsewhere on this machine.
    """
    _refuse_foreign_routes(lab)
    for namespace in (lab.node_netns, lab.attacker_netns):
        _ensure_namespace(namespace)
    _ensure_link(lab)
    _ensure_attacker_link(lab)
    _set_in_namespace(lab.node_netns, "net/ipv4/ip_forward", "1")
    for network in _host_routes(lab):
        _ip("route", "replace", network, "via", lab.node_address, "dev", lab.link("node"))


def remove(lab: Lab) -> None:
    """Takes links, routes and namespaces away; also what only half exists."""
    # The host's routes go with the link, the attacker's link with the node's namespace.
    _ip("link", "delete", lab.link("node"), check=False)
    for namespace in (lab.attacker_netns, lab.node_netns):
        if namespace_path(namespace).exists():
            _ip("netns", "delete", namespace)


def processes_in(lab: Lab) -> list[int]:
    """PIDs of all processes in the lab's two network namespaces, the host's numbering."""
    ours = set()
    for namespace in (lab.node_netns, lab.attacker_netns):
        file = namespace_path(namespace)
        if file.exists() and is_namespace(file):
            ours.add(file.stat().st_ino)
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns" / "net").stat().st_ino in ours:
                pids.append(int(process.name))
        except OSError:  # It ended meanwhile, or it has capabilities that we lack, so it is none of ours.
            continue
    return pids


def is_namespace(file: Path) -> bool:
    """Whether a file of ``/run/netns`` still carries a namespace (a plain file is what a half-done removal leaves)."""
    return file.stat().st_dev != NAMESPACES.stat().st_dev


def _host_routes(lab: Lab) -> tuple[str, ...]:
    attacker = str(ipaddress.ip_network(f"{lab.attacker_gateway}/24", strict=False))
    return (lab.pod_cidr, lab.service_cidr, attacker)


def _refuse_foreign_routes(lab: Lab) -> None:
    node = str(ipaddress.ip_network(f"{lab.host_address}/24", strict=False))
    ours = [ipaddress.IPv4Network(network) for network in (node, *_host_routes(lab))]
    for route in _ip_json("-4", "route", "show"):
        if route["dst"] == "default" or route.get("dev") == lab.link("node"):
            continue
        there = ipaddress.IPv4Network(route["dst"])
        for network in ours:
            if there.subnet_of(network):
                raise LabError(
                    f"this machine already routes {there} by {route.get('dev', '?')}, and lab {lab.name} needs"
                    f" {network}: take that route away, or use another machine"
                )


def _ensure_namespace(name: str) -> None:
    file = namespace_path(name)
    if file.exists() and not is_namespace(file):
        file.unlink()
    if not file.exists():
        _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _ensure_link(lab: Lab) -> None:
    if not _has_link(lab.link("node")):
        _ip("link", "add", lab.link("node"), "type", "veth", "peer", "name", "eth0", "netns", lab.node_netns)
    _ip("address", "replace", f"{lab.host_address}/24", "dev", lab.link("node"))
    _ip("link", "set", lab.link("node"), "up")
    _ip("-n", lab.node_netns, "address", "replace", f"{lab.node_address}/24", "dev", "eth0")
    _ip("-n", lab.node_netns, "link", "set", "eth0", "up")
    _ip("-n", lab.node_netns, "route", "replace", "default", "via", lab.host_address)


def _ensure_attacker_link(lab: Lab) -> None:
    link = lab.link("attacker")
    if not _has_link(link, lab.node_netns):
        peer = ("peer", "name", "eth0", "netns", lab.attacker_netns)
        _ip("-n", lab.node_netns, "link", "add", link, "type", "veth", *peer)
    _ip("-n", lab.node_netns, "address", "replace", f"{lab.attacker_gateway}/24", "dev", link)
    _ip("-n", lab.node_netns, "link", "set", link, "up")
    _ip("-n", lab.attacker_netns, "address", "replace", f"{lab.attacker_address}/24", "dev", "eth0")
    _ip("-n", lab.attacker_netns, "link", "set", "eth0", "up")
    _ip("-n", lab.attacker_netns, "route", "replace", "default", "via", lab.attacker_gateway)


def _has_link(link: str, namespace: str | None = None) -> bool:
    where = ("-n", namespace) if namespace else ()
    return any(entry["ifname"] == link for entry in _ip_json(*where, "link", "show"))


def _set_in_namespace(namespace: str, setting: str, value: str) -> None:
    # /proc/sys/net shows the network namespace of the process that opens it, so the write needs a process inside.
    target = f"/proc/sys/{setting}"
    command = ["nsenter", f"--net={namespace_path(namespace)}", "tee", target]
    subprocess.run(command, input=value, text=True, check=True, stdout=subprocess.DEVNULL)


def _ip(*arguments: str, check: bool = True) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, env=environment)
    if check and result.returncode:
        raise LabError(f"`ip {' '.join(arguments)}` failed: {result.stderr.strip()}")
    return result.stdout


def _ip_json(*arguments: str) -> list[dict[str, Any]]:
    output = _ip("-json", *arguments)
    entries: list[dict[str, Any]] = json.loads(output) if output.strip() else []
    return entries
