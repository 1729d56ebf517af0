"""What a workflow's body is given: steps that are recorded.

Errors of the engine (a record that cannot be written, closing) leave as ``Halted``, past the body's ``except``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, cast

from ringfence.durable import codec
from ringfence.durable.port import WIDTH, Halted, StepFailed
from ringfence.model.base import Json

if TYPE_CHECKING:
    from ringfence.durable.engine import DbosEngine


class Diverged(Halted):
    """The body asks for other steps than are recorded: no launch of this code can carry it on."""


class WorkflowScope:
    """``Scope`` (port.py) of one execution of a workflow."""

    def __init__(self, engine: DbosEngine, id_: str) -> None:
        self.id = id_
        self._engine = engine
        self._thread = threading.get_ident()
        self._within = False

    def step(self, name: str, work: Callable[[], Json]) -> Json:
        self._enter()
        from dbos import DBOS
        from dbos import error as errors

        def recorded() -> Json:
            # A failure is recorded as a value: replayed, it is the same error again.
            self._within = True
            try:
                return {"result": codec.jsonable(work(), f"the result of step {name}")}
            except Exception as error:
                return {"error": codec.describe(error)}
            finally:
                self._within = False

        try:
            record = DBOS.run_step({"name": name}, recorded)
        except errors.DBOSUnexpectedStepError as error:
            raise Diverged(str(error)) from error
        except Exception as error:
            raise Halted(f"step {name} cannot be recorded: {codec.reason(error)}") from error
        if "error" in record:
            raise StepFailed(f"step {name} failed", why=record["error"])
        return cast(Json, record["result"])

    def each(self, name: str, works: Sequence[Callable[[], Json]], *, width: int = WIDTH) -> tuple[Json, ...]:
        record = self.step(name, lambda: {"results": self._beside(works, width)})
        return tuple(record["results"])

    def _beside(self, works: Sequence[Callable[[], Json]], width: int) -> list[Json]:
        def carry(work: Callable[[], Json]) -> Json | Exception | None:
            if self._engine.closing:
                return None
            try:
                return work()
            except Exception as error:
                return error

        with futures.ThreadPoolExecutor(min(width, len(works)), "each") as pool:
            ended = list(pool.map(carry, works))
        if any(one is None for one in ended):
            raise Halted("the engine was closed")
        failures = [codec.describe(one) for one in ended if isinstance(one, Exception)]
        if failures:
            raise RuntimeError(f"{len(failures)} of {len(works)} failed: {'; '.join(dict.fromkeys(failures))}")
        return cast(list[Json], ended)

    def _enter(self) -> None:
        if self._within or threading.get_ident() != self._thread:
            raise RuntimeError(f"{self.id}: a scope is used between steps, by the thread of its body")
        if self._engine.closing:
            raise Halted("the engine was closed")
