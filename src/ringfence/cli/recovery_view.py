"""``recover --dry-run`` on the screen, as data, and as an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ringfence.cli import output
from ringfence.cli.output import Format, note, say, say_data, styled
from ringfence.cli.text import clean
from ringfence.errors import ExitCode
from ringfence.model.outcome import next_step_of

if TYPE_CHECKING:
    from ringfence.model.base import Json
    from ringfence.model.incident import Incident
    from ringfence.model.run import RunOrder
    from ringfence.response.context import Context
    from ringfence.response.recovery.foresee import Foreseen

_STYLES = {"passes": "green", "changes": "green", "shut": "red", "unknown": "red"}
_STEP = 13
_STAND = 8


def run(connection: Context, incident: Incident, order: RunOrder, out: Format) -> None:
    """Look, show, and stop: 0 when nothing is shut, 3 when something is, 9 when something is not known: it could not be
    read, or a request of the incident has no known result."""
    from ringfence.response.recovery import foresee

    found = foresee.foresee(connection, incident, order)
    unknown = foresee.open_questions(connection, incident)
    if out in (Format.JSON, Format.YAML):
        say_data({"incident": incident.id, "unknown_results": unknown, "steps": [_json(one) for one in found]}, out)
    else:
        _show(incident.id, found, unknown)
    output.stop(_code(found, unknown))


def _code(found: Sequence[Foreseen], unknown: int) -> ExitCode:
    stands = {one.stand.value for one in found}
    if "shut" in stands:
        return ExitCode.REFUSED
    return ExitCode.INCOMPLETE if unknown or "unknown" in stands else ExitCode.OK


def _json(one: Foreseen) -> Json:
    return {
        "step": one.step,
        "action": one.action,
        "title": one.title,
        "stand": one.stand.value,
        "words": one.words,
        "target": one.target.to_json() if one.target else None,
        "outcome": one.outcome.to_json() if one.outcome is not None else None,
        "proof": one.proof.to_json() if one.proof else None,
        "changes": [change.to_json() for change in one.changes],
        "caveats": list(one.caveats),
        "ends": one.ends,
    }


def _show(incident: str, found: Sequence[Foreseen], unknown: int) -> None:
    say(clean(f"recover {incident} as it stands now (nothing was changed, nothing was written down)"))
    if unknown:
        note(f"{unknown} requests have no known result yet: a recovery looks for them first")
    ended = False
    for one in found:
        first, *more = _lines(one)
        stand = styled(one.stand.value.upper().ljust(_STAND), _STYLES.get(one.stand.value, ""))
        say(f"{stand} {one.step.ljust(_STEP)} {clean(first)}")
        say(*(" " * (_STAND + _STEP + 4) + clean(line) for line in more))
        if one.ends and not ended:
            ended = True
            where = "here" if one.target is None else "here for this workload"
            say(f"-- it would end {where}; what follows is how the rest stands now --")


def _lines(one: Foreseen) -> list[str]:
    found = [f"{change.verb.value} {change.ref}: {change.effect}" for change in one.changes]
    if one.words:
        found.append(one.words)
    if one.proof is not None:
        lower = f"; not higher: {one.proof.why_not_higher}" if one.proof.why_not_higher else ""
        found.append(f"{one.proof.level}, by {one.proof.by}{lower}")
    if one.outcome is not None and (step := next_step_of(one.outcome)):
        found.append(f"next: {step}")
    return [*found, *(f"to know: {caveat}" for caveat in one.caveats)]
