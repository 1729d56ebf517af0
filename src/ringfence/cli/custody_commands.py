"""``ringfence evidence hold | unhold | push | stamp | disclose | dispose``: how long evidence is kept, who gets some of
it, and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli.options import ConfigFile, IncidentId, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, note, say, say_data, stop
from ringfence.cli.text import clean, plural
from ringfence.errors import ExitCode

Reason = Annotated[str, typer.Option("--reason", help="Why, in words; it stays in the record.")]


def register(app: typer.Typer) -> None:
    app.command()(hold)
    app.command()(unhold)
    app.command()(push)
    app.command()(stamp)
    app.command()(disclose)
    app.command()(dispose)


def hold(
    incident: IncidentId,
    reason: Reason,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Put the evidence of an incident under a legal hold: nothing of it is disposed of until that is lifted."""
    from ringfence.cli import custody

    here, failed = custody.hold(configuration(config, kubeconfig, context), incident, words(reason))
    say(clean(f"{here.id} is under a legal hold"))
    _told(failed, "a copy is not under a legal hold")


def unhold(
    incident: IncidentId,
    reason: Reason,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Lift the legal hold. Retention goes on."""
    from ringfence.cli import custody

    here, failed = custody.unhold(configuration(config, kubeconfig, context), incident, words(reason))
    say(clean(f"the legal hold on {here.id} is lifted"))
    _told(failed, "a copy stays under its legal hold")


def push(incident: IncidentId, config: ConfigFile = None) -> None:
    """Send what has no copy in S3 yet, read it back, and say how it is locked."""
    from ringfence.cli import custody

    sent = custody.push(configuration(config), incident)
    for word in sent:
        where = f"{word.place}/{word.key}" if word.key else word.place
        say(clean(f"{word.seal}: {word.result}, {where}" + (f": {word.why}" if word.why else "")))
    if not sent:
        say("every seal has its copy")
    if any(word.result != "copied" for word in sent):
        stop(ExitCode.INCOMPLETE)


def stamp(incident: IncidentId, config: ConfigFile = None) -> None:
    """Have the seals stamped by the time-stamping authority that have no stamp yet (RFC 3161)."""
    from ringfence.cli import custody

    asked = custody.stamp(configuration(config), incident)
    for word in asked:
        say(clean(f"{word.seal}: {word.result}, " + (f"{word.at:%Y-%m-%dT%H:%M:%SZ}" if word.at else word.why)))
    if not asked:
        say("every seal has its time stamp")
    if any(word.result != "stamped" for word in asked):
        stop(ExitCode.INCOMPLETE)


def disclose(
    source: Annotated[str, typer.Argument(metavar="INC|SEAL|FILE", help="An incident, a seal of it, or its bundle.")],
    out_folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the copy goes.")],
    to: Annotated[str, typer.Option("--to", metavar="WHO", help="Who gets it; it stays in the record.")],
    reason: Reason,
    seal: Annotated[
        str | None, typer.Option("--seal", help="A seal, for example INC-7/seal/1; the newest by default.")
    ] = None,
    binary: Annotated[
        list[str] | None,
        typer.Option("--binary", metavar="ITEM", help="Hand this item out without a search (a glob; may be repeated)."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="ITEM", help="Leave this item out (a glob; may be repeated)."),
    ] = None,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Make a redacted copy of a sealed bundle for somebody outside, with a list of what was taken out.

    Exit code 0: made. Passwords, tokens and keys go by themselves; the configuration says what else (disclosure).
    """
    from ringfence.cli import disclosing

    made = disclosing.make(
        configuration(config, kubeconfig, context),
        source,
        seal,
        out_folder,
        to=words(to, "--to"),
        reason=words(reason),
        binary=binary or (),
        leave_out=leave_out or (),
    )
    if out in (Format.JSON, Format.YAML):
        told = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(made).items()}
        say_data({**told, "path": str(made.path), "list_path": str(made.list_path)}, out)
        return
    say(clean(f"{made.id}: {made.path}"), clean(f"sha256 {made.sha256}"), clean(f"what went: {made.list_path}"))
    say(f"{plural(len(made.redacted), 'item')} of {made.items} redacted, {len(made.left_out)} left out")
    if made.left_out:
        note(f"left out: {', '.join(made.left_out)}")
    if made.unsearched:
        note(f"handed out without a search: {', '.join(made.unsearched)}")
    note("rules find what they know: read the copy before it leaves the house")


def dispose(
    incident: IncidentId,
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Remove the evidence of a closed incident from the vault; its digests stay. Refused while it must be kept."""
    from ringfence.cli import custody

    said = words(reason)
    settings = configuration(config, kubeconfig, context)
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


def _told(failed: tuple[str, ...], what: str) -> None:
    if failed:
        note(*(f"{what}: {why}" for why in failed))
        stop(ExitCode.INCOMPLETE)


def words(text: str, option: str = "--reason") -> str:
    if not text.strip():
        raise typer.BadParameter("say it in words", param_hint=option)
    return text.strip()
