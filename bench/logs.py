"""``python -m bench.logs``: collecting 200 MB of a container's log, against reading the same bytes and dropping them.

The lab's kubelet keeps that much in one file. Prints one JSON object as its last line: seconds of both, their ratio
(target: at most 1.5), and the most memory that the collecting process had (target: under 300 MB).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from typing import Any

from bench.ground import Ground, ground, print_result
from lab.images import PYTHON
from lab.layout import DEFAULT_NAME
from ringfence import app
from ringfence.config import Config
from ringfence.evidence.logs import LogCapture
from ringfence.model.incident import Severity
from ringfence.platform.kubernetes.surroundings import read_pod, reference
from ringfence.response.context import now
from ringfence.store import incidents

WRITER = """
import sys, time
line = "x" * 199
for number in range(int(sys.argv[1]) * 5000):
    sys.stdout.write(line + chr(10))
sys.stdout.flush()
time.sleep(3600)
"""
MOST_MEGABYTES = 240


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.logs", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default=DEFAULT_NAME, help="the lab (default: %(default)s)")
    arguments = parser.parse_args()
    megabytes = min(arguments.megabytes, MOST_MEGABYTES)
    with ground(arguments.name) as place:
        place.kube.apply(writer(place.namespace, megabytes))
        size = wait_until_written(place, megabytes)
        bare, ours, peak = [], [], 0.0
        for _ in range(arguments.rounds):
            bare.append(in_a_process(read_bare, place))
            ours.append(in_a_process(collect, place))
            peak = max(peak, ours[-1]["peak_mb"])
    result: dict[str, Any] = {
        "bench": "logs",
        "megabytes": round(size / 1e6),
        "bare_s": round(min(one["seconds"] for one in bare), 2),
        "ringfence_s": round(min(one["seconds"] for one in ours), 2),
        "peak_mb": round(peak),
    }
    result["ratio"] = round(result["ringfence_s"] / result["bare_s"], 2)
    print_result(result)
    return 0


def writer(namespace: str, megabytes: int) -> dict[str, Any]:
    container = {
        "name": "writer",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["/usr/bin/python3", "-c", WRITER, str(megabytes)],
    }
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "writer", "namespace": namespace, "labels": {"app": "writer"}},
        "spec": spec,
    }


def wait_until_written(place: Ground, megabytes: int) -> int:
    """The size in bytes, once it stands still. A log that the kubelet has rotated away is too small: an error."""
    size, deadline = -1, time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(2)
        try:
            newer = _read(place.config, place.namespace)
        except Exception as error:
            print(f"waiting for the pod: {error}")
            continue
        if newer == size and newer > megabytes * 900_000:
            return newer
        size = newer
    raise SystemExit(f"the log has {size} bytes, {megabytes} MB were written: was it rotated?")


def in_a_process(work: Any, place: Ground) -> dict[str, float]:
    """In a process of its own, so that its memory is its own."""
    methods = multiprocessing.get_context("spawn")
    with methods.Pool(1) as pool:
        answer: dict[str, float] = pool.apply(work, (place.config, place.namespace))
        return answer


def read_bare(config: Config, namespace: str) -> dict[str, float]:
    began = time.perf_counter()
    _read(config, namespace)
    return {"seconds": time.perf_counter() - began, "peak_mb": _peak()}


def collect(config: Config, namespace: str) -> dict[str, float]:
    with app.connected(config) as context:
        pod, _ = read_pod(context.cluster, namespace, "writer")
        with context.store.write() as session:
            incident = incidents.declare(
                session,
                target=reference(context.cluster_id, pod),
                incident_type="bench",
                severity=Severity.MEDIUM,
                title="bench",
                principal=context.principal,
                fence=str(time.time_ns()),
                command="bench",
                now=now(),
            )
        began = time.perf_counter()
        items = LogCapture(context.acquirer(incident), pod, context.logs_pool).finish()
        seconds = time.perf_counter() - began
        current = next(item for item in items if item.id == "logs/writer/current")
        if current.blob is None:
            raise SystemExit(f"the log was not collected: {current.reason}")
    return {"seconds": seconds, "peak_mb": _peak(), "bytes": float(current.blob.raw_size)}


def _read(config: Config, namespace: str) -> int:
    with app.connected(config) as context, context.cluster.log(namespace, "writer", "writer") as chunks:
        return sum(len(chunk) for chunk in chunks)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
