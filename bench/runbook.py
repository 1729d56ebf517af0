"""``python -m bench.runbook``: the runbook's first two steps typed as kubectl commands, against ``ringfence contain``.

Both act on a pod of a Deployment of their own. Prints one JSON object as its last line: wall seconds, how many items of
evidence each has in the end, and whether the pod still lives then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.ground import Ground, ground, print_result
from lab import programs
from lab.images import PYTHON
from lab.layout import DEFAULT_NAME
from ringfence.store import evidence, incidents

SERVER = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.runbook", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--name", default=DEFAULT_NAME, help="the lab (default: %(default)s)")
    arguments = parser.parse_args()
    with ground(arguments.name) as place:
        typed_pod, ours_pod = (workload(place, name) for name in ("typed", "ours"))
        ours = ringfence(place, ours_pod)
        typed = runbook(place, typed_pod)
    print_result({"bench": "runbook", "kubectl": typed, "ringfence": ours})
    return 0


def workload(place: Ground, name: str) -> str:
    container = {
        "name": "web",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["/usr/bin/python3", "-u", "-c", SERVER],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template}
    place.kube.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": place.namespace},
            "spec": spec,
        }
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        pods = place.kube.list("v1", "Pod", place.namespace, labels=f"app={name}")
        running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
        if len(running) == 2:
            return str(running[0]["metadata"]["name"])
        time.sleep(0.5)
    raise SystemExit(f"the pods of {name} do not start")


def runbook(place: Ground, pod: str) -> dict[str, Any]:
    """The runbook in its own order: identify, delete, scale to zero, then export what is left."""
    kubectl = [str(programs.path("kubectl")), f"--kubeconfig={place.lab.kubeconfig}", "-n", place.namespace]
    files = {
        "logs.txt": ["logs", pod],
        "pod.yaml": ["get", "pod", pod, "-o", "yaml"],
        "events.txt": ["get", "events", "--sort-by=.lastTimestamp"],
        "networkpolicies.yaml": ["get", "networkpolicy", "-o", "yaml"],
    }
    began = time.perf_counter()
    run([*kubectl, "get", "pods", "-o", "wide"])
    run([*kubectl, "delete", "pod", pod])
    run([*kubectl, "scale", "deployment", "typed", "--replicas=0"])
    items = 0
    for name, command in files.items():
        answer = run([*kubectl, *command])
        (place.home / name).write_bytes(answer.stdout)
        items += answer.returncode == 0 and bool(answer.stdout.strip())
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 1), "evidence_items": items, "pod_lives": lives(place, pod)}


def ringfence(place: Ground, pod: str) -> dict[str, Any]:
    state = Path(place.home) / "cli"
    environment = {
        **os.environ,
        "RINGFENCE_STORE__URL": f"sqlite:///{state}/ringfence.db",
        "RINGFENCE_VAULT__PATH": str(state / "vault"),
        "RINGFENCE_SIGNING__KEY": str(state / "seal.pem"),
        "RINGFENCE_CLUSTER__KUBECONFIG": str(place.lab.kubeconfig),
    }
    command = [str(Path(sys.executable).with_name("ringfence")), "contain", f"pod/{pod}", "-n", place.namespace]
    began = time.perf_counter()
    answer = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    seconds = time.perf_counter() - began
    if answer.returncode:
        raise SystemExit(answer.stderr.decode())
    return {"seconds": round(seconds, 1), "evidence_items": sealed(state), "pod_lives": lives(place, pod)}


def sealed(state: Path) -> int:
    from ringfence.store.database import open_store

    store = open_store(f"sqlite:///{state}/ringfence.db")
    with store.read() as session:
        (incident,) = incidents.newest_first(session)
        return evidence.seals(session, incident.id)[-1].collected


def lives(place: Ground, pod: str) -> bool:
    return any(one["metadata"]["name"] == pod for one in place.kube.list("v1", "Pod", place.namespace))


def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
