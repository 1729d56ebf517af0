"""The commands of the way back: recover, close."""

from __future__ import annotations

from typing import Annotated

import typer

from ringfence.cli.incident_commands import DeterminationWord
from ringfence.cli.options import ConfigFile, IncidentId, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, note, say
from ringfence.cli.running import conducting_here, finish, view_of
from ringfence.cli.text import clean, command_line

_LONGEST_WINDOW = 86400


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which ``--help`` shows them."""
    app.command()(recover)
    app.command()(close)


def recover(
    incident: IncidentId,
    revision: Annotated[
        list[str] | None,
        typer.Option(
            "--revision",
            metavar="[APP=]COMMIT",
            help="What Argo CD may deliver: you have read it, and approve it. One for each Application, or for all.",
        ),
    ] = None,
    watch: Annotated[
        str | None, typer.Option("--watch", metavar="15m", help="How long what was restored is watched.")
    ] = None,
    probe: Annotated[
        str, typer.Option("--probe", metavar="/PATH", help="Of the real request; default: that of the readiness probe.")
    ] = "",
    accept_findings: Annotated[
        str, typer.Option("--accept-findings", metavar="REASON", help="Take on what a fresh look finds, in your name.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show each gate as it stands and what would change; change nothing.")
    ] = False,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Come back, gate after gate: clean, hole closed, source approved, one pod first, all, then watch."""
    from ringfence import app as wiring
    from ringfence.response import verbs
    from ringfence.response.verbs import Wish

    if probe and not probe.startswith("/"):
        raise typer.BadParameter("a path, such as /healthz", param_hint="--probe")
    if any(not one.strip() or one.startswith("=") or one.endswith("=") for one in revision or ()):
        raise typer.BadParameter("COMMIT, or APPLICATION=COMMIT", param_hint="--revision")
    wish = Wish(
        command=command_line(),
        revisions=tuple(one.strip() for one in revision or ()),
        probe=probe,
        accept_findings=accept_findings.strip(),
        watch_seconds=_seconds(watch),
    )
    settings = configuration(config, kubeconfig, context)
    if dry_run:
        from ringfence.cli import recovery_view

        with wiring.connected(settings) as connection:
            here = wiring.incident_here(connection, incident)
            recovery_view.run(connection, here, verbs.order_of(wish), out)
    with conducting_here(settings) as (connection, conductor):
        here = wiring.incident_here(connection, incident)
        result = verbs.recover(connection, conductor, here, wish)
        view = view_of(connection, result)
    finish(view, result, out)


def close(
    incident: IncidentId,
    root_cause: Annotated[str, typer.Option("--root-cause", help="How the attacker came in; stands in the report.")],
    lesson: Annotated[
        list[str] | None, typer.Option("--lesson", help="What is to be done otherwise; several times, if need be.")
    ] = None,
    determination: Annotated[
        DeterminationWord | None, typer.Option(help="What it turned out to be, if that was not said yet.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why now; stands on the timeline.")] = "",
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Close the incident with verdict, root cause and lessons. Refused while a way in is open and unaccepted."""
    from ringfence import app as wiring
    from ringfence.model.incident import Determination, ocsf_status
    from ringfence.response import closing

    if not root_cause.strip():
        raise typer.BadParameter("say it in words; 'not known' is an answer", param_hint="--root-cause")
    if any(not one.strip() for one in lesson or ()):
        raise typer.BadParameter("say it in words", param_hint="--lesson")
    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        after, stays = closing.close(
            connection,
            here,
            root_cause=root_cause.strip(),
            lessons=tuple(one.strip() for one in lesson or ()),
            determination=Determination(determination.value) if determination else None,
            reason=reason.strip(),
        )
    say(f"{after.id}: {after.state}, OCSF {ocsf_status(after.state)}; {after.determination}")
    if stays:
        note("still in force:", *(clean(f"  {words}") for words in stays))
        note(f"  take it back, where that is safe: ringfence undo {after.id} STEP")


def _seconds(words: str | None) -> int:
    from ringfence.cli.durations import seconds_of

    if words is None:
        return 0
    seconds = seconds_of(words)
    if seconds is None or not 1 <= seconds <= _LONGEST_WINDOW:
        raise typer.BadParameter("a time such as 30s, 15m or 8h, at most a day", param_hint="--watch")
    return seconds
