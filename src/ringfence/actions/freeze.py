"""What has to be frozen so that an Application stays frozen (pure): the way up from it, topmost first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, TypeAlias

from ringfence.model.base import Json
from ringfence.model.plan import Change
from ringfence.platform.argocd import applications
from ringfence.platform.argocd.applications import SYNC_POLICY, Installation
from ringfence.platform.kubernetes.selectors import printable

Way: TypeAlias = Literal["remove", "disable", "ignore"]
"""``spec.syncPolicy.automated`` is taken out, or ``enabled: false`` is added to it; or an ApplicationSet is told to
leave the sync policy of one Application alone."""

Found: TypeAlias = dict[tuple[str, str], "Frozen"]


class Frozen(NamedTuple):
    """One thing to freeze. ``application`` is whom an ApplicationSet leaves alone; ``why`` is for a parent, and ends
    its sentence."""

    obj: Json
    way: Way
    application: str = ""
    why: str = ""


class Freezer(NamedTuple):
    """``takes_disabled``: whether the cluster keeps ``enabled: false`` in that Application; it asks the server."""

    installation: Installation
    takes_disabled: Callable[[Json], bool]


def freezes(wanted: Iterable[Json], freezer: Freezer) -> tuple[Frozen, ...]:
    """Each once, and everything before what it would put back. An Application that delivers itself ends its own way.

    Below a parent that syncs by itself, ``enabled: false`` is enough: a member that Git does not have is no drift, so
    the parent leaves it and need not be frozen. Where Git has the member, or the CRD does not know it, the parent is
    frozen first.
    """
    found: Found = {}
    for application in wanted:
        _suspend(application, freezer, found, (), "")
    return tuple(found.values())


def _suspend(application: Json, freezer: Freezer, found: Found, below: tuple[str, ...], why: str) -> None:
    """``below`` are the uids on the way up to here."""
    installation = freezer.installation
    uid = application["metadata"]["uid"]
    if (uid, "") in found or uid in below or applications.automated(application) is None:
        return
    generator = installation.generator_of(application)
    way: Way = "remove"
    if generator is not None:
        if not applications.leaves_sync_policy_alone(generator, application):
            # What delivers the ApplicationSet takes the added entry for drift where Git has such a list already.
            if "ignoreApplicationDifferences" in (generator.get("spec") or {}):
                _above(generator, freezer, found, (*below, uid))
            name = application["metadata"]["name"]
            found.setdefault((generator["metadata"]["uid"], name), Frozen(generator, "ignore", name))
    elif _is_healed(application, installation):
        if _may_be_disabled(application, installation) and freezer.takes_disabled(application):
            way = "disable"
        else:
            _above(application, freezer, found, (*below, uid))
    found.setdefault((uid, ""), Frozen(application, way, why=why))


def _is_healed(application: Json, installation: Installation) -> bool:
    parent = installation.owner_of(application)
    return parent is not None and applications.automated(parent) is not None


def _may_be_disabled(application: Json, installation: Installation) -> bool:
    parent = installation.owner_of(application)
    in_git = "enabled" in (applications.automated(application) or {})
    return not in_git and parent is not None and not applications.replaces(parent)


def _above(obj: Json, freezer: Freezer, found: Found, below: tuple[str, ...]) -> None:
    parent = freezer.installation.owner_of(obj)
    if parent is not None:
        why = f": it would put {obj['kind']} {printable(obj['metadata']['name'])} back"
        _suspend(parent, freezer, found, below, why)


def ignoring(before: list[Json] | None, application: str) -> list[Json]:
    """``ignoreApplicationDifferences`` with one entry more."""
    return [*(before or ()), {"name": application, "jsonPointers": [SYNC_POLICY]}]


def without_ignored(change: Change, live: Json) -> tuple[list[Json], list[Json]]:
    """Of the live list: the entries that the change added (by value), and all others."""
    added = change.body[-1]["value"][-1]
    entries = list((live.get("spec") or {}).get("ignoreApplicationDifferences") or ())
    return [one for one in entries if one == added], [one for one in entries if one != added]
