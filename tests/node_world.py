"""The simulator with a node: its kubelet starts the node helper's pods, which do what they are told and say it.

``cut`` and ``frozen`` are what is in force on the node, by the uid of the pod that it is about; ``runs`` every order
that a helper came to, in order. What really happens on a node: tests/lab/test_node.py.
"""

from __future__ import annotations

import json
from typing import Any

from ringfence.platform.kubernetes.node_helpers import CONTAINER, HELPER_KEY
from ringfence.platform.kubernetes.resources import POD
from tests.simulator import Simulator
from tests.wire import Answer, Request

Json = dict[str, Any]
HELPERS = "helpers"
_OPEN = {"out": True, "in": True}
_SHUT = {"out": False, "in": False}


class NodeWorld(Simulator):
    """``breaks``: orders whose helper says that it could not."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: set[str] = set()
        self.frozen: set[str] = set()
        self.runs: list[tuple[str, str]] = []
        self.breaks: set[str] = set()

    def helpers(self) -> list[Json]:
        return [pod for pod in self.all(POD) if HELPER_KEY in (pod["metadata"].get("labels") or {})]

    def _answer(self, request: Request) -> Answer:
        for pod in self.helpers():
            if not pod.get("status"):
                self._run(pod)
        return super()._answer(request)

    def _run(self, pod: Json) -> None:
        order = json.loads(pod["spec"]["containers"][0]["command"][3])
        self.runs.append((order["order"], order["uid"]))
        result = {"order": order["order"], "ok": False, "why": "the kernel refused it"}
        if order["order"] not in self.breaks:
            result = {**result, "ok": True, "why": "", **self._done(order["order"], order["uid"])}
        said = ({"hello": order["id"]}, {"result": result})
        lines = [b"2026-11-25T00:00:00Z " + json.dumps(one).encode() + b"\n" for one in said]
        self.logs[pod["metadata"]["name"], CONTAINER, False] = b"".join(lines)
        pod["status"] = {"phase": "Running", "containerStatuses": [{"name": CONTAINER, "state": {"running": {}}}]}

    def _done(self, order: str, uid: str) -> Json:
        if order in ("freeze", "thaw"):
            was = uid in self.frozen
            (self.frozen.add if order == "freeze" else self.frozen.discard)(uid)
            return {"frozen": {"already": was is (order == "freeze"), "frozen": order == "freeze", "processes": 2}}
        was = uid in self.cut
        if order != "status":
            (self.cut.add if order == "cut" else self.cut.discard)(uid)
        network: Json = {"in_force": uid in self.cut, "interfaces": ["veth1 (veth)"]}
        network |= {"through": _SHUT if uid in self.cut else _OPEN, "already": was is (order == "cut")}
        if order == "cut":
            network["before"] = _SHUT if was else _OPEN
        return {"network": network}
