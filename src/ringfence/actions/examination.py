"""Carrying out one examination: start the pods, have every path tried in three phases, take everything away again.

Knows no store: each mutating request is handed to ``send``, which journals and applies it. Whatever happens, what was
asked for is looked for and deleted at the end; what is not seen to be gone is named.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeAlias, assert_never

from ringfence.actions.tries import CANARY, Greeted, Tries, seen, tries
from ringfence.errors import Denied, ExitCode, PlatformError, RingfenceError, StoreError
from ringfence.model.base import Json
from ringfence.model.canary import CanaryPath, CanaryReport, Seen
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Already, Applied, Failed, Outcome, Refused, Skipped, Unknown, describe
from ringfence.model.plan import Change, Verb
from ringfence.platform.kubernetes import canaries, canary_output
from ringfence.platform.kubernetes.canaries import CANARY_KEY, CONTAINER, Phase, PodOptions
from ringfence.platform.kubernetes.canary_output import Output
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.resources import POD, resource_of
from ringfence.platform.kubernetes.selectors import labels_of, printable

Send: TypeAlias = Callable[[Change], Outcome]
"""Journals and applies one change, once; a change's ``id`` is new for each examination."""

_POLL_SECONDS = 0.3
_STALLED_SECONDS = 5.0
"""For so long no further path has opened: the others are taken for shut without any fence."""
_GONE_SECONDS = 30.0
_DELETES = 3


class NotPossible(RingfenceError):
    """The fence cannot be tried in this way, here or now."""

    code = "canary-not-possible"
    exit_code = ExitCode.INCOMPLETE


class Member(NamedTuple):
    """A pod to be: its role, and the request that makes it."""

    role: str
    create: Change


@dataclass(frozen=True)
class Draft:
    """Everything that an examination starts from. ``destinations`` are asked for by the configuration; ``basis`` reads
    what is examined anew and gives its fingerprint."""

    target: ObjectRef
    shared: PodOptions
    fence: tuple[str, str]
    node: str
    policies: tuple[Change, ...]
    members: tuple[Member, ...]
    services: tuple[Json, ...]
    destinations: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...]
    basis: Callable[[], str]


@dataclass
class _Pod:
    member: Member
    live: Json = field(default_factory=dict)
    output: Output = field(default_factory=Output)


class Examination:
    """One run of a draft. Used once, by one thread."""

    def __init__(self, cluster: Cluster, draft: Draft, send: Send, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._draft = draft
        self._send = send
        self._now = now
        self._asked_for: dict[str, tuple[ObjectRef, bool]] = {}
        self._pods: dict[str, _Pod] = {}
        self._tries = Tries({}, (), ())
        self._seen: dict[Phase, tuple[Seen, ...]] = {}
        self._notes = list(draft.notes)
        self._left: list[str] = []
        self._basis = ""
        self._tried_at: datetime | None = None

    def run(self, leftovers: Sequence[Change] = ()) -> CanaryReport:
        """``leftovers`` are deletes of what a former attempt left behind; they come first.

        What goes wrong is the report's ``why``. Raises StoreError alone, once everything was taken away.
        """
        started, why = self._now(), ""
        try:
            for change in leftovers:
                self._clear(change)
            self._begin()
            self._examine()
        except StoreError:
            raise  # nothing can be journalled any more
        except RingfenceError as error:
            why = printable_words(error)
        finally:
            left = self._remove()
        ended = self._now()
        paths = self._paths(ended)
        return CanaryReport(
            target=self._draft.target,
            canary=self._draft.shared.id,
            image=self._draft.shared.image,
            node=self._draft.node,
            basis=self._basis,
            started_at=started,
            ended_at=ended,
            paths=paths,
            why=why or ("" if paths else "there was no path to try"),
            notes=tuple(self._notes),
            left_behind=(*self._left, *left),
        )

    # --- the three phases --------------------------------------------------------
    def _begin(self) -> None:
        for change in self._draft.policies:
            try:
                self._make(change)
            except NotPossible as error:
                if change.needed:
                    raise
                self._notes.append(str(error))
        for member in self._draft.members:
            try:
                self._make(member.create)
            except NotPossible as error:
                self._without(member.role, str(error))
                continue
            self._pods[member.role] = _Pod(member)
        greeted = self._greet()
        self._tries = tries(
            self._draft.shared.id,
            greeted[CANARY],
            [greeted[member.role] for member in self._draft.members[1:] if member.role in greeted],
            self._draft.services,
            self._draft.destinations,
        )
        self._notes += self._tries.notes

    def _examine(self) -> None:
        self._phase("control")
        if Seen.OPEN not in self._seen["control"]:
            raise NotPossible(
                "no path was open without the fence: a refusal behind it would prove nothing",
                next_step="see what else stops the canary's traffic",
            )
        self._basis = self._draft.basis()
        self._phase("fenced", fence=self._draft.fence)
        self._tried_at = self._now()
        if self._draft.basis() != self._basis:
            raise NotPossible("the pod's labels or its policies were changed while the fence was tried")
        if any(self._shut()):
            self._phase("again", fence=(self._draft.fence[0], None))

    def _phase(self, phase: Phase, *, fence: tuple[str, str | None] | None = None) -> None:
        """Tell every pod, the canary first, then listen until it is clear what the phase comes to."""
        for role, pod in sorted(self._pods.items(), key=lambda item: item[0] != CANARY):
            label = fence if role == CANARY else None
            self._do(
                Change(
                    id=f"{phase}-{role}-{self._draft.shared.id}",
                    ref=ObjectRef.of(self._draft.target.cluster, pod.live),
                    verb=Verb.PATCH,
                    body=canaries.told(pod.live, phase, self._tries.orders[role], fence=label),
                    prior=pod.live,
                    effect=_effect(phase, role),
                )
            )
        began = changed = time.monotonic()
        known: tuple[Seen, ...] = ()
        while True:
            self._listen()
            found = self._come_to(phase)
            if found != known:
                known, changed = found, time.monotonic()
            self._seen[phase] = found
            stalled = phase != "fenced" and Seen.OPEN in found and time.monotonic() - changed > _STALLED_SECONDS
            if self._settled(phase) or stalled or time.monotonic() - began > self._draft.seconds:
                return
            time.sleep(_POLL_SECONDS)

    def _settled(self, phase: Phase) -> bool:
        """Whether more tries would not change what the phase comes to."""
        found = self._seen[phase]
        match phase:
            case "control":
                return all(one is Seen.OPEN for one in found)
            case "fenced":
                opened = self._seen["control"]
                return all(now is Seen.SHUT for now, then in zip(found, opened, strict=True) if then is Seen.OPEN)
            case "again":
                return all(now is Seen.OPEN for now, shut in zip(found, self._shut(), strict=True) if shut)
            case _:
                assert_never(phase)

    def _shut(self) -> tuple[bool, ...]:
        """Which ways were open, and are shut behind the fence."""
        both = zip(self._seen["control"], self._seen["fenced"], strict=True)
        return tuple(pair == (Seen.OPEN, Seen.SHUT) for pair in both)

    def _come_to(self, phase: Phase) -> tuple[Seen, ...]:
        outputs = {role: pod.output for role, pod in self._pods.items()}
        return tuple(seen(way, outputs, phase) for way in self._tries.ways)

    def _paths(self, ended: datetime) -> tuple[CanaryPath, ...]:
        phases: tuple[Phase, ...] = ("control", "fenced", "again")
        none = (Seen.NOT_SEEN,) * len(self._tries.ways)
        columns = [self._seen.get(phase, none) for phase in phases]
        at = self._tried_at or ended
        return tuple(
            CanaryPath(row=way.row, way=way.words, control=control, fenced=fenced, again=again, at=at)
            for way, control, fenced, again in zip(self._tries.ways, *columns, strict=True)
        )

    # --- the pods ----------------------------------------------------------------
    def _greet(self) -> dict[str, Greeted]:
        """Wait for every pod's first line. A peer that does not come is gone without; the canary must."""
        if CANARY not in self._pods:
            raise NotPossible(self._notes[-1])
        end = time.monotonic() + self._draft.seconds
        greeted: dict[str, Greeted] = {}
        while missing := [role for role in self._pods if role not in greeted]:
            for role in missing:
                pod = self._pods[role]
                pod.live = self._cluster.get(POD, pod.member.create.ref.namespace, pod.member.create.ref.name)
                why = canaries.hopeless(pod.live)
                if not why and (one := self._hear(role, pod)) is not None:
                    greeted[role] = one
                elif why or time.monotonic() > end:
                    self._without(role, why or f"it did not begin within {self._draft.seconds:g} s")
                    del self._pods[role]
            time.sleep(_POLL_SECONDS if len(greeted) < len(self._pods) else 0)
        return greeted

    def _hear(self, role: str, pod: _Pod) -> Greeted | None:
        status = pod.live.get("status") or {}
        if status.get("phase") != "Running" or not status.get("podIP"):
            return None
        pod.output = self._read(pod, 0)
        if pod.output.hello is None:
            return None
        try:
            address = str(ipaddress.ip_address(status["podIP"]))
        except ValueError as error:
            raise NotPossible(f"the address of {role} is none") from error
        meta, node = pod.live["metadata"], str(pod.live["spec"].get("nodeName", ""))
        return Greeted(role, meta["namespace"], node, address, pod.output.hello)

    def _listen(self) -> None:
        for role, pod in self._pods.items():
            pod.output = self._read(pod, len(self._tries.orders[role]))

    def _read(self, pod: _Pod, orders: int) -> Output:
        meta = pod.live["metadata"]
        try:
            with self._cluster.log(meta["namespace"], meta["name"], CONTAINER, read_timeout_seconds=10.0) as chunks:
                raw = canary_output.collect(chunks)
        except Denied:
            raise
        except PlatformError:
            return pod.output  # asked again; the phase has its end
        return canary_output.parse(raw, self._draft.shared.id, orders)

    def _without(self, role: str, why: str) -> None:
        if role == CANARY:
            raise NotPossible("the canary could not be started", why=why)
        namespace = next(m.create.ref.namespace for m in self._draft.members if m.role == role)
        self._notes.append(f"no peer in namespace {printable(namespace)}: {why}")

    # --- requests ----------------------------------------------------------------
    def _make(self, change: Change) -> None:
        # Noted before it is sent: whatever the answer is, it may be there.
        self._asked_for[change.id] = (change.ref, True)
        outcome = self._send(change)
        self._asked_for[change.id] = (change.ref, isinstance(outcome, Unknown))
        self._insist(change, outcome)

    def _clear(self, change: Change) -> None:
        try:
            self._do(change)
        except NotPossible as error:
            self._left.append(f"{change.ref}, of a former attempt: {printable_words(error)}")

    def _do(self, change: Change) -> None:
        self._insist(change, self._send(change))

    def _insist(self, change: Change, outcome: Outcome) -> None:
        match outcome:
            case Applied() | Already():
                return
            case Skipped() | Refused() | Failed() | Unknown():
                raise NotPossible(f"{change.effect}: {describe(outcome)}")
            case _:
                assert_never(outcome)

    def _remove(self) -> tuple[str, ...]:
        left: list[str] = []
        waited_for: list[ObjectRef] = []
        for ref, unknown in self._asked_for.values():
            try:
                live = self._find(ref)
                if live is None and unknown:
                    left.append(f"{ref}: not there now, but its creation was not answered")
                elif live is not None:
                    waited_for.append(self._delete(live))
            except RingfenceError as error:
                left.append(f"{ref}: {printable_words(error)}")
        end = time.monotonic() + _GONE_SECONDS
        while waited_for and time.monotonic() < end:
            with contextlib.suppress(PlatformError):  # asked again until the end
                waited_for = [ref for ref in waited_for if self._find(ref) is not None]
            time.sleep(_POLL_SECONDS if waited_for else 0)
        return (*left, *(f"{ref}: deleted, and still there after {_GONE_SECONDS:g} s" for ref in waited_for))

    def _find(self, ref: ObjectRef) -> Json | None:
        """The object of that name, if it is this examination's."""
        live = self._cluster.find(resource_of(ref), ref.namespace, ref.name)
        return live if live is not None and labels_of(live).get(CANARY_KEY) == self._draft.shared.id else None

    def _delete(self, live: Json) -> ObjectRef:
        for attempt in range(1, _DELETES + 1):
            change = removal(self._draft.target.cluster, live, f"-{attempt}")
            try:
                self._do(change)
            except NotPossible:
                if attempt == _DELETES:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                break
        return change.ref


def removal(cluster_id: str, live: Json, suffix: str = "") -> Change:
    """The delete of one object of a canary. Each attempt has an id of its own, for the journal."""
    ref = ObjectRef.of(cluster_id, live)
    return Change(
        id=f"remove-{ref.kind.lower()}-{ref.namespace}-{ref.name}{suffix}",
        ref=ref,
        verb=Verb.DELETE,
        prior=live,
        needed=False,
        effect=f"{ref}, which was made to try the fence, is deleted",
    )


def printable_words(error: RingfenceError) -> str:
    """An error in one line that a terminal can bear: parts of it are the words of others."""
    return "".join(char if char.isprintable() else " " for char in str(error))[:500]


def _effect(phase: Phase, role: str) -> str:
    who = "the canary" if role == CANARY else "a peer of the canary"
    match phase:
        case "control":
            return f"{who} begins to try its paths"
        case "fenced":
            return "the canary gets the fence label" if role == CANARY else f"{who} tries the fence"
        case "again":
            return "the canary loses the fence label" if role == CANARY else f"{who} tries its paths once more"
        case _:
            assert_never(phase)
