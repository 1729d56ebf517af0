"""``ringfence anchor``: the heads of timelines go to places outside; and the comparison with what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli.options import ConfigFile, Kubeconfig, KubeContext, Output, configuration
from ringfence.cli.output import Format, fail, note, say, say_data, stop
from ringfence.cli.text import clean, plural
from ringfence.errors import ExitCode

if TYPE_CHECKING:
    from ringfence.config import Config
    from ringfence.evidence.anchoring import Anchorer, Checked
    from ringfence.store.database import Store


def register(app: typer.Typer) -> None:
    app.command()(anchor)


def anchor(
    incident: Annotated[
        str | None, typer.Argument(metavar="[INC]", help="The incident, for example INC-7; all by default.")
    ] = None,
    out: Output = Format.TEXT,
    config: ConfigFile = None,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Sign the head of each timeline and write it to the places of the configuration (S3, Git), where it has changed.

    Whoever rewrites a timeline later has to rewrite it there as well: see timeline --anchors.
    """
    from ringfence import app as wiring
    from ringfence.cli.acting import principal
    from ringfence.store import incidents

    settings = configuration(config, kubeconfig, context)
    store = wiring.store(settings)
    anchors = _anchorer(settings, store)
    with store.read() as session:
        chosen = [incidents.get(session, incident)] if incident is not None else list(incidents.newest_first(session))
    actor = principal(settings, store).id
    words = [(one, word) for one in chosen for word in anchors.anchor(one, actor)]
    if out in (Format.JSON, Format.YAML):
        say_data([{"incident": one.id, **word.to_json()} for one, word in words], out)
    else:
        for one, word in words:
            where = f"{word.place}/{word.name}" if word.name else f"{word.place}: {word.why}"
            say(clean(f"{one.id}: event {word.seq} {word.result}, {where}"))
        if not words:
            say("every head is anchored already")
    if any(word.result == "failed" for _, word in words):
        stop(ExitCode.INCOMPLETE)


def check(config: Config, incident_id: str, out: Format) -> None:
    """Compare a timeline with its anchors, and say what was found. Raises what ``Checked.error`` gives."""
    from ringfence import app as wiring
    from ringfence.cli.bundles import public_key
    from ringfence.store import incidents

    store = wiring.store(config)
    anchors = _anchorer(config, store)
    with store.read() as session:
        here = incidents.get(session, incident_id)
    checked = anchors.check(here, public_key(config))
    if out in (Format.JSON, Format.YAML):
        say_data(checked.to_json(), out)
    else:
        _show(checked)
    first, rest = checked.error(), checked.problems
    for problem in rest:
        if problem is not first:
            fail(problem)
    if first is not None:
        raise first


def _show(checked: Checked) -> None:
    for place, number in checked.anchors.items():
        say(clean(f"{place}: {plural(number, 'anchor')} of {checked.incident} hold"))
    for gone in checked.gone:
        note(f"gone: {gone}")
    if checked.error() is None:
        later = checked.events - checked.newest
        tail = f"; {plural(later, 'event')} after it no anchor covers" if later else ""
        say(clean(f"{checked.incident} is as it was anchored, up to event {checked.newest}{tail}"))


def _anchorer(config: Config, store: Store) -> Anchorer:
    from ringfence.cli.places import anchorer
    from ringfence.errors import ConfigError

    found = anchorer(config, store)
    if found is None:
        raise ConfigError(
            "heads are anchored nowhere",
            location="anchor",
            why="no place is configured",
            next_step="anchor.s3 names a bucket, anchor.git a repository",
        )
    return found
