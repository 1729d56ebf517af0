"""One nftables table of the family netdev for each victim: everything on an interface is counted and dropped.

A hook ``ingress`` and a hook ``egress`` on the node's side of the victim's interface, before anything else that
netfilter does. Drop is the policy of both chains; a rule before it counts. After linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from ringfence.platform.kubernetes.node_program.netlink import (
    ACK,
    APPEND,
    CREATE,
    DUMP,
    NESTED,
    NETFILTER,
    Netlink,
    attribute,
    attributes,
    each,
    text,
    words,
)

_FAMILY = 5  # NFPROTO_NETDEV
_SUBSYSTEM = 10 << 8
_BEGIN, _END = 0x10, 0x11
_NEW_TABLE, _GET_TABLE, _DEL_TABLE, _NEW_CHAIN, _GET_CHAIN, _NEW_RULE, _GET_RULE = 0, 1, 2, 3, 4, 6, 7
_PRIORITY = -500
HOOKS = {"out": 0, "in": 1}
"""Direction as the victim sees it → hook: what leaves the victim comes into the node (NF_NETDEV_INGRESS)."""


@dataclass(frozen=True)
class Chain:
    """A chain as the kernel has it: ``drops`` is its policy, ``packets`` what its rule has counted."""

    name: str
    interface: str
    hook: int
    drops: bool
    packets: int


def table_of(uid: str) -> str:
    return f"ringfence-{uid}"


def read(uid: str) -> tuple[Chain, ...] | None:
    """The chains of the victim's table; None when there is no table. Raises OSError."""
    table = attribute(1, text(table_of(uid)))
    with Netlink(NETFILTER) as kernel:
        try:
            kernel.ask(_SUBSYSTEM | _GET_TABLE, 0, _header() + table)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        chains = kernel.ask(_SUBSYSTEM | _GET_CHAIN, DUMP, _header())
        rules = kernel.ask(_SUBSYSTEM | _GET_RULE, DUMP, _header() + table)
    counted = _counted(rules, table_of(uid))
    found = []
    for body in chains:
        members = attributes(body[4:])
        if words(members.get(1, b"")) != table_of(uid):
            continue
        hook = attributes(members.get(4, b""))
        device = hook.get(3) or next((value for _, value in each(hook.get(4, b""))), b"")
        name = words(members.get(3, b""))
        number = struct.unpack("!I", hook[1])[0] if 1 in hook else -1
        drops = members.get(5) == struct.pack("!I", 0) and name in counted
        found.append(Chain(name, words(device), number, drops, counted.get(name, 0)))
    return tuple(found)


def drop(uid: str, interfaces: list[str]) -> None:
    """Replace the victim's table, in one transaction, by one that drops everything there. Raises OSError."""
    name = attribute(1, text(table_of(uid)))
    with Netlink(NETFILTER) as kernel:
        steps = [(_NEW_TABLE, CREATE, name), (_DEL_TABLE, 0, name), (_NEW_TABLE, CREATE, name)]
        for number, interface in enumerate(interfaces):
            for direction, hook in HOOKS.items():
                chain = f"{direction}-{number}"
                steps.append((_NEW_CHAIN, CREATE, name + _chain(chain, interface, hook)))
                steps.append((_NEW_RULE, CREATE | APPEND, name + attribute(2, text(chain)) + _count_and_drop()))
        _send(kernel, steps)


def remove(uid: str) -> bool:
    """Take the victim's table away; whether there was one. Raises OSError."""
    try:
        with Netlink(NETFILTER) as kernel:
            _send(kernel, [(_DEL_TABLE, 0, attribute(1, text(table_of(uid))))])
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def _send(kernel: Netlink, steps: list[tuple[int, int, bytes]]) -> None:
    wanted = [kernel.message(_SUBSYSTEM | kind, flags | ACK, _header() + body) for kind, flags, body in steps]
    begin = kernel.message(_BEGIN, 0, struct.pack("!BBH", 0, 0, 10))
    end = kernel.message(_END, 0, struct.pack("!BBH", 0, 0, 10))
    kernel.batch([begin, *wanted, end], len(wanted))


def _header() -> bytes:
    return struct.pack("!BBH", _FAMILY, 0, 0)


def _chain(name: str, interface: str, hook: int) -> bytes:
    place = attribute(1, struct.pack("!I", hook)) + attribute(2, struct.pack("!i", _PRIORITY))
    return b"".join(
        (
            attribute(3, text(name)),
            attribute(4 | NESTED, place, attribute(3, text(interface))),
            attribute(5, struct.pack("!I", 0)),  # NF_DROP
            attribute(7, text("filter")),
        )
    )


def _count_and_drop() -> bytes:
    verdict = attribute(2 | NESTED, attribute(2 | NESTED, attribute(1, struct.pack("!i", 0))))
    expressions = (
        ("counter", attribute(1, struct.pack("!Q", 0)) + attribute(2, struct.pack("!Q", 0))),
        ("immediate", attribute(1, struct.pack("!I", 0)) + verdict),
    )
    listed = b"".join(
        attribute(1 | NESTED, attribute(1, text(name)), attribute(2 | NESTED, data)) for name, data in expressions
    )
    return attribute(4 | NESTED, listed)


def _counted(rules: list[bytes], table: str) -> dict[str, int]:
    """Chain → packets, of each rule that counts and then drops."""
    found = {}
    for body in rules:
        members = attributes(body[4:])
        if words(members.get(1, b"")) != table:
            continue
        names, packets = [], 0
        for _, element in each(members.get(4, b"")):
            expression = attributes(element)
            names.append(words(expression.get(1, b"")))
            if names[-1] == "counter":
                packets = struct.unpack("!Q", attributes(expression[2])[2])[0]
        if names == ["counter", "immediate"]:
            found[words(members.get(2, b""))] = packets
    return found
