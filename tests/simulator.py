"""An API server in memory, behind real HTTP: what the tests of responses need of Kubernetes, and nothing else.

It keeps objects, counts resource versions, and knows get, list (selectors), create, JSON patch, delete with a uid
precondition, the scale subresource, dry runs, logs, TokenRequest, reviews of oneself. After each write it does what
the controllers would: a Deployment hands its number to its ReplicaSets, a ReplicaSet lets go of pods that it does not
select any more, ends what is too many and starts others, a StatefulSet shrinks, a DaemonSet ends its pods when its node
selector fits no node, a stamped template replaces pods, EndpointSlices follow their Services.
No RBAC and no admission but for tokens that it minted: a ``Fault`` stands for both, and for answers that get lost.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from ringfence.platform.kubernetes.resources import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DAEMON_SET,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    NODE,
    POD,
    REPLICA_SET,
    ROLE,
    ROLE_BINDING,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    VALIDATING_ADMISSION_POLICY,
    VALIDATING_ADMISSION_POLICY_BINDING,
    Resource,
)
from tests.platform.network_worlds import PatchRefused, patched
from tests.wire import Answer, Request

Json = dict[str, Any]
Key = tuple[str, str, str, str]  # root, plural, namespace, name

_PATH = re.compile(
    r"(?P<root>/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid"}


@dataclass
class Fault:
    """The next ``times`` requests of that method whose path ends so are refused with ``status``.

    ``lost``: they are carried out instead, and the answer is lost. ``dry``: dry runs only (True) or not at all (False).
    """

    method: str
    path: str
    status: int = 500
    message: str = "as the test asks"
    lost: bool = False
    dry: bool | None = False
    times: int = 1_000_000

    def hits(self, request: Request) -> bool:
        fits = request.method == self.method and request.path.endswith(self.path)
        if not fits or self.times == 0 or (self.dry is not None and self.dry is not _is_dry(request)):
            return False
        self.times -= 1
        return True


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Simulator:
    """Call it with a request. ``objects`` is its whole state; ``writes`` what was asked of it for good, in order."""

    def __init__(self) -> None:
        self.objects: dict[Key, Json] = {}
        self.logs: dict[tuple[str, str, bool], bytes] = {}  # pod, container, previous
        self.faults: list[Fault] = []
        self.writes: list[Request] = []
        self._numbers = itertools.count(1)
        self.answers: dict[str, int] = {}  # path of a request through a pod's proxy → status
        self.kubelet: dict[str, Answer] = {}  # container → the kubelet's answer to a checkpoint of it
        self._stopped: dict[str, Json] = {}  # uid of a ReplicaSet that was scaled to 0 → one of the pods that it had
        self._minted: dict[str, tuple[str, str]] = {}  # token → uids of its pod and of its account
        self._lock = threading.RLock()
        self._working = False

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            fault = next((fault for fault in self.faults if fault.hits(request)), None)
            try:
                if fault is not None and not fault.lost:
                    raise Refusal(fault.status, fault.message)
                answer = self._answer(request)
            except Refusal as refusal:
                return _status(refusal)
        return answer if fault is None else Answer(sends=0)

    # --- for tests ---------------------------------------------------------------
    def add(self, resource: Resource, namespace: str, name: str, body: Json | None = None, **meta: Any) -> Json:
        with self._lock:
            content = {**(body or {}), "apiVersion": resource.api_version, "kind": resource.kind}
            content["metadata"] = {"name": name, **({"namespace": namespace} if namespace else {}), **meta}
            return self._store(_key(resource, namespace, name), content)

    def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        return copy.deepcopy(self.objects.get(_key(resource, namespace, name)))

    def all(self, resource: Resource) -> list[Json]:
        with self._lock:
            wanted = _key(resource, "", "")[:2]
            return [obj for key, obj in self.objects.items() if key[:2] == wanted]

    # --- requests ----------------------------------------------------------------
    def _answer(self, request: Request) -> Answer:
        if request.method == "POST" and "/proxy/checkpoint/" in request.path:
            self.writes.append(request)
            return self.kubelet.get(request.path.rpartition("/")[2], Answer(404, b"404: Page Not Found"))
        if request.method == "GET" and "/proxy/" in request.path:
            status = self.answers.get(request.path.partition("/proxy")[2], 404)
            return _json({"said": "hello"}, status)
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise Refusal(404, "the server could not find the requested resource")
        key = (match["root"], match["plural"], unquote(match["namespace"] or ""), unquote(match["name"] or ""))
        if (holder := self._holder(request)) is not None and not match["plural"].startswith("selfsubject"):
            self._authorised(holder, request, key)
        if request.method == "GET" and match["sub"] == "log":
            return self._log(request, key)
        if request.method == "GET" and "watch" in request.query:
            raise Refusal(
                403, f'{match["plural"]} is forbidden: User "alice" cannot watch resource "{match["plural"]}"'
            )
        if request.method == "GET":
            return _json(self._get(key) if key[3] else self._list(key, request))
        if not _is_dry(request) and not match["plural"].startswith("selfsubject"):
            self.writes.append(request)
        body = json.loads(request.body)
        match request.method, match["plural"], match["sub"]:
            case "POST", "selfsubjectreviews", _:
                return _json({"status": {"userInfo": {"username": self._user(request), "groups": ["system:masters"]}}})
            case "POST", "selfsubjectaccessreviews", _:
                return _json({"status": {"allowed": True}})
            case "POST", "selfsubjectrulesreviews", _:
                holder = self._holder(request)
                return _json({"status": {"resourceRules": self._rules(holder) if holder else []}})
            case "POST", _, "token":
                token = f"minted-{next(self._numbers)}"
                self._minted[token] = (body["spec"]["boundObjectRef"]["uid"], self._uid_of_account(*key[2:]))
                return _json({"kind": "TokenRequest", "status": {"token": token}})
            case "POST", _, _:
                return self._create((*key[:3], body["metadata"]["name"]), body, _is_dry(request))
            case "PATCH", _, "scale":
                return self._scale(key, body, _is_dry(request))
            case "PATCH", _, None:
                return self._patch(key, body, _is_dry(request))
            case _:
                return self._delete(key, body)

    def _get(self, key: Key) -> Json:
        if key not in self.objects:
            raise Refusal(404, f'{key[1]} "{key[3]}" not found')
        return self.objects[key]

    def _list(self, key: Key, request: Request) -> Json:
        found = [
            {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}
            for (root, plural, namespace, _), obj in sorted(self.objects.items())
            if (root, plural) == key[:2] and key[2] in ("", namespace) and _selected(obj, request.query)
        ]
        return {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": found}

    def _log(self, request: Request, key: Key) -> Answer:
        previous = request.query.get("previous") == "true"
        text = self.logs.get((key[3], request.query["container"], previous))
        if text is None:
            which = "previous terminated container" if previous else "container"
            raise Refusal(400, f'{which} "{request.query["container"]}" in pod "{key[3]}" not found')
        return Answer(body=text, headers={"Content-Type": "text/plain"})

    def _create(self, key: Key, body: Json, dry: bool) -> Answer:
        if key in self.objects:
            raise Refusal(409, f'{key[1]} "{key[3]}" already exists')
        return _json(body if dry else self._store(key, body), 201)

    def _patch(self, key: Key, operations: list[Json], dry: bool) -> Answer:
        before = self._get(key)
        try:
            after = patched(before, tuple(operations))
        except (PatchRefused, KeyError) as error:
            raise Refusal(422, f"the server rejected our request due to an error in our request: {error}") from None
        _drop_empty(after)
        return _json(after if dry or after == before else self._store(key, after))

    def _scale(self, key: Key, operations: list[Json], dry: bool) -> Answer:
        """As autoscaling/v1 has it: a number of 0 is left out."""
        obj = self._get(key)
        replicas = obj["spec"].get("replicas", 1)
        meta = {name: obj["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
        scale: Json = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": {}}
        if replicas:
            scale["spec"]["replicas"] = replicas
        try:
            after = patched(scale, tuple(operations))
        except (PatchRefused, KeyError) as error:
            raise Refusal(422, f"the server rejected our request due to an error in our request: {error}") from None
        wanted = after["spec"].get("replicas", 0)
        if not dry and wanted != replicas:
            self._store(key, {**obj, "spec": {**obj["spec"], "replicas": wanted}})
        return _json(after)

    def _delete(self, key: Key, options: Json) -> Answer:
        obj = self._get(key)
        if (options.get("preconditions") or {}).get("uid", obj["metadata"]["uid"]) != obj["metadata"]["uid"]:
            raise Refusal(409, "Precondition failed: UID in precondition does not match")
        if not options.get("dryRun"):
            if obj["metadata"].get("finalizers"):
                obj["metadata"]["deletionTimestamp"] = _now()
            else:
                del self.objects[key]
            self._controllers()
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    def _store(self, key: Key, obj: Json) -> Json:
        number = next(self._numbers)
        before = self.objects.get(key)
        meta = {"uid": f"uid-{number}", "creationTimestamp": _now(), **obj["metadata"], "resourceVersion": str(number)}
        if "spec" in obj:
            changed = before is None or before.get("spec") != obj["spec"]
            meta["generation"] = (before["metadata"].get("generation", 0) if before else 0) + changed
        self.objects[key] = stored = copy.deepcopy({**obj, "metadata": meta})
        self._controllers()
        return copy.deepcopy(stored)

    def _user(self, request: Request) -> str:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return token if self._holder(request) is None else "system:serviceaccount:bank:cards"

    def _uid_of_account(self, namespace: str, name: str) -> str:
        account = self.get(SERVICE_ACCOUNT, namespace, name) or {}
        return str((account.get("metadata") or {}).get("uid", ""))

    # --- what a bound token may do: RBAC of service accounts, and policies that know the pod's uid --------------
    def _holder(self, request: Request) -> Json | None:
        """The pod whose bound token this is; None for everybody else."""
        minted = self._minted.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if minted is None:
            return None
        found = [pod for pod in self.all(POD) if pod["metadata"]["uid"] == minted[0]]
        account = found[0]["spec"].get("serviceAccountName", "default") if found else ""
        if not found or self._uid_of_account(found[0]["metadata"]["namespace"], account) != minted[1]:
            raise Refusal(401, "Unauthorized")
        return found[0]

    def _rules(self, pod: Json) -> list[Json]:
        mine = {"kind": "ServiceAccount", "name": pod["spec"].get("serviceAccountName", "default")}
        rules: list[Json] = []
        for binding in (*self.all(ROLE_BINDING), *self.all(CLUSTER_ROLE_BINDING)):
            named = [{name: subject.get(name) for name in mine} for subject in binding.get("subjects") or ()]
            if mine in named:
                resource = ROLE if binding["roleRef"]["kind"] == "Role" else CLUSTER_ROLE
                space = binding["metadata"].get("namespace", "") if resource is ROLE else ""
                rules += (self.get(resource, space, binding["roleRef"]["name"]) or {}).get("rules") or []
        return rules

    def _authorised(self, pod: Json, request: Request, key: Key) -> None:
        verb = {"GET": "get" if key[3] else "list", "POST": "create", "PATCH": "patch"}.get(request.method, "delete")
        user = f"system:serviceaccount:{pod['metadata']['namespace']}:{pod['spec'].get('serviceAccountName')}"
        if not any(verb in rule["verbs"] and key[1] in rule["resources"] for rule in self._rules(pod)):
            raise Refusal(403, f'{key[1]} is forbidden: User "{user}" cannot {verb} resource "{key[1]}"')
        for binding in self.all(VALIDATING_ADMISSION_POLICY_BINDING) if verb not in ("get", "list") else ():
            name = binding["spec"]["policyName"]
            policy = self.get(VALIDATING_ADMISSION_POLICY, "", name)
            if policy is not None and pod["metadata"]["uid"] in policy["spec"]["matchConditions"][0]["expression"]:
                words = policy["spec"]["validations"][0]["message"]
                raise Refusal(403, f"forbidden: ValidatingAdmissionPolicy '{name}' denied request: {words}")

    # --- what the controllers do -------------------------------------------------
    def _controllers(self) -> None:
        if self._working:
            return  # what they write themselves is seen in the same round
        self._working = True
        try:
            self._round()
        finally:
            self._working = False

    def _round(self) -> None:
        for deployment in self.all(DEPLOYMENT):
            for replica_set in self.all(REPLICA_SET):
                if _owner(replica_set) == deployment["metadata"]["uid"]:
                    replica_set["spec"]["replicas"] = deployment["spec"].get(
                        "replicas", replica_set["spec"].get("replicas", 1)
                    )
                    self._restart(deployment, replica_set["metadata"]["uid"])
        for owner in self.all(REPLICA_SET):
            namespace, uid = owner["metadata"]["namespace"], owner["metadata"]["uid"]
            owned = [pod for pod in self.all(POD) if _owner(pod) == uid]
            for pod in owned:
                if not _fits(owner["spec"]["selector"]["matchLabels"], pod):
                    del pod["metadata"]["ownerReferences"]
            kept = [pod for pod in owned if _owner(pod) == uid]
            missing = owner["spec"]["replicas"] - len(kept)
            for surplus in kept[owner["spec"]["replicas"] :]:
                self._end(surplus)
            like = owned[0] if owned else self._stopped.pop(uid, None) if owner["spec"]["replicas"] else None
            if like and owner["spec"]["replicas"] == 0:
                self._stopped[uid] = like
            for _ in range(missing if like else 0):
                name = f"{owner['metadata']['name']}-r{next(self._numbers)}"
                fresh = copy.deepcopy({**like, "metadata": {"name": name, "namespace": namespace}})
                fresh["metadata"]["labels"] = dict(owner["spec"]["selector"]["matchLabels"])
                fresh["metadata"]["ownerReferences"] = [owner_reference(owner)]
                self._templated(fresh, owner)
                self._store(_key(POD, namespace, name), fresh)
                for container in fresh["spec"]["containers"]:
                    self.logs[name, container["name"], False] = f"{name} says hello\n".encode()
        for stateful_set in self.all(STATEFUL_SET):
            owned = [pod for pod in self.all(POD) if _owner(pod) == stateful_set["metadata"]["uid"]]
            for surplus in owned[stateful_set["spec"].get("replicas", 1) :]:
                self._end(surplus)
            self._restart(stateful_set, stateful_set["metadata"]["uid"])
        for daemon_set in self.all(DAEMON_SET):
            uid = daemon_set["metadata"]["uid"]
            template = (daemon_set["spec"].get("template") or {}).get("spec") or {}
            wanted = (template.get("nodeSelector") or {}).items()
            if not any(wanted <= (n["metadata"].get("labels") or {}).items() for n in self.all(NODE)):
                for pod in [pod for pod in self.all(POD) if _owner(pod) == uid]:
                    self._end(pod)
            self._restart(daemon_set, uid)
        for service in self.all(SERVICE):
            meta = service["metadata"]
            behind = [pod for pod in self.all(POD) if _fits(service["spec"]["selector"], pod)]
            self.objects[_key(ENDPOINT_SLICE, meta["namespace"], meta["name"])] = {
                "apiVersion": ENDPOINT_SLICE.api_version,
                "kind": ENDPOINT_SLICE.kind,
                "metadata": {**meta, "labels": {"kubernetes.io/service-name": meta["name"]}},
                "endpoints": [{"targetRef": {"uid": pod["metadata"]["uid"]}} for pod in behind],
            }

    def _templated(self, pod: Json, replica_set: Json) -> None:
        """A new pod has the images of its Deployment's template, where that has any."""
        above = next((one for one in self.all(DEPLOYMENT) if one["metadata"]["uid"] == _owner(replica_set)), {})
        template = ((above.get("spec") or {}).get("template") or {}).get("spec") or {}
        images = {one.get("name"): one["image"] for one in template.get("containers") or ()}
        for container in pod["spec"]["containers"]:
            image = images.get(container["name"], container["image"])
            if image != container["image"]:
                container["image"] = image
                for status in pod["status"]["containerStatuses"]:
                    status["imageID"] = image if status["name"] == container["name"] else status["imageID"]

    def _restart(self, workload: Json, owner_uid: str) -> None:
        """Pods of a stamped template are new ones with its annotations, in the old ones' place."""
        stamp = ((workload["spec"].get("template") or {}).get("metadata") or {}).get("annotations")
        for pod in [pod for pod in self.all(POD) if stamp and _owner(pod) == owner_uid]:
            if stamp.items() <= (pod["metadata"].get("annotations") or {}).items():
                continue
            meta = {name: pod["metadata"][name] for name in ("namespace", "labels", "ownerReferences")}
            name = f"{pod['metadata']['name']}-n{next(self._numbers)}"
            self._end(pod)
            fresh = {**pod, "metadata": {**meta, "name": name, "annotations": dict(stamp)}}
            self._store(_key(POD, meta["namespace"], name), fresh)

    def _end(self, pod: Json) -> None:
        if pod["metadata"].get("finalizers"):
            pod["metadata"]["deletionTimestamp"] = _now()
        else:
            self.objects.pop(_key(POD, pod["metadata"]["namespace"], pod["metadata"]["name"]), None)


def owner_reference(owner: Json) -> Json:
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }


def _owner(pod: Json) -> str:
    return next((str(ref["uid"]) for ref in pod["metadata"].get("ownerReferences") or ()), "")


def _drop_empty(obj: Json) -> None:
    """A server leaves out maps that are empty."""
    template = (obj.get("spec") or {}).get("template") or {}
    for holder in (obj["metadata"], template.get("metadata") or {}, template.get("spec") or {}):
        for name in ("labels", "annotations", "nodeSelector"):
            if holder.get(name) == {}:
                del holder[name]


def _fits(selector: Json, pod: Json) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _selected(obj: Json, query: Any) -> bool:
    for requirement in filter(None, query.get("labelSelector", "").split(",")):
        key, equals, value = requirement.partition("=")
        labels = obj["metadata"].get("labels") or {}
        if key not in labels or (equals and labels[key] != value):
            return False
    for requirement in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = requirement.partition("=")
        found: Any = obj
        for part in path.split("."):
            found = (found or {}).get(part)
        if found != value:
            return False
    return True


def _is_dry(request: Request) -> bool:
    return request.query.get("dryRun") == "All" or (request.method == "DELETE" and b'"dryRun"' in request.body)


def _key(resource: Resource, namespace: str, name: str) -> Key:
    return resource.path().rpartition("/")[0], resource.plural, namespace, name


def _json(body: Json, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _status(refusal: Refusal) -> Answer:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": refusal.status, "message": str(refusal)}
    return _json({**body, "reason": _REASONS.get(refusal.status, "InternalError")}, refusal.status)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
