"""The commands of ``ringfence``. Each imports what it needs when it runs, so that ``--help`` is there at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence import __version__
from ringfence.cli import evidence_commands, output
from ringfence.cli.options import (
    ConfigFile,
    IncidentId,
    Kubeconfig,
    KubeContext,
    Output,
    configuration,
)
from ringfence.cli.output import Format, errors_reported, note, say, say_json
from ringfence.errors import ExitCode, TargetError

if TYPE_CHECKING:
    from ringfence.cli.view import View
    from ringfence.response.ending import Ending

app = typer.Typer(
    name="ringfence",
    help="Cut an attacker off, seal the evidence, say what is still open, write the report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(evidence_commands.app, name="evidence")


def run() -> None:
    with errors_reported():
        app()


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        say(f"ringfence {__version__}")
        raise typer.Exit


@app.command()
def contain(
    target: Annotated[str, typer.Argument(metavar="pod/NAME", help="The pod to cut off.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Its namespace.")] = None,
    reason: Annotated[str, typer.Option(help="Why, in a few words; stands in the report.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing, store nothing.")] = False,
    accept_outage: Annotated[
        bool, typer.Option("--accept-outage", help="Cut even if a Service falls below its serving floor.")
    ] = False,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Cut a pod's network while it stays alive, seal the evidence, and say what is still open."""
    from ringfence import app as wiring
    from ringfence.cli import plans, views
    from ringfence.response import contain as response

    name = _pod_name(target)
    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        request = response.Request(
            namespace=namespace or connection.cluster.namespace,
            name=name,
            reason=reason,
            command=" ".join(["ringfence", *sys.argv[1:]]),
            accept_outage=accept_outage,
        )
        if dry_run:
            plan = response.plan_only(connection, request)
            raise typer.Exit(int(plans.show(plan, out)))
        result = response.contain(
            connection,
            request,
            ask=_ask,
            on_cut=lambda incident, seconds: note(f"{incident.id}: cut in {seconds:.1f} s, sealing the evidence"),
        )
        view = views.of_containment(connection, result)
    _show(view, out)
    output.stop(views.exit_code(view))


@app.command()
def status(
    incident: IncidentId,
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
            view = views.of_incident(connection, wiring.incident_here(connection, incident))
    except (NotSent, ConfigError) as error:
        # What is known is shown all the same, with the time it was known at.
        view = views.as_stored(settings, incident, str(error))
    _show(view, out)


@app.command()
def incidents(out: Output = Format.TEXT, config: ConfigFile = None) -> None:
    """List the incidents, newest first."""
    from ringfence import app as wiring
    from ringfence.cli.view import incident_line
    from ringfence.store import incidents as rows

    store = wiring.store(configuration(config))
    with store.read() as session:
        found = rows.newest_first(session)
    if out is Format.JSON:
        say_json([incident.to_json() for incident in found])
    elif not found:
        say("no incidents")
    else:
        output.table(("incident", "state", "target", "severity", "declared", "title"), map(incident_line, found))


@app.command()
def timeline(incident: IncidentId, out: Output = Format.TEXT, config: ConfigFile = None) -> None:
    """Everything that happened, in order; the hash chain is verified while it is read."""
    from ringfence import app as wiring
    from ringfence.cli import history

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
def eradicate(
    incident: IncidentId,
    break_glass: Annotated[
        str | None,
        typer.Option("--break-glass", metavar="REASON", help="Destroy without a fresh seal; heads the report."),
    ] = None,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Delete the sealed suspect, show that its token is dead, take the fence down. Refused without a fresh seal."""
    from ringfence import app as wiring
    from ringfence.cli import views
    from ringfence.response import ending

    if break_glass is not None and not break_glass.strip():
        raise typer.BadParameter("give a reason", param_hint="--break-glass")
    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        result = ending.eradicate(connection, here, break_glass=break_glass, say=note)
        view = views.of_ending(connection, result)
    _end(result, view, out)


@app.command()
def release(
    incident: IncidentId,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """It was a false positive: seal the detached pod, delete it, then put the policies back as they were."""
    from ringfence import app as wiring
    from ringfence.cli import views
    from ringfence.response import ending

    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        result = ending.release(connection, here, say=note)
        view = views.of_ending(connection, result)
    _end(result, view, out)


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


@app.command()
def doctor(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="A namespace to check rights in.")] = None,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Check before the night: cluster, rights, store, vault, key, clock."""
    from ringfence.cli import checks

    output.stop(checks.run(configuration(config, kubeconfig, context), namespace, out))


def _pod_name(target: str) -> str:
    kind, slash, name = target.partition("/")
    if not slash:
        return target
    if kind.lower() not in ("pod", "pods", "po"):
        raise TargetError(
            f"{kind} is not a kind that contain takes", why="this version contains pods", next_step="pod/NAME -n NS"
        )
    return name


def _ask(falling: str) -> bool:
    """The operator decides when customers would be hit; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    note(f"customers: {falling}")
    return typer.confirm("cut all the same?", default=False, err=True)


def _show(view: View, out: Format) -> None:
    from ringfence.cli import screen

    if out is Format.JSON:
        say_json(view.to_json())
        return
    screen.show(view)
    if out is Format.WIDE:
        say("")
        screen.show_rows(view.rows)


def _end(ended: Ending, view: View, out: Format) -> None:
    from ringfence.cli import views

    note(*ended.fence)
    _show(view, out)
    code = views.exit_code(view)
    output.stop(ExitCode.INCOMPLETE if code is ExitCode.OK and not ended.fence_down else code)
