"""The engine's port without durability: workflows run at once, in this thread. What survives a crash is shown elsewhere
(tests/crash), on the real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from ringfence.durable.port import Body, RunFailed, State

Json = dict[str, Any]


class InlineScope:
    def __init__(self, engine: InlineEngine, id: str) -> None:  # noqa: A002
        self.id = id
        self._engine = engine

    def step(self, name: str, work: Callable[[], Json]) -> Json:
        self._engine.steps.append(f"{self.id}:{name}")
        return work()

    def each(self, name: str, works: Sequence[Callable[[], Json]], *, width: int = 16) -> tuple[Json, ...]:
        self._engine.steps.append(f"{self.id}:{name}")
        return tuple(work() for work in works)


class InlineEngine:
    """``steps`` are the names of the steps in the order in which they ran."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self._bodies: dict[str, Body] = {}
        self._results: dict[str, Json] = {}
        self._errors: dict[str, Exception] = {}

    def register(self, name: str, body: Body) -> None:
        self._bodies[name] = body

    def launch(self, before: Callable[[], None] | None = None) -> None:
        if before is not None:
            before()

    def start(self, workflow: str, id: str, payload: Json) -> None:  # noqa: A002
        if id in self._results or id in self._errors:
            return
        try:
            self._results[id] = self.run(workflow, id, payload)
        except Exception as error:
            self._errors[id] = error

    def run(self, workflow: str, id: str, payload: Json) -> Json:  # noqa: A002
        return self._bodies[workflow](InlineScope(self, id), payload)

    def wait(self, id: str, timeout_seconds: float | None = None) -> Json | None:  # noqa: A002
        if id in self._errors:
            raise RunFailed(f"run {id} failed", why=str(self._errors[id])) from self._errors[id]
        return self._results[id]

    def state(self, id: str) -> State:  # noqa: A002
        return "failed" if id in self._errors else "done" if id in self._results else "absent"

    def prune(self, before: datetime, may_go: Callable[[str], bool], *, most: int = 500) -> int:
        gone = [id_ for id_ in (*self._results, *self._errors) if may_go(id_)][:most]
        for id_ in gone:
            self._results.pop(id_, None)
            self._errors.pop(id_, None)
        return len(gone)

    def close(self, wait_seconds: float = 5.0) -> None:
        pass
