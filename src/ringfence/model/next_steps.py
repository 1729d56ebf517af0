"""Which commands shut the ways in that live on behind the fence (pure). Screen and hand-over offer the same."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.model.access import NETWORK_PATHS, AccessPath, PathState
from ringfence.model.proof import Level


def shutting(
    incident: str, rows: Iterable[AccessPath], *, identity_cut: bool, helper_on: bool = False
) -> tuple[str, ...]:
    """What helps most first: an open connection is somebody at a keyboard, a token has to be used first.

    While new traffic is alive the fence comes first, and nothing else; unless traffic was seen to pass the fence: where
    nothing enforces it, only the node cuts. ``identity_cut``: that was done for the incident. ``helper_on``: its node
    helper is switched on.
    """
    known = tuple(rows)
    states = {row.path: row.state for row in known}
    passing = [row.level for row in known if row.path in NETWORK_PATHS and row.state is PathState.ALIVE]
    unenforced = Level.OBSERVED in passing
    if passing and not unenforced:
        return ()
    found = []
    if unenforced or states.get("network.established") in (PathState.ALIVE, PathState.UNSEEN):
        found.append(f"ringfence node {incident} cut" if helper_on else f"ringfence node {incident} on --reason …")
    if states.get("identity.kubernetes") is PathState.ALIVE and not identity_cut:
        found.append(f"ringfence cut-identity {incident}")
    return tuple(found)
