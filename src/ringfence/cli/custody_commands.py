"""``ringfence evidence hold | unhold | dispose``: how long evidence is kept, and its end."""

from __future__ import annotations

from typing import Annotated

import typer

from ringfence.cli.options import ConfigFile, IncidentId, configuration
from ringfence.cli.output import note, say
from ringfence.cli.text import clean, plural

Reason = Annotated[str, typer.Option("--reason", help="Why, in words; it stays in the record.")]


def register(app: typer.Typer) -> None:
    app.command()(hold)
    app.command()(unhold)
    app.command()(dispose)


def hold(incident: IncidentId, reason: Reason, config: ConfigFile = None) -> None:
    """Put the evidence of an incident under a legal hold: nothing of it is disposed of until that is lifted."""
    from ringfence.cli import custody

    here = custody.hold(configuration(config), incident, words(reason))
    say(clean(f"{here.id} is under a legal hold"))


def unhold(incident: IncidentId, reason: Reason, config: ConfigFile = None) -> None:
    """Lift the legal hold. Retention goes on."""
    from ringfence.cli import custody

    here = custody.unhold(configuration(config), incident, words(reason))
    say(clean(f"the legal hold on {here.id} is lifted"))


def dispose(
    incident: IncidentId,
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFile = None,
) -> None:
    """Remove the evidence of a closed incident from the vault; its digests stay. Refused while it must be kept."""
    from ringfence.cli import custody

    said = words(reason)
    settings = configuration(config)
    doomed = custody.doomed(settings, incident)
    note(*doomed)
    if doomed and not yes:
        typer.confirm("Remove these files for good?", abort=True, err=True)
    done = custody.dispose(settings, incident, said)
    say(clean(f"disposed of {plural(len(done.seals), 'seal')}, {plural(done.files, 'file')} removed"))
    if done.left:
        note(f"not ours, and left where they are: {', '.join(done.left)}")
    if done.copies:
        note(f"copies may remain at {', '.join(done.copies)}")
    note("removed from the folder: snapshots, backups and the medium itself may still hold the bytes")


def words(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("say it in words", param_hint="--reason")
    return text.strip()
