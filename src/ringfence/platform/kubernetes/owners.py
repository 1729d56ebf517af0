"""Who owns an object: the chain of controllers above it, which is also who will put it back."""

from __future__ import annotations

from typing import NamedTuple

from ringfence.errors import Denied, NotFound
from ringfence.model.base import Json
from ringfence.model.objects import ObjectRef
from ringfence.platform.kubernetes.client import Cluster, parse
from ringfence.platform.kubernetes.resources import KNOWN

_DEPTH = 8


class Owner(NamedTuple):
    """One controller of the chain. ``raw`` is None when it could not be read; ``why`` says so."""

    ref: ObjectRef
    raw: bytes | None
    obj: Json | None
    why: str = ""


def controller_of(obj: Json) -> Json | None:
    """The ownerReference with ``controller: true``, if any."""
    references = obj.get("metadata", {}).get("ownerReferences") or ()
    return next((reference for reference in references if reference.get("controller")), None)


def owner_chain(
    cluster: Cluster, cluster_id: str, obj: Json, *, known: dict[str, Owner] | None = None
) -> tuple[Owner, ...]:
    """The controllers above ``obj``, nearest first (ReplicaSet, Deployment). Ends at the first one not readable.

    ``known`` are owners by uid that were read a moment ago, for other pods: they are not asked for again, and what is
    read here joins them.
    """
    known = {} if known is None else known
    chain: list[Owner] = []
    namespace = obj["metadata"].get("namespace", "")
    current: Json | None = obj
    while current is not None and len(chain) < _DEPTH and (reference := controller_of(current)) is not None:
        uid = str(reference["uid"])
        owner = known.get(uid) or _read(cluster, cluster_id, namespace, reference)
        known[uid] = owner
        chain.append(owner)
        current = owner.obj
    return tuple(chain)


def _read(cluster: Cluster, cluster_id: str, namespace: str, reference: Json) -> Owner:
    ref = ObjectRef(
        cluster=cluster_id,
        api_version=str(reference["apiVersion"]),
        kind=str(reference["kind"]),
        namespace=namespace,
        name=str(reference["name"]),
        uid=str(reference["uid"]),
    )
    resource = KNOWN.get((ref.api_version, ref.kind))
    if resource is None:
        return Owner(ref, None, None, f"a {ref.api_version} {ref.kind} is not a kind that Ringfence reads")
    try:
        raw = cluster.get_bytes(resource, namespace if resource.namespaced else "", ref.name)
    except (NotFound, Denied) as error:
        return Owner(ref, None, None, str(error))
    found = parse(raw, "get", ref.name)
    if found["metadata"]["uid"] != ref.uid:
        return Owner(ref, None, None, "an object of that name exists, but it is another one (uid)")
    return Owner(ref, raw, found)
