"""The watcher: every object that an open incident holds, followed by a real watch, judged as it changes.

``sight`` sees, in threads of its own; here one thread judges what it saw, writes it down, and answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ringfence.errors import PlatformError, RingfenceError
from ringfence.model.base import Json
from ringfence.model.fence_events import FencedChanged, FenceRestored
from ringfence.model.incident import Incident
from ringfence.model.journal import ChangeRecord
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import describe, is_done
from ringfence.platform.kubernetes.owners import owner_chain
from ringfence.platform.kubernetes.resources import KNOWN, POD, REPLICA_SET
from ringfence.response.context import Context, now
from ringfence.response.watching.blame import Blame, blame
from ringfence.response.watching.guarding import tend
from ringfence.response.watching.held import (
    Broken,
    Held,
    Place,
    fingerprint,
    held,
    is_overtaken,
    judge,
    place_of,
    version_of,
)
from ringfence.response.watching.left import settle
from ringfence.response.watching.ownership import set_anew_by
from ringfence.response.watching.restore import may_be_put_back, put_back
from ringfence.response.watching.sight import SeenBy, Sight
from ringfence.store import incidents, journal, targets, timeline, watched

_LOOK_AT_STORE_SECONDS = 0.5
_TICK_SECONDS = 0.25
_GUARD_AGAIN_SECONDS = 300.0


@dataclass(frozen=True)
class Options:
    """What the configuration says. ``put_back_hourly``: for each incident. ``call``: whom a guard's refusal names."""

    put_back: bool = True
    put_back_hourly: int = 3
    poll_seconds: float = 5.0
    guard: bool = False
    call: tuple[str, ...] = ()


@dataclass
class _Incident:
    incident: Incident
    seq: int
    held: tuple[Held, ...] = ()
    records: tuple[ChangeRecord, ...] = ()
    states: dict[str, Json] = field(default_factory=dict)


class Watcher:
    """``look_again`` is called with an incident whose ways in may have turned. ``say`` is told what is seen."""

    def __init__(
        self,
        context: Context,
        say: Callable[[str], None],
        look_again: Callable[[str], None],
        options: Options | None = None,
    ) -> None:
        self._context = context
        self._say = say
        self._look_again = look_again
        self._options = options or Options()
        self._stop = threading.Event()
        self._sight = Sight(context.cluster, self._tell_of, self._policy_turned, self._options.poll_seconds)
        self._incidents: dict[str, _Incident] = {}
        self._places: frozenset[Place] = frozenset()
        self._owners: dict[str, ObjectRef | None] = {}
        self._said: dict[str, int] = {}
        self._guarded: dict[str, tuple[object, float]] = {}
        self._since: dict[Place, int] = {}  # after we put it back: what is older than that was told of before
        self._left: set[tuple[str, str]] = set()  # told of by a watcher that died before it put it back
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._sight.close()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    # --- the thread that judges ------------------------------------------------------
    def _run(self) -> None:
        next_look, said = 0.0, ""
        while not self._stop.is_set():
            try:
                if time.monotonic() >= next_look:
                    self.refresh()
                    self.guard()
                    next_look = time.monotonic() + _LOOK_AT_STORE_SECONDS
                self.work(_TICK_SECONDS)
                said = ""
            except Exception as error:  # whatever it is, a watcher that ends in silence would see nothing more
                words = str(error) if isinstance(error, RingfenceError) else f"{type(error).__name__}: {error}"
                if words != said:
                    self._say(f"the watcher could not go on: {words}")
                said = words
                self._stop.wait(1.0)

    def refresh(self) -> None:
        """Take up what the store says is held now. Raises StoreError."""
        with self._context.store.read() as session:
            fresh = watched.heads(session, self._context.cluster_id).keys() - self._incidents.keys()
            for name in fresh:
                due = [key for key, state in watched.of_incident(session, name).items() if state.get("due")]
                self._left |= {(name, key) for key in due}
        for name in sorted(fresh):
            settle(self._context, name)
        with self._context.store.read() as session:
            heads = watched.heads(session, self._context.cluster_id)
            for gone in self._incidents.keys() - heads.keys():
                del self._incidents[gone]
            changed = [
                name for name, seq in heads.items() if name not in self._incidents or self._incidents[name].seq != seq
            ]
            for name in changed:
                incident = incidents.get(session, name)
                records = journal.of_incident(session, name)
                members = targets.of_incident(session, name)
                found = [(ref, targets.as_found(session, name, ref.uid)) for ref in members]
                self._incidents[name] = _Incident(
                    incident, heads[name], held(name, members, records), records, watched.of_incident(session, name)
                )
                self._take_up_workloads(self._incidents[name], found)
        places = frozenset(one.place for incident in self._incidents.values() for one in incident.held)
        if changed or places != self._places:
            self._places = places
            self._sight.follow(places)
            for name in changed:
                one = self._incidents[name]
                self._look_at(one.held)
                if self._said.get(name) != len(one.held):
                    self._said[name] = len(one.held)
                    self._say(f"{name}: {len(one.held)} {'thing is' if len(one.held) == 1 else 'things are'} watched")

    def guard(self) -> None:
        """Where it is configured: bring the guard of each incident that moved on to what is fenced now."""
        if not self._options.guard:
            return
        with self._context.store.read() as session:
            who = incidents.subjects(session, self._context.principal.issuer)
        for name, one in self._incidents.items():
            fenced = frozenset(thing.key for thing in one.held if thing.record and thing.ref.kind == POD.kind)
            wanted = (one.incident.state.over, fenced, who)
            known, again_at = self._guarded.get(name, (None, 0.0))
            if known == wanted and time.monotonic() < again_at:
                continue
            try:
                outcome = tend(self._context, one.incident, self._options.call)
            except PlatformError as error:
                self._say(f"{name}: not guarded: {error}")
            else:
                if outcome is not None:
                    self._say(f"{name}: guard: {describe(outcome)}")
            self._guarded[name] = (wanted, time.monotonic() + _GUARD_AGAIN_SECONDS)

    def _take_up_workloads(self, one: _Incident, found: Iterable[tuple[ObjectRef, Json | None]]) -> None:
        for ref, pod in found:
            if ref.kind != POD.kind or pod is None:
                continue
            if ref.uid not in self._owners:
                try:
                    chain = owner_chain(self._context.cluster, self._context.cluster_id, pod)
                except PlatformError:
                    continue  # it is tried again when the incident moves on
                top = [owner.ref for owner in chain if owner.obj is not None and owner.ref.kind != REPLICA_SET.kind]
                self._owners[ref.uid] = top[-1] if top else None
            workload = self._owners[ref.uid]
            if workload is not None and all(known.ref.uid != workload.uid or known.record for known in one.held):
                one.held = (*one.held, Held(one.incident.id, workload, workload=True))

    def work(self, wait_seconds: float) -> bool:
        """Judge what was seen, one object; False when there was none in that time."""
        if self._sight.overflowed():
            for incident in list(self._incidents.values()):
                self._look_at(incident.held)
            return True
        item = self._sight.next(wait_seconds)
        if item is None:
            return False
        if item.live is None and item.seen_by == "list":
            # The list may be older than what is held now: whether it is gone is asked for.
            self._look_at(one for each in self._incidents.values() for one in each.held if one.place == item.place)
        else:
            self._seen(item.place, item.live, item.seen_by)
        return True

    def _look_at(self, wanted: Iterable[Held]) -> None:
        """Read these objects now. One that cannot be read is left to its stream."""
        read: dict[Place, Json | None] = {}
        for one in wanted:
            if one.place not in read:
                resource = KNOWN[one.ref.api_version, one.ref.kind]
                try:
                    read[one.place] = self._context.cluster.find(resource, one.ref.namespace, one.ref.name)
                except PlatformError:
                    continue
        for place, live in read.items():
            self._seen(place, live, "list")

    def _tell_of(self, words: str) -> None:
        if not self._stop.is_set():
            self._say(words)

    def _policy_turned(self, namespace: str) -> None:
        """Somebody else's policy may open a fenced pod, or shut it: the ways in are looked at again."""
        for name, one in list(self._incidents.items()):
            if any(held_one.ref.kind == POD.kind and held_one.ref.namespace == namespace for held_one in one.held):
                self._look_again(name)

    # --- judging ---------------------------------------------------------------------
    def _seen(self, place: Place, live: Json | None, seen_by: SeenBy) -> None:
        if live is not None and version_of(live) < self._since.get(place, 0):
            return
        for one in list(self._incidents.values()):
            for thing in one.held:
                if thing.place == place:
                    self._judge(one, thing, live, seen_by)

    def _judge(self, one: _Incident, thing: Held, live: Json | None, seen_by: SeenBy) -> None:
        state = one.states.get(thing.key)
        baseline = (state or {}).get("baseline")
        if thing.workload and baseline is None:
            if live is not None:
                self._keep(one, thing, {"broken": "", "baseline": fingerprint(live)})
            return
        broken = judge(thing, live, baseline)
        if broken is not None and thing.record is not None and self._is_the_pods_end(one, thing, live):
            return  # that the pod itself is gone is told once
        known = (state or {}).get("broken", "")
        words = f"{broken.what} {broken.detail}" if broken is not None else ""
        if broken is None and not known and live is not None and self._was_changed_back(one, thing, live, seen_by):
            return
        if words == known:
            if state is None:
                self._keep(one, thing, {"broken": "", "baseline": baseline})
            elif broken is not None and (one.incident.id, thing.key) in self._left and self._options.put_back:
                self._left.discard((one.incident.id, thing.key))
                self._put_back(one, thing, state)
            return
        if broken is None:
            self._restored(one, thing, live)
            return
        if self._was_us(one, thing):
            if thing.workload and live is not None:
                self._keep(one, thing, {"broken": "", "baseline": fingerprint(live)})
            return
        who = blame(self._context, thing.ref, live, deletion=live is None or broken.what in ("was deleted",))
        if thing.workload and who.by_autoscaler and live is not None:
            self._keep(one, thing, {"broken": "", "baseline": fingerprint(live)})
            return
        self._tell(one, thing, broken, live, who, seen_by, words)

    def _tell(
        self,
        one: _Incident,
        thing: Held,
        broken: Broken,
        live: Json | None,
        who: Blame,
        seen_by: SeenBy,
        words: str,
    ) -> None:
        event = FencedChanged(
            occurred_at=now(),
            actor="ringfence",
            ref=thing.ref,
            what=broken.what,
            detail=broken.detail,
            change=thing.change,
            who=who.who,
            how_known=who.how_known,
            seen_by=seen_by,
            audit_id=who.audit_id,
        )
        # What a workload is now is what its next change is measured by; a pod or a policy is measured by the incident.
        state: Json = {"broken": words, "baseline": None}
        if thing.workload:
            state = {"broken": "", "baseline": fingerprint(live)} if live is not None else {**state, "baseline": {}}
        due = self._options.put_back and may_be_put_back(thing, broken, live, one.incident.fence)
        if due:
            state["due"] = True
        self._write_down(one, thing, event, state)
        self._say(f"{one.incident.id}: {event.words}")
        if due:
            self._put_back(one, thing, state)
        self._look_again(one.incident.id)

    def _was_changed_back(self, one: _Incident, thing: Held, live: Json, seen_by: SeenBy) -> bool:
        """What is as it is held, and was something else while nobody watched, is told: once for each time."""
        owner = set_anew_by(thing.record, live) if thing.record is not None else None
        state = one.states.get(thing.key) or {"broken": "", "baseline": None}
        if owner is None or state.get("taken") == list(owner) or self._was_us(one, thing):
            return False
        event = owner.took(thing, now(), seen_by)
        self._write_down(one, thing, event, {**state, "taken": list(owner)})
        self._say(f"{one.incident.id}: {event.words}")
        self._look_again(one.incident.id)
        return True

    def _put_back(self, one: _Incident, thing: Held, state: Json) -> None:
        outcome = put_back(self._context, one.incident, thing, hourly=self._options.put_back_hourly)
        self._say(f"{one.incident.id}: put back {thing.ref}: {describe(outcome)}")
        if is_done(outcome):
            self._note_version(thing)
            self._restored(one, thing, None, "Ringfence put it back")
        else:
            self._keep(one, thing, {name: value for name, value in state.items() if name != "due"})

    def _restored(self, one: _Incident, thing: Held, live: Json | None, why: str = "somebody else put it back") -> None:
        state: Json = {"broken": "", "baseline": None}
        owner = set_anew_by(thing.record, live) if thing.record is not None and live is not None else None
        if owner is not None:
            state["taken"] = list(owner)  # that was seen, and told
        event = FenceRestored(occurred_at=now(), actor="ringfence", ref=thing.ref, change=thing.change, why=why)
        self._write_down(one, thing, event, state)
        self._say(f"{one.incident.id}: {thing.ref} is as it was held again: {why}")
        self._look_again(one.incident.id)

    def _write_down(self, one: _Incident, thing: Held, event: FencedChanged | FenceRestored, state: Json) -> None:
        """What is told, and what it is told by, at once: a watcher that dies tells it neither twice nor never."""
        with self._context.store.write() as session:
            timeline.append(session, one.incident.id, event, event.occurred_at)
            watched.put(session, one.incident.id, thing.key, state, event.occurred_at)
        one.states[thing.key] = state

    def _note_version(self, thing: Held) -> None:
        try:
            resource = KNOWN[thing.ref.api_version, thing.ref.kind]
            live = self._context.cluster.find(resource, thing.ref.namespace, thing.ref.name)
        except PlatformError:
            return
        if live is not None:
            self._since[thing.place] = version_of(live)

    def _keep(self, one: _Incident, thing: Held, state: Json) -> None:
        if one.states.get(thing.key) == state:
            return
        with self._context.store.write() as session:
            watched.put(session, one.incident.id, thing.key, state, now())
        one.states[thing.key] = state

    def _is_the_pods_end(self, one: _Incident, thing: Held, live: Json | None) -> bool:
        if thing.ref.kind != POD.kind:
            return False
        own = next((other for other in one.held if other.record is None and other.place == thing.place), None)
        return own is not None and judge(own, live, None) is not None

    def _was_us(self, one: _Incident, thing: Held) -> bool:
        """Whether our own journal, of any incident of the cluster, has since changed the same, or is about to."""
        with self._context.store.read() as session:
            records = [
                record
                for incident in incidents.newest_first(session)
                if incident.cluster == self._context.cluster_id
                for record in journal.of_incident(session, incident.id)
            ]
            if incidents.get(session, one.incident.id).state.over:
                return True
        same = [record for record in records if place_of(record.change.ref) == thing.place]
        if thing.record is not None:
            return is_overtaken(thing.record, same)
        if thing.workload:
            since = (now() - record.intended_at for record in same)
            return any(age.total_seconds() < 120 for age in since)
        destroying = ("pod.delete", "pod.release", "workload.")
        return any(record.action.startswith(destroying) for record in records if record.incident == one.incident.id)
