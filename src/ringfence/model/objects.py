"""References to objects of a cluster. A name alone never identifies: the uid does, and the cluster it lives in."""

from typing import Self

from ringfence.model.base import Json, Noun


class ObjectRef(Noun):
    """One object of one cluster. ``cluster`` is the uid of the cluster's kube-system namespace.

    ``uid`` is empty only for an object that does not exist yet (a change of verb ``create``). ``namespace`` is empty
    for cluster-scoped objects.
    """

    cluster: str
    api_version: str
    kind: str
    namespace: str = ""
    name: str
    uid: str = ""

    @classmethod
    def of(cls, cluster: str, obj: Json) -> Self:
        """The reference of an object as the server sent it (``apiVersion``, ``kind`` and ``metadata`` present)."""
        meta = obj["metadata"]
        return cls(
            cluster=cluster,
            api_version=obj["apiVersion"],
            kind=obj["kind"],
            namespace=meta.get("namespace", ""),
            name=meta["name"],
            uid=meta.get("uid", ""),
        )

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"
