"""The API server that outlives the processes, and remembers what it really carried out."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ringfence.platform.kubernetes.checkpoints import FOLDER
from ringfence.platform.kubernetes.resources import (
    APPLICATION,
    APPLICATION_SET,
    DEPLOYMENT,
    NAMESPACE,
    NETWORK_POLICY,
    NODE,
    SCALED_OBJECT,
)
from tests.actions.test_canary import World
from tests.node_world import HELPERS, NodeWorld
from tests.simulator import Refusal, Simulator, _is_dry, _key, owner_reference
from tests.small_bank import add_pod, furnish, pod_body
from tests.wire import Answer, Request

Json = dict[str, Any]
_SECONDS = 60
_THROWN_AWAY = re.compile("/ringfence-(canary|peer|node)-")
ARCHIVING = "/proxy/checkpoint/"
_NOTHING = Request("GET", "/api/v1/namespaces/kube-system", {}, {}, b"")
MENDED = "registry.test/cards:1.5"
"""What the Deployment starts: another image than that of the pods, so that a recovery finds the hole closed."""
_REFRESH = "argocd.argoproj.io/refresh"
THIEF = "thief"
"""Whoever asks for a pod of this name for the first time gives somebody else the cue to delete the deny-all."""
COMMIT = "c0ffee" + "0" * 34
"""What Argo CD delivers, in every comparison; they never end late."""
_COMPARED = {"sync": {"status": "Synced", "revision": COMMIT}, "reconciledAt": "2099-01-01T00:00:00Z"}
_ASKS = ("selfsubjectreviews", "selfsubjectrulesreviews", "selfsubjectaccessreviews", "token")


@dataclass(frozen=True)
class Effect:
    """A mutating request that changed an object: ``what`` is method and path."""

    audit_id: str
    what: str


class Hold:
    """The first request of that method whose path ends so is not answered, and not carried out, before ``release``."""

    def __init__(self, method: str, path: str) -> None:
        self._method, self._path = method, path
        self._came, self._go = threading.Event(), threading.Event()

    def pass_through(self, request: Request) -> None:
        if request.method != self._method or not request.path.endswith(self._path) or _is_dry(request):
            return
        self._came.set()
        self._go.wait(_SECONDS)

    def await_request(self) -> None:
        assert self._came.wait(_SECONDS), f"{self._method} {self._path} did not come"

    def release(self) -> None:
        self._go.set()


class Witness(NodeWorld, World):
    """``effects``: every request that changed something, in order; an archive on a node is such a change. Small
    kubelets play the canary's pods, and those of the node helper."""

    def __init__(self) -> None:
        super().__init__()
        self.effects: list[Effect] = []
        self.holds: list[Hold] = []
        self.stolen = False

    def _compare(self) -> None:
        """Argo CD ends every comparison that was asked for, before the next request."""
        for application in self.all(APPLICATION):
            (application["metadata"].get("annotations") or {}).pop(_REFRESH, None)

    def __call__(self, request: Request) -> Answer:
        for hold in self.holds:
            hold.pass_through(request)
        return super().__call__(request)

    def _answer(self, request: Request) -> Answer:
        self._compare()
        if request.path.endswith(f"/pods/{THIEF}") and not self.stolen:
            self.stolen = True
            for key in [key for key in self.objects if key[1] == "networkpolicies" and key[3].startswith("ringfence-")]:
                del self.objects[key]
        if request.method == "PATCH" and request.path.endswith("/pods/stubborn"):
            raise Refusal(403, "admission webhook denied the request: no label may change")
        if request.method == "GET" or _is_dry(request) or request.path.endswith(_ASKS):
            return super()._answer(request)
        if ARCHIVING in request.path:
            return self._archive(request)
        super()._answer(_NOTHING)  # what the kubelet did meanwhile is no effect of this request
        before = {key: _visible(obj) for key, obj in self.objects.items()}
        answer = super()._answer(request)
        if before != {key: _visible(obj) for key, obj in self.objects.items()}:
            name = f"/{json.loads(request.body)['metadata']['name']}" if request.method == "POST" else ""
            effect = Effect(request.headers.get("audit-id", ""), f"{request.method} {request.path}{name}")
            self.effects.append(effect)
        return answer

    def _archive(self, request: Request) -> Answer:
        """A kubelet that can: each time another archive."""
        container = request.path.rpartition("/")[2]
        self.effects.append(Effect(request.headers["audit-id"], f"POST {request.path}"))
        return Answer(body=json.dumps({"items": [f"{FOLDER}/{container}-{len(self.effects)}.tar"]}).encode())


def _visible(obj: Json) -> str:
    return json.dumps(obj, sort_keys=True)


def bank() -> Witness:
    """The small bank with a pod template, so that its Deployment can be restarted."""
    api = Witness()
    furnish(api)
    for name in ("probes", HELPERS):
        api.add(NAMESPACE, "", name)
    deployment = api.objects[_key(DEPLOYMENT, "bank", "cards")]
    deployment["spec"]["template"] = {
        "metadata": {"labels": {"app": "cards"}},
        "spec": {"containers": [{"name": "cards", "image": MENDED}]},
    }
    api.objects[_key(NODE, "", "node-1")].setdefault("spec", {})
    add_pod(api, "stubborn", labels={"app": "stubborn"})
    twins = pod_body(container="left")
    for part in (twins["spec"]["containers"], twins["status"]["containerStatuses"]):
        part.append({**part[0], "name": "right"})
    add_pod(api, "twins", twins, labels={"app": "twins"})
    _deliver(api)
    api.add(SCALED_OBJECT, "bank", "cards", {"spec": {"scaleTargetRef": {"name": "cards"}}})
    return api


def _deliver(api: Witness) -> None:
    """Argo CD delivers a policy that every cut changes, and the Deployment, by Applications of an ApplicationSet."""
    made = api.add(APPLICATION_SET, "argocd", "teams", {"spec": {"generators": []}})
    policy, deployment = _key(NETWORK_POLICY, "bank", "allow-dns"), _key(DEPLOYMENT, "bank", "cards")
    # A list that Git has: without one, Argo CD would not mind another requirement in it.
    api.objects[policy]["spec"]["podSelector"] = {"matchExpressions": [{"key": "no-dns", "operator": "DoesNotExist"}]}
    for name, kind, key in (
        ("dns", "networking.k8s.io/NetworkPolicy", policy),
        ("cards", "apps/Deployment", deployment),
    ):
        mark = f"{name}:{kind}:bank/{key[3]}"
        api.objects[key]["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": mark}
        spec = {"syncPolicy": {"automated": {"selfHeal": True}}}
        body = {"spec": spec, "status": copy.deepcopy(_COMPARED)}
        api.add(APPLICATION, "argocd", name, body, ownerReferences=[owner_reference(made)], annotations={})


def plain(api: Simulator, fence: str) -> Json:
    """The cluster's objects without what differs between two equal runs: uids, versions, times, generated names."""
    found: Json = {}
    for key, obj in api.objects.items():
        shown = copy.deepcopy(obj)
        for name in ("uid", "resourceVersion", "creationTimestamp"):
            shown["metadata"].pop(name, None)
        found["/".join(_same(part, fence) for part in key)] = json.loads(
            _same(json.dumps(shown, sort_keys=True), fence)
        )
    return found


def effects(api: Witness, fence: str) -> Counter[str]:
    """How often each change was made, by what it was made to."""
    # What a crash ended of the pods that are thrown away is made anew, by others.
    found = Counter(_same(effect.what, fence) for effect in api.effects if not _THROWN_AWAY.search(effect.what))
    # Whose answer died with the process is asked again: that this is told, the ending looks at.
    return Counter({what: 1 if ARCHIVING in what else count for what, count in found.items()})


def twice(api: Witness) -> list[Effect]:
    """Changes that one Audit-ID made more than once."""
    counts = Counter(api.effects)
    return [effect for effect, count in counts.items() if count > 1]


def _same(text: str, fence: str) -> str:
    if fence:
        text = text.replace(fence, "FENCE")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME", text)
    return re.sub(r"uid-\d+", "UID", re.sub(r"-([rn])\d+\b", r"-\1N", text))
