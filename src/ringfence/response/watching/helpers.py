"""Pods of the node helper that nobody takes away: found by ``ringfence watch``, journalled and deleted.

A run deletes its own pod, and the kubelet ends it at its deadline; what dies in between leaves the object, and until
the deadline a privileged process. Here goes every helper's pod whose incident is closed, for whose incident the helper
is off, or whose run must be over, whoever made it. A pod of an incident that this store does not know is another
Ringfence's: it is named, and left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ringfence.actions.base import Settings
from ringfence.actions.node_helper import NodeCut, Options, overdue
from ringfence.errors import PlatformError, RingfenceError
from ringfence.model import step_names
from ringfence.model.base import Json
from ringfence.model.incident import Incident, State
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import is_done
from ringfence.model.timeline import Event, NodeHelperSwitched, StateChanged
from ringfence.platform.kubernetes.node_helpers import HELPER_KEY, HELPER_OF_KEY, of_target
from ringfence.platform.kubernetes.resources import POD
from ringfence.response import steps
from ringfence.response.context import Context, now
from ringfence.store import incidents, targets, timeline


class Sweeper:
    """One list per round; what it says, it says once for as long as it stays the same."""

    def __init__(self, context: Context, say: Callable[[str], None]) -> None:
        self._context = context
        self._say = say
        self._said: set[str] = set()

    def sweep(self) -> None:
        """One round over this cluster. What cannot be read or deleted is said, and tried anew in the next one."""
        options = self._context.policy.node_helper
        if options is None:
            return
        words: set[str] = set()
        try:
            found = self._context.cluster.list(POD, options.namespace, labels=HELPER_KEY)
            if found:
                words = set(self._sweep(found, options))
        except RingfenceError as error:
            words = {f"whether a node helper was left behind could not be looked at: {error}"}
        for one in sorted(words - self._said):
            self._say(one)
        self._said = words

    def _sweep(self, found: tuple[Json, ...], options: Options) -> list[str]:
        owners = self._owners()
        words = []
        for pod in found:
            metadata = pod["metadata"]
            name = f"{options.namespace}/{metadata['name']}"
            owner = owners.get((metadata.get("labels") or {}).get(HELPER_OF_KEY, ""))
            if owner is None:
                words.append(f"{name}, a node helper, belongs to no incident that is known here: it is left alone")
                continue
            incident, target = owner
            if not metadata.get("deletionTimestamp") and (why := self._why(incident, pod)):
                words.append(f"{incident.id}: {name}, a node helper, {why}: {self._delete(incident, target, pod)}")
        return words

    def _owners(self) -> dict[str, tuple[Incident, ObjectRef]]:
        """The incident and the suspect that a helper's label stands for."""
        context = self._context
        with context.store.read() as session:
            return {
                of_target(incident.fence, target.uid): (incident, target)
                for incident in incidents.newest_first(session)
                if incident.cluster == context.cluster_id
                for target in targets.of_incident(session, incident.id)
                if target.kind == "Pod"
            }

    def _why(self, incident: Incident, pod: Json) -> str:
        """Why this pod may not be there; empty: a run may still be under way."""
        with self._context.store.read() as session:
            events = [entry.event for entry in timeline.read(session, incident.id)]
        return not_allowed(events) or ("is there though its run must be over" if overdue(pod, now()) else "")

    def _delete(self, incident: Incident, target: ObjectRef, pod: Json) -> str:
        context = self._context
        settings = Settings(fence=incident.fence, serving_floor=context.policy.serving_floor)
        action = NodeCut(context.cluster, settings, context.policy.node_helper)
        uid = pod["metadata"]["uid"]
        with context.store.write() as session:
            incidents.remember(session, context.principal, now())
        outcomes = []
        try:
            # Looked for anew: what is deleted is what lies there now, and no other run of the same suspect.
            left = [change for change in action.leftovers(target) if change.ref.uid == uid]
            label = steps.next_step(context, incident, step_names.SWEEP) if left else ""
            for number, change in enumerate(left):
                outcomes.append(steps.apply_change(context, incident, label, action, number, change).outcome)
        except PlatformError as error:
            return f"not deleted: {error}"
        if all(outcome is not None and is_done(outcome) for outcome in outcomes):
            return "deleted"
        return f"not deleted: ringfence node {incident.id} off looks for it again"


def not_allowed(events: Sequence[Event]) -> str:
    """Why no helper may run for an incident (pure); empty: it may. One that is switched on after the incident was
    closed, to take a cut back, may run."""
    for event in reversed(events):
        if isinstance(event, NodeHelperSwitched):
            return "" if event.on else "is there though the helper is off for its incident"
        if isinstance(event, StateChanged) and event.after is State.CLOSED:
            return "is there though its incident is closed"
    return "is there though the helper was never on for its incident"
