"""What is ordered in the crash tests: every playbook of the library, on a target that fits, to its end.

Generated: a playbook that comes to the library has its scenario at once. Beside them the short commands, which stop
between the phases.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.model.catalogue import Scope
from ringfence.model.playbook import Playbook
from ringfence.playbooks import builtin_names, find, load


@dataclass(frozen=True)
class Order:
    """One command of an operator: contain, respond, approve, eradicate, release, recover, collect, watch,
    node-on, checkpoint, or keep: one look of the watcher, after somebody has taken the fence off.

    ``playbook`` is one of the library, or a file beside this one; ``target`` are one or more, with spaces between.
    """

    verb: str
    playbook: str = ""
    target: str = ""
    shape: str = "auto"
    canary: bool = False


@dataclass(frozen=True)
class Scenario:
    """``share``: every how many-th state is tried; 1 is each. ``since``: only those from the first commit of that place
    on: what the commands before it do is tried in another scenario."""

    name: str
    orders: tuple[Order, ...]
    share: int = 1
    since: str = ""

    def __str__(self) -> str:
        return self.name


def of_library() -> tuple[Scenario, ...]:
    return tuple(_to_its_end(load(*find(name))) for name in builtin_names())


def _to_its_end(playbook: Playbook) -> Scenario:
    """The playbook on a pod, or on its Deployment when it acts on workloads; every question is answered with yes."""
    actions = [step.action for step in playbook.steps]
    if "recovery.watch" in actions:
        return Scenario(f"playbook-{playbook.name}", (*STOP, Order("recover")), share=3, since=FOLLOW_UP)
    scopes = {step.kind.scope for step in playbook.steps}
    target = "deployment/cards" if Scope.EACH_WORKLOAD in scopes else "pod/cards-1"
    # In place: a pod that left its controller would be replaced by one that nobody has sealed.
    shape = "fence" if Scope.EACH_WORKLOAD in scopes else "auto"
    orders = [Order("respond", playbook.name, target, shape)]
    if "pod.release" in actions:
        orders = [Order("contain", target=target), Order("release")]
    orders += [Order("approve")] * actions.count("human.approve")
    follows = orders[0] == CONTAIN
    since = FOLLOW_UP if follows else ""
    return Scenario(f"playbook-{playbook.name}", tuple(orders), share=1 if follows else 3, since=since)


FOLLOW_UP = "response.orders.follow_up"
"""Where a command's run about an incident that is there is placed."""
SWITCH = "response.node_helper._switch"
CONTAIN = Order("contain", target="pod/cards-1")
TWINS = Order("contain", target="pod/twins")
"""A pod of two containers, each of which has a memory."""
GROUP = Order("contain", target="pod/cards-1 pod/cards-2 pod/twins")
"""Three: the first goes alone, the others beside each other."""
STUBBORN = Order("contain", target="pod/stubborn")
"""Admission lets nobody touch that pod."""
STOP = (Order("respond", "stop-workload", "deployment/cards", "fence"), Order("approve"))
"""The whole workload stopped: what a recovery has most to do with."""


SHORT = (
    Scenario("contain-eradicate", (CONTAIN, Order("eradicate"))),
    Scenario("fence-release", (Order("contain", target="pod/cards-1", shape="fence"), Order("release")), share=3),
    Scenario("contain-group", (GROUP,), share=4),
    Scenario("contain-canary", (Order("contain", target="pod/cards-1", canary=True),), share=4),
    Scenario("keep", (CONTAIN, Order("keep")), share=3, since="response.watching.watcher._keep"),
    Scenario("checkpoint", (TWINS, Order("checkpoint")), since="response.checkpoint._checkpoint"),
    Scenario("cut-on-node", (STUBBORN, Order("node-on"), STUBBORN), share=5, since=SWITCH),
    Scenario(
        "on-the-node",
        (CONTAIN, Order("node-on"), Order("respond", "on-the-node.yaml", "pod/cards-1")),
        share=5,
        since=SWITCH,
    ),
)


def all_of_them() -> tuple[Scenario, ...]:
    return (*SHORT, *of_library())
