"""The residual-access statement: one row for every way the attacker may still have in or out."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import model_validator

from ringfence.model.base import Instant, Noun
from ringfence.model.proof import Level


class PathState(StrEnum):
    ALIVE = "alive"
    """A way in or out that works, or that nothing we know of stops."""
    UNSEEN = "unseen"
    """Not known to be shut: computed only, or out of our sight. ``retest`` says what would show it."""
    DEAD = "dead"
    """Shown shut: observed or proven."""
    ACCEPTED = "accepted"
    """Open or unseen, and a named person takes it on."""


class Acceptance(Noun):
    """Who took an open row on, and why. ``principal`` is a principal that the cluster vouched for.

    ``state`` is the row's as it was accepted: who takes an unseen row on has not agreed to an alive one.
    """

    principal: str
    reason: str
    at: Instant
    state: PathState

    def covers(self, state: PathState) -> bool:
        """Whether a row in ``state`` is open and no worse than what was accepted."""
        return state is PathState.UNSEEN or (state is PathState.ALIVE and self.state is PathState.ALIVE)


class AccessPath(Noun):
    """One row. ``path`` is stable (``network.egress``); ``until`` says how long an alive row lives."""

    path: str
    title: str
    state: PathState
    level: Level
    why: str
    until: str = ""
    retest: str = ""
    as_of: Instant
    acceptance: Acceptance | None = None

    @model_validator(mode="after")
    def _laws(self) -> AccessPath:
        if self.state is PathState.DEAD and self.level.rank < Level.OBSERVED.rank:
            raise ValueError(f"{self.path}: dead needs observed or proven, not {self.level}")
        if (self.state is PathState.ACCEPTED) != (self.acceptance is not None):
            raise ValueError(f"{self.path}: accepted needs an acceptor, and only accepted has one")
        if self.acceptance and self.acceptance.state not in (PathState.ALIVE, PathState.UNSEEN):
            raise ValueError(f"{self.path}: only an open row can be accepted, not a {self.acceptance.state} one")
        if self.acceptance and not (self.acceptance.principal.strip() and self.acceptance.reason.strip()):
            raise ValueError(f"{self.path}: an acceptance names a principal and a reason")
        return self

    @property
    def is_open(self) -> bool:
        return self.state in (PathState.ALIVE, PathState.UNSEEN)


class Verdict(StrEnum):
    """What a screen may say. There is no way to say "contained" but through :func:`verdict`."""

    CONTAINED = "CONTAINED"
    NOT_FULLY_CONTAINED = "NOT FULLY CONTAINED"
    NOT_CONTAINED = "NOT CONTAINED"


NETWORK_PATHS = frozenset({"network.egress", "network.ingress"})


def verdict(rows: Iterable[AccessPath]) -> Verdict:
    """CONTAINED only when there are rows and each is dead or accepted (law 1).

    NOT CONTAINED when the pod's new traffic itself still flows, or when there are no rows; else NOT FULLY CONTAINED.
    """
    statement = tuple(rows)
    if statement and not any(row.is_open for row in statement):
        return Verdict.CONTAINED
    network = [row for row in statement if row.path in NETWORK_PATHS]
    if not network or any(row.state is PathState.ALIVE for row in network):
        return Verdict.NOT_CONTAINED
    return Verdict.NOT_FULLY_CONTAINED
