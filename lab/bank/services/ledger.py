"""The ledger: every balance, in an SQLite file of each replica's own volume.

All replicas start with the same opening balances and only read, so any of them can answer.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from . import log
from .http import HttpError, Reply, Request, Route, serve

CUSTOMERS = 5_000
PRODUCTS = ("current", "savings", "card")


def balances(request: Request) -> Reply:
    with contextlib.closing(sqlite3.connect(f"file:{_file()}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT product, cents FROM balance WHERE customer = ?", (int(request.match["customer"]),)
        ).fetchall()
    if not rows:
        raise HttpError(404, "no such customer")
    return Reply.of(dict(rows))


def open_books(file: Path) -> None:
    """Makes the ledger with its opening balances; one that exists stays as it is."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS balance (customer INTEGER, product TEXT, cents INTEGER NOT NULL,"
            " PRIMARY KEY (customer, product))"
        )
        database.executemany(
            "INSERT OR IGNORE INTO balance VALUES (?, ?, ?)",
            (
                (customer, product, customer * 7_919 % 900_000 + 10_000 * place)
                for customer in range(1, CUSTOMERS + 1)
                for place, product in enumerate(PRODUCTS, start=1)
            ),
        )


def _file() -> Path:
    return Path(os.environ.get("LEDGER_FILE", "/var/lib/ledger/ledger.db"))


def main() -> int:
    log.name_service("ledger")
    open_books(_file())
    log.write("info", "books open", customers=CUSTOMERS)
    return serve("ledger", (Route(r"/balances/(?P<customer>[0-9]{1,6})", balances),))
