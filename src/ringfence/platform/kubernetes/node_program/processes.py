"""The victim's processes as the node's kernel shows them: what runs, from which file, with which files and sockets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any

from ringfence.platform.kubernetes.node_program import folders
from ringfence.platform.kubernetes.node_program.victim import PROC, Process

_LONGEST = 8192
_MOST_FILES = 4096
_LARGEST_PROGRAM = 512 << 20
_CHUNK = 1 << 20
TABLES = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "unix", "packet", "netlink", "route", "arp", "dev")


def describe(processes: tuple[Process, ...]) -> Iterator[dict[str, Any]]:
    """One description for each process that is still there."""
    hashes: dict[tuple[int, int, int], str] = {}
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield _describe(process, hashes)


def _describe(process: Process, hashes: dict[tuple[int, int, int], str]) -> dict[str, Any]:
    place = f"{PROC}/{process.pid}"
    return {
        "pid": process.pid,
        "container": process.container,
        "cgroups": process.cgroups,
        "executable": _link(f"{place}/exe"),
        "executable_sha256": _sha256(f"{place}/exe", hashes),
        "working_directory": _link(f"{place}/cwd"),
        "root": _link(f"{place}/root"),
        "command_line": [_words(part) for part in _file(f"{place}/cmdline").split(b"\0")[:-1]],
        "status": _words(_file(f"{place}/status")),
        "stat": _words(_file(f"{place}/stat")),
        "files": list(_files(process.pid)),
    }


def deleted(processes: tuple[Process, ...]) -> Iterator[tuple[Process, str]]:
    """(process, number of its descriptor) of each regular file that is open and has no name any more, each once."""
    known = set()
    for process in processes:
        for number in _numbers(process.pid):
            with contextlib.suppress(OSError):
                found = os.stat(f"{PROC}/{process.pid}/fd/{number}")
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and (found.st_dev, found.st_ino) not in known:
                    known.add((found.st_dev, found.st_ino))
                    yield process, number


def _files(pid: int) -> Iterator[dict[str, Any]]:
    for number in _numbers(pid):
        with contextlib.suppress(OSError):
            place = f"{PROC}/{pid}/fd/{number}"
            found = os.stat(place)
            yield {"fd": int(number), "to": _link(place), "size": found.st_size, "links": found.st_nlink}


def _numbers(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(f"{PROC}/{pid}/fd"), key=int)[:_MOST_FILES]
    return []


def _sha256(place: str, hashes: dict[tuple[int, int, int], str]) -> str:
    """The hash of the file that really runs, deleted or not; words where there is none."""
    try:
        fd = folders.regular(place)
    except OSError as error:
        return f"not read: {error.strerror}"
    if fd is None:
        return "not read: no regular file"
    with os.fdopen(fd, "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        key = found.st_dev, found.st_ino, found.st_mtime_ns
        if found.st_size > _LARGEST_PROGRAM:
            return f"not read: {found.st_size} bytes"
        if key not in hashes:
            digest, left = hashlib.sha256(), _LARGEST_PROGRAM
            while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
            hashes[key] = digest.hexdigest()
        return hashes[key]


def _file(place: str) -> bytes:
    with open(place, "rb") as file:
        return file.read(_LONGEST)


def _link(place: str) -> str:
    try:
        return _words(os.readlink(os.fsencode(place)))
    except OSError as error:
        return f"not read: {error.strerror}"


def _words(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
