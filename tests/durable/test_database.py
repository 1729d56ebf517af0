"""The engine's SQLite file when it is broken, full, hostile or not to be had."""

from __future__ import annotations

import base64
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringfence.durable import database
from ringfence.durable import engine as implementation
from ringfence.durable.port import Body, EngineError, RunFailed, Scope
from tests.durable.conftest import Launch, beside
from tests.durable.flows import Place

pytestmark = pytest.mark.slow  # the real engine, started for each

Json = dict[str, Any]


def echo(scope: Scope, payload: Json) -> Json:
    return scope.step("echo", lambda: payload)


def path_of(place: Place) -> Path:
    return Path(place.url.removeprefix("sqlite:///"))


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\0" * (size - 4096))


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE dbos_migrations (something TEXT)")
    connection.close()


def stripped(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE workflow_status")
    connection.close()


def one_page(path: Path) -> None:
    """A page that nothing reads before a run needs it."""
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name='operation_outputs'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("damage", [garbage, cut_short, zeroed, foreign, stripped, one_page])
def test_a_broken_database_is_moved_aside_and_said(
    damage: Callable[[Path], None], sqlite_place: Place, launch_sqlite: Launch
) -> None:
    engine = launch_sqlite({"echo": echo})
    engine.start("echo", "r", {"n": 1})
    engine.wait("r", 10)
    engine.close()
    path = path_of(sqlite_place)
    damage(path)
    damaged = path.read_bytes()

    said: list[str] = []
    engine = sqlite_place.engine({"echo": echo}, said.append)
    engine.launch()
    assert engine.state("r") == "absent"
    engine.start("echo", "r", {"n": 2})
    assert engine.wait("r", 10) == {"n": 2}
    engine.close()
    (aside,) = path.parent.glob("*.broken-*[0-9]")
    assert aside.read_bytes()[4096:] == damaged[4096:], "what was there is kept for whoever wants to look"
    assert len(said) == 1
    assert str(aside) in said[0]


def test_a_lost_database_is_made_anew(sqlite_place: Place, launch_sqlite: Launch) -> None:
    launch_sqlite({"echo": echo}).close()
    path_of(sqlite_place).unlink()
    engine = launch_sqlite({"echo": echo})
    assert engine.state("r") == "absent"


def test_files_are_private(sqlite_place: Place, launch_sqlite: Launch) -> None:
    before = os.umask(0)
    try:
        engine = launch_sqlite({"echo": echo})
        engine.start("echo", "r", {})
        engine.wait("r", 10)
        files = list(path_of(sqlite_place).parent.glob("ringfence.engine.*"))
        assert {file.name.rpartition(".")[2] for file in files} == {"db", "db-wal", "db-shm", "lock"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)


def test_no_folder(tmp_path: Path) -> None:
    engine = beside(tmp_path / "missing").engine({})
    with pytest.raises(EngineError, match="cannot work with its database") as failure:
        engine.launch()
    assert failure.value.next_step
    # Nothing is left taken: the next engine launches.
    other = beside(tmp_path).engine({})
    other.launch()
    other.close()


@pytest.mark.parametrize("which", ["engine.db", "engine.lock"])
def test_a_link_in_place_of_a_file_is_not_followed(which: str, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / f"ringfence.{which}").symlink_to(target)
    with pytest.raises(EngineError):
        beside(tmp_path).engine({}).launch()
    assert target.read_text() == "precious"


def test_a_database_that_only_is_locked_is_not_broken(
    sqlite_place: Place, launch_sqlite: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch_sqlite({}).close()
    other = sqlite3.connect(path_of(sqlite_place), isolation_level=None)
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
    with pytest.raises(EngineError, match="locked"):
        launch_sqlite({})
    other.close()
    assert not list(path_of(sqlite_place).parent.glob("*.broken-*"))


@pytest.mark.parametrize("again", ["launch", "start"])
def test_full_disk_halts_the_run_and_it_goes_on_when_there_is_space(
    again: str, sqlite_place: Place, launch_sqlite: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    connections: list[sqlite3.Connection] = []

    def body(scope: Scope, payload: Json) -> Json:
        def capture() -> Json:
            sqlite_place.write("capture")
            for connection in connections:
                connection.execute(f"PRAGMA max_page_count={1 if full.is_set() else 2**30}")
            return {"logs": "x" * 200_000}

        try:
            scope.step("capture", capture)
        except Exception:
            sqlite_place.write("took-it-for-a-failure")
        scope.step("next", lambda: sqlite_place.write("next") or {})  # type: ignore[func-returns-value]
        return {}

    class Watched(database.Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "check_same_thread": False})
            connections.append(self)

    monkeypatch.setattr(database, "Connection", Watched)
    engine = launch_sqlite({"body": body})
    full.set()
    engine.start("body", "r", {})
    with pytest.raises(EngineError, match=r"run r was halted: step capture cannot be recorded: .*full") as failure:
        engine.wait("r", 10)
    assert not isinstance(failure.value, RunFailed)
    assert engine.state("r") == "running"
    assert sqlite_place.effects() == ["capture"]
    full.clear()
    if again == "launch":
        engine.close()
        connections.clear()
        engine = launch_sqlite({"body": body})
    else:
        for connection in connections:
            connection.execute(f"PRAGMA max_page_count={2**30}")
        engine.start("body", "r", {})
    assert engine.wait("r", 20) == {}
    assert sqlite_place.effects() == ["capture", "capture", "next"]


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("serialization", ["py_pickle", "ringfence_json", None])
def test_a_row_from_outside_runs_no_code(
    serialization: str | None, sqlite_place: Place, launch_sqlite: Launch, tmp_path: Path
) -> None:
    """Whoever can write the file can start a run that exists, but nothing else."""
    bodies: dict[str, Body] = {"echo": echo}
    engine = launch_sqlite(bodies)
    engine.start("echo", "r", {"n": 1})
    engine.wait("r", 10)
    engine.close()
    bomb = base64.b64encode(pickle.dumps(_Bomb(tmp_path / "exploded"))).decode()
    with sqlite3.connect(path_of(sqlite_place)) as connection:
        connection.execute("UPDATE workflow_status SET status='PENDING', serialization=?", (serialization,))
        connection.execute("UPDATE workflow_input SET inputs=?", (bomb,))
        connection.execute("UPDATE operation_outputs SET output=?, serialization=?", (bomb, serialization))
    connection.close()
    engine = launch_sqlite(bodies)
    with pytest.raises(RunFailed):
        engine.wait("r", 10)
    engine.close()
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("store", "database_", "lock"),
    [
        (
            "sqlite:////var/lib/x/ringfence.db",
            "sqlite:////var/lib/x/ringfence.engine.db",
            "/var/lib/x/ringfence.engine.lock",
        ),
        ("sqlite+pysqlite:///store?timeout=1", "sqlite:///store.engine.db", "store.engine.lock"),
        ("postgresql+psycopg://me@db/ringfence", "postgresql+psycopg://me@db/ringfence", None),
    ],
)
def test_where_a_stores_engine_is(
    store: str, database_: str, lock: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, Path | None]] = []
    monkeypatch.setattr(implementation, "DbosEngine", lambda url, lock, notice: made.append((url, lock)))
    implementation.engine_beside(store, notice=print)
    assert made == [(database_, Path(lock) if lock else None)]


@pytest.mark.parametrize("store", ["sqlite://", "sqlite:///:memory:", "mysql://x/y"])
def test_a_store_without_a_place_has_no_engine(store: str) -> None:
    with pytest.raises(ValueError, match="in a file or on Postgres"):
        implementation.engine_beside(store, notice=print)


_NOISY = """
import sys
from ringfence.durable.engine import engine_beside
from ringfence.durable.port import RunFailed
engine = engine_beside(sys.argv[1], notice=print)
engine.register("fail", lambda scope, payload: 1 / 0)
engine.launch()
engine.start("fail", "r", {})
try:
    engine.wait("r", 10)
except RunFailed:
    engine.close()
    sys.exit(7)
"""


def test_nothing_on_the_terminal(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _NOISY, f"sqlite:///{tmp_path}/ringfence.db"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "", "")


def test_importing_the_room_does_not_import_the_library() -> None:
    code = "import sys, ringfence.durable.engine; sys.exit('dbos' in sys.modules or 'sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
