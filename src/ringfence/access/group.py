"""One statement for an incident with several pods (pure): each row is as bad as its worst pod."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ringfence.model.access import AccessPath, PathState
from ringfence.platform.kubernetes.selectors import printable

_WORST_FIRST = (PathState.ALIVE, PathState.UNSEEN, PathState.ACCEPTED, PathState.DEAD)
_SHOW = 5


def together(statements: Sequence[tuple[str, Sequence[AccessPath]]]) -> tuple[AccessPath, ...]:
    """The rows of all pods, (pod's name, its rows) each, in one statement.

    A row that is dead for all but one pod is open: its reason names the pods that keep it open. Its level is the lowest
    of the pods that decide it.
    """
    if len(statements) == 1:
        return tuple(statements[0][1])
    paths = dict.fromkeys(row.path for _, rows in statements for row in rows)
    return tuple(_row([(name, row) for name, rows in statements for row in rows if row.path == path]) for path in paths)


def _row(found: Sequence[tuple[str, AccessPath]]) -> AccessPath:
    worst = min((row.state for _, row in found), key=_WORST_FIRST.index)
    deciding = [(name, row) for name, row in found if row.state is worst]
    first = deciding[0][1]
    return first.model_copy(
        update={
            "level": min((row.level for _, row in deciding), key=lambda level: level.rank),
            "why": _why(deciding, len(found)),
            "as_of": min(row.as_of for _, row in found),
        }
    )


def _why(deciding: Sequence[tuple[str, AccessPath]], pods: int) -> str:
    reasons: dict[str, list[str]] = {}
    for name, row in deciding:
        reasons.setdefault(row.why, []).append(name)
    if len(reasons) == 1 and len(deciding) == pods:
        return f"{pods} pods: {next(iter(reasons))}"
    parts = [f"{_names(names)}: {why}" for why, names in list(reasons.items())[:_SHOW]]
    if len(reasons) > _SHOW:
        parts.append(f"and {len(reasons) - _SHOW} more reasons")
    return "; ".join(parts)


def _names(names: Iterable[str]) -> str:
    known = [printable(name) for name in names]
    return ", ".join(known[:_SHOW]) + (f" and {len(known) - _SHOW} more" if len(known) > _SHOW else "")
