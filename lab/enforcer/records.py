"""The cluster's names as a hosts file, for the DNS pod (lab/dns.py) to serve.

Names follow the Kubernetes DNS specification 1.1.0: Services by cluster address, headless Services by their endpoints,
endpoints with a host name (StatefulSet pods) under their Service. Only A records; ExternalName Services, which would
need a CNAME, have no record.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

from lab.enforcer.watch import SERVICES, SLICES, Mirrors
from lab.kube import Kube
from lab.layout import Lab

log = logging.getLogger(__name__)

DOMAIN = "svc.cluster.local"
FILE = "cluster.hosts"
TICK = 0.2
DEBOUNCE = 0.02

Object = Mapping[str, Any]


def hosts(services: Iterable[Object], slices: Iterable[Object]) -> str:
    """The hosts file: one ``ADDRESS NAME`` a line, sorted."""
    by_service: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for item in slices:
        labels = item["metadata"].get("labels") or {}
        if item["addressType"] == "IPv4" and (owner := labels.get("kubernetes.io/service-name")):
            by_service[item["metadata"]["namespace"], owner].append(item)
    records: set[tuple[str, str]] = set()
    for service in services:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        records |= set(_service_records(service, f"{name}.{namespace}.{DOMAIN}", by_service[namespace, name]))
    return "".join(f"{address} {name}\n" for name, address in sorted(records))


def _service_records(service: Object, fqdn: str, slices: Iterable[Object]) -> Iterator[tuple[str, str]]:
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return
    if spec.get("clusterIP") != "None":
        yield from ((fqdn, address) for address in spec.get("clusterIPs") or () if _is_ipv4(address))
        return
    for item in slices:
        for endpoint in item.get("endpoints") or ():
            # The API sets ready for all endpoints of a Service that publishes the not ready ones as well.
            if endpoint.get("conditions", {}).get("ready") is False:
                continue
            for address in endpoint["addresses"]:
                host = endpoint.get("hostname") or str(address).replace(".", "-")
                yield fqdn, address
                yield f"{host}.{fqdn}", address


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def follow(lab: Lab, kube: Kube, stopping: threading.Event) -> None:
    """Keeps the hosts file true until ``stopping`` is set."""
    mirrors = Mirrors(kube, SERVICES, SLICES)
    mirrors.start()
    while not stopping.is_set():
        if mirrors.wait(TICK):
            stopping.wait(DEBOUNCE)
            mirrors.wait(0)
            snapshot = mirrors.snapshot()
            write(lab, hosts(snapshot.objects[SERVICES], snapshot.objects[SLICES]))
    mirrors.stop()


def write(lab: Lab, text: str) -> None:
    """Replaces the hosts file in one step, unless it says the same already.

    The pod mounts the folder, so the folder must stay and only the file in it may change; dnsmasq skips dot files.
    """
    lab.dns_hosts.mkdir(parents=True, exist_ok=True)
    target = lab.dns_hosts / FILE
    if target.is_file() and target.read_text() == text:
        return
    temporary = lab.dns_hosts / f".{FILE}.{os.getpid()}"
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.rename(target)
    log.info("names: %d records", text.count("\n"))
