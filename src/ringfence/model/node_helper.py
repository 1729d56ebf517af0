"""What a run of the node helper found, in the helper's own words."""

from enum import StrEnum

from ringfence.model.base import Instant, Noun
from ringfence.model.objects import ObjectRef


class NodeOrder(StrEnum):
    """What the helper is told to do."""

    CUT = "cut"
    UNCUT = "uncut"
    FREEZE = "freeze"
    THAW = "thaw"
    STATUS = "status"
    COLLECT = "collect"

    @property
    def takes(self) -> bool:
        """Whether the pod serves nobody after it."""
        return self in (NodeOrder.CUT, NodeOrder.FREEZE)


NODE_STEPS: dict[str, NodeOrder] = {
    f"node.{order}": order for order in (NodeOrder.CUT, NodeOrder.UNCUT, NodeOrder.FREEZE, NodeOrder.THAW)
}
"""The kinds of step of a playbook that are an order."""


class Frames(Noun):
    """Whether frames of the helper's own came through: ``out`` of the victim's interfaces, ``into`` them."""

    out: bool
    into: bool

    @property
    def any(self) -> bool:
        return self.out or self.into


class NodeNetwork(Noun):
    """The victim's interfaces as the node's kernel has them.

    ``in_force``: both directions of each are dropped by the victim's own table, read back from the kernel. ``beyond``:
    interfaces without an end on the node, which no cut there reaches. ``programs``: eBPF programs attached to the
    node's ends, which may carry packets past the drop. ``dropped_out`` and ``dropped_in`` count packets since the cut.
    ``before`` is what came through before the cut (None: not tried), ``through`` what came through after the order.
    """

    in_force: bool
    interfaces: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    dropped_out: int = 0
    dropped_in: int = 0
    before: Frames | None = None
    through: Frames | None = None
    why: str = ""


class NodeReport(Noun):
    """One order carried out for one pod.

    ``addresses`` are the pod's as of then: with another one it has another sandbox, and the cut is void. ``on_node``
    counts processes of the pod that were in the node's own network. ``frozen`` is None when it was not looked at.
    ``done`` False: ``why`` says why. ``already``: the node was found as the order wants it, and nothing was changed.
    ``left_behind`` names what of the helper was not seen to be gone.
    """

    target: ObjectRef
    order: NodeOrder
    run: str
    image: str
    node: str
    addresses: tuple[str, ...]
    started_at: Instant
    ended_at: Instant
    done: bool
    why: str = ""
    network: NodeNetwork | None = None
    on_node: int = 0
    frozen: bool | None = None
    processes: int = 0
    already: bool = False
    left_behind: tuple[str, ...] = ()

    @property
    def holes(self) -> tuple[str, ...]:
        """Why nothing can be said to be shut, though the drop is in force; empty when it can."""
        network = self.network
        if network is None or not network.in_force:
            return ("no drop is in force on the node",)
        found = [f"interface {name} has no end on the node" for name in network.beyond]
        found += [f"{name} may carry packets past the drop" for name in network.programs]
        if self.on_node:
            found.append(f"{self.on_node} processes of the pod were in the node's own network")
        if network.through is None or network.through.any:
            found.append("a frame of the helper's came through" if network.through else "nothing was tried")
        return tuple(found)
