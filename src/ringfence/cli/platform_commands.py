"""The commands of the platform engineer, before the night: actions, rbac, doctor."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli.options import ConfigFile, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, say, say_data, stop, styled, table
from ringfence.cli.text import clean

if TYPE_CHECKING:
    from ringfence.response.readiness import Finding

actions_app = typer.Typer(
    help="List and show the actions: what each does, to what, and which rights it needs.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_CHECK = 34
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which ``--help`` shows them."""
    app.add_typer(actions_app, name="actions")
    app.command()(rbac)
    app.command()(doctor)


@actions_app.command("list")
def list_actions(out: Output = Format.TEXT, config: ConfigFile = None) -> None:
    """What a playbook may do: each kind of step, and whether it is enabled here."""
    from ringfence import app as wiring
    from ringfence.cli.catalogue import entries

    found = entries(wiring.enabled_steps(configuration(config)))
    if out in (Format.JSON, Format.YAML):
        say_data([entry.to_json() for entry in found], out)
        return
    table(
        ("action", "on", "destroys", "reversible", "enabled", "what it does"),
        [
            (
                entry.name,
                ", ".join(entry.kinds) or entry.scope,
                "yes" if entry.destructive else "no",
                entry.reversible,
                "yes" if entry.enabled else "NO",
                entry.title,
            )
            for entry in found
        ],
    )


@actions_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The action, for example network.quarantine.")],
    out: Output = Format.TEXT,
    config: ConfigFile = None,
) -> None:
    """One action: what it does and cannot know, its parameters, and every right with its reason."""
    from ringfence import app as wiring
    from ringfence.cli.catalogue import entry_of

    entry = entry_of(name, wiring.enabled_steps(configuration(config)))
    if out in (Format.JSON, Format.YAML):
        say_data(entry.to_json(), out)
        return
    say(f"{entry.name}: {entry.title}" + ("" if entry.enabled else f"   NOT ENABLED ({entry.switch})"))
    say(f"  on {', '.join(entry.kinds) or entry.scope}; {entry.kind_words}")
    say(*(["", *entry.text.splitlines()] if entry.text else []))
    if entry.params:
        say("", "parameters:")
        say(*(f"  {param.name}: {param.type}, {param.default}" for param in entry.params))
        say(*(["", *entry.params_text.splitlines()] if entry.params_text else []))
    if entry.permissions:
        say("")
        table(
            ("resource", "verbs", "where", "because"),
            [
                (
                    one.resource,
                    ", ".join(sorted(one.verbs)),
                    "cluster" if one.everywhere else entry.where,
                    one.because,
                )
                for one in entry.permissions
            ],
        )


def rbac(
    name: Annotated[str, typer.Option(help="Name of the role and its bindings.")] = "ringfence-responder",
    service_account: Annotated[
        str | None, typer.Option("--service-account", metavar="NS/NAME", help="Bind it to this account as well.")
    ] = None,
    namespaces: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace", "-n", metavar="NS", help="Respond only there (may be repeated); default: the whole cluster."
        ),
    ] = None,
    actions: Annotated[
        str | None, typer.Option(metavar="A,B", help="These actions only; default: the enabled ones.")
    ] = None,
    node_helper: Annotated[
        bool,
        typer.Option(
            "--node-helper", help="Only the rights of the node helper, in its namespace: root on nodes; take them away."
        ),
    ] = False,
    checkpoint: Annotated[
        bool,
        typer.Option("--checkpoint", help="Only the right to checkpoints (nodes/proxy): root on nodes; take it away."),
    ] = False,
    out: Output = Format.YAML,
    config: ConfigFile = None,
) -> None:
    """Print the ClusterRole that the enabled actions and the evidence need, each rule with its reason."""
    from ringfence import app as wiring
    from ringfence.cli.manifests import Account, rights, rights_in

    account = None
    if service_account is not None:
        namespace, slash, account_name = service_account.partition("/")
        if not slash or not _NAME.fullmatch(namespace) or not _NAME.fullmatch(account_name):
            raise typer.BadParameter("NAMESPACE/NAME", param_hint="--service-account")
        account = Account(namespace, account_name)
    for option, word in (("--name", name), *(("--namespace", one) for one in namespaces or ())):
        if not _NAME.fullmatch(word):
            raise typer.BadParameter(f"{clean(word)!r} is no name of Kubernetes", param_hint=option)
    settings = configuration(config)
    if actions is not None:
        wanted = tuple(one.strip() for one in actions.split(","))
        settings = settings.model_copy(update={"actions": settings.actions.model_copy(update={"enabled": wanted})})
    if node_helper and checkpoint:
        raise typer.BadParameter("not with --node-helper: render each by itself", param_hint="--checkpoint")
    if checkpoint:
        from ringfence.actions.checkpoint import PERMISSIONS as CHECKPOINT_PERMISSIONS

        rendered = rights(f"{name}-checkpoint", CHECKPOINT_PERMISSIONS, account)
    elif node_helper:
        from ringfence.actions.node_helper import PERMISSIONS

        rendered = rights_in(settings.node_helper.namespace, f"{name}-node-helper", PERMISSIONS, account)
    else:
        asked = wiring.permissions(settings, wiring.enabled_actions(settings))
        rendered = rights(name, asked, account, tuple(dict.fromkeys(namespaces or ())))
    if out is Format.JSON:
        say_data({"apiVersion": "v1", "kind": "List", "items": list(rendered.objects)}, out)
    else:
        say(*rendered.to_yaml().splitlines())


def doctor(
    namespaces: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", metavar="NS", help="Where to try the actions (may be repeated)."),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Start three throw-away pods there to try whether NetworkPolicies hold.")
    ] = False,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Check before the night: dry-run every enabled action on what really runs, and say what is missing.

    -o wide: also what became of each object that an action was tried on.
    """
    from ringfence import app as wiring
    from ringfence.cli.places import anchorer
    from ringfence.response import readiness

    settings = configuration(config, kubeconfig, context)
    site = dataclasses.replace(
        wiring.site(settings, tuple(dict.fromkeys(namespaces or ())), probe=probe),
        anchorer=lambda store: anchorer(settings, store),
    )
    found = []
    for finding in readiness.examine(site):
        found.append(finding)
        if out in (Format.TEXT, Format.WIDE):
            _tell(finding, each=out is Format.WIDE)
    if out in (Format.JSON, Format.YAML):
        say_data([finding.to_json() for finding in found], out)
    stop(readiness.exit_code(found))


def _tell(finding: Finding, *, each: bool) -> None:
    style = _STYLES[finding.level.value]
    say(f"{styled(finding.level.value.upper().ljust(5), style)} {finding.check.ljust(_CHECK)} {clean(finding.saw)}")
    if each:
        say(*(" " * (_CHECK + 7) + clean(line, longest=None) for line in finding.each))
    if finding.next_step:
        say(" " * (_CHECK + 7) + clean(f"next: {finding.next_step}"))
    say(*(" " * (_CHECK + 9) + clean(line) for line in finding.exemption.splitlines()))
