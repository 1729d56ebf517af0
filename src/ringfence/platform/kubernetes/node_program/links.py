"""Network interfaces of a namespace, and what is attached to one that could carry packets past our hooks."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import socket
import struct
from dataclasses import dataclass

from ringfence.platform.kubernetes.node_program.netlink import (
    DUMP,
    ROUTE,
    Netlink,
    attribute,
    attributes,
    inside,
    libc,
    words,
)

_GET_LINK, _GET_FILTER, _GET_NSID = 18, 46, 90
_LOOPBACK = 0x8
_TC_HOOKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_BPF_NUMBERS = {"x86_64": 321, "aarch64": 280}
_BPF_PROG_QUERY = 16
_TCX = {"ingress": 46, "egress": 47}


@dataclass(frozen=True)
class Link:
    """``peer`` is the index of what it is linked to, ``peer_namespace`` the number of the namespace that holds it
    (-1: its own, or none). ``kind`` is empty for hardware."""

    index: int
    name: str
    kind: str
    address: bytes
    peer: int
    peer_namespace: int
    loopback: bool
    xdp: bool


def links(namespace: int | None = None) -> tuple[Link, ...]:
    """Every interface of a namespace (a descriptor; None: the node's). Raises OSError."""
    with contextlib.ExitStack() as stack:
        if namespace is not None:
            with inside(namespace):
                kernel = stack.enter_context(Netlink(ROUTE))
        else:
            kernel = stack.enter_context(Netlink(ROUTE))
        answers = kernel.ask(_GET_LINK, DUMP, struct.pack("=BxHiII", 0, 0, 0, 0, 0))
    return tuple(map(_link, answers))


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
    members = attributes(body[16:])
    kind = attributes(members.get(18, b"")).get(1, b"")
    return Link(
        index=index,
        name=words(members.get(3, b"")),
        kind=words(kind),
        address=members.get(1, b""),
        peer=_number(members.get(5)),
        peer_namespace=_number(members.get(37)),
        loopback=bool(flags & _LOOPBACK),
        xdp=attributes(members.get(43, b"")).get(2, b"\0") != b"\0",
    )


def namespace_number(namespace: int) -> int:
    """The number under which the node's namespace knows another one; -1 when it does not know it."""
    with Netlink(ROUTE) as kernel:
        body = struct.pack("=B3x", 0) + attribute(3, struct.pack("=i", namespace))
        for answer in kernel.ask(_GET_NSID, 0, body):
            return _number(attributes(answer[4:]).get(1))
    return -1


def programs(link: Link) -> tuple[str, ...]:
    """eBPF programs on an interface: they run before netfilter on the way in, and may redirect what they see."""
    found = ["xdp"] if link.xdp else []
    with Netlink(ROUTE) as kernel:
        for word, parent in _TC_HOOKS.items():
            answers: list[bytes] = []
            with contextlib.suppress(OSError):  # no such qdisc: nothing is attached
                answers = kernel.ask(_GET_FILTER, DUMP, struct.pack("=BxHiIII", 0, 0, link.index, 0, parent, 0))
            kinds = {words(attributes(answer[20:]).get(1, b"")) for answer in answers}
            found += [f"tc {word}: {kind}" for kind in sorted(kinds)]
    found += [f"tcx {word}" for word, kind in _TCX.items() if _attached(link.index, kind)]
    return tuple(found)


def _attached(index: int, kind: int) -> bool:
    """Whether a tcx program is attached: bpf(BPF_PROG_QUERY). Kernels without tcx have none."""
    number = _BPF_NUMBERS.get(platform.machine())
    if number is None:
        return False
    query = ctypes.create_string_buffer(struct.pack("=IIIIQI", index, kind, 0, 0, 0, 0).ljust(72, b"\0"), 72)
    if libc().syscall(number, _BPF_PROG_QUERY, query, 72) != 0:
        return False
    return bool(struct.unpack_from("=I", query.raw, 24)[0])


def packet_socket(link: Link, protocol: int, namespace: int | None = None) -> socket.socket:
    """A socket for whole frames of one protocol on one interface. It hears only what gets through to it."""
    if namespace is not None:
        with inside(namespace):
            return packet_socket(link, protocol)
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    made.bind((link.name, protocol))
    return made


def ends(link: Link) -> str:
    return f"{link.name} ({link.kind or 'hardware'})"


def _number(value: bytes | None) -> int:
    return struct.unpack("=i", value)[0] if value is not None and len(value) == 4 else -1
