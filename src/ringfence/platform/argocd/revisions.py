"""Which revision an Application would deliver, and which it has delivered (pure).

Rule sources: Argo CD 3.5, ``pkg/apis/application/v1alpha1/types.go``: ``status.sync`` is the last comparison, with the
revision that ``targetRevision`` gave then; ``status.operationState.syncResult`` is the last sync; the annotation
``argocd.argoproj.io/refresh`` asks for a comparison, and is taken off when it was made. An Application of several
sources has ``revisions`` instead of ``revision``, in the order of its sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from ringfence.model.base import Json

REFRESH = "argocd.argoproj.io/refresh"
_SHORT = re.compile(r"[0-9a-f]{7,39}")
_FULL = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def compared(application: Json) -> tuple[str, ...]:
    """The revisions that the last comparison resolved, one for each source; empty before the first."""
    return _revisions((application.get("status") or {}).get("sync") or {})


def synced(application: Json) -> tuple[str, ...]:
    """The revisions of the last sync that succeeded; empty when the last one did not."""
    state = (application.get("status") or {}).get("operationState") or {}
    return _revisions(state.get("syncResult") or {}) if state.get("phase") == "Succeeded" else ()


def is_synced(application: Json) -> bool:
    """Whether the last comparison found everything as in Git."""
    return ((application.get("status") or {}).get("sync") or {}).get("status") == "Synced"


def health(application: Json) -> str:
    """``Healthy``, ``Progressing``, ``Degraded``, …; empty when it is not known."""
    return str(((application.get("status") or {}).get("health") or {}).get("status", ""))


def compared_since(application: Json, moment: datetime) -> bool:
    """Whether a comparison has ended after that moment, and none that was asked for is due. Argo CD's clock counts in
    seconds."""
    if REFRESH in (application["metadata"].get("annotations") or {}):
        return False
    try:
        ended = datetime.fromisoformat(str((application.get("status") or {}).get("reconciledAt")))
    except ValueError:
        return False
    return ended >= moment.replace(microsecond=0)


def problems(application: Json) -> tuple[str, ...]:
    """What keeps Argo CD from comparing, in its own words: Git that does not answer, manifests that do not parse."""
    return tuple(
        str(one.get("message", ""))
        for one in (application.get("status") or {}).get("conditions") or ()
        if str(one.get("type", "")) in ("ComparisonError", "InvalidSpecError", "UnknownError")
    )


def approved(name: str, revisions: Iterable[str], given: Iterable[str]) -> bool:
    """Whether each revision of the Application of that ``name`` is among those ``given``: ``REVISION``, for all, or
    ``NAME=REVISION``. A commit may be shortened to seven digits at least, as git does."""
    wanted = tuple(revisions)
    named = [words.partition("=")[2] for words in given if words.partition("=")[0] == name and "=" in words]
    for_all = [words for words in given if "=" not in words]
    return bool(wanted) and all(any(_is(one, said) for said in (named or for_all)) for one in wanted)


def words(revision: str) -> str:
    """A commit in twelve digits; anything else (a chart's version) as it is."""
    return revision[:12] if _FULL.fullmatch(revision) else revision


def _is(revision: str, said: str) -> bool:
    said = said.strip()
    if _FULL.fullmatch(revision) and _SHORT.fullmatch(said.lower()):
        return revision.startswith(said.lower())
    return bool(said) and revision == said


def _revisions(found: Json) -> tuple[str, ...]:
    several = tuple(str(one) for one in found.get("revisions") or () if one)
    return several or ((str(found["revision"]),) if found.get("revision") else ())
