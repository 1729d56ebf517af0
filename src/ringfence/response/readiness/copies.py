"""Whether copies of sealed bundles can go where they should, stay there unaltered, and none is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ringfence.errors import PlatformError, RingfenceError
from ringfence.evidence.copies import Copier, missing
from ringfence.response.readiness.findings import Finding, fail, failed, ok, warn
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store

_CHECK = "evidence copies"


def check_copies(open_store: Callable[[], Store], copier: Callable[[Store], Copier | None]) -> Iterator[Finding]:
    """Nothing when no place is configured. Nothing is written to the bucket: that it can be is not tried."""
    try:
        store = open_store()
    except RingfenceError:
        return  # told by the store's own check
    try:
        sends = copier(store)
        if sends is not None:
            yield _bucket(sends)
            yield _missing(store, sends.place)
    except RingfenceError as error:
        yield failed(_CHECK, error)
    finally:
        store.close()


def _bucket(sends: Copier) -> Finding:
    try:
        found = sends.connect().condition()
    except PlatformError as error:
        return failed(_CHECK, error)
    lacking = [
        words
        for words, there in (("versioning", found.versioned), ("Object Lock", found.lockable or not sends.mode))
        if not there
    ]
    if lacking:
        tell = fail if sends.mode else warn
        return tell(
            _CHECK,
            f"{sends.place} has no {' and no '.join(lacking)}: a copy there can be altered or is refused",
            "make a bucket with Object Lock (it brings versioning), or set vault.s3.object_lock: none, knowing it",
        )
    lock = f"Object Lock in {sends.mode.lower()} mode, {sends.retain_days} days" if sends.mode else "no lock asked for"
    return ok(_CHECK, f"{sends.place} answers, is versioned; {lock}; writing was not tried")


def _missing(store: Store, place: str) -> Finding:
    lacking = []
    with store.read() as session:
        for incident in incidents.newest_first(session):
            if seals := evidence.seals(session, incident.id):
                events = [entry.event for entry in timeline.read(session, incident.id)]
                lacking += [seal for seal, _ in missing(events, seals, place)]
    if lacking:
        shown = ", ".join(seal.id for seal in lacking[:6])
        push = f"ringfence evidence push {lacking[0].incident}"
        return warn(_CHECK, f"{len(lacking)} seals have no copy at {place}: {shown}", push)
    return ok(_CHECK, f"every seal has its copy at {place}")
