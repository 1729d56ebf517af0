"""Workflows for the engine's tests, and the process that dies in the middle of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringfence.durable.engine import DbosEngine
from ringfence.durable.port import Body, Scope, StepFailed

STEPS = ("look", "plan", "cut", "fail", "ask", "seal")
WORKS = ("a", "b", "c")
PHASES = ("before", "after", "recorded")
POINTS = [
    *(f"{phase}:{step}" for step in STEPS for phase in PHASES),
    *(f"{phase}:{work}" for work in WORKS for phase in ("before", "after")),
    "recorded:each",
]
"""Every moment at which the process can die: before a step's effect, after it, after its record."""


@dataclass(frozen=True)
class Place:
    """Where an engine keeps its things: picklable, so that another process can open the same one."""

    url: str
    lock: Path | None
    log: Path

    def engine(self, bodies: dict[str, Body], notice: Callable[[str], None] = print) -> DbosEngine:
        engine = DbosEngine(self.url, self.lock, notice=notice)
        for name, body in bodies.items():
            engine.register(name, body)
        return engine

    def effects(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def write(self, effect: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{effect}\n")


def journey(place: Place, die_at: str = "") -> dict[str, Body]:
    """A workflow with every kind of step in it; the process ends at ``die_at``."""

    def point(name: str) -> None:
        if name == die_at:
            os._exit(9)

    def act(name: str, result: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        def work() -> dict[str, Any]:
            point(f"before:{name}")
            place.write(name)
            point(f"after:{name}")
            if name == "fail":
                raise LookupError("no such pod")
            return result

        return work

    def body(scope: Scope, payload: dict[str, Any]) -> dict[str, Any]:
        seen: list[Any] = [payload]
        for name in STEPS:
            try:
                # A tuple and a number as a key: what JSON changes is changed in the first run as in the replay.
                seen.append(scope.step(name, act(name, {"pair": (1, 2), "step": name, 7: None})))
            except StepFailed as error:
                seen.append(str(error))
            point(f"recorded:{name}")
            if name == "plan":
                seen += scope.each("each", [act(name, {"work": name}) for name in WORKS])
                point("recorded:each")
        return {"seen": seen}

    return {"journey": body}


def die(place: Place, die_at: str) -> None:
    """Run the journey in a process of its own, up to the point where it dies."""
    engine = place.engine(journey(place, die_at))
    engine.launch()
    engine.start("journey", "INC-1/run/1", {"incident": "INC-1"})
    engine.wait("INC-1/run/1", 30)
    os._exit(0)


def hold(place: Place, ready: Any) -> None:
    """Launch, say so, and never end."""
    place.engine({}).launch()
    ready.set()
    ready_forever = os.pipe()[0]
    os.read(ready_forever, 1)
