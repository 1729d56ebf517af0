"""The engine on DBOS 3.4 (embedded, open-source surface): SQLite beside the store by default, Postgres by URL.

What the library does not do, or does otherwise than we need, is done here: one process at a time on SQLite, errors
of the engine kept apart from errors of a step, closing at a step's boundary, rows of an older engine version.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import math
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from ringfence.durable import codec, database
from ringfence.durable.lock import EngineLock
from ringfence.durable.port import Body, EngineBusy, EngineError, RunFailed, State
from ringfence.durable.scope import Diverged, WorkflowScope
from ringfence.errors import RingfenceError
from ringfence.model.base import Json

ENGINE_VERSION = "2"
"""Counted up by hand when a running workflow of the old code cannot be carried on by the new."""

_NAME = "ringfence"
_SCHEMA = "ringfence_engine"
_POLL_SECONDS = 0.05
_RECOVERING_SECONDS = 10.0
_UNRECORDED_SECONDS = 30.0
_BY_STATUS: dict[str, State] = {
    "PENDING": "running",
    "ENQUEUED": "running",
    "DELAYED": "running",
    "SUCCESS": "done",
}
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)")
_one_per_process = threading.Lock()
T = TypeVar("T")


def engine_beside(store_url: str, *, notice: Callable[[str], None]) -> DbosEngine:
    """The engine of a store: ``ringfence.engine.db`` and ``.lock`` beside ``ringfence.db``, or the same Postgres.

    ``notice`` takes sentences that a person should read. Raises ValueError for a database that is neither.
    """
    if store_url.startswith("postgres"):
        return DbosEngine(store_url, None, notice=notice)
    match = _SQLITE.match(store_url)
    if not match or ":memory:" in store_url:
        raise ValueError("the engine needs a store in a file or on Postgres")
    base = Path(match["path"]).with_suffix("")
    return DbosEngine(f"sqlite:///{base}.engine.db", Path(f"{base}.engine.lock"), notice=notice)


class DbosEngine:
    """``Engine`` (port.py). ``database_url``: ``sqlite:///path`` of a file of the engine's own, or a Postgres URL.

    ``lock_file`` is needed on SQLite, where one process runs the engine; on Postgres, where each process is an
    executor of its own, it is None. ``notice`` takes sentences that a person should read.
    """

    def __init__(self, database_url: str, lock_file: Path | None, *, notice: Callable[[str], None]) -> None:
        self._url = database_url
        self._path = Path(database_url.removeprefix("sqlite:///")) if database_url.startswith("sqlite") else None
        if (self._path is None) != (lock_file is None):
            raise ValueError("a lock file belongs to SQLite, and to SQLite alone")
        self._lock = EngineLock(lock_file) if lock_file else None
        self._notice = notice
        self._bodies: dict[str, Body] = {}
        self._workflows: dict[str, Callable[[Json], Json]] = {}
        self._futures: dict[str, futures.Future[Any]] = {}
        self._halted: dict[str, str] = {}
        self._ended: dict[str, float] = {}
        self._active = 0
        self._idle = threading.Condition()
        self._launched = False
        self._abandoned = False
        self.closing = False
        self.executor_id = _NAME if self._path else f"{_NAME}-{uuid.uuid4()}"

    def register(self, name: str, body: Body) -> None:
        if self._launched or name in self._bodies:
            raise ValueError(f"workflow {name!r} is registered twice, or after the launch")
        self._bodies[name] = body

    def launch(self, before: Callable[[], None] | None = None) -> None:
        if self._launched:
            raise ValueError("an engine is launched once: make another")
        if not _one_per_process.acquire(blocking=False):
            raise EngineBusy("this process itself")
        with contextlib.ExitStack() as undo:
            undo.callback(self._let_go)
            with self._failing():
                if self._lock:
                    self._lock.acquire()
                if before is not None:
                    before()
                try:
                    self._launch()
                except Exception as error:
                    if self._path is None or not database.broken(error):
                        raise
                    aside = database.move_aside(self._path)
                    self._notice(
                        f"the engine's database was unusable ({codec.reason(error)}) and is now {aside}; "
                        "a new one is made, and unfinished runs have to be begun again from the store"
                    )
                    self._launch()
            undo.pop_all()

    def _launch(self) -> None:
        if self._path:
            database.prepare(self._path)
        log = logging.getLogger("dbos")
        log.handlers, log.propagate = [logging.NullHandler()], False
        from dbos import DBOS

        codec.replace_pickle()
        try:
            for name, body in self._bodies.items():
                self._workflows[name] = DBOS.workflow(name=name)(self._workflow(name, body))
            instance = DBOS(
                config={
                    "name": _NAME,
                    "system_database_url": self._url,
                    "dbos_system_schema": _SCHEMA,
                    "application_version": ENGINE_VERSION,
                    "executor_id": self.executor_id,
                    "serializer": codec.JsonCodec(),  # type: ignore[typeddict-item]  # imported before the library is
                    "log_level": "WARNING",
                    "enable_otlp": False,
                    "scheduler_polling_interval_sec": 3600.0,
                    # The listener has nothing to look for; closing waits for its nap to end.
                    "notification_listener_polling_interval_sec": 0.05,
                    **({"db_engine_kwargs": {"connect_args": {"factory": database.Connection}}} if self._path else {}),
                }
            )
            # Recovered workflows pass through this queue; its default interval would cost them a second. Each look
            # costs a tenth of a core at this pace, so it is kept for as long as there may be something to recover.
            queue = instance._registry.get_internal_queue()
            queue._polling_interval_sec = _POLL_SECONDS
            DBOS.launch()
            left = DBOS.list_workflows(status=["PENDING", "ENQUEUED"], limit=1, load_input=False, load_output=False)
            relax = threading.Timer(
                _RECOVERING_SECONDS if left else 0.0, setattr, (queue, "_polling_interval_sec", 1.0)
            )
            relax.daemon = True
            relax.start()
        except BaseException:
            DBOS.destroy(destroy_registry=True)
            raise
        self._launched = True

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever the library raises becomes an EngineError."""
        try:
            yield
        except RingfenceError:
            raise
        except Exception as error:
            raise EngineError(
                f"the engine cannot work with its database ({self._path or 'Postgres'})",
                why=codec.reason(error),
                next_step="look at the free space and the permissions of its folder"
                if self._path
                else "look at the server, and at the rights of its user, who needs a schema for the engine",
            ) from error

    def _let_go(self) -> None:
        if self._lock:
            self._lock.release()
        _one_per_process.release()

    def _workflow(self, name: str, body: Body) -> Callable[[Json], Json]:
        def run(payload: Json) -> Json:
            from dbos import DBOS

            id_ = str(DBOS.workflow_id)
            with self._idle:
                self._active += 1
            try:
                return cast(Json, codec.jsonable(body(WorkflowScope(self, id_), payload), f"the result of {name}"))
            except Diverged as error:
                raise RunFailed(f"run {id_} cannot be carried on", why=str(error)) from error
            except Exception:
                raise
            except BaseException as error:
                self._halted[id_] = str(error) or codec.describe(error)
                raise
            finally:
                self._ended[id_] = time.monotonic()
                with self._idle:
                    self._active -= 1
                    self._idle.notify_all()
                    if self._abandoned and not self._active:
                        self._let_go()

        return run

    def start(self, workflow: str, id: str, payload: Json) -> None:  # noqa: A002
        from dbos import DBOS

        if workflow not in self._workflows:
            raise ValueError(f"there is no workflow {workflow!r}")
        run, copy = self._workflows[workflow], codec.jsonable(payload, f"the payload of {id}")
        with self._asking():
            if self._halted.pop(id, None) is not None:
                self._ended.pop(id, None)
                _apart(DBOS.resume_workflow, id)
                return
            handle = _apart(_begin, run, id, copy)
        future = getattr(handle, "future", None)
        if future is not None:
            self._futures[id] = future
            future.add_done_callback(lambda _: self._futures.pop(id, None))

    def wait(self, id: str, timeout_seconds: float | None = None) -> Json | None:  # noqa: A002
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            state, value = self.look(id)
            if state == "done":
                return cast(Json, value)
            if state == "absent":
                raise EngineError(f"there is no run {id} in the engine", next_step="begin it again from the store")
            if state == "failed":
                raise RunFailed(f"run {id} failed", why=str(value))
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._pause(id, left)

    def state(self, id: str) -> State:  # noqa: A002
        return self.look(id, halts=False)[0]

    def close(self, wait_seconds: float = 5.0) -> None:
        if not self._launched or self.closing:
            return
        self.closing = True
        with self._idle:
            self._idle.wait_for(lambda: not self._active, wait_seconds)
        from dbos import DBOS

        DBOS.destroy(destroy_registry=True)
        with self._idle:
            self._abandoned = self._active > 0
            if not self._abandoned:
                self._let_go()

    def prune(self, before: datetime, may_go: Callable[[str], bool], *, most: int = 500) -> int:
        from dbos import DBOS

        gone: list[str] = []
        passed = 0
        with self._asking():
            while len(gone) < most:
                page = _apart(
                    functools.partial(
                        DBOS.list_workflows,
                        status=_ENDED,
                        completed_before=before.isoformat(),
                        offset=passed,
                        limit=most,
                        load_input=False,
                        load_output=False,
                    )
                )
                passed += len(page)
                gone += [one.workflow_id for one in page if may_go(one.workflow_id)]
                if len(page) < most:
                    break
            if gone := gone[:most]:
                _apart(DBOS.delete_workflows, gone)
        return len(gone)

    def adopt(self, executor_ids: Sequence[str]) -> int:
        """Carry on what executors left that died (Postgres; the caller knows who is dead). How many workflows."""
        with self._asking():
            from dbos import DBOS

            return len(_apart(DBOS._recover_pending_workflows, list(executor_ids)))

    def look(self, id_: str, *, halts: bool = True) -> tuple[State, Any]:
        """State, and the result or the error's text. Raises EngineError for a workflow that was halted here."""
        with self._asking():
            from dbos import DBOS

            if (future := self._futures.get(id_)) is not None and not future.done():
                if halts:
                    self._check_halt(id_)
                return "running", None  # begun here: no question to the database
            status = _apart(DBOS.get_workflow_status, id_)
        if status is None:
            return "absent", None
        state = _BY_STATUS.get(status.status, "failed")
        if state == "running":
            # On Postgres another executor may be of that version, or know that workflow.
            if self._path and status.app_version != ENGINE_VERSION:
                return "failed", f"begun by version {status.app_version} of the engine, this is {ENGINE_VERSION}"
            if self._path and status.name not in self._workflows:
                return "failed", f"begun as a workflow {status.name}, which is not known here"
            if halts:
                self._check_halt(id_)
            return state, None
        self._ended.pop(id_, None)
        return state, status.output if state == "done" else status.error or status.status

    def _check_halt(self, id_: str) -> None:
        if time.monotonic() - self._ended.get(id_, math.inf) > _UNRECORDED_SECONDS:
            self._halted.setdefault(id_, "its end could not be recorded")
        if id_ in self._halted:
            raise EngineError(
                f"run {id_} was halted",
                why=self._halted[id_],
                next_step="it is carried on when it is started again, or at the engine's next launch",
            )

    def _pause(self, id_: str, seconds: float | None) -> None:
        """Sleep until the workflow may have ended: at once when it was begun here, by polling when it was not."""
        future = self._futures.get(id_)
        limit = _POLL_SECONDS if future is None else 1.0
        limit = limit if seconds is None else min(limit, seconds)
        if future is not None:
            futures.wait([future], limit)
        else:
            time.sleep(limit)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        if not self._launched or self.closing:
            raise EngineError("the engine is not running", next_step="launch it first")
        with self._failing():
            yield


def _begin(run: Callable[[Json], Json], id_: str, payload: Json) -> object:
    from dbos import DBOS, SetWorkflowID

    with SetWorkflowID(id_):
        return DBOS.start_workflow(run, payload)


def _apart(call: Callable[..., T], *args: Any) -> T:
    """Call the library in a context of its own: what a body asks of the engine is no step of the body's."""
    return contextvars.Context().run(call, *args)


def warm() -> None:
    """Import the library, which takes most of a second, beside other work. Nothing is begun by it."""
    import dbos  # noqa: F401
