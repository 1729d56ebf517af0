"""A bank whose every object carries one hostile text wherever the cluster lets somebody write, and what came of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ringfence.evidence.acquire import Acquirer
from ringfence.evidence.collect import collect
from ringfence.evidence.logs import LogCapture
from ringfence.model.evidence import EvidenceItem
from ringfence.platform.kubernetes.resources import (
    CORE_EVENT,
    EVENT,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    RESOURCE_QUOTA,
    ROLE_BINDING,
    SERVICE,
)
from ringfence.platform.kubernetes.snapshot import Snapshot
from ringfence.platform.kubernetes.surroundings import Surroundings, read_pod, read_surroundings
from tests.hostile.texts import as_received
from tests.simulator import Fault, Simulator
from tests.small_bank import CARDS, add_pod, furnish, pod_body
from tests.wire import Answer, Request

Json = dict[str, Any]
SUSPECT = "cards-1"


def hostile_bank(text: str, log: bytes | None = None) -> Simulator:
    """A simulated API server. Names of objects are the text too, but for the suspect's own and its container's."""
    api = Simulator()
    furnish(api)
    name, short = text[:400] or "x", text[:2000]
    body = pod_body()
    container, status = body["spec"]["containers"][0], body["status"]["containerStatuses"][0]
    container |= {"image": short, "env": [{"name": name, "value": short}], "command": [short], "args": [short]}
    container["livenessProbe"] = {"exec": {"command": [short]}, "periodSeconds": 10}
    container["securityContext"] = {"capabilities": {"add": [short]}}
    container["envFrom"] = [{"secretRef": {"name": name}}, {"configMapRef": {"name": name}}]
    status |= {"lastState": {"terminated": {"message": short, "reason": short}}, "image": short}
    body["spec"]["volumes"].append({"name": name, "hostPath": {"path": short}})
    body["status"] |= {"message": short, "reason": short}
    add_pod(
        api,
        SUSPECT,
        body,
        labels={**CARDS, "note": text, name: "x"},
        annotations={
            "note": text,
            name: "x",
            "kubectl.kubernetes.io/last-applied-configuration": json.dumps({"a": text}),
        },
        ownerReferences=[{"apiVersion": short, "kind": short, "name": short, "uid": short, "controller": True}],
        finalizers=[short],
    )
    pod = api.get(POD, "bank", SUSPECT)
    assert pod is not None
    uid = pod["metadata"]["uid"]
    said: Json = {"message": text, "reason": text, "note": text, "source": {"component": text}}
    api.add(CORE_EVENT, "default", name, {**said, "involvedObject": {"uid": uid}})
    api.add(EVENT, "bank", name, {**said, "regarding": {"uid": uid}})
    rule = {"to": [{"podSelector": {"matchLabels": {"app": "x"}}}], "ports": [{"port": 53, "protocol": "UDP"}]}
    policy = {"podSelector": {"matchLabels": {"app": "cards"}}, "policyTypes": ["Egress"], "egress": [rule]}
    api.add(NETWORK_POLICY, "bank", name, {"spec": policy}, annotations={"note": text})
    api.add(SERVICE, "bank", name, {"spec": {"selector": {"app": "cards"}}}, annotations={"note": text})
    api.add(RESOURCE_QUOTA, "bank", name, {"spec": {"hard": {name: "0"}}, "status": {"hard": {}, "used": {}}})
    budget = {"spec": {"selector": {"matchLabels": {"app": "cards"}}}, "status": {"disruptionsAllowed": 0}}
    api.add(POD_DISRUPTION_BUDGET, "bank", name, budget)
    subject = {"kind": "ServiceAccount", "name": "cards", "namespace": "bank"}
    api.add(ROLE_BINDING, "bank", name, {"roleRef": {"kind": short, "name": short}, "subjects": [subject]})
    sibling = pod_body()
    sibling["spec"]["containers"][0]["image"] = short
    api.add(POD, "bank", name, sibling, labels=dict(CARDS), annotations={"note": text})
    api.faults += [
        Fault("GET", "/nodes/node-1", 403, text),
        Fault("GET", "/clusterrolebindings", 500, text),
        Fault("GET", "/serviceaccounts/cards", 409, text),
    ]
    api.logs[SUSPECT, "cards", False] = as_received(text).encode() if log is None else log
    api.logs[SUSPECT, "cards", True] = as_received(text).encode() if log is None else log
    return api


@dataclass
class Recorder:
    """Stands before a server and keeps the bodies that were sent, by path and query."""

    api: Simulator

    def __post_init__(self) -> None:
        self.sent: list[tuple[str, dict[str, str], bytes]] = []

    def __call__(self, request: Request) -> Answer:
        answer = self.api(request)
        if request.method == "GET" and answer.status == 200:
            self.sent.append((request.path, dict(request.query), answer.body))
        return answer

    def bodies(self, path: str) -> set[bytes]:
        return {body for where, _, body in self.sent if where == path}


def captured(acquirer: Acquirer, pool: ThreadPoolExecutor) -> tuple[Surroundings, list[EvidenceItem]]:
    """Everything that is taken of the suspect."""
    pod, reading = read_pod(acquirer.cluster, "bank", SUSPECT)
    logs = LogCapture(acquirer, pod, pool)
    around = read_surroundings(acquirer.cluster, "cluster-1", pod, reading, pool)
    items = collect(acquirer, around, pool, Snapshot(acquirer.cluster))
    return around, [*items, *logs.finish()]
