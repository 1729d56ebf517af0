"""Process 1 of the node: prepares its mounts, then keeps containerd, kubelet and kube-proxy running.

Runs alone (standard library only) in network, mount, PID and UTS namespaces of its own:
``python node_init.py SPECIFICATION.json``. When it dies, the kernel ends everything on the node and takes every mount
away, so nothing of a node can be left behind.

The specification: ``hostname``; ``binds`` (list of [source, target]); ``files`` (target → text shown there instead);
``foreign_mounts`` (prefixes below which the host's mounts are let go of); ``programs`` (name, argv, environment, log,
and ``needs``, a path that has to exist before the start, or null); ``state`` (file for what runs: name → PID inside the
node, start time, starts).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
# A program that ran this long is started again without delay.
STEADY_SECONDS = 30.0
NEEDS_POLL = 0.05


def main() -> None:
    specification = json.loads(Path(sys.argv[1]).read_text())
    socket.sethostname(specification["hostname"])
    prepare_mounts(specification)
    Supervisor(specification).run()


def prepare_mounts(specification: dict[str, Any]) -> None:
    """Lets go of the host's foreign mounts, then shows the node's own folders where every node has them."""
    # Copies of other namespaces' mounts would keep those alive when their owner takes them down.
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    prefixes = tuple(specification["foreign_mounts"])
    for target in reversed([line.split()[4] for line in lines]):
        if target.startswith(prefixes):
            subprocess.run(["umount", "--lazy", target], check=False, stderr=subprocess.DEVNULL)
    # Shared among the node's own namespaces, as on a real node: pods' mount propagation needs it.
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    for source, target in specification["binds"]:
        subprocess.run(["mount", "--bind", source, target], check=True)
    for target, text in specification["files"].items():
        if Path(target).exists():
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(text)
                file.flush()
                subprocess.run(["mount", "--bind", file.name, target], check=True)


class Supervisor:
    """Starts the programs, reaps every orphan (shims become our children), and starts again what ended."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self.programs: list[dict[str, Any]] = specification["programs"]
        self.state_file = Path(specification["state"])
        self.running: dict[int, dict[str, Any]] = {}
        self.due = {program["name"]: 0.0 for program in self.programs}
        self.delay = {program["name"]: FIRST_DELAY for program in self.programs}
        self.state: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        signals = {signal.SIGCHLD, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        while True:
            self.start_due()
            arrived = signal.sigtimedwait(signals, self.next_wake())
            if arrived and arrived.si_signo == signal.SIGTERM:
                return
            self.reap()

    def next_wake(self) -> float:
        if not self.due:
            return 60.0
        return max(NEEDS_POLL, min(self.due.values()) - time.monotonic())

    def start_due(self) -> None:
        for program in self.programs:
            name = program["name"]
            if name not in self.due or self.due[name] > time.monotonic():
                continue
            if program["needs"] and not Path(program["needs"]).exists():
                continue
            del self.due[name]
            self.start(program)

    def start(self, program: dict[str, Any]) -> None:
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, program["log"], append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        argv = program["argv"]
        pid = os.posix_spawn(argv[0], argv, program["environment"], file_actions=actions, setsid=True, setsigmask=[])
        name = program["name"]
        self.running[pid] = program
        starts = self.state.get(name, {}).get("starts", 0) + 1
        self.state[name] = {"pid": pid, "started": time.time(), "starts": starts}
        self.write_state()

    def reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if program := self.running.pop(pid, None):
                self.plan_restart(program["name"])

    def plan_restart(self, name: str) -> None:
        if time.time() - self.state[name]["started"] > STEADY_SECONDS:
            self.delay[name] = FIRST_DELAY
        self.due[name] = time.monotonic() + self.delay[name]
        self.delay[name] = min(2 * self.delay[name], LONGEST_DELAY)
        self.state[name]["pid"] = None
        self.write_state()

    def write_state(self) -> None:
        temporary = self.state_file.with_suffix(".new")
        temporary.write_text(json.dumps(self.state))
        temporary.rename(self.state_file)


if __name__ == "__main__":
    main()
