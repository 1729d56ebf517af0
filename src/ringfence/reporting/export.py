"""The timeline for machines. Writing files is the caller's."""

from __future__ import annotations

import json

from ringfence.model.base import Json, isoformat
from ringfence.store import incidents, timeline
from ringfence.store.database import Session


def timeline_json(session: Session, incident: str) -> list[Json]:
    """The incident's events in order: incident, seq, recorded_at, event, body_sha256, prev_hash, hash.

    ``event`` is the body that was hashed: ``body_sha256`` is the SHA-256 of it as canonical JSON (RFC 8785). It is None
    once erased by law.
    Raises TargetError, ChainBroken.
    """
    return [
        {
            "incident": row.incident,
            "seq": row.seq,
            "recorded_at": isoformat(row.recorded_at),
            "event": json.loads(row.body) if row.body is not None else None,
            "body_sha256": row.body_sha256,
            "prev_hash": row.prev_hash,
            "hash": row.hash,
        }
        for row in timeline.raw(session, incidents.get(session, incident).id)
    ]
