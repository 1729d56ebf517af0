"""Whether seals have their time stamps, and heads of timelines their anchors, where the configuration asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ringfence.errors import PlatformError, RingfenceError
from ringfence.evidence import stamping
from ringfence.evidence.anchoring import Anchorer, last_anchored, unanchored
from ringfence.response.readiness.findings import Finding, failed, ok, warn
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store

_STAMPS = "time stamps"
_ANCHORS = "anchors"


def check_stamps(open_store: Callable[[], Store], wanted: bool) -> Iterator[Finding]:
    """Nothing when none are asked for. The authority is not asked: it would stamp."""
    if not wanted:
        return
    try:
        store = open_store()
    except RingfenceError:
        return  # told by the store's own check
    lacking = []
    try:
        with store.read() as session:
            for incident in incidents.newest_first(session):
                if seals := evidence.seals(session, incident.id):
                    events = [entry.event for entry in timeline.read(session, incident.id)]
                    lacking += [seal for seal, _ in stamping.missing(events, seals)]
    except RingfenceError as error:
        yield failed(_STAMPS, error)
        return
    finally:
        store.close()
    if lacking:
        shown = ", ".join(seal.id for seal in lacking[:6])
        next_step = f"ringfence evidence stamp {lacking[0].incident}; ringfence watch does it too"
        yield warn(_STAMPS, f"{len(lacking)} seals have no time stamp: {shown}", next_step)
    else:
        yield ok(_STAMPS, "every seal has its time stamp")


def check_anchors(open_store: Callable[[], Store], anchorer: Callable[[Store], Anchorer | None]) -> Iterator[Finding]:
    """Nothing when no place is configured. Each place is read; nothing is written there."""
    try:
        store = open_store()
    except RingfenceError:
        return
    try:
        anchors = anchorer(store)
        if anchors is not None:
            yield from _places(store, anchors)
    except RingfenceError as error:
        yield failed(_ANCHORS, error)
    finally:
        store.close()


def _places(store: Store, anchors: Anchorer) -> Iterator[Finding]:
    for place in anchors.places:
        try:
            place.read("INC-0")  # there is none: whether the place answers
        except PlatformError as error:
            yield failed(_ANCHORS, error)
            continue
        never, stale = [], []
        with store.read() as session:
            for incident in incidents.newest_first(session):
                entries = timeline.read(session, incident.id)
                if last_anchored(entries, place.name) is None:
                    never.append(incident.id)
                elif unanchored(entries, place.name):
                    stale.append(incident.id)
        if never:
            shown = ", ".join(never[:6])
            yield warn(_ANCHORS, f"{len(never)} timelines were never anchored at {place.name}: {shown}", _NEXT)
        else:
            since = f"; changed since: {', '.join(stale[:6])}" if stale else ""
            yield ok(_ANCHORS, f"{place.name} answers, and has an anchor of every timeline{since}")


_NEXT = "ringfence anchor; ringfence watch does it too, every anchor.every_minutes"
