"""``ringfence node INC checkpoint``: what each container's node answered, on the screen and as an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ringfence.cli import output
from ringfence.cli.output import Format, note, say, say_data
from ringfence.cli.text import clean
from ringfence.errors import ExitCode
from ringfence.model.outcome import Applied, Refused, Unknown, describe, next_step_of

if TYPE_CHECKING:
    from ringfence.model.base import Json
    from ringfence.model.incident import Incident
    from ringfence.response.checkpoint import Asked, Checkpointed
    from ringfence.response.context import Context


def run(connection: Context, incident: Incident, pod: str, out: Format) -> None:
    """Ask, show, and stop with 0 (every container has an archive, sealed), 3 (nothing was asked for) or 9."""
    from ringfence.response import checkpoint

    done = checkpoint.checkpoint_all(connection, incident, only=pod, say=note)
    if out in (Format.JSON, Format.YAML):
        say_data([_json(one) for one in done], out)
    else:
        say(*(clean(line) for one in done for line in _lines(one)))
    output.stop(_code(done))


def _code(done: Sequence[Checkpointed]) -> ExitCode:
    from ringfence.model.outcome import is_done

    undone = [
        one
        for one in done
        # An archive whose path never came is none that anybody can fetch.
        if not is_done(one.outcome) or one.unsealed or not all(asked.archives for asked in one.containers)
    ]
    if not undone:
        return ExitCode.OK
    refused = all(isinstance(one.outcome, Refused) for one in done)
    return ExitCode.REFUSED if refused else ExitCode.INCOMPLETE


def _json(one: Checkpointed) -> Json:
    return {
        "target": one.target.to_json(),
        "step": one.step,
        "outcome": one.outcome.to_json(),
        "proof": one.proof.to_json() if one.proof else None,
        "node": one.node,
        "containers": [
            {
                "container": asked.container,
                "outcome": asked.outcome.to_json(),
                "archives": list(asked.archives),
                "before": list(asked.before),
            }
            for asked in one.containers
        ],
        "seal": one.seal,
        "unsealed": one.unsealed,
    }


def _told(asked: Asked) -> str:
    match asked.outcome:
        case Applied():
            return "an archive was written, and its path never came: see the node"
        case Unknown():
            return f"not known: {describe(asked.outcome)}"
        case _:
            return f"no archive: {describe(asked.outcome)}"


def _lines(one: Checkpointed) -> list[str]:
    if not one.containers:
        step = next_step_of(one.outcome)
        return [f"{one.target}: {one.step}: {describe(one.outcome)}", *([f"  next: {step}"] if step else [])]
    found = [f"{one.target}: {one.step}, node {one.node}"]
    for asked in one.containers:
        found += [f"  {asked.container}: {words}" for words in asked.before]
        if asked.archives:
            found += [f"  {asked.container}: {place} on {one.node}" for place in asked.archives]
            continue
        found.append(f"  {asked.container}: {_told(asked)}")
        if step := next_step_of(asked.outcome):
            found.append(f"    next: {step}")
    if any(asked.archives for asked in one.containers):
        found.append("  an archive holds every secret that was in memory: only root of the node can read it; it stays")
    found.append(f"  sealed: {one.seal}" if one.seal else f"  not sealed: {one.unsealed}")
    return found
