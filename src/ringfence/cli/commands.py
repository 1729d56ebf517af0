"""The commands of ``ringfence``. Each imports what it needs when it runs, so that ``--help`` is there at once."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from ringfence import __version__
from ringfence.cli import (
    anchor_commands,
    evidence_commands,
    incident_commands,
    node_commands,
    notify_commands,
    output,
    platform_commands,
    recovery_commands,
    run_commands,
    running,
    steer_commands,
)
from ringfence.cli.options import (
    ConfigFile,
    IncidentId,
    Kubeconfig,
    KubeContext,
    Output,
    configuration,
)
from ringfence.cli.output import Format, errors_reported, note, say, say_data

app = typer.Typer(
    name="ringfence",
    help="Cut an attacker off, seal the evidence, say what is still open, write the report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run_commands.register(app)
recovery_commands.register(app)
steer_commands.register(app)
incident_commands.register(app)
node_commands.register(app)
anchor_commands.register(app)
platform_commands.register(app)
app.add_typer(evidence_commands.app, name="evidence")
app.add_typer(notify_commands.app, name="notify")

_WATCH_SECONDS = 3.0


def run() -> None:
    with errors_reported():
        asked_for(sys.argv[1:])()


def asked_for(words: Sequence[str]) -> typer.Typer:
    """The program with the one command that ``words`` begin with: to make all of them ready takes as long as that one
    takes by itself. The whole program when they begin with none, for its help, its completion and what it says then."""
    first = words[0] if words else ""
    one = copy.copy(app)
    one.registered_commands = [command for command in app.registered_commands if _name(command) == first]
    one.registered_groups = [group for group in app.registered_groups if group.name == first]
    return one if one.registered_commands or one.registered_groups else app


def _name(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__) if command.callback else ""


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        say(f"ringfence {__version__}")
        raise typer.Exit


@app.command()
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


@app.command()
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


@app.command()
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
    from ringfence.cli import history

    if anchors:
        anchor_commands.check(configuration(config), incident, out)
        return
    with wiring.store(configuration(config)).read() as session:
        history.show(session, incident, out)


@app.command()
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


@app.command()
def report(
    incident: IncidentId,
    folder: Annotated[str, typer.Option("--out", help="Folder for report.md, report.html and timeline.json.")] = ".",
    config: ConfigFile = None,
) -> None:
    """Write the report: Markdown, HTML and the timeline as JSON."""
    from ringfence.cli import reports

    for path in reports.write(configuration(config), incident, folder):
        say(str(path))
