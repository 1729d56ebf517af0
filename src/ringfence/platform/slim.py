"""Libraries without what they could use and we do not."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


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
