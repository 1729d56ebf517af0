"""The victim on its node: from the pod's uid to its cgroup, its processes and their network namespaces. Never by name.

The kubelet names a pod's cgroup after its uid (cgroupfs: ``kubepods/burstable/pod<uid>``; systemd:
``kubepods-burstable-pod<uid with _>.slice``). Who may write cgroups of the node could hide from that; who may do so
has the node already.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass

PROC = "/proc"


class Impossible(Exception):
    """Why the order cannot be carried out. Nothing was changed by it."""


@dataclass(frozen=True)
class Process:
    """``cgroups``: controllers → path; ``container`` is the part of the path below the pod's (empty: none)."""

    pid: int
    cgroups: dict[str, str]
    pod_paths: dict[str, str]
    container: str


def find(uid: str, proc: str = PROC) -> tuple[Process, ...]:
    """Every process of the pod, as of now. Raises Impossible when there is none."""
    pattern = re.compile(
        rf"(.*/)?(?:[^/]*-)?pod(?:{re.escape(uid)}|{re.escape(uid.replace('-', '_'))})(?:\.slice)?(?=/|$)"
    )
    found = []
    for name in os.listdir(proc):
        if name.isdigit():
            process = _look(int(name), proc, pattern)
            if process is not None:
                found.append(process)
    if not found:
        raise Impossible("no process of the pod runs on this node")
    return tuple(sorted(found, key=lambda one: one.pid))


def _look(pid: int, proc: str, pattern: re.Pattern[str]) -> Process | None:
    cgroups: dict[str, str] = {}
    pods: dict[str, str] = {}
    container = ""
    # It may have ended meanwhile.
    with (
        contextlib.suppress(OSError),
        open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file,
    ):
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            cgroups[controllers] = path
            if match := pattern.match(path):
                pods[controllers] = match.group()
                container = container or path[match.end() :].strip("/").split("/")[0]
    return Process(pid, cgroups, pods, container) if pods else None


@dataclass(frozen=True)
class Networks:
    """``namespaces``: descriptors of the pod's own network namespaces. ``on_node``: processes on the node's own."""

    namespaces: tuple[int, ...]
    on_node: int


def networks(processes: tuple[Process, ...], proc: str = PROC) -> Networks:
    """The network namespaces that processes of the pod are in. Raises Impossible when all are on the node's."""
    node = _identity(os.stat(f"{proc}/1/ns/net"))
    known: dict[tuple[int, int], int] = {}
    on_node = 0
    for process in processes:
        with contextlib.suppress(OSError):
            fd = os.open(f"{proc}/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            identity = _identity(os.fstat(fd))
            if identity == node or identity in known:
                on_node += identity == node
                os.close(fd)
            else:
                known[identity] = fd
    if not known:
        raise Impossible(
            "the pod is on its node's network: to cut it would cut the node"
            if on_node
            else "the pod's processes ended while they were looked at"
        )
    return Networks(tuple(known.values()), on_node)


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
