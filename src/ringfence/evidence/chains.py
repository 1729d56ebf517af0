"""An incident's two chains as its bundles carry them, read on from where the last bundle's ended.

Each bundle holds both chains from their first entry. A hundred pods that are sealed together would otherwise have them
read and verified a hundred times from the start.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from ringfence.seal import canonical, custody, timeline
from ringfence.seal.chain import Strand
from ringfence.seal.custody import CustodyEntry
from ringfence.seal.timeline import TimelineEntry
from ringfence.seal.walked import Walked
from ringfence.store import evidence as rows
from ringfence.store import timeline as events
from ringfence.store.database import Session, Store

_INCIDENTS = 4
"""How many incidents' chains are kept: those that were sealed last."""


@dataclass(frozen=True)
class Known:
    """Both chains, each up to some moment, and what was walked of them."""

    custody: Strand = field(default_factory=Strand)
    timeline: Strand = field(default_factory=Strand)
    walked: Walked = field(default_factory=Walked)


class Chains:
    """What one process has read of the chains of the incidents that it seals for. Safe for several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, store: Store, incident: str) -> Known:
        """Both chains as they are now, from their first entry. Raises Tampered, ChainBroken.

        One thread after the other, each in a snapshot of its own: it reads what is new, and not what another reads
        already, and a timeline that is shorter than what is known was cut.
        """
        with self._lock, store.read() as session:
            known = self._read(session, incident, self._known.get(incident, Known()))
            self._known[incident] = known
            self._known.move_to_end(incident)
            while len(self._known) > _INCIDENTS:
                self._known.popitem(last=False)
        return known

    @staticmethod
    def _read(session: Session, incident: str, known: Known) -> Known:
        if events.erased(session, incident, known.timeline.head.seq) != known.timeline.erased:
            known = Known()  # what was erased by law must not be sealed again
        head = known.timeline.head
        return Known(
            custody.strand(
                map(custody_entry, rows.custody(session, incident, after=known.custody.head.seq)), known.custody
            ),
            timeline.strand(
                map(_timeline_entry, events.raw(session, incident, after=head.seq, hash=head.hash)),
                incident,
                known.timeline,
            ),
            known.walked,
        )


@canonical.remembering(len)
def custody_entry(text: str) -> CustodyEntry:
    """The entry that lies in the store as this JSON. Raises FormatError."""
    return CustodyEntry.from_json(json.loads(text))


def _timeline_entry(row: events.Row) -> TimelineEntry:
    return TimelineEntry(
        incident=row.incident,
        seq=row.seq,
        body=row.body.decode() if row.body is not None else None,
        body_sha256=row.body_sha256,
        prev_hash=row.prev_hash,
        hash=row.hash,
    )
