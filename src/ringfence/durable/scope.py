"""What a workflow's body is given: steps that are recorded, and children.

Errors of the engine (a record that cannot be written, closing) leave as ``Halted``, past the body's ``except``.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from ringfence.durable import codec
from ringfence.durable.port import WIDTH, EngineError, Halted, RunFailed, StepFailed
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

    def parallel(self, workflow: str, payloads: Sequence[tuple[str, Json]], *, width: int = WIDTH) -> tuple[Json, ...]:
        self._enter()
        todo = {
            f"{self.id}/{suffix}": codec.jsonable(payload, f"the payload of {suffix}") for suffix, payload in payloads
        }
        if len(todo) < len(payloads) or width < 1:
            raise ValueError(f"children of {self.id}: suffixes must differ and width be positive")
        try:
            results, failures = self._carry(workflow, todo, width)
        except EngineError as error:
            raise Halted(str(error)) from error
        if failures:
            text = "; ".join(f"{id_}: {failures[id_]}" for id_ in todo if id_ in failures)
            raise RunFailed(f"{len(failures)} of {len(todo)} children of {self.id} failed", why=text)
        return tuple(results[id_] for id_ in todo)

    def _carry(self, workflow: str, todo: dict[str, Json], width: int) -> tuple[dict[str, Json], dict[str, str]]:
        """Results and errors by id. No step of the body's: ids are fixed, starting is idempotent, results stay."""
        results: dict[str, Json] = {}
        failures: dict[str, str] = {}
        waiting, flying = iter(todo.items()), list[str]()
        while len(results) + len(failures) < len(todo):
            for id_, payload in itertools.islice(waiting, width - len(flying)):
                self._engine.start(workflow, id_, payload)
                flying.append(id_)
            before = len(flying)
            for id_ in list(flying):
                state, value = self._engine.look(id_)
                if state == "done":
                    results[id_] = value
                elif state != "running":
                    failures[id_] = str(value)
                else:
                    continue
                flying.remove(id_)
            if len(flying) == before:
                self._engine.pause(flying, None)
        return results, failures

    def _enter(self) -> None:
        if self._within or threading.get_ident() != self._thread:
            raise RuntimeError(f"{self.id}: a scope is used between steps, by the thread of its body")
        if self._engine.closing:
            raise Halted("the engine was closed")
