"""Homes for installations whose processes die, and the means to start such processes quickly."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

from ringfence.seal.signing import SigningKey, load_or_create
from tests.crash import driver
from tests.crash.driver import Home, Trouble, read_moments
from tests.crash.ending import Ending, look
from tests.crash.moments import Moment
from tests.crash.scenarios import Order, Scenario
from tests.crash.witness import Witness, bank
from tests.wire import Wire, kubeconfig

SECONDS = 60


@dataclass(frozen=True)
class Child:
    """A process that was started; what it says goes to ``out``."""

    process: ForkServerProcess
    out: Path

    def end(self) -> int:
        """Wait for it; its exit code."""
        self.process.join(SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            pytest.fail(f"it did not end in {SECONDS} s; it said:\n{self.said()}")
        return self.process.exitcode

    def said(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    def says(self, words: str) -> None:
        """Wait until it has said that."""
        deadline = time.monotonic() + SECONDS
        while words not in self.said():
            assert self.process.exitcode is None, f"it ended with {self.process.exitcode}, saying:\n{self.said()}"
            assert time.monotonic() < deadline, f"it did not say {words!r} but:\n{self.said()}"
            time.sleep(0.02)


@dataclass
class Place:
    """One installation, its API server, and what its processes came to."""

    home: Home
    api: Witness
    wire: Wire
    forks: ForkServerContext
    key: SigningKey
    records: list[Path] = field(default_factory=list)

    def start(self, todo: tuple[Order, ...], trouble: Trouble | None = None, *, resumes: bool = True) -> Child:
        """One process."""
        record = self.home.folder / f"process-{len(self.records) + 1}.moments"
        record.touch()
        self.records.append(record)
        arguments = (self.home, todo, trouble or Trouble(), record, resumes)
        process = self.forks.Process(target=driver.run, args=arguments)
        process.start()
        return Child(process, record.with_suffix(".out"))

    def run(self, todo: tuple[Order, ...], trouble: Trouble | None = None, *, resumes: bool = True) -> int:
        """One process, to its end or its death; its exit code."""
        return self.start(todo, trouble, resumes=resumes).end()

    def moments(self) -> list[Moment]:
        """Of the last process."""
        return read_moments(self.records[-1])

    def said(self) -> str:
        """All processes, in order."""
        files = [record.with_suffix(".out") for record in self.records]
        return "".join(f"--- {file.stem}\n{file.read_text()}" for file in files if file.exists())

    def ending(self) -> tuple[Ending, list[str]]:
        return look(self.home, self.api, self.key.public_key)


@dataclass(frozen=True)
class Undisturbed:
    """What a scenario comes to when nobody dies, and the moments that it passed."""

    ending: Ending
    moments: list[Moment]


MakePlace = Callable[..., contextlib.AbstractContextManager[Place]]


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.preload"])
    return context


@pytest.fixture(scope="session")
def seed(_migrated: Path, tmp_path_factory: pytest.TempPathFactory, forks: ForkServerContext) -> Path:
    """Databases that are made once, and a key: each installation gets a copy."""
    folder = tmp_path_factory.mktemp("seed")
    shutil.copy(_migrated, folder / "ringfence.db")
    load_or_create(folder / "seal.pem")
    return folder


@pytest.fixture(scope="session")
def make_place(seed: Path, tmp_path_factory: pytest.TempPathFactory, forks: ForkServerContext) -> MakePlace:
    """An installation with an API server of its own, for the length of a block."""

    @contextlib.contextmanager
    def make(**more: Path) -> Iterator[Place]:
        folder = tmp_path_factory.mktemp("home")
        shutil.copytree(seed, folder, dirs_exist_ok=True)
        api = bank()
        with Wire(api) as wire:
            home = Home(folder, kubeconfig(folder / "kubeconfig", wire.url), **more)
            yield Place(home, api, wire, forks, load_or_create(folder / "seal.pem"))
        shutil.rmtree(folder)

    return make


@pytest.fixture
def place(make_place: MakePlace) -> Iterator[Place]:
    with make_place() as made:
        yield made


@pytest.fixture(scope="session")
def undisturbed(make_place: MakePlace) -> Callable[[Scenario], Undisturbed]:
    """Runs a scenario in which nobody dies, once in a session."""

    @functools.cache
    def of(scenario: Scenario) -> Undisturbed:
        with make_place() as place:
            code = place.run(scenario.orders)
            assert code == 0, place.said()
            ending, wrong = place.ending()
            assert not wrong, (wrong, place.said())
            return Undisturbed(ending, place.moments())

    return of
