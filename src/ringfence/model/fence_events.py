"""Events of the watcher: somebody changed what an incident holds fenced, and that it is as it was again."""

from typing import Literal

from ringfence.model.event import EventBase
from ringfence.model.objects import ObjectRef


class FencedChanged(EventBase):
    """Somebody else changed, or deleted, what the incident holds fenced: a pod, a policy, a workload, a node.

    ``actor`` is ``ringfence``: who saw it. ``who`` is who did it as far as it is known, and ``how_known`` from where
    (the audit log, or the object's managedFields, which name a program and not a person); both empty: not known.
    ``change`` is the step and change of the journal that live state does not show any more; empty: the object itself.
    """

    type: Literal["fence.changed"] = "fence.changed"
    ref: ObjectRef
    what: Literal[
        "was deleted", "is another object", "was changed", "was scaled", "was restarted", "has a new template"
    ]
    detail: str = ""
    change: str = ""
    who: str = ""
    how_known: str = ""
    seen_by: Literal["watch", "list"]
    audit_id: str = ""

    @property
    def words(self) -> str:
        """The whole of it in a sentence or two."""
        detail = f": {self.detail}" if self.detail else ""
        by = f" By {self.who} ({self.how_known})." if self.who else " By whom is not known."
        return f"{self.ref} {self.what}{detail}.{by}"


class FenceRestored(EventBase):
    """What was changed is as the incident holds it again; by whom else than by us, ``why`` says."""

    type: Literal["fence.restored"] = "fence.restored"
    ref: ObjectRef
    change: str = ""
    why: str
