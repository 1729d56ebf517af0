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


def owner_chain(cluster: Cluster, cluster_id: str, obj: Json) -> tuple[Owner, ...]:
    """The controllers above ``obj``, nearest first (ReplicaSet, Deployment). Ends at the first one not readable."""
    chain: list[Owner] = []
    namespace = obj["metadata"].get("namespace", "")
    current: Json | None = obj
    while current is not None and len(chain) < _DEPTH and (reference := controller_of(current)) is not None:
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
            chain.append(Owner(ref, None, None, f"a {ref.api_version} {ref.kind} is not a kind that Ringfence reads"))
            break
        try:
            raw = cluster.get_bytes(resource, namespace if resource.namespaced else "", ref.name)
        except (NotFound, Denied) as error:
            chain.append(Owner(ref, None, None, str(error)))
            break
        current = parse(raw, "get", str(ref))
        if current["metadata"]["uid"] != ref.uid:
            chain.append(Owner(ref, None, None, "an object of that name exists, but it is another one (uid)"))
            break
        chain.append(Owner(ref, raw, current))
    return tuple(chain)
