"""What every action is: plan, apply, verify, undo, with its permissions and their reasons.

The engine commits each change's prior state before ``apply`` sends it, and its result after; ``apply`` therefore takes
one change, not the whole plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Generic, Literal, TypeAlias, TypeVar

from ringfence.actions.perform import Answer, perform
from ringfence.model.base import Json
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Proof
from ringfence.platform.kubernetes.client import Cluster

Shape: TypeAlias = Literal["auto", "detach", "fence"]
"""How a pod is cut off: out of its controller, in place, or as what owns it asks for."""

Around = TypeVar("Around")
"""What an action reads before it plans: a pod's surroundings, a workload with its pods, a node."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Settings:
    """What every action is made with; each reads what concerns it.

    ``fence`` is the incident's opaque label value. ``serving_floor`` is the number of ready endpoints that each Service
    keeps at least. The waits are how long ``verify`` watches for an end that others bring about. ``share_account``:
    other pods of a suspect's account may lose its rights, too. ``now`` gives the time of a restart. ``saved`` is a
    workload as it was before it was stopped, ``only_one``: of that, one pod comes back. ``enforcement`` is what was
    seen of the cluster's NetworkPolicies, in words; empty when nobody has tried.
    """

    fence: str
    serving_floor: int
    delete_wait_seconds: float = 60.0
    rollout_wait_seconds: float = 120.0
    shape: Shape = "auto"
    accept_same_image: bool = False
    share_account: bool = False
    saved: Json | None = None
    only_one: bool = False
    enforcement: str = ""
    now: Callable[[], datetime] = utc_now


class Action(ABC, Generic[Around]):
    """An action on one cluster. Stateless but for its connection; safe to call again.

    ``kinds`` are the kinds of target that it knows what to do with; ``plan`` says Refused to some of them.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    destructive: ClassVar[bool]
    permissions: ClassVar[tuple[Permission, ...]]

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.cluster = cluster
        self.settings = settings

    @abstractmethod
    def look(self, cluster_id: str, target: ObjectRef, pool: ThreadPoolExecutor) -> Around:
        """Read what ``plan`` needs. Raises TargetError when the target is another object by now, PlatformError."""

    @abstractmethod
    def plan(self, target: ObjectRef, around: Around) -> Plan | Already | Refused:
        """Reads only. Each change of the plan has passed a server-side dry run. Raises PlatformError.

        Already: live state is what the action makes, and there is nothing to send.
        """

    def apply(self, change: Change, audit_id: str) -> Answer:
        """Send one change of the plan. Raises nothing of the platform: failure is an Outcome."""
        return perform(self.cluster, change, audit_id)

    @abstractmethod
    def verify(self, target: ObjectRef, records: Sequence[ChangeRecord]) -> Proof:
        """Read back what the changes did. Raises PlatformError when it cannot be read."""

    def undo(self, record: ChangeRecord) -> Change | Already | Refused:
        """The change that takes ``record`` back, to be journalled like any other. Already: nothing is left of it."""
        return inverse(record)


def inverse(record: ChangeRecord) -> Change | Refused:
    """The inverse of a journalled change as a change of its own."""
    change = record.change
    if change.inverse is None:
        return Refused(reason=f"nothing brings {change.ref} back as it was")
    uid = change.ref.uid or record.result_uid
    if change.inverse.verb is Verb.DELETE and not uid:
        return Refused(
            reason=f"it is not known which {change.ref} was made by this change",
            next_step="look at it and delete it by hand if it is ours",
        )
    return Change(
        id=f"undo-{change.id}",
        ref=change.ref.model_copy(update={"uid": uid}),
        verb=change.inverse.verb,
        body=change.inverse.body,
        needed=False,
        effect=f"takes back: {change.effect}",
    )
