"""The node cut: the node's side of the victim's interfaces found, shut, opened again, and tried with frames of ours.

A frame of a protocol that nobody else uses is sent through each interface, from the victim's side and from the node's,
before and after: the cut shut a direction when the frame came through before and does not after. The frames are sent
by this program from the victim's network namespace; nothing of the victim runs for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from dataclasses import dataclass
from typing import Any

from ringfence.platform.kubernetes.node_program import links, nft
from ringfence.platform.kubernetes.node_program.links import Link
from ringfence.platform.kubernetes.node_program.victim import Impossible, Networks

PROTOCOL = 0x88B5
"""IEEE 802, local experimental."""
_FRAME_SECONDS = 0.4
_ON_OTHERS = frozenset({"", "macvlan", "macvtap", "ipvlan", "ipvtap"})
"""Kinds that reach a network of the node's without a pair of ends: hardware, and what rides on it."""


@dataclass(frozen=True)
class Pair:
    """Both ends of one interface of the victim."""

    node: Link
    pod: Link
    namespace: int


@dataclass(frozen=True)
class Found:
    """``beyond``: interfaces of the victim that have no end here; what goes through them cannot be cut here."""

    pairs: tuple[Pair, ...]
    beyond: tuple[str, ...]


def find(networks: Networks) -> Found:
    """Every interface of the node whose other end is in a namespace of the victim. Raises Impossible, OSError."""
    here = {link.index: link for link in links.links()}
    pairs, beyond = [], []
    for namespace in networks.namespaces:
        number = links.namespace_number(namespace)
        for link in links.links(namespace):
            end = here.get(link.peer)
            if link.loopback or link.kind not in ("veth", "netkit", *_ON_OTHERS):
                continue
            if end and number >= 0 and (end.peer, end.peer_namespace) == (link.index, number):
                pairs.append(Pair(end, link, namespace))
            elif link.kind == "" or link.peer_namespace >= 0:
                beyond.append(links.ends(link))
    if not pairs:
        raise Impossible(f"no interface of the pod has its other end on the node: {', '.join(beyond) or 'it has none'}")
    return Found(tuple(pairs), tuple(beyond))


def cut(uid: str, found: Found) -> dict[str, Any]:
    before = _through(found)
    already = in_force(uid, found)
    if not already:
        nft.drop(uid, [pair.node.name for pair in found.pairs])
    return {"already": already, **state(uid, found), "before": before}


def open_again(uid: str, found: Found | None) -> dict[str, Any]:
    was = nft.remove(uid)
    left = nft.read(uid) is not None
    return {"already": not was, "in_force": left, "through": _through(found) if found else {}}


def state(uid: str, found: Found) -> dict[str, Any]:
    """What the kernel has now, tried with frames of our own."""
    through = _through(found)
    chains = nft.read(uid) or ()
    return {
        "in_force": in_force(uid, found),
        "table": bool(chains),
        "interfaces": [f"{pair.node.name} ({pair.node.kind})" for pair in found.pairs],
        "beyond": list(found.beyond),
        "programs": [f"{pair.node.name}: {one}" for pair in found.pairs for one in links.programs(pair.node)],
        "dropped": {
            word: sum(chain.packets for chain in chains if chain.hook == hook) for word, hook in nft.HOOKS.items()
        },
        "through": through,
    }


def in_force(uid: str, found: Found) -> bool:
    """Whether both directions of every interface are dropped by the victim's table, as the kernel has it."""
    shut = {(chain.interface, chain.hook) for chain in nft.read(uid) or () if chain.drops}
    return all((pair.node.name, hook) in shut for pair in found.pairs for hook in nft.HOOKS.values())


def _through(found: Found) -> dict[str, bool]:
    """Direction → whether a frame of ours came through any of the interfaces."""
    result = {"out": False, "in": False}
    for pair in found.pairs:
        result["out"] |= _passes(pair.pod, pair.namespace, pair.node, None)
        result["in"] |= _passes(pair.node, None, pair.pod, pair.namespace)
    return result


def _passes(sender: Link, of: int | None, receiver: Link, at: int | None) -> bool:
    mark = os.urandom(24)
    frame = receiver.address + sender.address + PROTOCOL.to_bytes(2, "big") + mark + b"\0" * 24
    with contextlib.ExitStack() as stack:
        try:
            listening = stack.enter_context(links.packet_socket(receiver, PROTOCOL, at))
            sending = stack.enter_context(links.packet_socket(sender, PROTOCOL, of))
            sending.send(frame)
        except OSError:
            return False  # the sender is told so when the frame is dropped on its way out
        return _hears(listening, mark)


def _hears(listening: socket.socket, mark: bytes) -> bool:
    end = time.monotonic() + _FRAME_SECONDS
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([listening], [], [], left)
        if ready and listening.recv(256)[14 : 14 + len(mark)] == mark:
            return True
    return False
