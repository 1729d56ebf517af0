"""``ringfence node``: the node helper, for one incident."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli import output
from ringfence.cli.options import ConfigFile, IncidentId, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, note, say, say_data
from ringfence.cli.text import clean
from ringfence.errors import ExitCode

if TYPE_CHECKING:
    from ringfence.model.incident import Incident
    from ringfence.response.context import Context
    from ringfence.response.node_order import Done


class NodeVerb(StrEnum):
    """What ``ringfence node INC`` does."""

    ON = "on"
    CUT = "cut"
    UNCUT = "uncut"
    FREEZE = "freeze"
    THAW = "thaw"
    COLLECT = "collect"
    CHECKPOINT = "checkpoint"
    STATUS = "status"
    OFF = "off"


def register(app: typer.Typer) -> None:
    app.command()(node)


def node(
    incident: IncidentId,
    verb: Annotated[
        NodeVerb,
        typer.Argument(
            metavar="VERB",
            help="on: allow it for this incident; cut, uncut: the pods' network, on their node; freeze, thaw: their "
            "processes; collect: processes, files and sockets from outside, sealed; checkpoint: their memory, by the "
            "kubelet, where the node can; status: what is in force; off.",
        ),
    ],
    pod: Annotated[str, typer.Option("--pod", metavar="NAME", help="This pod of the incident alone.")] = "",
    reason: Annotated[str, typer.Option(help="Why; on and off want it.")] = "",
    despite_liveness: Annotated[
        bool, typer.Option("--despite-liveness", help="Freeze although a liveness probe will have the pod killed.")
    ] = False,
    accept_outage: Annotated[
        bool, typer.Option("--accept-outage", help="Even if a Service falls below its serving floor.")
    ] = False,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Act on the suspects from their node, with a short-lived privileged pod. Off until switched on.

    A checkpoint needs no such pod and no switch, but a right of its own: ringfence rbac --checkpoint.
    """
    from ringfence import app as wiring
    from ringfence.cli import checkpoint_view
    from ringfence.model.node_helper import NodeOrder
    from ringfence.response import node_collect, node_helper, statement
    from ringfence.response.node_order import Wish

    if verb in (NodeVerb.ON, NodeVerb.OFF) and not reason.strip():
        raise typer.BadParameter("say why", param_hint="--reason")
    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        here = wiring.incident_here(connection, incident)
        if verb is NodeVerb.ON:
            node_helper.switch_on(connection, here, reason.strip())
            note(f"the node helper is on for {here.id}, by {connection.principal}")
            return
        if verb is NodeVerb.OFF:
            _off(connection, here, reason.strip())
            return
        if verb is NodeVerb.CHECKPOINT:
            checkpoint_view.run(connection, here, pod, out)
            return
        wish = Wish(accept_outage=accept_outage, despite_liveness=despite_liveness)
        if verb is NodeVerb.COLLECT:
            done = node_collect.collect_all(connection, here, only=pod, say=note)
        else:
            done = node_helper.order_all(connection, here, NodeOrder(verb.value), wish, only=pod, say=note)
        statement.retest(connection, here)
    _show(done, out)


def _off(connection: Context, here: Incident, reason: str) -> None:
    from ringfence.response import node_helper

    left = node_helper.switch_off(connection, here, reason)
    note(f"the node helper is off for {here.id}, by {connection.principal}")
    for words in left:
        note(words)


def _show(done: tuple[Done, ...], out: Format) -> None:
    from ringfence.model.outcome import Refused, describe, is_done

    if out in (Format.JSON, Format.YAML):
        say_data(
            [
                {
                    "target": one.target.to_json(),
                    "step": one.step,
                    "outcome": one.outcome.to_json(),
                    "proof": one.proof.to_json() if one.proof else None,
                    "report": one.report.to_json() if one.report else None,
                    "seal": one.seal,
                }
                for one in done
            ],
            out,
        )
    else:
        for one in done:
            say(clean(f"{one.target}: {one.step}: {describe(one.outcome)}"))
            say(*(f"  {clean(line)}" for line in _lines(one)))
    undone = [one.outcome for one in done if not is_done(one.outcome)]
    if not undone:
        output.stop(ExitCode.OK)
    output.stop(ExitCode.REFUSED if all(isinstance(one, Refused) for one in undone) else ExitCode.INCOMPLETE)


def _lines(done: Done) -> list[str]:
    found = []
    if done.proof is not None:
        lower = f" (not higher: {done.proof.why_not_higher})" if done.proof.why_not_higher else ""
        found.append(f"{done.proof.level}: {done.proof.claim}, by {done.proof.by}{lower}")
    report = done.report
    if report is not None and report.network is not None:
        network = report.network
        how = "in force" if network.in_force else "none"
        found.append(
            f"cut: {how} on {', '.join(network.interfaces) or 'no interface'}; dropped since: "
            f"{network.dropped_out} packets out, {network.dropped_in} in"
        )
        found += [f"not shut: {hole}" for hole in report.holes if network.in_force]
    if report is not None and report.frozen is not None:
        found.append(f"processes: {report.processes}, {'frozen' if report.frozen else 'not frozen'}")
    if done.seal:
        found.append(f"sealed: {done.seal}")
    return found
