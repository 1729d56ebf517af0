"""The commands of an incident's record: declare, note, classify, state, handover. None of them changes the cluster."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from ringfence.cli.options import ConfigFile, IncidentId, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, note, say, say_data, stop
from ringfence.cli.text import clean, command_line
from ringfence.errors import ExitCode

Reason = Annotated[str, typer.Option(help="Why; stands on the timeline and in the report.")]
_MOST_STDIN = 1024 * 1024


class SeverityWord(StrEnum):
    """``--severity``."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"


class DeterminationWord(StrEnum):
    """``--determination``."""

    UNDETERMINED = "undetermined"
    SECURITY_INCIDENT = "security-incident"
    FALSE_POSITIVE = "false-positive"


class StateWord(StrEnum):
    """Where an incident stands."""

    DECLARED = "declared"
    CONTAINING = "containing"
    ERADICATING = "eradicating"
    RECOVERING = "recovering"
    POST_INCIDENT = "post-incident"
    CLOSED = "closed"


class PageFormat(StrEnum):
    """``-o`` of a page: for a terminal, for a ticket, for programs."""

    TEXT = "text"
    MARKDOWN = "md"
    JSON = "json"
    YAML = "yaml"


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which ``--help`` shows them."""
    app.command()(declare)
    app.command("note")(note_command)
    app.command()(classify)
    app.command()(state)
    app.command()(handover)


def declare(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="pod/NAME, deployment/NAME, sa/NAME, node/NAME …; namespace/NAME when nothing smaller is known.",
        ),
    ],
    reason: Reason,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="The target's namespace.")] = None,
    incident_type: Annotated[
        str, typer.Option("--type", help="What kind of incident, in small letters and hyphens.")
    ] = "compromised-workload",
    severity: Annotated[SeverityWord, typer.Option(help="How grave it looks.")] = SeverityWord.HIGH,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Declare an incident and change nothing; on an object that has an open one, join that."""
    from ringfence import app as wiring
    from ringfence.model.incident import Severity
    from ringfence.response import record

    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        said = record.Declaration(
            target=target,
            namespace=namespace or connection.cluster.namespace,
            incident_type=incident_type,
            severity=Severity(severity.value),
            reason=_words(reason, "--reason"),
            command=command_line(),
        )
        incident, joined = record.declare(connection, said)
    if out in (Format.JSON, Format.YAML):
        say_data({"incident": incident.to_json(), "joined": joined}, out)
        return
    say(clean(f"{incident.id} {'joined: it is open already' if joined else 'declared'}, about {incident.target}"))


def note_command(
    incident: IncidentId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The words; - reads them from standard input.")],
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Put a note on the timeline, in your name as the cluster knows you."""
    from ringfence import app as wiring
    from ringfence.response import record

    words = text if text != "-" else sys.stdin.buffer.read(_MOST_STDIN).decode("utf-8", "backslashreplace")
    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        record.note(connection, here, words)
        note(f"{here.id}: noted by {connection.principal}")


def classify(
    incident: IncidentId,
    reason: Reason,
    awareness: Annotated[
        str | None, typer.Option(metavar="TIME", help="When somebody knew, as 2026-11-23T02:40:00+01:00.")
    ] = None,
    determination: Annotated[DeterminationWord | None, typer.Option(help="What it turned out to be.")] = None,
    severity: Annotated[SeverityWord | None, typer.Option(help="How grave it is.")] = None,
    scheme: Annotated[str, typer.Option(help="A scheme that regulators ask for, for example DORA.")] = "",
    value: Annotated[str, typer.Option(help="The class in that scheme, for example major.")] = "",
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Say when it was known, what it turned out to be, how grave it is: regulators' deadlines hang on it."""
    from ringfence import app as wiring
    from ringfence.cli.durations import instant_of
    from ringfence.model.incident import Determination, Severity
    from ringfence.response import record

    aware_at = None
    if awareness is not None:
        aware_at = instant_of(awareness)
        if aware_at is None:
            raise typer.BadParameter(
                "a time with its offset, RFC 3339: 2026-11-23T02:40:00+01:00 or 2026-11-23T01:40:00Z",
                param_hint="--awareness",
            )
    said = record.Verdicts(
        reason=_words(reason, "--reason"),
        aware_at=aware_at,
        determination=Determination(determination.value) if determination else None,
        severity=Severity(severity.value) if severity else None,
        scheme=scheme.strip(),
        value=value.strip(),
    )
    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        record.classify(connection, here, said)
        note(f"{here.id}: classified by {connection.principal}")


def state(
    incident: IncidentId,
    to: Annotated[StateWord, typer.Argument(metavar="STATE", help="The state that it goes to.")],
    reason: Reason,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Say where the incident stands. Closing is refused while a way in is open that nobody has accepted."""
    from ringfence import app as wiring
    from ringfence.model.incident import State, ocsf_status
    from ringfence.response import record

    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        after = record.move(connection, here, State(to.value), _words(reason, "--reason"))
    say(f"{after.id}: {after.state}, OCSF {ocsf_status(after.state)}")


def handover(
    incident: IncidentId,
    to: Annotated[str, typer.Option("--to", metavar="NAME/TEAM", help="Who takes over.")],
    words: Annotated[str, typer.Option("--note", help="What they must know beside it.")] = "",
    out: Annotated[PageFormat, typer.Option("--output", "-o", help="text, md, json or yaml.")] = PageFormat.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Hand the incident over: what happened, what is open, what runs and waits, what is sealed, what to type next."""
    from datetime import UTC, datetime

    from ringfence import app as wiring
    from ringfence.cli import handovers
    from ringfence.errors import ConfigError, NotSent, Unanswered
    from ringfence.response import handover as response
    from ringfence.response.statement import retest

    settings = configuration(config, kubeconfig, context)
    receiver, left = _words(to, "--to"), words.strip()
    unrecorded, allowed = "", wiring.allows_node_helper(settings)
    try:
        with wiring.connected(settings) as connection:
            here = wiring.incident_here(connection, incident)
            unread = retest(connection, here).why
            with connection.store.read() as session:
                page = response.gather(session, here.id, at=datetime.now(UTC), unread=unread, helper_allowed=allowed)
            response.record(connection, page, to=receiver, note=left)
    except (NotSent, Unanswered, ConfigError) as error:
        # What is known is handed over all the same; but nobody vouches for who did it.
        unrecorded = str(error)
        with wiring.store(settings).read() as session:
            page = response.gather(session, incident, at=datetime.now(UTC), unread=unrecorded, helper_allowed=allowed)
    match out:
        case PageFormat.JSON | PageFormat.YAML:
            said = {"to": receiver, "note": left, "recorded": not unrecorded, **page.to_json()}
            say_data(said, Format(out.value))
        case PageFormat.MARKDOWN:
            say(handovers.markdown(page, to=receiver, note=left))
        case PageFormat.TEXT:
            say(handovers.text(page, to=receiver, note=left))
    if unrecorded:
        note(
            "the hand-over is not on the timeline: the cluster, which vouches for your name, did not answer",
            f"  why:  {unrecorded}",
            "  next: the same command when it does",
        )
        stop(ExitCode.UNREACHABLE)


def _words(text: str, option: str) -> str:
    if not text.strip():
        raise typer.BadParameter("say it in words", param_hint=option)
    return text.strip()
