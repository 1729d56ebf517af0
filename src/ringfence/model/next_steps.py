"""Which commands shut the ways in that live on behind the fence (pure). Screen and hand-over offer the same."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.model.access import NETWORK_PATHS, AccessPath, PathState
from ringfence.model.enforcement import Enforcement
from ringfence.model.proof import Level


def shutting(
    incident: str,
    rows: Iterable[AccessPath],
    *,
    identity_cut: bool,
    helper_on: bool = False,
    helper_allowed: bool = True,
    known: Enforcement | None = None,
) -> tuple[str, ...]:
    """What helps most first: an open connection is somebody at a keyboard, a token has to be used first.

    While new traffic is alive the fence comes first, and nothing else; unless traffic was seen to pass the fence: where
    nothing enforces it, only the node cuts. ``identity_cut``: that was done for the incident. ``helper_on``: its node
    helper is switched on. ``helper_allowed``: the configuration lets it be switched on; where it does not, it is named
    only where nothing but the node can cut, and the command says what to configure. ``known``: what was seen of this
    cluster's policies; what was proven of this fence counts more.
    """
    found_rows = tuple(rows)
    states = {row.path: row.state for row in found_rows}
    network = [row for row in found_rows if row.path in NETWORK_PATHS]
    passing = [row.level for row in network if row.state is PathState.ALIVE]
    proven = any(row.state is PathState.DEAD and row.level is Level.PROVEN for row in network)
    unenforced = Level.OBSERVED in passing or (known is not None and not known.holds and bool(network) and not proven)
    if passing and not unenforced:
        return ()
    found = []
    lives_on = states.get("network.established") in (PathState.ALIVE, PathState.UNSEEN)
    if unenforced or (lives_on and helper_allowed):
        found.append(f"ringfence node {incident} cut" if helper_on else f"ringfence node {incident} on --reason …")
    if states.get("identity.kubernetes") is PathState.ALIVE and not identity_cut:
        found.append(f"ringfence cut-identity {incident}")
    return tuple(found)
