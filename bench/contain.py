"""``make bench``: what Ringfence adds to the bare requests of a containment, on the lab.

For each of N pods that nothing schedules (so that only the API server works), two things are timed in turn:

- *bare*: the mutating requests of a containment (create the deny-all, patch the pod), sent over one warm connection;
- *ringfence*: from reading the pod to the last answer: facts, plan with server dry runs, journal, the same requests,
  and the read back.

Prints one JSON object as its last line: milliseconds at p50 and p95 of both, and the ratio at p50.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab import lifecycle
from lab.kube import Kube
from lab.layout import DEFAULT_NAME
from ringfence import app
from ringfence.actions.network import Quarantine
from ringfence.config import Config
from ringfence.model.incident import Severity
from ringfence.model.outcome import Refused
from ringfence.platform.kubernetes.resources import NETWORK_POLICY, POD
from ringfence.platform.kubernetes.surroundings import read_pod, read_surroundings, reference
from ringfence.response import steps
from ringfence.response.context import Context, now
from ringfence.store import incidents

NAMESPACE = f"ringfence-bench-{secrets.token_hex(3)}"  # an earlier run's may still be terminating
MOST_ROUNDS = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.contain", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=40, help="pods (default: %(default)s)")
    parser.add_argument("--name", default=DEFAULT_NAME, help="the lab (default: %(default)s)")
    arguments = parser.parse_args()
    rounds = min(arguments.rounds, MOST_ROUNDS)
    lab = lifecycle.up(arguments.name)
    kube = Kube.of(lab)
    try:
        with tempfile.TemporaryDirectory() as home:
            config = Config(
                cluster={"kubeconfig": lab.kubeconfig},
                store={"url": f"sqlite:///{home}/ringfence.db"},
                vault={"path": Path(home) / "vault"},
                signing={"key": Path(home) / "seal.pem"},
            )
            with app.connected(config) as context:
                prepare(kube, rounds)
                bare = [timed(lambda n=n: send_bare(context, f"bare-{n}")) for n in range(rounds)]
                ours = [timed(lambda n=n: send_ours(context, f"ours-{n}")) for n in range(rounds)]
    finally:
        kube.delete("v1", "Namespace", NAMESPACE)
        kube.close()
    result = {"bench": "contain", "rounds": rounds, "bare_ms": spread(bare), "ringfence_ms": spread(ours)}
    result["ratio_p50"] = round(result["ringfence_ms"]["p50"] / result["bare_ms"]["p50"], 2)
    print(json.dumps(result))
    return 0


def prepare(kube: Kube, rounds: int) -> None:
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}})
    for n in range(rounds):
        for kind in ("bare", "ours"):
            kube.apply(pod(f"{kind}-{n}"))


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"ringfence.dev/bench": "nowhere"},
            "containers": [{"name": "c", "image": "ringfence.local/pause:1", "imagePullPolicy": "Never"}],
        },
    }


def send_bare(context: Context, name: str) -> None:
    manifest = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"deny-{name}", "namespace": NAMESPACE},
        "spec": {"podSelector": {"matchLabels": {"fence": name}}, "policyTypes": ["Ingress", "Egress"]},
    }
    context.cluster.create(NETWORK_POLICY, NAMESPACE, manifest)
    context.cluster.patch(
        POD, NAMESPACE, name, [{"op": "replace", "path": "/metadata/labels", "value": {"fence": name}}]
    )


def send_ours(context: Context, name: str) -> None:
    found, reading = read_pod(context.cluster, NAMESPACE, name)
    target = reference(context.cluster_id, found)
    with context.store.write() as session:
        incident = incidents.declare(
            session,
            target=target,
            incident_type="bench",
            severity=Severity.MEDIUM,
            title=name,
            principal=context.principal,
            fence=name,
            command="bench",
            now=now(),
        )
    around = read_surroundings(context.cluster, context.cluster_id, found, reading, context.pool)
    action = Quarantine(context.cluster, fence=incident.fence, serving_floor=0)
    plan = action.plan(target, around)
    if isinstance(plan, Refused):
        raise SystemExit(f"{name}: {plan.reason}")
    steps.record_plan(context, incident, "contain/1", plan)
    result = steps.carry_out(context, incident, "contain/1", action, plan)
    if not steps.is_done(result.outcome):
        raise SystemExit(f"{name}: {result.outcome}")


def timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
