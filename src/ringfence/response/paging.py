"""Sending what lies in the outbox of pages: who gets which, what is tried again, and what goes on to the next contact.

In a thread of its own beside the engine: no page stands before a cut. What cannot be delivered is said on the screen,
by ``doctor`` and here, and is tried again for a day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ringfence.errors import ConfigError, RingfenceError
from ringfence.model.incident import Severity
from ringfence.model.page import Draft, Page, PageKind
from ringfence.platform import notify
from ringfence.response.context import now
from ringfence.store import pages
from ringfence.store.database import Store

_EVERY_SECONDS = 1.0
_HELD_FOR = timedelta(seconds=60)
"""How long one try of one page can take, all its receivers together."""
_AT_ONCE = 5
_FIRST_WAIT = timedelta(seconds=5)
_LONGEST_WAIT = timedelta(minutes=10)
_GIVEN_UP = timedelta(hours=24)
_NEXT = {
    PageKind.LEASE_OVERDUE: "still nobody has looked again",
    PageKind.APPROVAL_WAITS: "still nobody has decided",
}
_RANK = {severity: rank for rank, severity in enumerate((Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL))}


@dataclass(frozen=True)
class Receiver:
    """Where pages go. ``url`` reads the secret; it raises ConfigError. No role: whoever is on call; no kind: all."""

    name: str
    url: Callable[[], str]
    roles: frozenset[str] = frozenset()
    kinds: frozenset[PageKind] = frozenset()
    min_severity: Severity = Severity.MEDIUM

    def takes(self, kind: PageKind, severity: Severity) -> bool:
        return (not self.kinds or kind in self.kinds) and _RANK[severity] >= _RANK[self.min_severity]


@dataclass(frozen=True)
class Rota:
    """Who is paged. ``contacts``: roles in the order in which they are called."""

    receivers: tuple[Receiver, ...] = ()
    contacts: tuple[str, ...] = ()
    escalate_after: timedelta = field(default=timedelta(minutes=15))

    def at(self, level: int, kind: PageKind, severity: Severity) -> tuple[Receiver, ...]:
        """Who gets such a page at that level: the receivers of the level's contact, and those that are nobody's."""
        called = self._called(kind, severity)
        role = called[level] if level < len(called) else None
        return tuple(
            one for one in self.receivers if one.takes(kind, severity) and (not one.roles or role in one.roles)
        )

    def levels(self, kind: PageKind, severity: Severity) -> int:
        """How many contacts can be paged one after the other; one where receivers are nobody's."""
        return max(1, len(self._called(kind, severity)))

    def unreachable(self) -> tuple[str, ...]:
        """Contacts whom no receiver reaches."""
        return tuple(role for role in self.contacts if not any(role in one.roles for one in self.receivers))

    def _called(self, kind: PageKind, severity: Severity) -> list[str]:
        return [
            role
            for role in dict.fromkeys(self.contacts)
            if any(role in one.roles and one.takes(kind, severity) for one in self.receivers)
        ]


@dataclass(frozen=True)
class Tried:
    """One receiver's answer; ``problem`` is empty when it took the message."""

    receiver: str
    problem: str


def send(receiver: Receiver, title: str, body: str, *, failure: bool = True) -> Tried:
    """One message to one receiver. Raises nothing."""
    try:
        url = receiver.url()
    except ConfigError as error:
        return Tried(receiver.name, str(error))
    return Tried(receiver.name, notify.send(url, title, body, failure=failure))


def try_out(rota: Rota, role: str) -> tuple[Tried, ...]:
    """A test message to every receiver, or to those of one contact. Raises ConfigError when there is none."""
    chosen = [one for one in rota.receivers if not role or role in one.roles]
    if not chosen:
        raise ConfigError(
            f"nobody can be paged as {role}" if role else "nobody can be paged",
            location="notify.to",
            why=f"there are receivers for {', '.join(sorted({r for one in rota.receivers for r in one.roles})) or '-'}"
            if rota.receivers
            else "there is no receiver",
            next_step="notify.to in the configuration",
        )
    words = f"This is a test{f' for {role}' if role else ''}: pages of Ringfence arrive here. There is nothing to do."
    return tuple(send(one, "Ringfence: test page", words, failure=False) for one in chosen)


class Pager:
    """The thread that empties the outbox while this process runs the engine."""

    def __init__(self, store: Store, rota: Rota, say: Callable[[str], None]) -> None:
        self._store = store
        self._rota = rota
        self._say = say
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._told = ""

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pager", daemon=True)
            self._thread.start()

    def close(self, wait_seconds: float = 5.0) -> None:
        """One more round for what was written last, as far as it is quick; the rest stays in the outbox."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=wait_seconds)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(_EVERY_SECONDS)
            try:
                self.round(now())
            except RingfenceError as error:
                self._tell(f"pages could not be looked after: {error}")

    def round(self, moment: datetime) -> int:
        """Escalate, then send what is due; how many pages were tried. Raises StoreError."""
        with self._store.read() as session:
            late = [
                (page, draft)
                for kind in _NEXT
                for page in pages.unanswered(session, kind)
                if (draft := self._escalated(page, moment)) is not None
            ]
            idle = not late and not pages.is_due(session, moment)
        if idle:
            return 0
        with self._store.write() as session:
            for page, draft in late:
                pages.put(session, page.incident, page.severity, draft, moment, level=page.level + 1)
            due = pages.take_due(session, moment, held_for=_HELD_FOR, most=_AT_ONCE)
        for page in due:
            self._try(page, moment)
        return len(due)

    def _escalated(self, page: Page, moment: datetime) -> Draft | None:
        level = page.level + 1
        late = moment - page.created_at >= self._rota.escalate_after
        if not late or level >= self._rota.levels(page.kind, page.severity):
            return None
        title = page.title.removesuffix(f" ({_NEXT[page.kind]})")
        key = page.key.removesuffix(f"/level{page.level}")
        return Draft(page.kind, f"{key}/level{level}", f"{title} ({_NEXT[page.kind]})", page.body, page.subject)

    def _try(self, page: Page, moment: datetime) -> None:
        wanted = self._rota.at(page.level, page.kind, page.severity)
        answers = [send(one, page.title, page.body) for one in wanted if one.name not in page.delivered]
        delivered = (*page.delivered, *(one.receiver for one in answers if not one.problem))
        problem = "; ".join(f"{one.receiver}: {one.problem}" for one in answers if one.problem)
        closed = ""
        if not wanted:
            closed = "nobody is configured to be paged about it"
        elif not problem:
            closed = pages.SENT
        elif moment - page.created_at > _GIVEN_UP:
            closed = "given up after a day"
        if problem:
            self._tell(f"{page.incident}: a page was not delivered: {problem}")
        wait = min(_FIRST_WAIT * 2 ** min(page.tries - 1, 10), _LONGEST_WAIT)
        with self._store.write() as session:
            pages.tried(session, page, delivered=delivered, closed=closed, problem=problem, due_at=moment + wait)

    def _tell(self, words: str) -> None:
        if words != self._told:
            self._say(words)
        self._told = words


def undelivered(store: Store, incident: str = "") -> Sequence[Page]:
    """Pages that did not reach everybody who should have got them. Raises StoreError."""
    with store.read() as session:
        return pages.undelivered(session, incident)
