"""Whether KEDA would bring back the pods of a workload that was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringfence.errors import PlatformError
from ringfence.model.base import Json
from ringfence.platform.kubernetes import keda
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.selectors import printable


@dataclass(frozen=True)
class Scaler:
    """One of KEDA's scalers. ``still``: its annotations pause it; ``reported``: KEDA says that it is paused."""

    name: str
    still: bool
    reported: bool


@dataclass(frozen=True)
class Scaling:
    """``what`` was stopped (empty: nothing was), and who would scale it; ``unread`` says why that is not known."""

    what: str = ""
    scalers: tuple[Scaler, ...] = ()
    unread: str = ""


NOTHING_SCALED = Scaling()


def scaling_of(cluster: Cluster, owners: Sequence[Json]) -> Scaling:
    """Of the workload above a pod. KEDA is asked for only where that runs no pod: else there is nothing to bring back.
    Raises nothing of the platform."""
    top = owners[-1] if owners else None
    if top is None or top["kind"] not in keda.SCALED_KINDS or (top.get("spec") or {}).get("replicas", 1) != 0:
        return NOTHING_SCALED
    what = f"{top['kind']} {printable(top['metadata']['name'])}"
    try:
        found = keda.read(cluster, top)
    except PlatformError as error:
        return Scaling(what, unread=str(error))
    return Scaling(
        what,
        tuple(
            Scaler(
                f"{one['kind']} {printable(one['metadata']['name'])}",
                keda.pause_of(one).holds_still,
                keda.reports_paused(one),
            )
            for one in found
        ),
    )
