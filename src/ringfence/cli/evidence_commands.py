"""``ringfence evidence``: list, show, verify, export, collect; and what ``custody_commands`` adds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli import custody_commands
from ringfence.cli.options import ConfigFile, IncidentId, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, fail, note, say, say_data, table
from ringfence.cli.text import clean

if TYPE_CHECKING:
    from ringfence.config import Config

app = typer.Typer(
    help="List, show, verify, export, collect, disclose, hold and dispose of sealed evidence.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SealId = Annotated[str | None, typer.Option("--seal", help="A seal, for example INC-7/seal/1; the newest by default.")]
AuditLogs = Annotated[
    list[Path] | None,
    typer.Option(
        "--audit-log",
        metavar="FILE",
        help="The cluster's audit log (JSON lines, .gz too), with its rotated files; once for each API server.",
        show_default=False,
    ),
]
Identities = Annotated[
    list[str] | None,
    typer.Option(
        "--identity",
        metavar="USER",
        help="With --audit-log: another user all of whose changes must be on the timeline.",
        show_default=False,
    ),
]
ClockTolerance = Annotated[
    float,
    typer.Option(min=0, max=3600, metavar="SECONDS", help="With --audit-log: how far the clocks may be apart."),
]


def register(program: typer.Typer) -> None:
    program.add_typer(app, name="evidence")


@app.command("list")
def list_items(incident: IncidentId, seal: SealId = None, out: Output = Format.TEXT, config: ConfigFile = None) -> None:
    """The items of a seal with their hashes, and what could not be had."""
    from ringfence.cli import bundles

    view = bundles.open_seal(configuration(config), incident, seal)
    if out in (Format.JSON, Format.YAML):
        say_data({"seal": view.seal.to_json(), "items": [item.to_json() for item in view.items]}, out)
        return
    table(
        ("item", "result", "bytes", "sha256 (as the server sent it)" if out is Format.WIDE else "sha256", "reason"),
        [
            (
                item.id,
                item.result.value,
                item.blob.raw_size if item.blob else "",
                (item.blob.raw_sha256 if out is Format.WIDE else item.blob.raw_sha256[:16]) if item.blob else "",
                item.reason if out is Format.WIDE else item.reason[:60],
            )
            for item in view.items
        ],
    )
    say(clean(f"{view.seal.id}: bundle {view.seal.path}"))
    say(clean(f"sha256 {view.seal.bundle_sha256}, key {view.seal.key_id}"))


@app.command()
def show(
    incident: IncidentId,
    item: Annotated[str, typer.Argument(help="An item, for example logs/cards/current.")],
    seal: SealId = None,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as they are; not for a terminal.")] = False,
    config: ConfigFile = None,
) -> None:
    """Print one item, verified while it is read. May hold secrets. Control characters are shown as escapes."""
    from ringfence.cli import bundles

    bundles.show_item(configuration(config), incident, seal, item, raw=raw)


@app.command()
def verify(
    incident: IncidentId,
    seal: SealId = None,
    audit_log: AuditLogs = None,
    identity: Identities = None,
    clock_tolerance: ClockTolerance = 5.0,
    remote: Annotated[bool, typer.Option("--remote", help="Read the copy in S3 as well, all of it.")] = False,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
) -> None:
    """Verify a sealed bundle offline, and with --audit-log the timeline against the cluster's own log.

    Exit code 20: it was tampered with, or timeline and log differ. 21: it cannot be checked. Any other but 0: an error.
    """
    from ringfence.cli import bundles

    loaded = configuration(config)
    if not audit_log:
        _show_verified(_verified(loaded, incident, seal, remote), out)
        return
    from ringfence.cli import audit_check
    from ringfence.errors import RingfenceError, Tampered, TargetError, Unverifiable

    problems: list[RingfenceError] = []
    verified: dict[str, object] = {"verified": False}
    try:
        verified = _verified(loaded, incident, seal, remote)
    except (Tampered, Unverifiable) as error:
        problems.append(error)
    except TargetError as error:
        if seal is not None or bundles.has_seal(loaded, incident):
            raise
        note(str(error))
    checked = audit_check.check(loaded, incident, audit_log, identity or (), clock_tolerance)
    if out in (Format.JSON, Format.YAML):
        say_data({**verified, "audit_log": checked.to_json()}, out)
    else:
        if verified["verified"]:
            _show_verified(verified, out)
        audit_check.show(checked)
    if (problem := checked.error()) is not None:
        problems.append(problem)
    if problems:
        # Exit code 20, a comparison that failed, comes before 21, one that could not be made.
        first, *rest = sorted(problems, key=lambda found: found.exit_code)
        for other in rest:
            fail(other)
        raise first


def _verified(config: Config, incident: str, seal: str | None, remote: bool) -> dict[str, object]:
    from ringfence.cli import bundles

    verified = bundles.verify(config, incident, seal)
    if remote:
        from ringfence.cli import custody

        verified["copy"] = custody.check_copy(config, bundles.open_seal(config, incident, seal).seal)
    return verified


def _show_verified(verified: dict[str, object], out: Format) -> None:
    if out in (Format.JSON, Format.YAML):
        say_data(verified, out)
        return
    items = f"{verified['collected']} of {verified['items']} items collected"
    say(clean(f"verified: {verified['seal']}, {items}, sha256 {verified['sha256']}"))
    say(clean(f"by key {verified['key_id']} ({verified['public_key']})"))
    if verified["time_stamp"]:
        say(clean(f"time stamp verified: {verified['time_stamp']}, by the authority's clock"))
    if "copy" in verified:
        say(clean(f"copy verified: {verified['copy']}"))


@app.command()
def export(
    incident: IncidentId,
    to: Annotated[Path, typer.Argument(help="A folder for the bundle and the public key.")],
    seal: SealId = None,
    config: ConfigFile = None,
) -> None:
    """Copy a verified bundle and the public key to a folder, for ringfence-verify on another machine."""
    from ringfence.cli import bundles

    for path in bundles.export(configuration(config), incident, seal, to):
        say(clean(path))


@app.command()
def collect(
    incident: IncidentId,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Collect and seal the suspects' evidence again: a destructive step needs a fresh seal."""
    from ringfence import app as wiring
    from ringfence.errors import RingfenceError
    from ringfence.response.capture import recapture_all

    failed: RingfenceError | None = None
    with wiring.connected(configuration(config, kubeconfig, context)) as connection:
        for target, made in recapture_all(connection, wiring.incident_here(connection, incident)):
            if isinstance(made, RingfenceError):
                note(f"{target}: {made}")
                failed = made
                continue
            say(clean(f"{made.id}: {target}: {made.collected} of {made.items} items sealed in {made.path}"))
            if not made.complete:
                note(f"incomplete: {made.why_incomplete}")
    if failed is not None:
        raise failed


custody_commands.register(app)
