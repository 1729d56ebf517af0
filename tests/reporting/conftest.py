"""The sample incident in stores of its own, and as a report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringfence.reporting.view import Report
from ringfence.store.database import Store, open_store
from tests.reporting.sample import Sample, report_of

Written = Callable[[str], Store]


@pytest.fixture(scope="session")
def written(_migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """Makes a store with the sample incident, a mark in each of its strings."""
    opened: list[Store] = []

    def write(mark: str) -> Store:
        path = shutil.copy(_migrated, tmp_path_factory.mktemp("sample") / "ringfence.db")
        store = open_store(f"sqlite:///{path}")
        opened.append(store)
        with store.write() as session:
            Sample(session, mark).write()
        return store

    yield write
    for store in opened:
        store.close()


@pytest.fixture
def store(written: Written) -> Store:
    return written("")


@pytest.fixture(scope="session")
def report(written: Written) -> Report:
    return report_of(written(""))
