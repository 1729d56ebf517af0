"""The attacker of the lab: a host of its own outside the cluster, the agent it plants, and what it saw.

Everything stays inside the lab's network namespaces and ends by itself after 15 minutes. What the host records is the
tests' witness: it says what still came through, whatever the cluster's own objects claim.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lab import network, packages, processes
from lab.attacker.records import Record, last, records
from lab.errors import LabError
from lab.kube import wait_until
from lab.layout import Lab
from lab.processes import Daemon

__all__ = [
    "BEACON_PORT",
    "DAEMON",
    "DNS_PORT",
    "LIFETIME",
    "Record",
    "in_namespace",
    "last",
    "records",
    "start",
    "stop",
    "victims",
]

DAEMON = "attacker"
HOST = Path(__file__).with_name("host.py")
BEACON_PORT = 443
DNS_PORT = 53
# No attack lives longer than this, in seconds.
LIFETIME = 900
START_SECONDS = 10.0


def start(lab: Lab) -> None:
    """Starts the attacker's host in its network namespace, or leaves a running one alone.

    Raises:
        LabError: it does not listen after 10 s.
    """
    lab.attacker.mkdir(mode=0o700, exist_ok=True)
    ports = ("--port", str(BEACON_PORT), "--dns-port", str(DNS_PORT))
    options = ("--state", str(lab.attacker), "--address", lab.attacker_address, "--api-url", lab.api_url_from_node)
    version = hashlib.sha256(HOST.read_bytes()).hexdigest()
    daemon = Daemon(DAEMON, in_namespace(lab, str(HOST), *options, *ports), version=version)
    if processes.ensure(lab, daemon):
        pid = processes.running(lab, DAEMON)

        def listening() -> bool:
            if processes.running(lab, DAEMON) is None:
                raise LabError(f"the attacker's host ended:\n{processes.last_lines(lab, DAEMON)}")
            return any(record["pid"] == pid for record in records(lab, kind="host"))

        wait_until(listening, START_SECONDS, f"the attacker's host to listen (log: {processes.log_path(lab, DAEMON)})")


def stop(lab: Lab) -> None:
    """Ends the attacker's host. Its records stay. Agents in pods find nobody and end by their own deadline."""
    processes.stop(lab, DAEMON, grace=2.0)


def in_namespace(lab: Lab, *arguments: str) -> tuple[str, ...]:
    """The command that runs the system's Python with ``arguments`` in the attacker's network namespace."""
    namespace = network.namespace_path(lab.attacker_netns)
    return (packages.find("nsenter"), f"--net={namespace}", packages.find("/usr/bin/python3"), *arguments)


def victims(lab: Lab) -> set[str]:
    """The uids of all pods that were ever attacked in this lab."""
    file = lab.attacker / "attacks.jsonl"
    if not file.exists():
        return set()
    return {json.loads(line)["uid"] for line in file.read_text().splitlines()}
