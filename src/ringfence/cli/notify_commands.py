"""``ringfence notify``: whether a page arrives, tried before the night."""

from __future__ import annotations

from typing import Annotated

import typer

from ringfence.cli.options import ConfigFile, Output, configuration
from ringfence.cli.output import Format, say, say_data, stop, styled
from ringfence.cli.text import clean
from ringfence.errors import ExitCode

app = typer.Typer(
    help="Pages: who is woken when something turns.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(program: typer.Typer) -> None:
    program.add_typer(app, name="notify")


@app.callback()
def pages() -> None:
    """Pages: who is woken when something turns."""


@app.command(name="test")
def try_out(
    contact: Annotated[
        str | None, typer.Option("--contact", metavar="ROLE", help="Only the receivers of this contact.")
    ] = None,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
) -> None:
    """Send a test page to every receiver, or to those of one contact, and say what became of each."""
    from ringfence import app as wiring
    from ringfence.response import paging

    settings = configuration(config)
    rota = wiring.rota(settings)
    tried = paging.try_out(rota, contact or "")
    if out in (Format.JSON, Format.YAML):
        say_data(
            [{"receiver": one.receiver, "delivered": not one.problem, "problem": one.problem} for one in tried], out
        )
    else:
        for one in tried:
            word = styled("FAIL", "red") if one.problem else styled("OK  ", "green")
            say(f"{word} {one.receiver}" + (f": {clean(one.problem)}" if one.problem else ": taken"))
        if contact is None:
            say(*(f"nobody is paged for {clean(role)}" for role in rota.unreachable()))
    stop(ExitCode.OK if not any(one.problem for one in tried) else ExitCode.REFUSED)
