"""Carrying runs on: by this process when it holds the engine, else by the one that does.

On one SQLite store one process runs the engine. Every other leaves a ``command`` row, which the engine looks for four
times a second; when nobody holds the engine any more, the process that waits takes it and carries its run on itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from ringfence.durable.port import Engine, EngineBusy, EngineError
from ringfence.errors import RingfenceError, StoreError, TargetError
from ringfence.model.run import Command, Decision, Run, RunState
from ringfence.response.context import Context, now
from ringfence.response.interpreter import RESPOND, Interpreter
from ringfence.response.live import Live
from ringfence.response.orders import requeue
from ringfence.response.paging import Pager, Rota
from ringfence.response.performer import Performer
from ringfence.store import approvals, commands, incidents, runs
from ringfence.store.database import Session

_POLL_SECONDS = 0.25
_TRY_ENGINE_SECONDS = 0.5
_BEAT_SECONDS = 5.0
_DEAD_SECONDS = 20.0
_PRUNE_SECONDS = 3600.0
CARRY_ON = "carry-on"
_COLLECT_AFTER = (50_000, 20, 100)
"""How many new objects the garbage collector waits for. By default it looks so often that it takes a tenth of a run."""


class Conductor:
    """One process's hold on the engine. Made for each command that runs something, and for ``ringfence watch``.

    ``exclusive``: the engine's lock proves that no other process carries runs on (SQLite). Without it (Postgres) a run
    is left alone while its owner's heart beats.
    """

    def __init__(
        self,
        context: Context,
        engine: Engine,
        live: Live | None = None,
        *,
        exclusive: bool = True,
        rota: Rota | None = None,
    ) -> None:
        self._exclusive = exclusive
        self.context = context
        self.live = live or Live()
        self._pager = Pager(context.store, rota or Rota(), self.live.say)
        self.executor = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._engine = engine
        self._launched = False
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        self._beginning = threading.Lock()
        self._engine_kept: timedelta | None = None
        self._performer = Performer(context, self.live, self.executor)
        interpreter = Interpreter(self._performer)
        engine.register(RESPOND, interpreter.respond)

    # --- one run -------------------------------------------------------------------
    def conduct(self, run_id: str) -> Run:
        """See the run to its next end: done, failed, cancelled, or waiting for a person.

        Raises EngineError, StoreError. A KeyboardInterrupt passes: the run stays resumable.
        """
        asked = False
        next_try = 0.0
        while True:
            run = self._run(run_id)
            if run.state.ended or run.state is RunState.WAITING:
                return run
            if not self._launched and time.monotonic() >= next_try:
                try:
                    self.launch()
                except EngineBusy as busy:
                    if not asked:
                        self.live.say(f"{busy.holder} runs the engine: {run_id} is handed to it")
                        self._send(run_id)
                        asked = True
                    next_try = time.monotonic() + _TRY_ENGINE_SECONDS
            if self._launched:
                self._to_its_end(run_id)
            else:
                time.sleep(_POLL_SECONDS)

    def _to_its_end(self, run_id: str) -> None:
        """The run's segment, carried out here. Raises EngineError, StoreError when it stopped before its end."""
        run = self._begin(run_id)
        if run.state.ended or run.state is RunState.WAITING:
            return
        if run.state is not RunState.RUNNING or run.owner != self.executor:
            time.sleep(_POLL_SECONDS)  # another process sees to it
            return
        try:
            while self._engine.wait(run.workflow_id, _POLL_SECONDS) is None:
                pass
        except EngineError as error:
            raise self._stopped(run, error) from error

    def _stopped(self, run: Run, error: EngineError) -> RingfenceError:
        """What is said of a run that stopped: the store's own error when that was the reason, and how it goes on."""
        go_on = f"ringfence resume {run.incident}"
        broken = self._performer.broken.pop(run.id, None)
        if broken is not None:
            return StoreError(
                f"{run.id} stopped before its end", why=str(broken), next_step=f"{broken.next_step}; then: {go_on}"
            )
        error.next_step = go_on
        return error

    def _begin(self, run_id: str) -> Run:
        """Make the run ours and see that its workflow runs; as it stands when it is over, or somebody else was quicker.

        A run that was queued again after a decision gets a new segment, also while the one that waited is still on its
        way to its end.
        """
        with self._beginning:
            run = self._run(run_id)
            goes_on = run.state is RunState.RUNNING and run.segment > 0
            # Without the lock "running" may be the last word of a process that died: that segment is left behind.
            known = self._exclusive or run.owner == self.executor
            running = goes_on and known and self._engine.state(run.workflow_id) == "running"
            if not (running and run.owner == self.executor):
                with self.context.store.write() as session:
                    current = runs.get(session, run.id)
                    if current.state not in (RunState.QUEUED, RunState.RUNNING) or current.epoch != run.epoch:
                        return current
                    if goes_on and not (self._exclusive or self._is_orphan(session, current)):
                        return current
                    run = runs.take(
                        session, run, self.executor, actor=self.context.actor, now=now(), new_segment=not running
                    )
            # One that runs is left alone; one that was halted, by a full disk for example, is carried on.
            self._engine.start(RESPOND, run.workflow_id, {"run": run.id})
            return run

    # --- the engine ----------------------------------------------------------------
    def launch(self) -> None:
        """Take the engine and go on with what was left. Raises EngineBusy, EngineError."""
        if self._launched:
            return
        self._engine.launch(self._adopt)
        self._launched = True
        self._beat()
        for run in self._left():
            with contextlib.suppress(EngineError):
                self._begin(run.id)
        self._ticker = threading.Thread(target=self._tick, name="conductor", daemon=True)
        self._ticker.start()
        self._pager.start()

    def close(self, wait_seconds: float = 5.0) -> None:
        """Let go of the engine. What runs stays resumable."""
        self._stop.set()
        self.live.stopping.set()
        if self._ticker is not None:
            self._ticker.join(timeout=2.0)
        self._pager.close()
        if self._launched:
            self._engine.close(wait_seconds)
            with contextlib.suppress(RingfenceError), self.context.store.write() as session:
                commands.gone(session, self.executor)

    def keep_engine_small(self, kept: timedelta) -> None:
        """From now on: forget in the engine what belongs to runs that ended so long ago. The store keeps all of it."""
        self._engine_kept = kept

    def prune(self, kept: timedelta) -> int:
        """Remove a batch of workflows whose runs ended that long ago; how many. Raises EngineError, StoreError.

        A run that is not over needs every segment of its own, and one that this store does not know is not ours.
        """
        before = now() - kept
        with self.context.store.read() as session:
            over = runs.ended_before(session, before)
        return self._engine.prune(before, lambda workflow: _run_id(workflow) in over)

    def drain(self) -> None:
        """Before letting go: what others asked for meanwhile is carried to its end first.

        One of them that fails is said, and stays resumable: it is no failure of the command that ends here.
        """
        tried: set[int] = set()
        while self._launched and (waiting := [one for one in self._commands() if one.number not in tried]):
            for command in waiting:
                tried.add(command.number)
                with self._said():
                    self._obey(command)
            for run in self._left():
                with self._said():
                    self._to_its_end(run.id)

    def say_how_to_go_on(self) -> None:
        """To somebody who interrupts: what is not over, and what to type."""
        with contextlib.suppress(RingfenceError):
            for run in self._left():
                self.live.say(f"{run.id} is not over; next: ringfence resume {run.incident}")

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except RingfenceError as error:
            self.live.say(f"{error}; next: {error.next_step}" if error.next_step else str(error))

    def _adopt(self) -> None:
        """Called while the engine is ours and before it recovers anything: every run that was left is ours now.

        A recovered workflow asks for its owner before each step, and would stop when that is somebody else.
        """
        for run in self._left():
            if run.state is RunState.RUNNING:
                with self.context.store.write() as session:
                    runs.take(session, run, self.executor, actor=self.context.actor, now=now(), new_segment=False)

    def _left(self) -> tuple[Run, ...]:
        with self.context.store.read() as session:
            return tuple(
                run
                for run in runs.unfinished(session)
                if incidents.get(session, run.incident).cluster == self.context.cluster_id
                and (self._exclusive or self._is_orphan(session, run))
            )

    def _is_orphan(self, session: Session, run: Run) -> bool:
        if run.owner in ("", self.executor):
            return True
        beat = commands.last_beat(session, run.owner)
        return beat is None or (now() - beat).total_seconds() > _DEAD_SECONDS

    def _tick(self) -> None:
        """Four times a second: commands of other processes; now and then: what ran out, and the heartbeat."""
        next_beat = next_prune = 0.0
        said = ""
        while not self._stop.wait(_POLL_SECONDS):
            try:
                for command in self._commands():
                    self._obey(command)
                if time.monotonic() >= next_beat:
                    self._beat()
                    next_beat = time.monotonic() + _BEAT_SECONDS
                if self._engine_kept is not None and time.monotonic() >= next_prune:
                    next_prune = time.monotonic() + _PRUNE_SECONDS
                    if self.prune(self._engine_kept):
                        next_prune = 0.0
                said = ""
            except RingfenceError as error:
                if str(error) != said:
                    self.live.say(f"the engine could not look after the store: {error}")
                said = str(error)

    def _beat(self) -> None:
        moment = now()
        with self.context.store.write() as session:
            commands.beat(session, self.executor, host=socket.gethostname(), pid=os.getpid(), now=moment)
            commands.expire_leases(session, moment)
            for late in approvals.overdue(session, moment):
                approvals.decide(
                    session, late, Decision.EXPIRED, actor="ringfence", reason="nobody answered in time", now=moment
                )
                commands.send(session, CARRY_ON, {"run": late.run}, sent_by="ringfence", now=moment)

    def _commands(self) -> tuple[Command, ...]:
        """What waits for us. About a run of another cluster: an engine that is connected to that one carries it out."""
        with self.context.store.read() as session:
            return tuple(
                command
                for command in commands.waiting(session)
                if (run := self._run_of(session, command)) is None
                or incidents.get(session, run.incident).cluster == self.context.cluster_id
            )

    def _obey(self, command: Command) -> None:
        """Carry one command out, then mark it done. A crash in between repeats it, which changes nothing."""
        with self.context.store.read() as session:
            run = self._run_of(session, command)
        if run is not None and run.state is RunState.WAITING:
            requeue(self.context, run)
        if run is not None and not run.state.ended:
            self._begin(run.id)
        with self.context.store.write() as session:
            commands.done(session, command.number, now())

    @staticmethod
    def _run_of(session: Session, command: Command) -> Run | None:
        """The run that the command is about; None for a word that nobody here knows, or a run that is none."""
        if command.kind != CARRY_ON:
            return None
        try:
            return runs.get(session, str(command.body.get("run", "")))
        except TargetError:
            return None

    def _send(self, run_id: str) -> None:
        with self.context.store.write() as session:
            commands.send(session, CARRY_ON, {"run": run_id}, sent_by=self.context.actor, now=now())

    def _run(self, run_id: str) -> Run:
        with self.context.store.read() as session:
            return runs.get(session, run_id)


def _run_id(workflow: str) -> str:
    """The run of a workflow: ``INC-7/run/2`` of ``INC-7/run/2/1``."""
    return "/".join(workflow.split("/")[:3])


@contextlib.contextmanager
def conducting(
    context: Context,
    engine: Callable[[], Engine],
    live: Live | None = None,
    *,
    exclusive: bool = True,
    rota: Rota | None = None,
) -> Iterator[Conductor]:
    """A conductor for the length of a block. An interrupted block leaves its runs resumable."""
    conductor = Conductor(context, engine(), live, exclusive=exclusive, rota=rota)
    before = gc.get_threshold()
    gc.freeze()  # what is imported by now stays for good: it need not be looked at again
    gc.set_threshold(*_COLLECT_AFTER)
    try:
        yield conductor
        conductor.drain()
    except Exception:
        raise
    except BaseException:
        conductor.say_how_to_go_on()
        raise
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        conductor.close()
