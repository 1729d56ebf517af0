"""Which commands shut the ways in that live on behind the fence (pure). Screen and hand-over offer the same."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.model.access import NETWORK_PATHS, AccessPath, PathState


def shutting(
    incident: str, rows: Iterable[AccessPath], *, identity_cut: bool, helper_on: bool = False
) -> tuple[str, ...]:
    """What helps most first: an open connection is somebody at a keyboard, a token has to be used first.

    Nothing while new traffic is alive: then the fence comes first. ``identity_cut``: that was done for the incident.
    ``helper_on``: its node helper is switched on.
    """
    states = {row.path: row.state for row in rows}
    if any(states.get(path) is PathState.ALIVE for path in NETWORK_PATHS):
        return ()
    found = []
    if states.get("network.established") in (PathState.ALIVE, PathState.UNSEEN):
        found.append(f"ringfence node {incident} cut" if helper_on else f"ringfence node {incident} on --reason …")
    if states.get("identity.kubernetes") is PathState.ALIVE and not identity_cut:
        found.append(f"ringfence cut-identity {incident}")
    return tuple(found)
