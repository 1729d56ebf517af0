"""An engine on SQLite, and the same on a Postgres of the machine's own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from ringfence.durable.engine import DbosEngine
from ringfence.durable.port import Body
from tests.durable.flows import Place


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server that is thrown away, up to the name of a database. No network: a socket in a folder."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.fail("no Postgres here: make test-slow installs it (python -m scripts.packages)")
    bin_ = programs[-1].parent
    home = Path(tempfile.mkdtemp(prefix="ringfence-pg-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        # The server refuses to run as root.
        shutil.chown(home, "postgres")
        user = {"user": "postgres"}

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **user)

    run(str(bin_ / "initdb"), "-D", f"{home}/data", "-U", "ringfence", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={home} -c fsync=off"
    run(str(bin_ / "pg_ctl"), "-D", f"{home}/data", "-l", f"{home}/log", "-w", "-o", options, "start")
    yield f"postgresql://ringfence@/{{name}}?host={home}"
    run(str(bin_ / "pg_ctl"), "-D", f"{home}/data", "-m", "immediate", "-w", "stop")
    shutil.rmtree(home)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").format(name=f"run_{uuid.uuid4().hex[:12]}")
        return Place(url, None, tmp_path / "effects")
    return beside(tmp_path)


def beside(folder: Path) -> Place:
    return Place(f"sqlite:///{folder}/ringfence.engine.db", folder / "ringfence.engine.lock", folder / "effects")


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    return beside(tmp_path)


Launch = Callable[..., DbosEngine]


@pytest.fixture
def launch(place: Place) -> Iterator[Launch]:
    """Launches an engine with these bodies; the one before is closed first."""
    yield from launching(place)


@pytest.fixture
def launch_sqlite(sqlite_place: Place) -> Iterator[Launch]:
    yield from launching(sqlite_place)


def launching(place: Place) -> Iterator[Launch]:
    engines: list[DbosEngine] = []
    notices: list[str] = []

    def go(bodies: dict[str, Body]) -> DbosEngine:
        for earlier in engines:
            earlier.close()
        engine = place.engine(bodies, notices.append)
        engine.launch()
        engines.append(engine)
        return engine

    yield go
    for engine in engines:
        engine.close()
    assert not notices, notices


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """Starts processes that can be killed, with the slow import behind them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.durable.flows", "dbos"])
    return context
