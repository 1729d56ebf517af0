"""``ringfence watch``: what goes on while nobody types. The conductor's own thread carries commands and runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ringfence.errors import RingfenceError
from ringfence.model.access import verdict
from ringfence.model.incident import State
from ringfence.response.context import Context
from ringfence.response.statement import retest
from ringfence.store import incidents

_RETEST_SECONDS = 30.0


class Resident:
    """Looks again at every incident that is being fought, and says what turned."""

    def __init__(self, context: Context, say: Callable[[str], None], *, every_seconds: float = _RETEST_SECONDS) -> None:
        self._context = context
        self._say = say
        self._every = every_seconds
        self._stop = threading.Event()
        self._known: dict[str, str] = {}

    def run(self) -> None:
        """Until ``stop`` is called, or the process is interrupted."""
        while True:
            self.look()
            if self._stop.wait(self._every):
                return

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """One round over this cluster's open incidents. One that cannot be read is said, and tried anew."""
        with self._context.store.read() as session:
            fought = [
                incident
                for incident in incidents.newest_first(session)
                if incident.cluster == self._context.cluster_id and incident.state is not State.CLOSED
            ]
        for incident in fought:
            try:
                statement = retest(self._context, incident)
            except RingfenceError as error:
                self._say(f"{incident.id}: could not be looked at: {error}")
                continue
            words = statement.why or verdict(statement.rows).value
            if self._known.get(incident.id) != words:
                self._known[incident.id] = words
                self._say(f"{incident.id}: {words}")
