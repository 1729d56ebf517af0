"""``ringfence watch``: what goes on while nobody types. The conductor's own threads carry commands, runs and pages."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from ringfence.errors import RingfenceError
from ringfence.model.access import verdict
from ringfence.model.incident import Incident, State
from ringfence.response.context import Context
from ringfence.response.statement import retest
from ringfence.response.watching.helpers import Sweeper
from ringfence.response.watching.watcher import Options, Watcher
from ringfence.store import incidents

_RETEST_SECONDS = 30.0


class Resident:
    """Looks again at every incident that is being fought, at intervals and when the watcher saw something, and says
    what turned."""

    def __init__(
        self,
        context: Context,
        say: Callable[[str], None],
        *,
        every_seconds: float = _RETEST_SECONDS,
        options: Options | None = None,
    ) -> None:
        self._context = context
        self._say = say
        self._every = every_seconds
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._known: dict[str, str] = {}
        self._sweeper = Sweeper(context, say)
        self._watcher = Watcher(context, say, self._wanted.put, options)

    def run(self) -> None:
        """Until ``stop`` is called, or the process is interrupted."""
        self._watcher.start()
        try:
            due = time.monotonic()
            while True:
                wanted = self._wait(due - time.monotonic())
                if None in wanted:
                    return
                if time.monotonic() >= due:
                    self._sweeper.sweep()
                    self.look()
                    due = time.monotonic() + self._every
                elif wanted:
                    self.look({name for name in wanted if name is not None})
        finally:
            self._watcher.close()

    def stop(self) -> None:
        self._wanted.put(None)

    def look(self, names: set[str] | None = None) -> None:
        """One round over this cluster's open incidents, or these. One that cannot be read is said, and tried anew."""
        with self._context.store.read() as session:
            fought = [
                incident
                for incident in incidents.newest_first(session)
                if incident.cluster == self._context.cluster_id and incident.state is not State.CLOSED
            ]
        for incident in fought:
            if names is None or incident.id in names:
                self._look_at(incident)

    def _look_at(self, incident: Incident) -> None:
        try:
            statement = retest(self._context, incident)
        except RingfenceError as error:
            self._say(f"{incident.id}: could not be looked at: {error}")
            return
        words = statement.why or verdict(statement.rows).value
        if self._known.get(incident.id) != words:
            self._known[incident.id] = words
            self._say(f"{incident.id}: {words}")

    def _wait(self, seconds: float) -> set[str | None]:
        """What was asked for, each once; empty when the time is up first."""
        wanted: set[str | None] = set()
        try:
            wanted.add(self._wanted.get(timeout=max(0.0, seconds)) if seconds > 0 else self._wanted.get_nowait())
            while True:
                wanted.add(self._wanted.get_nowait())
        except queue.Empty:
            return wanted
