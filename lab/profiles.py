"""Profiles: what a lab can have besides, and has only when somebody asks for it.

A profile that was turned on stays on, through every later ``up``, until it is turned off or the lab is taken down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab import argocd_controller, kyverno_controller, programs
from lab.layout import Lab
from lab.programs import Part
from lab.progress import step


@dataclass(frozen=True)
class Profile:
    """``start`` starts or heals it and returns when it works; ``stop`` leaves nothing of it in the cluster."""

    name: str
    title: str
    parts: tuple[Part, ...]
    start: Callable[[Lab], None]
    stop: Callable[[Lab], None]


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "kyverno",
            f"Kyverno {programs.KYVERNO_VERSION}",
            (programs.KYVERNO,),
            kyverno_controller.start,
            kyverno_controller.stop,
        ),
        Profile(
            "argocd",
            f"Argo CD {programs.ARGOCD_VERSION}",
            (programs.ARGOCD,),
            argocd_controller.start,
            argocd_controller.stop,
        ),
    )
}


def active(lab: Lab) -> list[str]:
    """The profiles that are on."""
    return sorted(path.name for path in lab.profiles.glob("*") if path.name in PROFILES)


def is_built(name: str) -> bool:
    """Whether what this profile needs is there: building takes minutes."""
    return all(part.built.is_dir() for part in PROFILES[name].parts)


def build(names: Iterable[str]) -> None:
    """Builds what these profiles need and is missing.

    Raises:
        LabError: building failed.
    """
    for name in names:
        programs.ensure_parts(PROFILES[name].parts)


def on(lab: Lab, name: str) -> None:
    """Turns it on, or heals it.

    Raises:
        LabError: it does not come up; it counts as on, so that ``off`` or another ``up`` mends it.
    """
    lab.profiles.mkdir(exist_ok=True)
    (lab.profiles / name).touch()
    with step(PROFILES[name].title):
        PROFILES[name].start(lab)


def off(lab: Lab, name: str) -> None:
    """Turns it off, whatever state it is in; that it is off already is no error.

    Raises:
        LabError: something of it is left; run it again.
    """
    with step(f"{PROFILES[name].title} off"):
        PROFILES[name].stop(lab)
    (lab.profiles / name).unlink(missing_ok=True)
