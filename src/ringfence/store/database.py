"""Opening the database: migrations, durability, and the one way to begin a transaction.

On SQLite every writing transaction is BEGIN IMMEDIATE: a deferred one that read first fails with a busy snapshot that
no time-out cures. WAL with ``synchronous=FULL``: acknowledged means on disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection as Session  # one transaction's; no object is mapped

from ringfence.errors import StoreError
from ringfence.store import tables

HEAD = "0004"
"""The newest migration; a test holds it against the folder."""

_BUSY_MS = 10_000
_WRITE = "ringfence_write"


class Store:
    """A database that is migrated and ready. Sessions are short; each belongs to one thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        # SQLite wakes waiting writers in no order: of sixteen threads some would wait until their time is up.
        self._turn: contextlib.AbstractContextManager[object] = (
            threading.Lock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()
        )

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """One writing transaction: committed when the block ends, rolled back when it raises.

        Raises StoreError when the database cannot take it (disk full, read-only, locked).
        """
        with self._turn, self._session({_WRITE: True}) as session:
            yield session

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """One reading transaction: a single snapshot."""
        with self._session({}) as session:
            yield session

    @contextlib.contextmanager
    def _session(self, options: dict[str, Any]) -> Iterator[Session]:
        try:
            with self._engine.connect() as plain:
                session = plain.execution_options(**options)
                with session.begin():
                    yield session
        except sa.exc.SQLAlchemyError as error:
            raise _store_error(self._engine.url, error) from error

    @property
    def place(self) -> str:
        """Its URL as it may be shown: without a password."""
        return self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self._engine.dispose()


def open_store(url: str) -> Store:
    """Open (and create or migrate) the database of that SQLAlchemy URL. Raises StoreError."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise StoreError(
            "the store's URL is not a database URL", why=str(error), next_step="correct store.url"
        ) from error
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        try:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # It names people and systems under attack: for its owner's eyes, whatever the folder is.
            Path(parsed.database).touch(mode=0o600)
        except OSError as error:
            raise _store_error(parsed, error) from error
    engine = sa.create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    if engine.dialect.name == "sqlite":
        _tune_sqlite(engine)
    try:
        _migrate(engine)
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise _store_error(parsed, error) from error
    return Store(engine)


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite store, None for another database. Raises StoreError for what is no database URL."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise StoreError(
            "the store's URL is not a database URL", why=str(error), next_step="correct store.url"
        ) from error
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def _tune_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling is off: "begin" below says what a transaction starts with.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        words = "BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN"
        # Straight to the driver: by way of a statement of the library it takes ten times as long.
        try:
            connection.connection.dbapi_connection.execute(words)  # type: ignore[union-attr]  # it is open
        except sqlite3.Error as error:
            raise sa.exc.OperationalError(words, None, error) from error


def _migrate(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        version = _version(connection)
    if version == HEAD:
        return
    # Imported where used: Alembic is slow to import and needed once per database.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise StoreError(
            f"the store was written by a newer Ringfence (schema {version}, this one knows {HEAD})",
            next_step="use that version, or another store.url",
        )
    with engine.connect() as plain:
        connection = plain.execution_options(**{_WRITE: True})
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _store_error(url: sa.URL, error: Exception) -> StoreError:
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig else error
    return StoreError(
        f"the store at {url.render_as_string(hide_password=True)} cannot be used",
        why=str(cause),
        next_step="check that the folder exists, is writable and has space (store.url in the configuration)",
    )


__all__ = ["HEAD", "Session", "Store", "open_store", "tables"]
