"""The lab's cgroup, below the root of every hierarchy (v1) or of the one (v2)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError
from lab.layout import Lab

_V1_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def ensure(lab: Lab) -> None:
    """Makes the lab's cgroup everywhere; kubelet refuses a cgroup root that does not exist."""
    for hierarchy in _hierarchies():
        group = hierarchy / lab.cgroup.lstrip("/")
        available = hierarchy / "cgroup.controllers"
        if available.exists():
            _enable(hierarchy, available.read_text().split())
        group.mkdir(exist_ok=True)
        if available.exists():
            _enable(group, (group / "cgroup.controllers").read_text().split())
        for file in _V1_CPUSET_FILES:
            # An empty v1 cpuset takes no process.
            if hierarchy.name.startswith("cpuset") and not (group / file).read_text().strip():
                (group / file).write_text((hierarchy / file).read_text())


def thaw(lab: Lab) -> None:
    """Thaws every frozen group: a process in a frozen v1 group does not even die."""
    for group in _groups(lab):
        for file, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if (group / file).exists():
                with contextlib.suppress(OSError):
                    (group / file).write_text(text)


def wait_empty(lab: Lab, seconds: float = 10.0) -> None:
    """Waits until no process is left in any group of the lab.

    Raises:
        LabError: one still is there after that time.
    """
    deadline = time.monotonic() + seconds
    while left := {pid for group in _groups(lab) for pid in (group / "cgroup.procs").read_text().split()}:
        if time.monotonic() > deadline:
            raise LabError(
                f"processes {', '.join(sorted(left))} of lab {lab.name} do not end: try `python -m lab down`"
            )
        time.sleep(0.05)


def remove(lab: Lab, seconds: float = 10.0) -> None:
    """Removes the groups, deepest first; the kernel refuses for a moment after the last process died.

    Raises:
        LabError: one still has a process after that time.
    """
    deadline = time.monotonic() + seconds
    for group in _groups(lab):
        while True:
            try:
                group.rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise LabError(f"cannot remove the cgroup {group}: {error}") from error
            break


def _groups(lab: Lab) -> Iterator[Path]:
    """All groups of the lab, children before parents."""
    for hierarchy in _hierarchies():
        top = hierarchy / lab.cgroup.lstrip("/")
        if top.is_dir():
            groups = [top, *(path for path in top.rglob("*") if path.is_dir())]
            yield from sorted(groups, key=lambda group: len(group.parts), reverse=True)


def _hierarchies() -> list[Path]:
    """Where cgroup hierarchies are mounted (proc_pid_mountinfo(5)), each once."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in ("cgroup", "cgroup2"):
            device, target = before.split()[2], before.split()[4]
            found.setdefault(device, Path(target))
    return list(found.values())


def _enable(group: Path, controllers: list[str]) -> None:
    for controller in controllers:
        # A controller that v1 uses, or that cannot be delegated, stays out; kubelet says if it needs it.
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
