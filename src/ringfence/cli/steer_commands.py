"""The commands that steer a run: approve, reject, resume, cancel, undo, watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli import output
from ringfence.cli.options import ConfigFile, IncidentId, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, note, say
from ringfence.cli.running import conducting_here, finish, view_of
from ringfence.cli.text import clean
from ringfence.errors import ExitCode

if TYPE_CHECKING:
    from ringfence.config import Config


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which ``--help`` shows them."""
    for command in (approve, reject, resume, cancel, undo, watch):
        app.command()(command)


def approve(
    approval: Annotated[str, typer.Argument(help="INC-7/approval/1, or INC-7 when one waits there.")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Say yes, as the principal that the cluster knows you by; the run goes on."""
    _decide(approval, "approved", reason, out, configuration(config, kubeconfig, context))


def reject(
    approval: Annotated[str, typer.Argument(help="INC-7/approval/1, or INC-7 when one waits there.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Say no: the run ends where it waits. What is in force stays."""
    if not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    _decide(approval, "rejected", reason, out, configuration(config, kubeconfig, context))


def resume(
    incident: IncidentId,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Go on with what a crash, a closed terminal or Ctrl-C interrupted. Nothing is applied twice."""
    from ringfence import app as wiring
    from ringfence.response import verbs

    with conducting_here(configuration(config, kubeconfig, context)) as (connection, conductor):
        results = verbs.resume(connection, conductor, wiring.incident_here(connection, incident))
        views = [view_of(connection, result) for result in results]
    for view in views[:-1]:
        note(f"{view.run}: {view.outcome_of} is over")
    finish(views[-1], results[-1], out)


def cancel(
    incident: IncidentId,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Start no further step of the incident's runs. What is in force stays in force."""
    from ringfence import app as wiring
    from ringfence.errors import TargetError
    from ringfence.response import orders

    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        left = orders.resumable(connection, here)
        if not left:
            raise TargetError(f"{here.id} has no run to cancel", next_step=f"ringfence status {here.id}")
        for run in left:
            after = orders.cancel(connection, run, reason=reason)
            note(f"{run.id}: {after.state if after.state.ended else 'stops after its present step'}")


def undo(
    incident: IncidentId,
    step: Annotated[str, typer.Argument(help="The step, for example cut/1 (ringfence timeline INC).")],
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Take one step back from what was saved before it, where that is safe; else say what to use instead."""
    from ringfence import app as wiring
    from ringfence.model.outcome import describe, is_done, next_step_of
    from ringfence.response.undo import undo_step

    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        undone = undo_step(connection, here, step)
    for name, outcome in undone:
        say(f"{clean(name)}: {clean(describe(outcome))}")
        if hint := next_step_of(outcome):
            say(f"  next: {clean(hint, longest=None)}")  # it may hand out a manifest
    output.stop(ExitCode.OK if all(is_done(outcome) for _, outcome in undone) else ExitCode.REFUSED)


def watch(
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Be the engine: carry runs on, page, watch what is fenced, look again at open incidents. Ends with Ctrl-C.

    Copies, time stamps and anchors that are missing are tried again, and anchors made as they fall due.
    """
    from datetime import timedelta

    from ringfence import app as wiring
    from ringfence.cli.places import upkeep
    from ringfence.response.resident import Resident

    settings = configuration(config, kubeconfig, context)
    with conducting_here(settings) as (connection, conductor):
        conductor.keep_engine_small(timedelta(days=settings.watch.engine_retention_days))
        conductor.launch()
        note(f"{conductor.executor} runs the engine; Ctrl-C ends it, and what runs stays resumable")
        resident = Resident(
            connection, note, every_seconds=settings.watch.retest_seconds, options=wiring.watching(settings)
        )
        with upkeep(settings, connection.store, connection.actor, note).running():
            resident.run()


def _decide(approval: str, decision: str, reason: str, out: Format, settings: Config) -> None:
    from ringfence.model.run import Decision
    from ringfence.response import consent, verbs

    with conducting_here(settings) as (connection, conductor):
        decided = consent.decide(connection, approval, Decision(decision), reason=reason.strip())
        note(f"{decided.id}: {decided.decision} by {connection.principal}")
        result = verbs.carry_on(connection, conductor, decided.run)
        view = view_of(connection, result)
    finish(view, result, out, rejected=decided.decision is Decision.REJECTED)
