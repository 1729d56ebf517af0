"""What one process holds beside the store while it carries a run on: open log streams, questions, progress.

Nothing here is truth. After a crash it is empty, and every stage does without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ringfence.errors import EvidenceError, PlatformError
from ringfence.evidence.logs import LogCapture
from ringfence.model.incident import Incident
from ringfence.platform.kubernetes.client import Cluster
from ringfence.platform.kubernetes.snapshot import Snapshot
from ringfence.platform.kubernetes.surroundings import NamespaceReading, Surroundings

if TYPE_CHECKING:
    from ringfence.response.statement import Statement


def nobody(_falling: str) -> bool:
    """Nobody is there to be asked: the answer is no."""
    return False


@dataclass
class Capture:
    """What was read and opened for a pod before its cut. ``logs`` is the error when the vault cannot be used."""

    around: Surroundings
    logs: LogCapture | EvidenceError


@dataclass
class Live:
    """``ask`` is asked when customers would fall below the floor; ``say`` hears what goes on; ``on_cut`` of each cut.

    Several threads use it: each pod of a group has its own.
    """

    ask: Callable[[str], bool] = nobody
    say: Callable[[str], None] = lambda _words: None
    on_cut: Callable[[Incident], None] = lambda _incident: None
    captures: dict[tuple[str, str], Capture] = field(default_factory=dict)
    namespaces: dict[tuple[str, str], NamespaceReading | PlatformError] = field(default_factory=dict)
    enforcement: dict[str, str] = field(default_factory=dict)
    """What was seen of the cluster's NetworkPolicies, in words, when the run made its first plan."""
    views: dict[str, Snapshot] = field(default_factory=dict)
    looked: tuple[str, Statement] | None = None
    """The statement that the last step of a run came to, with the run; it need not be computed again to be shown."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when this process lets go of the engine: a stage that waits ends by it."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    turn: threading.Lock = field(default_factory=threading.Lock)
    """For stages whose targets share what is changed: what was done for the first is there already for the others."""

    def view(self, run: str, cluster: Cluster) -> Snapshot:
        """One look at the cluster for all pods that the run seals in this process."""
        with self.lock:
            return self.views.setdefault(run, Snapshot(cluster))

    def keep(self, run: str, uid: str, capture: Capture) -> None:
        with self.lock:
            self.captures[run, uid] = capture

    def take(self, run: str, uid: str) -> Capture | None:
        """What was captured for the pod in this process; it is used up by that."""
        with self.lock:
            return self.captures.pop((run, uid), None)

    def take_look(self, run: str) -> Statement | None:
        """The statement of the run's last step, once; None when that was another step, or in another process."""
        with self.lock:
            looked, self.looked = self.looked, None
            return looked[1] if looked is not None and looked[0] == run else None

    def forget(self, run: str) -> None:
        """The run ended here: what it left behind is of no use to anybody."""
        with self.lock:
            self.captures = {key: value for key, value in self.captures.items() if key[0] != run}
            self.namespaces = {key: value for key, value in self.namespaces.items() if key[0] != run}
            self.views.pop(run, None)
            self.enforcement.pop(run, None)
