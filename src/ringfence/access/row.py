"""Making the rows of the statement (pure): dead, alive or unseen, as of the facts."""

from __future__ import annotations

from ringfence.access.facts import Facts
from ringfence.model.access import AccessPath, PathState
from ringfence.model.proof import Level


def dead(facts: Facts, path: str, title: str, why: str, *, level: Level = Level.OBSERVED) -> AccessPath:
    return AccessPath(path=path, title=title, state=PathState.DEAD, level=level, why=why, as_of=facts.at)


def alive(
    facts: Facts,
    path: str,
    title: str,
    why: str,
    *,
    until: str = "",
    retest: str = "",
    level: Level = Level.COMPUTED,
) -> AccessPath:
    return AccessPath(
        path=path, title=title, state=PathState.ALIVE, level=level, why=why, until=until, retest=retest, as_of=facts.at
    )


def unseen(facts: Facts, path: str, title: str, level: Level, why: str, retest: str) -> AccessPath:
    return AccessPath(
        path=path, title=title, state=PathState.UNSEEN, level=level, why=why, retest=retest, as_of=facts.at
    )
