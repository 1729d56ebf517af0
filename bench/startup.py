"""``python -m bench.startup``: how long a person waits for ``--help`` and for ``status``.

Prints one JSON object as its last line: seconds, the best and the median of several starts (targets: 0.3 and 0.5).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import yaml

from bench.ground import Ground, ground, idle_pod, print_result
from lab.layout import DEFAULT_NAME
from ringfence.response import verbs
from ringfence.response.verbs import Wish


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--name", default=DEFAULT_NAME, help="the lab (default: %(default)s)")
    arguments = parser.parse_args()
    with ground(arguments.name) as place:
        place.kube.apply(idle_pod(place.namespace, "suspect"))
        found = place.find("suspect")
        incident = verbs.contain(place.context, place.conductor, found, Wish(reason="bench")).incident
        # As installed: pip compiles what it installs. This tree is compiled by a first start that does not count.
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "RINGFENCE_CONFIG": str(configured(place)),
        }
        program = [str(Path(sys.executable).with_name("ringfence"))]
        for command in (["--help"], ["status", incident.id]):
            seconds([*program, *command], environment)
        help_ = [seconds([*program, "--help"], environment) for _ in range(arguments.rounds)]
        status = [seconds([*program, "status", incident.id], environment) for _ in range(arguments.rounds)]
    print_result(
        {
            "bench": "startup",
            "help_s": {"best": round(min(help_), 2), "p50": round(statistics.median(help_), 2)},
            "status_s": {"best": round(min(status), 2), "p50": round(statistics.median(status), 2)},
        }
    )
    return 0


def configured(place: Ground) -> Path:
    """The configuration as a file, as an installation has it."""
    file = place.home / "config.yaml"
    sections = {"store": {"url": place.config.store.url}, "cluster": {"kubeconfig": str(place.lab.kubeconfig)}}
    file.write_text(yaml.safe_dump(sections))
    return file


def seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
