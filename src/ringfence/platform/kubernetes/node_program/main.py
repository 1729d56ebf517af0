"""One order carried out, and told in lines of JSON.

The order: ``{"order": "cut|uncut|freeze|thaw|status|collect", "uid": POD_UID, "id": RUN, "seconds": N, "bytes": N}``.
First line ``{"hello": RUN}``, last line ``{"result": {...}}`` with ``ok``, ``why`` (empty when ok), ``order``, and what
the order found. Between them come the parts of what was collected, see ``collect``. No line is longer than 15 KiB.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from ringfence.platform.kubernetes.node_program import collect, folders, freezer, interfaces, nft, victim
from ringfence.platform.kubernetes.node_program.netlink import see_node_cgroups
from ringfence.platform.kubernetes.node_program.victim import Impossible, Process

_EXIT_LATE = 3
_lock = threading.Lock()


def say(**words: Any) -> None:
    with _lock:
        os.write(1, json.dumps(words, separators=(",", ":")).encode() + b"\n")


def main(argument: str) -> None:
    order = json.loads(argument)
    say(hello=order["id"])
    timer = threading.Timer(order["seconds"], _late, (order,))
    timer.daemon = True
    timer.start()
    result = {"order": order["order"], "ok": False, "why": "", **_answer(order)}
    say(result=result)
    os._exit(0 if result["ok"] else 1)


def _late(order: dict[str, Any]) -> None:
    """A file system of the attacker's may keep a read waiting for ever: what was told so far stands."""
    say(result={"order": order["order"], "ok": False, "why": f"it was not done within {order['seconds']} s"})
    os._exit(_EXIT_LATE)


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    try:
        see_node_cgroups()
        return _DO[order["order"]](order["uid"], order)
    except Impossible as error:
        return {"why": str(error)}
    except OSError as error:
        return {"why": f"the kernel refused it: {error}"}


def _cut(uid: str, _order: dict[str, Any]) -> dict[str, Any]:
    networks = victim.networks(victim.find(uid))
    found = interfaces.cut(uid, interfaces.find(networks))
    ok = found["in_force"] and not any(found["through"].values())
    why = "" if ok else "the drop rules are there, and a frame came through" if found["in_force"] else "no drop rule"
    return {"ok": ok, "why": why, "on_node": networks.on_node, "network": found}


def _uncut(uid: str, _order: dict[str, Any]) -> dict[str, Any]:
    """Works when the pod is gone as well: its table is known by its uid."""
    try:
        found = interfaces.find(victim.networks(victim.find(uid)))
    except Impossible:
        found = None
    opened = interfaces.open_again(uid, found)
    return {
        "ok": not opened["in_force"],
        "why": "the drop rules stayed" if opened["in_force"] else "",
        "network": opened,
    }


def _freeze(uid: str, _order: dict[str, Any]) -> dict[str, Any]:
    return _frozen(uid, wanted=True)


def _thaw(uid: str, _order: dict[str, Any]) -> dict[str, Any]:
    return _frozen(uid, wanted=False)


def _frozen(uid: str, *, wanted: bool) -> dict[str, Any]:
    root = folders.node_root()
    processes = victim.find(uid)
    group = freezer.find(processes, root)
    already = freezer.is_frozen(group, root) == wanted
    done = already or (freezer.freeze if wanted else freezer.thaw)(group, root)
    why = "" if done else f"the cgroup would not {'freeze' if wanted else 'thaw'}"
    return {"ok": done, "why": why, "frozen": {**_state(group, root, processes), "already": already}}


def _state(group: freezer.Freezer, root: int, processes: tuple[Process, ...]) -> dict[str, Any]:
    return {
        "frozen": freezer.is_frozen(group, root),
        "version": group.version,
        "processes": len(processes),
    }


def _status(uid: str, _order: dict[str, Any]) -> dict[str, Any]:
    """What is in force now. Of a pod that is gone only its table can be left."""
    try:
        processes = victim.find(uid)
    except Impossible as error:
        return {"ok": True, "gone": str(error), "network": {"in_force": False, "table": nft.read(uid) is not None}}
    answer: dict[str, Any] = {"ok": True}
    try:
        networks = victim.networks(processes)
        answer["network"] = interfaces.state(uid, interfaces.find(networks))
        answer["on_node"] = networks.on_node
    except Impossible as error:
        answer["network"] = {"in_force": False, "why": str(error)}
    root = folders.node_root()
    try:
        answer["frozen"] = _state(freezer.find(processes, root), root, processes)
    except Impossible as error:
        answer["frozen"] = {"frozen": False, "why": str(error)}
    return answer


def _collect(uid: str, order: dict[str, Any]) -> dict[str, Any]:
    found = collect.everything(uid, victim.find(uid), folders.node_root(), order["bytes"], say)
    return {"ok": True, "collected": found}


_DO = {"cut": _cut, "uncut": _uncut, "freeze": _freeze, "thaw": _thaw, "status": _status, "collect": _collect}
