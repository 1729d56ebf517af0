"""The node's files, opened without leaving a root and without following a link below the place that is ours to name.

``openat2`` with RESOLVE_IN_ROOT (Linux 5.6) resolves the node's own folders as the node's first process would.
Whatever an attacker may have written is opened part by part with O_NOFOLLOW.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator

from ringfence.platform.kubernetes.node_program.netlink import libc

_OPENAT2 = 437
_NO_MAGIC_LINKS, _IN_ROOT = 0x02, 0x10


def node_root() -> int:
    """The root of the node's first process: its mounts, seen from here."""
    return os.open("/proc/1/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_in(root: int, path: str, flags: int) -> int:
    """A file of the node, links resolved within the root. Raises OSError."""
    how = ctypes.create_string_buffer(struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _IN_ROOT | _NO_MAGIC_LINKS), 24)
    fd = libc().syscall(_OPENAT2, root, os.fsencode(path), how, 24)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{path}: {os.strerror(number)}")
    return int(fd)


@contextlib.contextmanager
def opened(root: int, path: str, flags: int) -> Iterator[int]:
    fd = open_in(root, path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def regular(name: str, folder: int | None = None) -> int | None:
    """A regular file opened to be read, or None for anything else. No link is followed, no device or pipe opened.

    Without ``folder``, ``name`` is a link of /proc to an open file: that one link is followed.
    """
    nofollow = os.O_NOFOLLOW if folder is not None else 0
    path = os.open(name, os.O_PATH | nofollow | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not os.path.isfile(f"/proc/self/fd/{path}"):
            return None
        return os.open(f"/proc/self/fd/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(path)
