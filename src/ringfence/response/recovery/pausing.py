"""Waiting within a stage, for as long as this process may: one that closes leaves the run to whoever comes next."""

from __future__ import annotations

from ringfence.durable.port import Halted
from ringfence.response.live import Live


def pause(live: Live, seconds: float) -> None:
    """Raises Halted when the engine closes meanwhile: the step is begun again where the run is carried on."""
    if live.stopping.wait(seconds):
        raise Halted("the engine was closed")
