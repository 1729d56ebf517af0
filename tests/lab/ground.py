"""What the tests of network policy and names stand on: pods that dial on demand, and policies put in force.

Orders to a pod travel from the node's own address, which no policy can shut out (kubelet's probes need it), so a pod
that is cut off still tells what it can reach.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from lab.enforcer import status
from lab.images import PYTHON
from lab.kube import Kube, Object
from lab.layout import Lab

T = TypeVar("T")

AGENT = Path(__file__).with_name("dial_agent.py")
CONTROL_PORT = 7000
NETWORKING = "networking.k8s.io/v1"
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def inside(netns: str, work: Callable[[], T]) -> T:
    """Runs ``work`` in a named network namespace, in a thread of its own; sockets that it makes stay there."""

    def enter() -> T:
        handle = os.open(f"/var/run/netns/{netns}", os.O_RDONLY)
        try:
            if _LIBC.setns(handle, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {netns}")
        finally:
            os.close(handle)
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()


def pod(
    name: str,
    namespace: str,
    labels: dict[str, str],
    *,
    tcp: str = "",
    udp: str = "",
    ports: Sequence[Object] = (),
    early: str = "",
    **spec: Any,
) -> Object:
    """A pod that runs the dial agent with these comma separated ports; ``ports`` declares container ports."""
    arguments = [tcp, udp, *([early] if early else [])]
    container = {
        "name": "agent",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["/usr/bin/python3", "-c", AGENT.read_text(), *arguments],
        "ports": list(ports),
        "readinessProbe": {"httpGet": {"path": "/early", "port": CONTROL_PORT}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            **spec,
        },
    }


@dataclass
class Ground:
    """Namespaces of one test module and the pods in them, by ``namespace/name``."""

    lab: Lab
    kube: Kube
    namespaces: list[str] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)

    def make_namespace(self, name: str, labels: dict[str, str]) -> None:
        self.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        self.namespaces.append(name)
        # A pod is refused until the namespace has its service account.
        deadline = time.monotonic() + 10
        while self.kube.find("v1", "ServiceAccount", "default", name) is None:
            assert time.monotonic() < deadline, f"no default service account in {name}: is the controller-manager up?"
            time.sleep(0.05)

    def run(self, *pods: Object) -> None:
        """Starts pods and waits until all are Ready."""
        for manifest in pods:
            self.kube.create(manifest)
        for namespace in {manifest["metadata"]["namespace"] for manifest in pods}:
            names = [item["metadata"]["name"] for item in pods if item["metadata"]["namespace"] == namespace]
            for name, found in self.kube.wait_ready(names, namespace).items():
                self.addresses[f"{namespace}/{name}"] = found["status"]["podIP"]
                status.wait_for_pod(self.lab, found)

    def enforce(self, namespace: str, policies: Sequence[tuple[str, Object]]) -> None:
        """Makes these (name, spec) the namespace's only policies, and waits until they are in force."""
        for item in self.kube.list(NETWORKING, "NetworkPolicy", namespace):
            self.kube.delete(NETWORKING, "NetworkPolicy", item["metadata"]["name"], namespace)
        made = [
            self.kube.create(
                {
                    "apiVersion": NETWORKING,
                    "kind": "NetworkPolicy",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": spec,
                }
            )
            for name, spec in policies
        ]
        status.wait_for_policies(self.lab, namespace, made)

    def order(self, source: str, path: str, **query: object) -> Any:
        """Has a pod's agent do something; its answer."""
        address = self.lab.node_address if source == "node" else self.addresses[source]

        def ask() -> Any:
            connection = http.client.HTTPConnection(address, CONTROL_PORT, timeout=5)
            try:
                connection.request("GET", f"/{path}?{urlencode(query)}")
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200, f"{source} refused the order {path}"
                return json.loads(body)
            finally:
                connection.close()

        return inside(self.lab.node_netns, ask)

    def remove(self) -> None:
        """Deletes the namespaces; their content goes in the background."""
        for namespace in self.namespaces:
            self.kube.delete("v1", "Namespace", namespace)
        self.kube.close()
