"""``python -m bench.startup``: how long a person waits for ``--help`` and for ``status``.

Of an installation: a virtual environment of its own, with what pip brings and nothing of the tools of this tree.
Prints one JSON object as its last line: seconds, the best and the median of several starts (targets: 0.3 and 0.5), and
beside them, started in turn with ``status``, an interpreter that does nothing but import the libraries that it uses.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

import yaml

from bench.ground import Ground, ground, idle_pod, print_result
from lab.layout import DEFAULT_NAME
from ringfence.response import verbs
from ringfence.response.verbs import Wish

ROOT = Path(__file__).parent.parent
LIBRARIES = "import typer, pydantic, sqlalchemy, sqlalchemy.dialects.sqlite, httpx2, lightkube, yaml"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--name", default=DEFAULT_NAME, help="the lab (default: %(default)s)")
    arguments = parser.parse_args()
    with ground(arguments.name) as place:
        place.kube.apply(idle_pod(place.namespace, "suspect"))
        found = place.find("suspect")
        incident = verbs.contain(place.context, place.conductor, found, Wish(reason="bench")).incident
        environment = {**os.environ, "RINGFENCE_CONFIG": str(configured(place))}
        folder = installed(place.home / "installed")
        commands = {
            "help_s": [str(folder / "ringfence"), "--help"],
            "status_s": [str(folder / "ringfence"), "status", incident.id],
            "libraries_s": [str(folder / "python"), "-c", LIBRARIES],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(arguments.rounds + 1):
            for name, command in commands.items():
                took = seconds(command, environment)
                if round_:  # the first start of each compiles what it imports
                    taken[name].append(took)
    print_result({"bench": "startup", **{name: _figures(times) for name, times in taken.items()}})
    return 0


def _figures(times: list[float]) -> dict[str, float]:
    return {"best": round(min(times), 2), "p50": round(statistics.median(times), 2)}


def installed(folder: Path) -> Path:
    """The programs of a new virtual environment with Ringfence, by the locked requirements."""
    print("installing Ringfence beside this tree (about a minute)", flush=True)
    venv.create(folder, with_pip=True)
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    for arguments in (
        ["--require-hashes", "-r", str(ROOT / "requirements" / "run.txt")],
        ["--require-hashes", "-r", str(ROOT / "requirements" / "build.txt")],
        ["--no-deps", "--no-build-isolation", str(tree)],
    ):
        subprocess.run([*pip, *arguments], check=True)
    return folder / "bin"


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
