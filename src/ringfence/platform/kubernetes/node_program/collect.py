"""What lies on the node about the victim, told in bounded parts: processes, sockets, files that have no name any more,
writable layers, emptyDir volumes, log files.

An item begins with ``{"begin": NAME, "media": TYPE}``, goes on with ``{"n": NUMBER, "z": ...}`` (zlib, base64) and ends
with ``{"end": NAME, "sha256": ..., "size": N, "why": ...}``: hash and size of the raw bytes, and why it was cut short
(empty: it was not). What could not be begun has ``begin`` and ``end`` alone.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ringfence.platform.kubernetes.node_program import folders, processes
from ringfence.platform.kubernetes.node_program.victim import PROC, Process

Say = Callable[..., None]

_PART = 8192
_MOST_ENTRIES = 100_000
_DEEPEST = 64
_TABLE_BYTES = 8 << 20
_STORES = re.compile(r"/(var/lib|run|var/lib/rancher/[a-z0-9]+/agent|var/lib/k0s)/(containerd|containers|docker)/.+")
"""Where container runtimes keep layers. A mount of the attacker's own may name any other folder of the node."""
_VOLUMES = "/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir"
_LOGS = "/var/log/pods"


class _Full(Exception):
    """The room for all items is used up."""


class _Item(io.RawIOBase):
    """One item while it is written. Takes no more than what is left of the whole run's room."""

    def __init__(self, name: str, media: str, room: list[int], say: Say) -> None:
        super().__init__()
        self._say, self._room, self._name = say, room, name
        self._digest, self._size, self._number, self._held = hashlib.sha256(), 0, 0, bytearray()
        say(begin=name, media=media)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(data) > self._room[0]:
            raise _Full
        self._room[0] -= len(data)
        self._held += data
        while len(self._held) >= _PART:
            self._part(bytes(self._held[:_PART]))
            del self._held[:_PART]
        return len(data)

    def end(self, why: str = "") -> None:
        if self._held:
            self._part(bytes(self._held))
        self._say(end=self._name, sha256=self._digest.hexdigest(), size=self._size, why=why)

    def _part(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        self._say(n=self._number, z=base64.b64encode(zlib.compress(data, 6)).decode())
        self._number += 1


class Collection:
    """One run over one pod."""

    def __init__(self, uid: str, pids: tuple[Process, ...], root: int, room: int, say: Say) -> None:
        self._uid, self._pids, self._root, self._room, self._say = uid, pids, root, [room], say
        self.items = 0

    def run(self) -> None:
        """Most volatile first."""
        self._keep("processes.json", "application/json", self._processes)
        first = self._pids[0].pid
        for table in processes.TABLES:
            self._keep(f"sockets/{table}", "text/plain", partial(_copy, f"{PROC}/{first}/net/{table}"))
        for process, number in processes.deleted(self._pids):
            name = f"deleted/{process.pid}-{number}"
            self._keep(name, "application/octet-stream", partial(_descriptor, process, number))
        for container, process in self._containers():
            self._keep(f"layers/{container}.tar", "application/x-tar", partial(self._layer, process))
        for name, folder in self._folders(_VOLUMES.format(uid=self._uid)):
            self._keep(f"volumes/{name}.tar", "application/x-tar", partial(_tar, folder))
        for name, folder in self._folders(_LOGS):
            if name.endswith(f"_{self._uid}"):
                self._keep("logs.tar", "application/x-tar", partial(_tar, folder))

    def _keep(self, name: str, media: str, write: Callable[[_Item], str]) -> None:
        item, self.items = _Item(_printable(name), media, self._room, self._say), self.items + 1
        try:
            why = write(item)
        except _Full:
            why = "the room for everything that is collected is used up"
        except (OSError, tarfile.TarError) as error:
            why = f"not read: {error}"
        item.end(why)

    def _processes(self, out: _Item) -> str:
        for one in processes.describe(self._pids):
            out.write(json.dumps(one).encode() + b"\n")
        return ""

    def _containers(self) -> Iterator[tuple[str, Process]]:
        """The first process of each container; a sandbox's pause is one of them."""
        known = set()
        for process in self._pids:
            if process.container and process.container not in known:
                known.add(process.container)
                yield process.container, process

    def _layer(self, process: Process, out: _Item) -> str:
        upper = _upper(process.pid)
        if not upper:
            return "its root is no overlay with a writable layer"
        if not _STORES.fullmatch(upper) or ".." in upper.split("/"):
            return f"its writable layer is said to be {upper}, where no container runtime keeps any"
        with folders.opened(self._root, upper, os.O_RDONLY | os.O_DIRECTORY) as folder:
            return _tar(folder, out)

    def _folders(self, place: str) -> Iterator[tuple[str, int]]:
        with (
            contextlib.suppress(FileNotFoundError),
            folders.opened(self._root, place, os.O_RDONLY | os.O_DIRECTORY) as top,
        ):
            for name in sorted(os.listdir(top)):
                with contextlib.suppress(OSError):
                    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                    try:
                        yield name, fd
                    finally:
                        os.close(fd)


def everything(uid: str, pids: tuple[Process, ...], root: int, room: int, say: Say) -> dict[str, Any]:
    """Tell everything, as far as ``room`` bytes of raw data go. The result counts the items and what is left."""
    collection = Collection(uid, pids, root, room, say)
    collection.run()
    return {"items": collection.items, "processes": len(pids), "room_left": collection._room[0]}


def _upper(pid: int) -> str:
    with open(f"{PROC}/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.rstrip("\n").partition(" - ")
            if fields.split()[4] == "/" and rest.startswith("overlay "):
                options = rest.split()[2].split(",")
                return next((one.partition("=")[2] for one in options if one.startswith("upperdir=")), "")
    return ""


def _copy(place: str, out: _Item) -> str:
    left = _TABLE_BYTES
    with open(place, "rb", buffering=0) as file:
        while left > 0 and (chunk := file.read(min(_PART, left))):
            out.write(chunk)
            left -= len(chunk)
    return "" if left > 0 else f"cut after {_TABLE_BYTES} bytes"


def _descriptor(process: Process, number: str, out: _Item) -> str:
    fd = folders.regular(f"{PROC}/{process.pid}/fd/{number}")
    if fd is None:
        return "not read: it is no regular file any more"
    with os.fdopen(fd, "rb", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (chunk := file.read(min(_PART, left))):
            out.write(chunk)
            left -= len(chunk)
    return ""


def _tar(folder: int, out: _Item) -> str:
    """A folder as a tar. Links are kept as links; of pipes, sockets and devices their names."""
    problems: list[str] = []
    count = [0]
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_PART) as tar:
        _walk(tar, folder, "", 0, count, problems)
    return "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")


def _walk(tar: tarfile.TarFile, folder: int, path: str, depth: int, count: list[int], problems: list[str]) -> None:
    if depth > _DEEPEST:
        problems.append(f"{_printable(path)}: deeper than {_DEEPEST}")
        return
    for name in sorted(os.listdir(folder)):
        count[0] += 1
        if count[0] > _MOST_ENTRIES:
            if count[0] == _MOST_ENTRIES + 1:
                problems.append(f"more than {_MOST_ENTRIES} entries")
            return
        try:
            _add(tar, folder, name, f"{path}{name}", depth, count, problems)
        except OSError as error:
            problems.append(f"{_printable(path + name)}: {error.strerror}")


def _add(
    tar: tarfile.TarFile, folder: int, name: str, path: str, depth: int, count: list[int], problems: list[str]
) -> None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    member = tarfile.TarInfo(path)
    member.mode, member.uid, member.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    member.mtime = int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            _walk(tar, fd, f"{path}/", depth + 1, count, problems)
        finally:
            os.close(fd)
    elif stat.S_ISLNK(found.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
        tar.addfile(member)
    elif stat.S_ISREG(found.st_mode):
        opened = folders.regular(name, folder)
        if opened is None:
            problems.append(f"{_printable(path)}: no regular file any more")
            return
        with os.fdopen(opened, "rb", buffering=0) as file:
            member.size = os.fstat(file.fileno()).st_size
            tar.addfile(member, _Exactly(file, member.size))
    else:
        kinds = ((stat.S_ISFIFO, tarfile.FIFOTYPE), (stat.S_ISCHR, tarfile.CHRTYPE), (stat.S_ISBLK, tarfile.BLKTYPE))
        member.type = next((kind for test, kind in kinds if test(found.st_mode)), b"")
        if not member.type:
            problems.append(f"{_printable(path)}: a socket")
            return
        member.devmajor, member.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        tar.addfile(member)


class _Exactly(io.RawIOBase):
    """A file as long as it was when it was opened: one that shrinks is filled up, one that grows is cut."""

    def __init__(self, file: Any, size: int) -> None:
        super().__init__()
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data: bytes = self._file.read(wanted) if wanted else b""
        data += b"\0" * (wanted - len(data)) if not data else b""
        self._left -= len(data)
        return data


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
