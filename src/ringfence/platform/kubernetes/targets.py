"""What a person names, as objects: ``pod/NAME``, ``deployment/NAME``, ``sa/NAME``, an image, the siblings of a pod.

Nothing that is empty, misspelt or of an unknown kind ever means "all": it is a TargetError that names what is alike.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ringfence.errors import NotFound, TargetError
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.model.permission import Permission
from ringfence.platform.kubernetes import pods as pod_facts
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.owners import controller_of, owner_chain
from ringfence.platform.kubernetes.resources import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    KNOWN,
    NODE,
    POD,
    REPLICA_SET,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Resource,
)
from ringfence.platform.kubernetes.selectors import printable
from ringfence.platform.kubernetes.surroundings import Reading, read_pod, read_siblings, reference
from ringfence.platform.kubernetes.workloads import WORKLOAD_KINDS, read_pods_of

PERMISSIONS = (
    Permission("pods", frozenset({"get", "list"}), "which pods a name means"),
    Permission("deployments.apps", frozenset({"get", "list"}), "to find a Deployment, or those with a name like it"),
    Permission("statefulsets.apps", frozenset({"get", "list"}), "to find a StatefulSet, or those with a name like it"),
    Permission("daemonsets.apps", frozenset({"get", "list"}), "to find a DaemonSet, or those with a name like it"),
    Permission("replicasets.apps", frozenset({"get", "list"}), "to find a ReplicaSet, and what a gone pod became"),
    Permission("jobs.batch", frozenset({"get", "list"}), "to find a Job, or those with a name like it"),
    Permission("cronjobs.batch", frozenset({"get", "list"}), "to find a CronJob, or those with a name like it"),
    Permission("serviceaccounts", frozenset({"get", "list"}), "to find an account, or those with a name like it"),
    Permission("nodes", frozenset({"get", "list"}), "to find a node, or those with a name like it", everywhere=True),
    Permission("pods", frozenset({"list"}), "which pods run an image, and which run on a node", everywhere=True),
)
"""What it takes to find every kind of target. Without some of them, those kinds cannot be named."""

_NAMES: dict[Resource, tuple[str, ...]] = {
    POD: ("pod", "pods", "po"),
    DEPLOYMENT: ("deployment", "deployments", "deploy"),
    STATEFUL_SET: ("statefulset", "statefulsets", "sts"),
    DAEMON_SET: ("daemonset", "daemonsets", "ds"),
    REPLICA_SET: ("replicaset", "replicasets", "rs"),
    JOB: ("job", "jobs"),
    CRON_JOB: ("cronjob", "cronjobs", "cj"),
    SERVICE_ACCOUNT: ("serviceaccount", "serviceaccounts", "sa"),
    NODE: ("node", "nodes", "no"),
}
_KINDS = {name: resource for resource, names in _NAMES.items() for name in names}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_READERS = 8


@dataclass(frozen=True)
class FoundPod:
    """A pod as it was read just now, with its bytes."""

    ref: ObjectRef
    obj: Json
    reading: Reading


@dataclass(frozen=True)
class Targets:
    """What a name stands for now.

    ``named`` is the object that was named: None for an image, and for a pod that is gone. ``pods`` are the pods that it
    means, those that have ended left out (but for one that was named itself). ``became`` is not empty when the named
    pod is gone and ``pods`` are those that its controller runs in its place: which of them took over is not knowable
    when there are several. ``narrow`` says why it was not looked everywhere.
    """

    spec: str
    pods: tuple[FoundPod, ...]
    named: ObjectRef | None = None
    became: tuple[str, ...] = ()
    narrow: str = ""

    @property
    def workload(self) -> ObjectRef | None:
        return self.named if self.named is not None and self.named.kind in WORKLOAD_KINDS else None


def kind_of(spec: str) -> tuple[Resource, str]:
    """The kind and the name of ``KIND/NAME``. Raises TargetError for anything else."""
    word, slash, name = spec.partition("/")
    resource = _KINDS.get(word.lower())
    if not slash or not name or "/" in name or resource is None:
        wrong = f"{printable(word)} is not a kind that can be named" if slash and name else "it says no kind and name"
        raise TargetError(
            f"{printable(spec) or 'an empty word'} is no target",
            why=wrong,
            next_step=f"KIND/NAME, with one of {', '.join(names[0] for names in _NAMES.values())}",
        )
    return resource, name


def resolve(
    cluster: Cluster, cluster_id: str, spec: str, namespace: str, *, controller: ObjectRef | None = None
) -> Targets:
    """The pods that ``KIND/NAME`` means in ``namespace``.

    ``controller`` is the owner of a named pod as it was recorded before, for one that is gone. Raises TargetError when
    there is no such object (with the names of those alike), PlatformError.
    """
    resource, name = kind_of(spec)
    if resource is POD:
        return _pod(cluster, cluster_id, spec, namespace, name, controller)
    found = cluster.find(resource, namespace if resource.namespaced else "", name)
    if found is None:
        raise _none_of(cluster, resource, namespace, name)
    ref = ObjectRef.of(cluster_id, {"apiVersion": resource.api_version, "kind": resource.kind, **found})
    pods: Iterable[Json]
    if resource is NODE:
        pods = cluster.list(POD, fields=f"spec.nodeName={name}")
    elif resource is SERVICE_ACCOUNT:
        pods = [pod for pod in cluster.list(POD, namespace) if pod_facts.service_account(pod) == name]
    else:
        pods = read_pods_of(cluster, ref)
    return Targets(spec=spec, pods=_read(cluster, cluster_id, pods), named=ref)


def pods_of_image(cluster: Cluster, cluster_id: str, image: str, namespace: str | None = None) -> Targets:
    """Every pod that runs an image, in all namespaces or in one: by digest, or by a name and then its digests too.

    A name (``HOST/REPOSITORY:TAG``) means what pods that ask for it really run, as a tag moves. A pod that has not been
    started is found by the name that it asks for. Raises TargetError, PlatformError.
    """
    digest = _DIGEST.search(image)
    if not _REFERENCE.fullmatch(image) or ("sha256:" in image and digest is None):
        raise TargetError(
            f"{printable(image) or 'an empty word'} is no image",
            why="a digest has 64 hexadecimal digits" if "sha256:" in image else "it is neither a name nor a digest",
            next_step="sha256:…, or the whole name as the pods have it",
        )
    listed = [pod for pod in cluster.list(POD, namespace or "") if not pod_facts.is_finished(pod)]
    digests = {digest.group()} if digest else {found for pod in listed for found in _digests_as(pod, image)}
    means = [
        pod
        for pod in listed
        if any(
            pod_facts.digest_of(c.image_id) in digests or (not c.image_id and _asks(c, image, digests))
            for c in pod_facts.containers(pod)
        )
    ]
    if not means:
        names = sorted({str(c.spec.get("image", "")) for pod in listed for c in pod_facts.containers(pod)})
        where = f"in namespace {printable(namespace)}" if namespace else "in any namespace"
        raise TargetError(
            f"no pod runs {image} {where}",
            why=_alike(image, names) or "and none runs one with a name like it",
            next_step="kubectl get pods -A -o jsonpath='{..imageID}' shows what runs",
        )
    return Targets(spec=image, pods=_read(cluster, cluster_id, means))


def siblings(cluster: Cluster, cluster_id: str, pod: Json) -> Targets:
    """The other pods with the pod's image digest, and those of its namespace with its account. Raises PlatformError."""
    found = read_siblings(cluster, pod)
    both = {other["metadata"]["uid"]: other for other in (*found.by_image, *found.by_account)}
    narrow = f"{found.scope}: {found.why_narrow}" if found.why_narrow else ""
    name = f"siblings of pod/{pod['metadata']['name']}"
    return Targets(spec=name, pods=_read(cluster, cluster_id, both.values()), narrow=narrow)


# --- pods that are gone ----------------------------------------------------------------
def _pod(
    cluster: Cluster, cluster_id: str, spec: str, namespace: str, name: str, controller: ObjectRef | None
) -> Targets:
    try:
        obj, reading = read_pod(cluster, namespace, name)
    except NotFound:
        return _became(cluster, cluster_id, spec, namespace, name, controller)
    ref = reference(cluster_id, obj)
    return Targets(spec=spec, pods=(FoundPod(ref, obj, reading),), named=ref)


def _became(
    cluster: Cluster, cluster_id: str, spec: str, namespace: str, name: str, controller: ObjectRef | None
) -> Targets:
    listed = cluster.list(POD, namespace)
    heirs = _heirs(cluster, cluster_id, listed, namespace, name, controller)
    pods = _read(cluster, cluster_id, heirs)
    if not pods:
        raise _no_pod(listed, namespace, name)
    return Targets(spec=spec, pods=pods, became=tuple(pod.ref.name for pod in pods))


def _heirs(
    cluster: Cluster,
    cluster_id: str,
    listed: Iterable[Json],
    namespace: str,
    name: str,
    controller: ObjectRef | None,
) -> list[Json]:
    """The pods that the gone pod's controller runs now: of its ReplicaSet; else of that one's Deployment.

    Without a record the controller is known by the pod's name, whose last part is the pod's own.
    """
    live = [pod for pod in listed if not pod_facts.is_finished(pod)]
    stem = name.rpartition("-")[0]
    is_heir: list[Callable[[Json], bool]] = []
    if controller is not None:
        is_heir.append(lambda pod: (controller_of(pod) or {}).get("uid") == controller.uid)
    if stem:
        is_heir.append(lambda pod: pod["metadata"].get("generateName") == f"{stem}-" and controller_of(pod) is not None)
    for fits in is_heir:
        if heirs := [pod for pod in live if fits(pod)]:
            return heirs
    top = _top(cluster, cluster_id, namespace, stem, controller)
    return [] if top is None else [p for p in read_pods_of(cluster, top) if not pod_facts.is_finished(p)]


def _top(
    cluster: Cluster, cluster_id: str, namespace: str, stem: str, controller: ObjectRef | None
) -> ObjectRef | None:
    """The workload above the gone pod's controller, if that is there still."""
    named = controller.name if controller is not None and controller.kind == REPLICA_SET.kind else stem
    if controller is not None and controller.kind != REPLICA_SET.kind:
        known = KNOWN.get((controller.api_version, controller.kind))
        found = cluster.find(known, namespace, controller.name) if known is not None else None
    else:
        found = cluster.find(REPLICA_SET, namespace, named) if named else None
    if found is None:
        return None
    chain = owner_chain(cluster, cluster_id, found)
    readable = [owner.ref for owner in chain if owner.obj is not None and owner.ref.kind in WORKLOAD_KINDS]
    return readable[-1] if readable else None


def _no_pod(listed: Iterable[Json], namespace: str, name: str) -> TargetError:
    pods = tuple(listed)
    stem = name.rpartition("-")[0] or name
    names = [pod["metadata"]["name"] for pod in pods]
    near = sorted(other for other in names if other.startswith(stem))
    owned = [pod["metadata"]["name"] for pod in pods if (controller_of(pod) or {}).get("name") == name]
    alike = ", ".join([*near, *owned][:5]) or ", ".join(difflib.get_close_matches(name, names, 5))
    return TargetError(
        f"there is no pod {printable(name)} in namespace {printable(namespace)}",
        why=f"there are {alike}" if alike else "and none with a name like it",
        next_step=f"kubectl get pods -n {printable(namespace)}",
    )


def _none_of(cluster: Cluster, resource: Resource, namespace: str, name: str) -> TargetError:
    inside = namespace if resource.namespaced else ""
    names = [obj["metadata"]["name"] for obj in cluster.list(resource, inside)]
    where = f" in namespace {printable(namespace)}" if resource.namespaced else ""
    return TargetError(
        f"there is no {resource.kind} {printable(name)}{where}",
        why=_alike(name, names) or "and none with a name like it",
        next_step=f"kubectl get {resource.plural}" + (f" -n {printable(namespace)}" if resource.namespaced else ""),
    )


def _alike(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    near = [other for other in known if name in other or other in name] or difflib.get_close_matches(name, known, 5)
    return f"there are {', '.join(map(printable, near[:5]))}" if near else ""


# --- reading ---------------------------------------------------------------------------
def _read(cluster: Cluster, cluster_id: str, pods: Iterable[Json]) -> tuple[FoundPod, ...]:
    """Each pod anew and by itself, so that its bytes are its own. One that is gone or ended by now is left out."""
    wanted = [pod for pod in pods if not pod_facts.is_finished(pod)]
    if not wanted:
        return ()

    def one(pod: Json) -> FoundPod | None:
        meta = pod["metadata"]
        try:
            obj, reading = read_pod(cluster, meta["namespace"], meta["name"])
        except NotFound:
            return None
        same = obj["metadata"]["uid"] == meta["uid"] and not pod_facts.is_finished(obj)
        return FoundPod(reference(cluster_id, obj), obj, reading) if same else None

    with ThreadPoolExecutor(min(_READERS, len(wanted)), thread_name_prefix="targets") as pool:
        return tuple(found for found in pool.map(one, wanted) if found is not None)


def _asks(container: pod_facts.Container, image: str, digests: Iterable[str]) -> bool:
    asked = str(container.spec.get("image", ""))
    return asked == image or any(digest in asked for digest in digests)


def _digests_as(pod: Json, image: str) -> set[str]:
    """The digests that the pod's containers run under this name."""
    return {pod_facts.digest_of(c.image_id) for c in pod_facts.containers(pod) if c.spec.get("image") == image} - {""}
