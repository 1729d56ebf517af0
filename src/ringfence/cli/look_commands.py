"""The commands about an incident as it stands: status, incidents, timeline, accept, report."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ringfence.cli import output, running
from ringfence.cli.options import (
    ConfigFile,
    IncidentId,
    Kubeconfig,
    KubeContext,
    Output,
    configuration,
)
from ringfence.cli.output import Format, note, say, say_data

_WATCH_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which ``--help`` shows them."""
    for command in (status, incidents, timeline, accept, report):
        app.command()(command)


def status(
    incident: IncidentId,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every few seconds, until Ctrl-C.")] = False,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Look again: which ways in are dead, alive or unseen now. -o wide lists every one with its reason."""
    from ringfence import app as wiring
    from ringfence.cli import views
    from ringfence.errors import ConfigError, NotSent

    settings = configuration(config, kubeconfig, context)
    try:
        with wiring.connected(settings) as connection:
            here = wiring.incident_here(connection, incident)
            view = views.of_incident(connection, here)
            running.show(view, out)
            while watch:
                time.sleep(_WATCH_SECONDS)
                newer = views.of_incident(connection, here)
                if not views.same(view, newer):
                    say("")
                    running.show(newer, out)
                view = newer
            return
    except (NotSent, ConfigError) as error:
        # What is known is shown all the same, with the time it was known at.
        view = views.as_stored(settings, incident, str(error))
    running.show(view, out)


def incidents(out: Output = Format.TEXT, config: ConfigFile = None) -> None:
    """List the incidents, newest first."""
    from ringfence import app as wiring
    from ringfence.cli.view import incident_line
    from ringfence.store import incidents as rows

    store = wiring.store(configuration(config))
    with store.read() as session:
        found = rows.newest_first(session)
    if out in (Format.JSON, Format.YAML):
        say_data([incident.to_json() for incident in found], out)
    elif not found:
        say("no incidents")
    else:
        output.table(("incident", "state", "target", "severity", "declared", "title"), map(incident_line, found))


def timeline(
    incident: IncidentId,
    anchors: Annotated[
        bool, typer.Option("--anchors", help="Compare it with the anchors of its head (S3, Git) instead.")
    ] = False,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
) -> None:
    """Everything that happened, in order; the hash chain is verified while it is read.

    With --anchors: exit code 20: it was rewritten, or an anchor is gone or forged. 21: it cannot be checked.
    """
    from ringfence import app as wiring
    from ringfence.cli import anchor_commands, history

    if anchors:
        anchor_commands.check(configuration(config), incident, out)
        return
    with wiring.store(configuration(config)).read() as session:
        history.show(session, incident, out)


def accept(
    incident: IncidentId,
    row: Annotated[str, typer.Argument(help="The row, for example siblings.image (ringfence status -o wide).")],
    reason: Annotated[str, typer.Option(help="Why this is acceptable.")],
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Take an open way in on, in your name as the cluster knows you."""
    from ringfence import app as wiring
    from ringfence.response import statement

    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        accepted = statement.accept(connection, wiring.incident_here(connection, incident), row, reason.strip())
        note(f"{accepted.path}: accepted by {connection.principal}")


def report(
    incident: IncidentId,
    folder: Annotated[str, typer.Option("--out", help="Folder for report.md, report.html and timeline.json.")] = ".",
    config: ConfigFile = None,
) -> None:
    """Write the report: Markdown, HTML and the timeline as JSON."""
    from ringfence.cli import reports

    for path in reports.write(configuration(config), incident, folder):
        say(str(path))
