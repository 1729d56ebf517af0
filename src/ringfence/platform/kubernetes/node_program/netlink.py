"""Netlink as far as the node helper needs it: sockets of any network namespace, messages, attributes.

After linux/netlink.h, rtnetlink(7) and nfnetlink.h. Everything that is read is bounded by the kernel's own lengths.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator

REQUEST, ACK, DUMP, CREATE, APPEND = 0x1, 0x4, 0x300, 0x400, 0x800
NESTED = 0x8000
ROUTE, NETFILTER = 0, 12
_ERROR, _DONE = 2, 3
_SECONDS = 5.0
_CLONE_NEWNET, _CLONE_NEWCGROUP = 0x40000000, 0x02000000

Attributes = dict[int, bytes]


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _setns(fd: int, kind: int) -> None:
    if libc().setns(fd, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread in another network namespace for the length of a block. A socket stays where it was made."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(namespace, _CLONE_NEWNET)
        try:
            yield
        finally:
            _setns(own, _CLONE_NEWNET)
    finally:
        os.close(own)


def see_node_cgroups() -> None:
    """Paths of cgroups as the node's first process sees them, not below our own container's."""
    fd = os.open("/proc/1/ns/cgroup", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(fd, _CLONE_NEWCGROUP)
    finally:
        os.close(fd)


def attribute(kind: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def attributes(data: bytes) -> Attributes:
    """Kind → payload. A repeated kind keeps its first."""
    return dict(reversed([*each(data)]))


def each(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def words(value: bytes) -> str:
    return value.split(b"\0")[0].decode("utf-8", "backslashreplace")


class Netlink:
    """One socket of one protocol. Not for several threads."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(_SECONDS)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def message(self, kind: int, flags: int, body: bytes) -> bytes:
        self._sequence += 1
        return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, self._sequence, 0) + body

    def ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """The bodies of the answers to one request. Raises OSError with the kernel's errno."""
        self._socket.send(self.message(kind, flags | (0 if flags & DUMP == DUMP else ACK), body))
        answers: list[bytes] = []
        while True:
            for answered, sequence, payload in self._read():
                if sequence != self._sequence:
                    continue
                if answered == _DONE:
                    return answers
                if answered == _ERROR:
                    _raise(payload)
                    return answers
                answers.append(payload)

    def batch(self, messages: list[bytes], acknowledged: int) -> None:
        """Send messages as one; wait for so many acknowledgements. Raises OSError for the first that is refused."""
        self._socket.send(b"".join(messages))
        while acknowledged:
            for answered, _, payload in self._read():
                if answered == _ERROR:
                    _raise(payload)
                    acknowledged -= 1

    def _read(self) -> Iterator[tuple[int, int, bytes]]:
        data = self._socket.recv(1 << 20)
        at = 0
        while at + 16 <= len(data):
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, at)
            if length < 16:
                return
            yield kind, sequence, data[at + 16 : at + length]
            at += (length + 3) & ~3


def _raise(payload: bytes) -> None:
    (code,) = struct.unpack_from("=i", payload)
    if code:
        raise OSError(-code, os.strerror(-code))
