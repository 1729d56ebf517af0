"""What is known of a cluster's NetworkPolicies: kept when ``doctor --probe`` saw it on packets, said in every plan."""

from __future__ import annotations

from ringfence.response.context import Context, now
from ringfence.store import enforcement


def words(context: Context) -> str:
    """What was seen of this cluster, with its age; empty when nobody has tried. Raises StoreError."""
    with context.store.read() as session:
        known = enforcement.newest(session, context.cluster_id)
    return known.words(now()) if known is not None else ""
