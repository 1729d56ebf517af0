"""What a run of the node helper shows, as a proof of its step (pure)."""

from __future__ import annotations

from ringfence.model.node_helper import NodeOrder, NodeReport
from ringfence.model.proof import Level, Proof
from ringfence.platform.kubernetes.selectors import printable


def proof_of(report: NodeReport) -> Proof:
    """What a run shows, for the step that it is."""
    by = f"the node helper on {printable(report.node)}"
    level, claim, lower = Level.OBSERVED, "", "read back from the kernel; nothing was tried against it"
    network = report.network
    match report.order:
        case _ if not report.done:
            level, claim, lower = Level.NONE, f"{report.order} was not done", report.why
        case NodeOrder.CUT if network is not None and not report.holes:
            tried = network.before is not None and network.before.out and network.before.into
            level = Level.PROVEN if tried else Level.OBSERVED
            claim = f"everything on {', '.join(network.interfaces)} is dropped, in both directions"
            lower = "" if tried else "no frame of the helper's came through before the cut either"
        case NodeOrder.CUT:
            claim, lower = "the drop is in force on the node", "; ".join(report.holes)
        case NodeOrder.UNCUT:
            through = network is not None and network.through is not None and network.through.any
            claim = "no drop of ours is left on the node" + (", and frames come through" if through else "")
        case NodeOrder.FREEZE:
            claim = f"{report.processes} processes of the pod are frozen"
        case NodeOrder.THAW:
            claim = "no process of the pod is frozen"
        case _:
            claim = f"{report.order} was done"
    return Proof(claim=claim, level=level, by=by, at=report.ended_at, why_not_higher=lower)
