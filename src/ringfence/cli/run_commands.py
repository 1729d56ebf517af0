"""The commands that run a playbook: contain, respond, cut-identity, eradicate, release."""

from __future__ import annotations

import time
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ringfence.cli.options import ConfigFile, IncidentId, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, note
from ringfence.cli.running import conducting_here, finish, view_of
from ringfence.cli.text import command_line

if TYPE_CHECKING:
    from ringfence.config import Config
    from ringfence.model.incident import Incident
    from ringfence.model.run import Group
    from ringfence.response.context import Context
    from ringfence.response.orders import Found
    from ringfence.response.verbs import Wish

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET…", help="pod/NAME, deployment/NAME, statefulset/, daemonset/, replicaset/, job/, cronjob/, sa/."
    ),
]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Their namespace.")]
Image = Annotated[str | None, typer.Option("--image", metavar="DIGEST", help="Every pod that runs this image.")]
Siblings = Annotated[
    bool, typer.Option("--siblings", help="Also every other pod of the same image or service account.")
]
Reason = Annotated[str, typer.Option(help="Why, in a few words; stands in the report.")]
AcceptOutage = Annotated[
    bool, typer.Option("--accept-outage", help="Cut even if a Service falls below its serving floor.")
]


class Shape(StrEnum):
    """``--shape``."""

    AUTO = "auto"
    DETACH = "detach"
    FENCE = "fence"


ShapeOption = Annotated[Shape, typer.Option("--shape", help="Out of its controller, in place, or what fits.")]
Canary = Annotated[bool, typer.Option("--canary", help="Try the fence on packets, with a throw-away pod.")]
LeaseFor = Annotated[str | None, typer.Option("--lease", metavar="8h", help="How long until somebody looks again.")]


def register(app: typer.Typer) -> None:
    """Add the commands, in the order in which ``--help`` shows them."""
    for command in (contain, respond, cut_identity, eradicate, release):
        app.command()(command)


def contain(
    targets: Targets = None,
    namespace: Namespace = None,
    image: Image = None,
    siblings: Siblings = False,
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing, store nothing.")] = False,
    print_kubectl: Annotated[
        bool, typer.Option("--print-kubectl", help="Print the plan as kubectl commands; change nothing.")
    ] = False,
    accept_outage: AcceptOutage = False,
    shape: ShapeOption = Shape.AUTO,
    canary: Canary = False,
    lease: LeaseFor = None,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Cut pods' network while they stay alive, seal their evidence, and say what is still open."""
    from ringfence.response import verbs

    began = time.monotonic()
    settings = configuration(config, kubeconfig, context)
    wish = _wish(reason, accept_outage=accept_outage, shape=shape, canary=canary, lease=lease)
    if dry_run or print_kubectl:
        _plan(settings, targets, namespace, image, siblings, shape.value, print_kubectl=print_kubectl, out=out)
    cut_after: list[float] = []

    def on_cut(incident: Incident) -> None:
        if not cut_after:
            cut_after.append(time.monotonic() - began)
            note(f"{incident.id}: cut in {cut_after[0]:.1f} s, sealing the evidence")

    with conducting_here(settings) as (connection, conductor):
        conductor.live.on_cut = on_cut
        found = _found(connection, targets, namespace, image, siblings, playbook=verbs.COMPROMISED)
        wish = replace(wish, group=_group(connection, targets, namespace, image, siblings))
        result = verbs.contain(connection, conductor, found, wish)
        view = view_of(connection, result, cut_after[0] if cut_after else None)
    finish(view, result, out)


def respond(
    playbook: Annotated[str, typer.Argument(help="A playbook of the library (see `actions`), or a .yaml file.")],
    targets: Targets = None,
    namespace: Namespace = None,
    image: Image = None,
    siblings: Siblings = False,
    reason: Reason = "",
    accept_outage: AcceptOutage = False,
    accept_same_image: Annotated[
        bool, typer.Option("--accept-same-image", help="Restart although the image is the suspect's.")
    ] = False,
    shape: ShapeOption = Shape.AUTO,
    canary: Canary = False,
    lease: LeaseFor = None,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Run a whole playbook on targets. It stops where a person must decide, and goes on with `approve`."""
    from ringfence.response import verbs

    settings = configuration(config, kubeconfig, context)
    wish = _wish(
        reason, accept_outage=accept_outage, shape=shape, canary=canary, lease=lease, same_image=accept_same_image
    )
    with conducting_here(settings) as (connection, conductor):
        found = _found(connection, targets, namespace, image, siblings, playbook=playbook)
        wish = replace(wish, group=_group(connection, targets, namespace, image, siblings))
        result = verbs.respond(connection, conductor, playbook, found, wish)
        view = view_of(connection, result)
    finish(view, result, out)


def cut_identity(
    incident: IncidentId,
    bindings: Annotated[
        bool, typer.Option("--bindings", help="Take the account's rights although other pods use it.")
    ] = False,
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Delete the account and create it anew: all its tokens die.")
    ] = False,
    legacy_tokens: Annotated[
        bool, typer.Option("--legacy-tokens", help="Delete the Secrets that hold tokens of the account.")
    ] = False,
    break_glass: Annotated[
        str | None,
        typer.Option("--break-glass", metavar="REASON", help="With one of these: without a seal; heads the report."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plans; change nothing, store nothing.")] = False,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Refuse what the pods' Kubernetes tokens write; take their account's rights, when nobody else uses it."""
    from ringfence import app as wiring
    from ringfence.response import results, verbs

    if sum((bindings, recreate, legacy_tokens)) > 1:
        raise typer.BadParameter("one after the other", param_hint="--bindings, --recreate, --legacy-tokens")
    if break_glass is not None and not ((recreate or legacy_tokens) and break_glass.strip()):
        raise typer.BadParameter("give a reason, with --recreate or --legacy-tokens", param_hint="--break-glass")
    settings = configuration(config, kubeconfig, context)
    act, main = verbs.cut_identity, results.CUT_IDENTITY
    if recreate:
        act, main = verbs.recreate_account, results.RECREATE
    elif legacy_tokens:
        act, main = verbs.delete_tokens, results.DELETE_TOKENS
    if dry_run:
        _plan_identity(settings, incident, results.MAIN[main], bindings=bindings, out=out)
    with conducting_here(settings) as (connection, conductor):
        here = wiring.incident_here(connection, incident)
        wish = _wish("", bindings=bindings, break_glass=(break_glass or "").strip())
        result = act(connection, conductor, here, wish)
        view = view_of(connection, result)
    finish(view, result, out)


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
    """Delete the sealed suspects, show their tokens dead, take the fence down. Refused without a fresh seal."""
    from ringfence import app as wiring
    from ringfence.response import verbs

    if break_glass is not None and not break_glass.strip():
        raise typer.BadParameter("give a reason", param_hint="--break-glass")
    with conducting_here(configuration(config, kubeconfig, context)) as (connection, conductor):
        here = wiring.incident_here(connection, incident)
        result = verbs.eradicate(connection, conductor, here, _wish("", break_glass=(break_glass or "").strip()))
        view = view_of(connection, result)
    finish(view, result, out)


def release(
    incident: IncidentId,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """It was a false positive: unfence pods, or seal and delete detached ones, then put the policies back."""
    from ringfence import app as wiring
    from ringfence.response import verbs

    with conducting_here(configuration(config, kubeconfig, context)) as (connection, conductor):
        here = wiring.incident_here(connection, incident)
        result = verbs.release(connection, conductor, here, _wish(""))
        view = view_of(connection, result)
    finish(view, result, out)


def _group(
    connection: Context, targets: list[str] | None, namespace: str | None, image: str | None, siblings: bool
) -> Group | None:
    """What is looked up anew once it was cut; None for pods that were named themselves: they are what they are."""
    if not image and not siblings and all(_is_pod(one) for one in targets or ()):
        return None
    return _named(connection, targets, namespace, image, siblings)


def _named(
    connection: Context, targets: list[str] | None, namespace: str | None, image: str | None, siblings: bool
) -> Group:
    from ringfence.model.run import Group

    where = namespace or ("" if image and not targets else connection.cluster.namespace)
    return Group(names=tuple(targets or ()), namespace=where, image=image or "", siblings=siblings)


def _is_pod(spec: str) -> bool:
    from ringfence.platform.kubernetes.resources import POD
    from ringfence.platform.kubernetes.targets import kind_of

    return "/" not in spec or kind_of(spec)[0] is POD


def _found(
    connection: Context,
    targets: list[str] | None,
    namespace: str | None,
    image: str | None,
    siblings: bool,
    *,
    playbook: str,
) -> tuple[Found, ...]:
    from ringfence.response.seek import seek

    if not targets and not image:
        raise typer.BadParameter("name a target, for example pod/NAME, or --image", param_hint="TARGET")
    group = _named(connection, targets, namespace, image, siblings)
    found, became = seek(
        connection,
        group.names,
        namespace=group.namespace,
        image=group.image,
        siblings=group.siblings,
        playbook=playbook,
    )
    note(*became)
    return found


def _wish(
    reason: str,
    *,
    accept_outage: bool = False,
    shape: Shape = Shape.AUTO,
    canary: bool = False,
    lease: str | None = None,
    break_glass: str = "",
    same_image: bool = False,
    bindings: bool = False,
) -> Wish:
    from ringfence.cli.durations import minutes_of
    from ringfence.response.verbs import Wish

    minutes = None
    if lease is not None:
        minutes = minutes_of(lease)
        if minutes is None:
            raise typer.BadParameter("a time such as 30m, 8h or 2d", param_hint="--lease")
    return Wish(
        reason=reason.strip(),
        command=command_line(),
        accept_outage=accept_outage,
        shape=shape.value,
        canary=canary,
        lease_minutes=minutes,
        break_glass=break_glass,
        accept_same_image=same_image,
        bindings=bindings,
    )


def _plan(
    settings: Config,
    targets: list[str] | None,
    namespace: str | None,
    image: str | None,
    siblings: bool,
    shape: Literal["auto", "detach", "fence"],
    *,
    print_kubectl: bool,
    out: Format,
) -> None:
    from ringfence import app as wiring
    from ringfence.cli import plans
    from ringfence.response.preview import preview
    from ringfence.response.verbs import COMPROMISED

    with wiring.connected(settings) as connection:
        found = _found(connection, targets, namespace, image, siblings, playbook=COMPROMISED)
        planned = preview(connection, found, shape=shape)
    if print_kubectl:
        raise typer.Exit(int(plans.print_kubectl(planned)))
    raise typer.Exit(int(plans.show(planned, out)))


def _plan_identity(settings: Config, incident: str, actions: tuple[str, ...], *, bindings: bool, out: Format) -> None:
    from ringfence import app as wiring
    from ringfence.cli import plans
    from ringfence.response.preview import preview_identity

    with wiring.connected(settings) as connection:
        here = wiring.incident_here(connection, incident)
        planned = preview_identity(connection, here, actions, bindings=bindings)
    raise typer.Exit(int(plans.show(planned, out)))
