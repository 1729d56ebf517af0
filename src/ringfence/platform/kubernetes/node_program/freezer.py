"""Freezing the whole pod by its cgroup: v1 (``freezer.state``) and v2 (``cgroup.freeze``). Memory and files stay.

The pod's cgroup is frozen, not a container's: a container that is started later is below it, and frozen as well.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from ringfence.platform.kubernetes.node_program import folders
from ringfence.platform.kubernetes.node_program.victim import Impossible, Process

_SECONDS = 10.0
_PAUSE = 0.05


@dataclass(frozen=True)
class Freezer:
    """The files of one pod's cgroup: what is written, what is read, and the words for frozen and thawed."""

    folder: str
    version: int

    @property
    def control(self) -> str:
        return "freezer.state" if self.version == 1 else "cgroup.freeze"


def find(processes: tuple[Process, ...], root: int) -> Freezer:
    """The pod's cgroup, below ``root`` (the node's file system). Raises Impossible, OSError."""
    mounts = _mounts()
    for process in processes:
        for controllers, path in process.pod_paths.items():
            version = 1 if "freezer" in controllers.split(",") else 2 if controllers == "" else 0
            for mount in mounts.get(version, ()):
                freezer = Freezer(mount + path, version)
                if version and _exists(freezer, root):
                    return freezer
    raise Impossible("the node has no cgroup of the pod that can be frozen")


def freeze(freezer: Freezer, root: int) -> bool:
    """Whether it is frozen in the end."""
    return _set(freezer, root, frozen=True)


def thaw(freezer: Freezer, root: int) -> bool:
    """Whether it is thawed in the end."""
    return _set(freezer, root, frozen=False)


def is_frozen(freezer: Freezer, root: int) -> bool:
    """Whether every process of the pod is frozen, in the kernel's words."""
    if freezer.version == 1:
        return _read(freezer, root, "freezer.state").strip() == b"FROZEN"
    return b"frozen 1" in _read(freezer, root, "cgroup.events").splitlines()


def _set(freezer: Freezer, root: int, *, frozen: bool) -> bool:
    word = (b"FROZEN" if frozen else b"THAWED") if freezer.version == 1 else (b"1" if frozen else b"0")
    end = time.monotonic() + _SECONDS
    while True:
        # v1 may have to be asked again: a process that forks meanwhile keeps the group in FREEZING.
        with folders.opened(root, f"{freezer.folder}/{freezer.control}", os.O_WRONLY) as fd:
            os.write(fd, word)
        if is_frozen(freezer, root) == frozen:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)


def _exists(freezer: Freezer, root: int) -> bool:
    try:
        _read(freezer, root, freezer.control)
    except OSError:
        return False
    return True


def _read(freezer: Freezer, root: int, name: str) -> bytes:
    with folders.opened(root, f"{freezer.folder}/{name}", os.O_RDONLY) as fd:
        return os.read(fd, 4096)


def _mounts() -> dict[int, list[str]]:
    """cgroup version → where the node's first process has it."""
    found: dict[int, list[str]] = {}
    with open("/proc/1/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            kind, _, options = rest.split()[:3]
            if kind == "cgroup2" or (kind == "cgroup" and "freezer" in options.split(",")):
                found.setdefault(2 if kind == "cgroup2" else 1, []).append(fields.split()[4])
    return found
