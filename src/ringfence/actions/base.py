"""What every action is: plan, apply, verify, undo, with its permissions and their reasons.

The engine commits each change's prior state before ``apply`` sends it, and its result after; ``apply`` therefore takes
one change, not the whole plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from ringfence.actions.perform import Answer, perform
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Refused
from ringfence.model.permission import Permission
from ringfence.model.plan import Change, Plan, Verb
from ringfence.model.proof import Proof
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.surroundings import Surroundings


class Action(ABC):
    """An action on one cluster. Stateless but for its connection; safe to call again."""

    name: ClassVar[str]
    destructive: ClassVar[bool]
    permissions: ClassVar[tuple[Permission, ...]]

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @abstractmethod
    def plan(self, target: ObjectRef, around: Surroundings) -> Plan | Refused:
        """Reads only. Each change of the plan has passed a server-side dry run. Raises PlatformError."""

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
