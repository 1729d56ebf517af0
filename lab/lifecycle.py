"""``up``, ``down`` and ``status`` of a lab: the order in which its parts come and go.

``up`` asks every part to be there and leaves alone what is; so it starts a lab, heals one, and costs little on one
that runs. ``down`` takes away what ``up`` made, whatever state it is in.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab import (
    api,
    attacker,
    bank,
    certificates,
    cgroups,
    controlplane,
    dns,
    images,
    layout,
    network,
    node,
    packages,
    processes,
    profiles,
    programs,
)
from lab.enforcer import status as enforcer_status
from lab.errors import LabError, UnsupportedMachine
from lab.layout import Lab
from lab.processes import Daemon
from lab.progress import step

ENFORCER = "enforcer"
ENFORCER_SECONDS = 20.0
REPOSITORY = Path(__file__).parent.parent
LOCKS = Path("/run/lock")
FLOWS = ("kept", "cut")


def require_machine() -> None:
    """Raises:
    UnsupportedMachine: not Linux, or not root.
    """
    reason = None
    if sys.platform != "linux":
        reason = "the lab needs Linux: its node is made of kernel namespaces"
    elif os.geteuid() != 0:
        reason = "the lab needs root: it makes namespaces, cgroups and network links (try `sudo -E`)"
    if reason:
        raise UnsupportedMachine(
            f"{reason}. With a cluster of your own (kind, minikube) Ringfence works all the same:"
            " `ringfence --context NAME ...`"
        )


def up(name: str, *, flows: str | None = None, bare: bool = False, with_profiles: Sequence[str] = ()) -> Lab:
    """Starts or heals the lab of that name.

    ``flows``: whether connections that are open when a NetworkPolicy begins to forbid them are kept or cut; None
    leaves it as it is (``kept`` for a new lab). ``bare``: no further than a Ready node.
    ``with_profiles``: profiles to turn on; those that are on stay on.

    Raises:
        LabError: a part does not come up; what was started stays, and another ``up`` goes on from there.
    """
    require_machine()
    started = time.monotonic()
    packages.ensure()
    programs.ensure()
    profiles.build(with_profiles)
    with _lock(name):
        lab = layout.claim(name)
        _start_cluster(lab)
        for profile in sorted({*profiles.active(lab), *with_profiles}):
            profiles.on(lab, profile)
        if not bare:
            _start_bank(lab, _remember_flows(lab, flows))
    print(f"lab {lab.name} is up ({time.monotonic() - started:.1f} s): export KUBECONFIG={lab.kubeconfig}", flush=True)
    return lab


def switch(name: str, profile: str, *, on: bool) -> None:
    """Turns a profile of a lab that is up on or off.

    Raises:
        LabError: there is no such lab, or it is not up, or the profile does not come or go.
    """
    require_machine()
    if on:
        profiles.build([profile])
    with _lock(name):
        lab = layout.find(name)
        if lab is None:
            raise LabError(f"lab {name} is not there: start it by `python -m lab up --name {name}`")
        if on:
            profiles.on(lab, profile)
        else:
            profiles.off(lab, profile)


def down(name: str) -> None:
    """Ends the lab of that name and removes all of it; the cache of programs and images stays."""
    require_machine()
    with _lock(name):
        lab = layout.find(name)
        if lab is None:
            print(f"lab {name} is not there", flush=True)
            return
        with step("processes"):
            cgroups.thaw(lab)
            node.stop(lab)
            processes.stop_all(lab, grace=0)
            # Whatever else lives in the lab's own namespaces (an attacker's tool, a shell on the node) goes too.
            for pid in network.processes_in(lab):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with step("network and cgroups"):
            network.remove(lab)
            cgroups.remove(lab)
        with step("files"):
            # Last of all the index: as long as it is there, the lab can be found and taken down again.
            for path in lab.state.iterdir():
                if path.name != "index":
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            shutil.rmtree(lab.state)
            _remove_shared_files()
    print(f"lab {name} is down", flush=True)


def status(lab: Lab) -> dict[str, Any]:
    """What runs: each part's PID (None: it does not), and what the API server says about node and pods."""
    parts: dict[str, int | None] = {daemon: processes.running(lab, daemon) for daemon in controlplane.DAEMONS}
    on_node = node.running_programs(lab)
    parts |= {program: on_node.get(program) for program in node.PROGRAMS}
    parts |= {path.stem: processes.running(lab, path.stem) for path in sorted(lab.pids.glob("*.json"))}
    parts.pop(node.INIT, None)  # Its three programs say it.
    pods = api.get(lab, "/api/v1/pods")
    wanted = [pod for pod in pods["items"] if pod["status"].get("phase") != "Succeeded"] if pods else []
    return {
        "lab": lab.name,
        "kubeconfig": str(lab.kubeconfig),
        "profiles": profiles.active(lab),
        "parts": parts,
        "api_ready": api.ready(lab),
        "node_ready": node.ready(lab),
        "pods": None if pods is None else len(wanted),
        "pods_ready": None if pods is None else sum(_is_ready(pod) for pod in wanted),
    }


def _start_cluster(lab: Lab) -> None:
    with step("certificates and network"):
        certificates.ensure(lab)
        network.ensure(lab)
    with step("control plane") as remarks:
        controlplane.ensure(lab)
        node.ensure(lab)  # It keeps trying until the API server answers, so both start side by side.
        controlplane.wait_ready(lab)
        controlplane.ensure_controllers(lab)
        remarks.append(lab.api_url)
    with step("node") as remarks:
        node.wait_ready(lab)
        controlplane.wait_controllers(lab)
        remarks.append(lab.node)


def _start_bank(lab: Lab, flows: str) -> None:
    with step("images") as remarks:
        imported = images.ensure(lab)
        remarks.append(f"{len(imported)} imported" if imported else "all there")
    with step("network policy enforcer") as remarks:
        processes.ensure(lab, _enforcer(lab, flows))
        _wait_enforcing(lab)
        remarks.append(f"open connections are {flows}")
    with step("name service"):
        dns.deploy(lab)
    with step("bank"):
        bank.deploy(lab)
    with step("attacker's host") as remarks:
        attacker.start(lab)
        remarks.append(lab.attacker_address)


def _enforcer(lab: Lab, flows: str) -> Daemon:
    source = hashlib.sha256()
    for file in sorted((REPOSITORY / "lab" / "enforcer").glob("*.py")):
        source.update(file.read_bytes())
    argv = (sys.executable, "-m", "lab.enforcer", "--name", lab.name, "--flows", flows)
    return Daemon(ENFORCER, argv, {"PATH": packages.FOLDERS}, REPOSITORY, source.hexdigest())


def _wait_enforcing(lab: Lab) -> None:
    """Waits until the running enforcer has put its first rules in force: no pod starts before.

    Raises:
        LabError: it ended, or did not in time; with the end of its log.
    """
    deadline = time.monotonic() + ENFORCER_SECONDS
    report = enforcer_status.path(lab)
    while True:
        pid = processes.running(lab, ENFORCER)
        if pid and report.exists() and report.stat().st_mtime > processes.started_at(pid):
            return
        if pid is None or time.monotonic() > deadline:
            what = "ended" if pid is None else f"put no rules in force in {ENFORCER_SECONDS:.0f} s"
            raise LabError(
                f"the network policy enforcer {what}. The end of {processes.log_path(lab, ENFORCER)}:\n"
                f"{processes.last_lines(lab, ENFORCER)}"
            )
        time.sleep(0.05)


def _remember_flows(lab: Lab, flows: str | None) -> str:
    file = lab.state / "flows"
    if flows is not None:
        file.write_text(flows)
    elif not file.exists():
        file.write_text(FLOWS[0])
    return file.read_text()


def _remove_shared_files() -> None:
    """Removes what all labs share, when no other lab is left."""
    if any(layout.STATE_ROOT.glob("*/index")):
        return
    node.remove_mount_points()
    (layout.STATE_ROOT / ".lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        layout.STATE_ROOT.rmdir()


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """One ``up`` or ``down`` of a lab at a time."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"ringfence-lab-{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another command on lab {name}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
