"""What is in force, for whoever has to know that a change has taken effect: tests, the demo, ``python -m lab status``.

``LAB/enforcer.json`` is replaced after each reading of the cluster. ``generation`` counts replacements of the table;
the ``*_version`` fields and ``policy_versions`` are Kubernetes resource versions of what those rules were made from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.enforcer.kernel import Drops, Kernel
from lab.enforcer.model import Direction
from lab.enforcer.render import chain_name
from lab.errors import LabError
from lab.kube import wait_until
from lab.layout import Lab


@dataclass(frozen=True)
class Status:
    """``policies`` and ``pods`` are counts (pods: those that have an address of their own); ``flows`` kept or cut;
    ``policy_versions`` maps NAMESPACE/NAME to the policy's resource version."""

    generation: int
    applied_at: str
    policies: int
    pods: int
    flows: str
    pods_version: int
    namespaces_version: int
    policy_versions: Mapping[str, str]


def path(lab: Lab) -> Path:
    return lab.state / "enforcer.json"


def write(lab: Lab, status: Status) -> None:
    temporary = path(lab).with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(status), indent=1))
    temporary.rename(path(lab))


def read(lab: Lab) -> Status | None:
    """The last status, or None if the enforcer never applied anything."""
    try:
        return Status(**json.loads(path(lab).read_text()))
    except FileNotFoundError:
        return None


def wait_for_policies(lab: Lab, namespace: str, policies: list[dict[str, Any]], timeout: float = 5.0) -> Status:
    """Waits until exactly these policies (objects as the API server returned them) are in force in that namespace.

    Raises:
        LabError: they are not after ``timeout`` seconds.
    """
    wanted = {f"{namespace}/{item['metadata']['name']}": str(item["metadata"]["resourceVersion"]) for item in policies}

    def in_force() -> bool:
        status = read(lab)
        if status is None:
            return False
        found = {key: version for key, version in status.policy_versions.items() if key.startswith(f"{namespace}/")}
        return found == wanted

    wait_until(in_force, timeout, f"the policies of {namespace} to be in force", interval=0.005)
    return _existing(lab)


def wait_for_pod(lab: Lab, pod: dict[str, Any], timeout: float = 5.0) -> Status:
    """Waits until the rules know this state of a pod (labels, address), as the API server returned it.

    Raises:
        LabError: they do not after ``timeout`` seconds.
    """
    version = int(pod["metadata"]["resourceVersion"])

    def seen() -> bool:
        status = read(lab)
        return status is not None and status.pods_version >= version

    wait_until(seen, timeout, f"the enforcer to see pod {pod['metadata']['name']}", interval=0.005)
    return _existing(lab)


def drops(lab: Lab, namespace: str, pod: str) -> dict[Direction, Drops]:
    """What the rules dropped of one pod's packets, by direction; only directions that a policy isolates.

    Raises:
        LabError: the node's network namespace, or the table in it, is missing.
    """
    counters = Kernel(lab.node_netns).drops()
    directions: tuple[Direction, Direction] = ("ingress", "egress")
    names = {direction: chain_name(direction, f"{namespace}/{pod}") for direction in directions}
    return {direction: counters[name] for direction, name in names.items() if name in counters}


def _existing(lab: Lab) -> Status:
    status = read(lab)
    if status is None:
        raise LabError(f"{path(lab)} vanished: is the lab being taken down?")
    return status
