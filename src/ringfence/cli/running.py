"""What the commands that run something share: the engine for the length of a command, and how its end is shown."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from ringfence.cli import output
from ringfence.cli.output import Format, note, say, say_data
from ringfence.errors import ExitCode

if TYPE_CHECKING:
    from ringfence.cli.view import View
    from ringfence.config import Config
    from ringfence.response.conduct import Conductor
    from ringfence.response.context import Context
    from ringfence.response.results import Result


@contextlib.contextmanager
def conducting_here(settings: Config) -> Iterator[tuple[Context, Conductor]]:
    """Cluster, store and engine.

    The engine's library takes most of a second to import: it is, beside the first requests. Everything else is imported
    before that, as two threads must not import parts of one library at the same time.
    """
    from ringfence import app as wiring
    from ringfence.response import seek, verbs  # noqa: F401
    from ringfence.response.conduct import conducting
    from ringfence.response.live import Live

    def warm() -> None:
        threading.Thread(target=_warm, name="warm", daemon=True).start()

    live = Live(ask=_ask, say=note)
    with (
        wiring.connected(settings, beside=warm) as connection,
        conducting(
            connection,
            lambda: wiring.engine(settings, note),
            live,
            exclusive=wiring.engine_is_exclusive(settings),
            rota=wiring.rota(settings),
        ) as conductor,
    ):
        yield connection, conductor


def _warm() -> None:
    with contextlib.suppress(ImportError):
        import ringfence.durable.engine

        ringfence.durable.engine.warm()


def view_of(connection: Context, result: Result, seconds_to_cut: float | None = None) -> View:
    from ringfence.cli import views

    return views.of_result(connection, result, seconds_to_cut)


def finish(view: View, result: Result, out: Format, *, rejected: bool = False) -> None:
    from ringfence.cli import views

    show(view, out)
    output.stop(ExitCode.OK if rejected else views.exit_code(view, result.run))


def show(view: View, out: Format) -> None:
    """The five-second screen; with ``wide`` every row, step and run as well."""
    from ringfence.cli import screen

    if out in (Format.JSON, Format.YAML):
        say_data(view.to_json(), out)
        return
    screen.show(view)
    if out is Format.WIDE:
        say("")
        screen.show_rows(view.rows)
        screen.show_runs(view)


def _ask(falling: str) -> bool:
    """The operator decides when customers would be hit; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    note(f"customers: {falling}")
    return typer.confirm("cut all the same?", default=False, err=True)
