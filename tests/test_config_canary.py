"""The section ``canary``: off by default, and never half configured."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.actions.tries import host_and_port
from ringfence.config import CanarySection


def test_it_is_off_and_names_no_image_by_default() -> None:
    assert (CanarySection().enabled, CanarySection().image) == (False, None)


@pytest.mark.parametrize("destination", ["10.0.0.9:443", "[fd00::1]:53", "db.bank.svc:5432", "x:65535"])
def test_what_it_takes_for_a_destination_the_canary_can_try(destination: str) -> None:
    (kept,) = CanarySection(destinations=(destination,)).destinations
    assert host_and_port(kept)


@pytest.mark.parametrize(
    "values",
    [
        {"enabled": True},
        {"enabled": True, "image": ""},
        {"destinations": ("10.0.0.9",)},
        {"destinations": ("10.0.0.9:0",)},
        {"destinations": ("10.0.0.9:65536",)},
        {"destinations": ("fd00::1:53",)},
        {"destinations": ("evil host:53",)},
        {"destinations": ("x:1",) * 9},
        {"namespace": "Not A Namespace"},
        {"image_pull_policy": "Sometimes"},
        {"seconds": 4},
        {"seconds": 121},
        {"secs": 5},
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        CanarySection(**values)
