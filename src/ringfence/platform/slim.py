"""Libraries without what they could use and we do not: it takes longer to import than all that a command does."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def without(optional: str) -> Iterator[None]:
    """What is imported in the block does without this optional library, as where it is not installed."""
    if optional in sys.modules:
        yield
        return
    sys.modules[optional] = None  # type: ignore[assignment]  # how the language says: importing it fails
    try:
        yield
    finally:
        del sys.modules[optional]


@contextlib.contextmanager
def bare(package: str) -> Iterator[None]:
    """Modules of this package are imported in the block without what its ``__init__`` imports for others. Whoever
    imports the package later gets the whole."""
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    if spec is None:
        yield
        return
    with _in_place(importlib.util.module_from_spec(spec)):
        yield


@contextlib.contextmanager
def hollow(module: str, *names: str) -> Iterator[None]:
    """In the block this module is there and has nothing: each of ``names`` is None. For what a library imports at its
    top for functions that are never called here."""
    if module in sys.modules:
        yield
        return
    empty = ModuleType(module)
    for name in names:
        setattr(empty, name, None)
    with _in_place(empty):
        yield


@contextlib.contextmanager
def _in_place(module: ModuleType) -> Iterator[None]:
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
