"""The moments at which a process can die, found from outside: the product has no hooks.

A *moment* is where something becomes durable or leaves the process: a commit of the store, a request that changes the
cluster, the record of an engine's step, a file of the vault that gets its name. ``watch`` wraps these places in this
process and calls back before and after each. A moment is named by what happens and by whom, and counted: the third
commit of ``response.steps.apply_change`` is the same one in every run of the same orders, whatever threads do.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ringfence.durable.scope import WorkflowScope
from ringfence.platform.kubernetes import checkpoints
from ringfence.platform.kubernetes.client import Cluster
from ringfence.seal.files import NewFile
from ringfence.store.database import Store

_IDLE = ("response.conduct._beat", "response.conduct.close")
"""Commits that carry no part of a response: the heartbeat comes when the clock says so."""
_BY_CHANCE = ("response.conduct._obey",)
"""Comes only when the engine looks for words in the instant before the run is over, which answers them as well. Where
it certainly comes, with the word of another process, ``test_two_processes`` dies at it."""


@dataclass(frozen=True)
class Moment:
    """``kind``: commit, request, step or file; ``when``: before, after, and for a step ``worked`` (done, not recorded).

    ``where`` says who or what; ``count`` is which of those of the same name.
    """

    kind: str
    when: str
    where: str
    count: int

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.where} #{self.count}"


Callback = Callable[[Moment], None]


def watch(callback: Callback) -> None:
    """Call back at every moment of this process from now on. There is no way back: the process is made for this."""
    counts: Counter[tuple[str, str, str]] = Counter()
    lock = threading.Lock()

    def tell(kind: str, when: str, where: str) -> None:
        if where in _IDLE:
            return
        with lock:
            counts[kind, when, where] += 1
            moment = Moment(kind, when, where, counts[kind, when, where])
        callback(moment)

    _watch_commits(tell)
    _watch_requests(tell)
    _watch_steps(tell)
    _watch_files(tell)


Tell = Callable[[str, str, str], None]


def _watch_commits(tell: Tell) -> None:
    write = Store.write

    def watched(self: Store) -> contextlib.AbstractContextManager[Any]:
        where = _caller(sys._getframe(1))

        @contextlib.contextmanager
        def transaction() -> Iterator[Any]:
            with write(self) as session:
                yield session
                tell("commit", "before", where)
            tell("commit", "after", where)

        return transaction()

    Store.write = watched  # type: ignore[method-assign]


def _caller(frame: FrameType | None) -> str:
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("ringfence."):
            return f"{module.removeprefix('ringfence.')}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "?"


def _watch_requests(tell: Tell) -> None:
    for verb in ("create", "patch", "delete"):
        _watch_verb(verb, getattr(Cluster, verb), tell)
    _watch_kubelet(checkpoints.ask, tell)


def _watch_kubelet(ask: Callable[..., bytes], tell: Tell) -> None:
    """A checkpoint is a request to a node, and changes no object."""

    def watched(*arguments: Any, **named: Any) -> bytes:
        tell("request", "before", "checkpoint")
        try:
            return ask(*arguments, **named)
        finally:
            tell("request", "after", "checkpoint")

    checkpoints.ask = watched


def _watch_verb(verb: str, send: Callable[..., Any], tell: Tell) -> None:
    def watched(self: Cluster, resource: Any, *arguments: Any, dry_run: bool = False, **named: Any) -> Any:
        # Reviews and tokens change nothing that stays.
        if dry_run or resource.plural.startswith("selfsubject") or named.get("subresource") == "token":
            return send(self, resource, *arguments, dry_run=dry_run, **named)
        where = f"{verb} {resource.plural}"
        tell("request", "before", where)
        try:
            return send(self, resource, *arguments, **named)
        finally:
            tell("request", "after", where)

    setattr(Cluster, verb, watched)


def _watch_steps(tell: Tell) -> None:
    step = WorkflowScope.step

    def watched(self: WorkflowScope, name: str, work: Callable[[], Any]) -> Any:
        def worked() -> Any:
            result = work()
            tell("step", "worked", name)
            return result

        tell("step", "before", name)
        result = step(self, name, worked)
        tell("step", "after", name)
        return result

    WorkflowScope.step = watched  # type: ignore[method-assign]


def _watch_files(tell: Tell) -> None:
    publish = NewFile.publish

    def watched(self: NewFile, path: Path) -> bool:
        where = "bundle" if path.suffix == ".tar" else "blob" if path.parent.name == "blobs" else "other file"
        tell("file", "before", where)
        done = publish(self, path)
        tell("file", "after", where)
        return done

    NewFile.publish = watched  # type: ignore[method-assign]


def states(recorded: list[Moment]) -> list[Moment]:
    """One moment for each state that a death can leave behind, in order.

    Something becomes durable right before a moment ``after`` it. All moments from one of these to the next have the
    same behind them, and one of them stands for all: by turns another, so that open transactions are among them. Of
    the many blobs of a capture the first is taken.
    """
    groups: list[list[Moment]] = [[]]
    for moment in recorded:
        if moment.kind == "file" and moment.where != "bundle" and moment.count > 1:
            continue
        if moment.where in _BY_CHANCE:
            continue
        if moment.when == "after":
            groups.append([])
        groups[-1].append(moment)
    return [group[number % len(group)] for number, group in enumerate(groups) if group]
