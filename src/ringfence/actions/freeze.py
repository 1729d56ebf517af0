"""What has to be frozen so that an Application stays frozen (pure): the way up from it, topmost first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ringfence.model.base import Json
from ringfence.model.plan import Change
from ringfence.platform.argocd import applications
from ringfence.platform.argocd.applications import SYNC_POLICY, Installation
from ringfence.platform.kubernetes.selectors import printable


class Frozen(NamedTuple):
    """One thing to freeze: an Application, or an ApplicationSet that is told to leave ``application`` alone.

    ``why`` is for a parent, and ends its sentence.
    """

    obj: Json
    application: str = ""
    why: str = ""


def freezes(wanted: Iterable[Json], installation: Installation) -> tuple[Frozen, ...]:
    """Each once, and everything before what it would put back. An Application that delivers itself ends its own way."""
    found: dict[tuple[str, str], Frozen] = {}
    for application in wanted:
        _suspend(application, installation, found, (), "")
    return tuple(found.values())


def _suspend(
    application: Json,
    installation: Installation,
    found: dict[tuple[str, str], Frozen],
    below: tuple[str, ...],
    why: str,
) -> None:
    """``below`` are the uids on the way up to here."""
    uid = application["metadata"]["uid"]
    if (uid, "") in found or uid in below or applications.automated(application) is None:
        return
    generator = installation.generator_of(application)
    if generator is not None:
        if not applications.leaves_sync_policy_alone(generator, application):
            # What delivers the ApplicationSet would take the added word for drift where Git has such a list already.
            _above(generator, installation, found, (*below, uid))
            name = application["metadata"]["name"]
            found.setdefault((generator["metadata"]["uid"], name), Frozen(generator, name))
    else:
        _above(application, installation, found, (*below, uid))
    found.setdefault((uid, ""), Frozen(application, why=why))


def _above(obj: Json, installation: Installation, found: dict[tuple[str, str], Frozen], below: tuple[str, ...]) -> None:
    parent = installation.owner_of(obj)
    if parent is not None:
        why = f": it would put {obj['kind']} {printable(obj['metadata']['name'])} back"
        _suspend(parent, installation, found, below, why)


def ignoring(before: list[Json] | None, application: str) -> list[Json]:
    """``ignoreApplicationDifferences`` with one entry more."""
    return [*(before or ()), {"name": application, "jsonPointers": [SYNC_POLICY]}]


def without_ignored(change: Change, live: Json) -> tuple[list[Json], list[Json]]:
    """Of the live list: the entries that the change added (by value), and all others."""
    added = change.body[-1]["value"][-1]
    entries = list((live.get("spec") or {}).get("ignoreApplicationDifferences") or ())
    return [one for one in entries if one == added], [one for one in entries if one != added]
