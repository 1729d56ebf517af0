"""A profile of the default lab for tests: shared by who uses it at the same time, off again after the last of them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from lab import lifecycle, profiles
from lab.layout import Lab

TURNED_ON = "turned on by tests"


@contextmanager
def turned_on(lab: Lab, profile: str) -> Iterator[Lab]:
    """The lab with that profile. Off again when the last who uses it is done, unless it was on before."""
    if not profiles.is_built(profile):
        pytest.fail(f"not built yet, which takes minutes: .venv/bin/python -m lab build --profile {profile}")
    # Who uses the profile for tests holds it shared; what it says is whether tests turned the profile on.
    with Path(f"/run/lock/ringfence-lab-{profile}-tests.lock").open("a+") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        if profile not in profiles.active(lab):
            _write(users, TURNED_ON)
        lifecycle.switch(lab.name, profile, on=True)
        try:
            yield lab
        finally:
            _leave(lab, profile, users)


def _leave(lab: Lab, profile: str, users: IO[str]) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # The last one turns it off.
    users.seek(0)
    if users.read() == TURNED_ON:
        lifecycle.switch(lab.name, profile, on=False)
        _write(users, "")


def _write(users: IO[str], text: str) -> None:
    users.seek(0)
    users.truncate()
    users.write(text)
    users.flush()
