"""The engine as the rest of the program sees it.

A workflow's body is deterministic but for its steps: it asks no clock, no random source and no database outside a
step, because it is run again from the top after a crash, with the recorded results in place of the steps that ended.
A step runs at least once: what it does outside must bear being done twice, or look first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, Protocol

from ringfence.errors import ExitCode, RingfenceError
from ringfence.model.base import Json

State = Literal["absent", "running", "done", "failed"]

WIDTH = 16
"""Works of one ``each`` that are in flight at the same time."""


class EngineError(RingfenceError):
    """The engine cannot run, or cannot record what it ran."""

    code = "engine"
    exit_code = ExitCode.STORAGE


class EngineBusy(EngineError):
    """Another process (or another engine in this one) runs the workflows of this store. ``holder`` says which."""

    code = "engine-busy"

    def __init__(self, holder: str) -> None:
        super().__init__(
            "another process carries out this store's runs",
            why=holder,
            next_step="let it go on (it takes commands from the store), or stop it and try again",
        )
        self.holder = holder


class RunFailed(EngineError):
    """A workflow ended in an error of its own; ``why`` is the error's text."""

    code = "run-failed"
    exit_code = ExitCode.INTERNAL


class StepFailed(EngineError):
    """A step's work raised. The same error, with the same text, when the step is replayed from its record."""

    code = "step-failed"
    exit_code = ExitCode.INTERNAL


class Halted(BaseException):
    """The engine stops carrying out this workflow here and now: it is closing, or cannot record a step.

    No ``Exception``, so that no body takes it for its step's failure and goes on. The workflow is resumed at the next
    launch.
    """


class Scope(Protocol):
    """What a body may do besides computing. Used on the thread that runs the body, never within a step."""

    id: str
    """The workflow's id."""

    def step(self, name: str, work: Callable[[], Json]) -> Json:
        """The result of ``work``, recorded before it is returned; on replay the record, without calling ``work``.

        ``work`` runs at least once. Raises StepFailed when it raised (recorded, too) or returned what is not JSON.
        """
        ...

    def each(self, name: str, works: Sequence[Callable[[], Json]], *, width: int = WIDTH) -> tuple[Json, ...]:
        """One step of many works, ``width`` at a time on threads of their own. Their results in order, recorded as one.

        Each is done at least once, and once more when the process dies before the last has ended. When some raise, the
        others are still carried to their end; then StepFailed says how many, and why. Once the engine is closing, none
        begins.
        """
        ...


Body = Callable[[Scope, Json], Json]
"""A workflow: the payload in, the result out."""


class Engine(Protocol):
    """Runs registered workflows and records their steps. One launched engine in a process."""

    def register(self, name: str, body: Body) -> None:
        """Make ``body`` known as ``name``; before ``launch``, each name once."""
        ...

    def launch(self, before: Callable[[], None] | None = None) -> None:
        """Take the store's engine lock and carry on what an earlier process left. May run on any thread.

        ``before`` is called once the lock is held and before anything is carried on: what is left is the caller's to
        make its own.
        Raises EngineBusy when somebody else holds the lock, EngineError when the database cannot be used.
        """
        ...

    def start(self, workflow: str, id: str, payload: Json) -> None:  # noqa: A002
        """Begin a workflow. One of this id that was ever begun is left as it is, or carried on where it was halted."""
        ...

    def wait(self, id: str, timeout_seconds: float | None = None) -> Json | None:  # noqa: A002
        """The result, or None when time is up.

        Raises RunFailed when the workflow failed, EngineError when there is none of this id or it was halted.
        """
        ...

    def state(self, id: str) -> State:  # noqa: A002
        """How far the workflow is. A halted one is ``running``: the next launch carries it on."""
        ...

    def prune(self, before: datetime, may_go: Callable[[str], bool], *, most: int = 500) -> int:
        """Remove what is recorded of workflows that ended before a moment, ``most`` at a time; how many were removed.

        ``may_go`` is asked for each by its id. One that has not ended stays, whatever it says.
        Raises EngineError.
        """
        ...

    def close(self, wait_seconds: float = 5.0) -> None:
        """Stop: workflows halt before their next step and stay resumable; steps in flight get ``wait_seconds``.

        The lock is kept for as long as a step outlives that, so that nobody carries on beside it.
        """
        ...
