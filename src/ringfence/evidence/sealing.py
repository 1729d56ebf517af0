"""From acquired items to a sealed bundle, and custody of both.

The gate's minimum for a pod: its object and the current log of every container that was ever started are collected;
previous logs are collected or the server said that there are none. Refused or failed is not enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ringfence import __version__
from ringfence.errors import EvidenceError
from ringfence.evidence.vault import Vault
from ringfence.model.base import Json, isoformat
from ringfence.model.evidence import Blob, Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.seal import blob, custody, manifest, statement, timeline
from ringfence.seal.blob import Encoding
from ringfence.seal.canonical import FormatError
from ringfence.seal.custody import CustodyEntry
from ringfence.seal.signing import SigningKey
from ringfence.seal.write import write_bundle
from ringfence.store import evidence as rows
from ringfence.store import timeline as store_timeline
from ringfence.store.database import Session, Store

_TOOL = manifest.Tool(name="ringfence", version=__version__)
_ABSENT_IS_ENOUGH = "/previous"


def shortfall(items: Iterable[EvidenceItem]) -> tuple[str, ...]:
    """What keeps the evidence gate shut: required items that were not collected, each with its reason (pure)."""
    found = tuple(items)
    lacking = [
        f"{item.id}: {item.result}, {item.reason}"
        for item in found
        if item.required
        and item.result is not Collected.COLLECTED
        and not (item.result is Collected.ABSENT and item.id.endswith(_ABSENT_IS_ENOUGH))
    ]
    if not any(item.id == "pod" for item in found):
        lacking.insert(0, "pod: not asked for")
    if not any(item.id.startswith("logs/") for item in found):
        lacking.append("logs: not asked for")
    return tuple(lacking)


@dataclass(frozen=True)
class Sealer:
    """Seals captures of incidents with one key into one vault."""

    store: Store
    vault: Vault
    key: SigningKey

    def seal(self, incident: Incident, subject: ObjectRef, items: Sequence[EvidenceItem], *, actor: str) -> Seal:
        """Record the items, write the bundle, record the seal. The timeline inside ends just before the seal's event.

        Raises VaultError, StoreError, EvidenceError when something in it has no place in the format.
        """
        try:
            return self._seal(incident, subject, items, actor)
        except FormatError as error:
            raise EvidenceError(
                "the evidence cannot be sealed as it is",
                why=str(error),
                next_step="keep the vault and the store as they are: the items themselves are in the vault",
            ) from error

    def _seal(self, incident: Incident, subject: ObjectRef, items: Sequence[EvidenceItem], actor: str) -> Seal:
        now = datetime.now(UTC)
        ordered = tuple(sorted(items, key=lambda item: (item.volatility, item.id)))
        with self.store.write() as session:
            capture = rows.next_capture(session, incident.id)
            seal_id = f"{incident.id}/seal/{capture}"
            rows.add_items(session, incident.id, capture, ordered, actor=actor, now=now)
            acquired = [
                (custody.Action.ACQUIRE, item.id, item.source, item.blob.raw_sha256) for item in ordered if item.blob
            ]
            append_custody(session, incident.id, acquired, actor=actor, now=now)
            append_custody(
                session,
                incident.id,
                [(custody.Action.SEAL, seal_id, "the bundle is written after this entry", None)],
                actor=actor,
                now=now,
            )
            entries = tuple(map(CustodyEntry.from_json, rows.custody(session, incident.id)))
            events = tuple(map(_timeline_entry, store_timeline.raw(session, incident.id)))
        sealed = write_bundle(
            self.vault.bundle(incident.id, capture),
            facts=statement.SealFacts(
                seal_id=seal_id,
                incident=incident.id,
                cluster_uid=incident.cluster,
                preserves=(
                    statement.ObjectRef(
                        subject.api_version, subject.kind, subject.namespace, subject.name, subject.uid
                    ),
                ),
                sealed_at=isoformat(now),
                tool=_TOOL,
            ),
            items=tuple(_sealed_item(item, incident.cluster) for item in ordered),
            custody_entries=entries,
            timeline_entries=events,
            open_blob=self.vault.blobs(incident.id).open,
            key=self.key,
        )
        lacking = shortfall(ordered)
        seal = Seal(
            id=seal_id,
            incident=incident.id,
            subject_uid=subject.uid,
            path=str(sealed.path),
            bundle_sha256=sealed.sha256,
            key_id=sealed.key_id,
            sealed_at=now,
            items=len(ordered),
            collected=sum(1 for item in ordered if item.result is Collected.COLLECTED),
            complete=not lacking,
            why_incomplete="; ".join(lacking),
        )
        with self.store.write() as session:
            rows.add_seal(session, seal, capture, actor=actor, now=now)
            stored = [(custody.Action.STORE, seal_id, str(sealed.path), sealed.sha256)]
            append_custody(session, incident.id, stored, actor=actor, now=datetime.now(UTC))
        return seal


def append_custody(
    session: Session,
    incident: str,
    facts: Iterable[tuple[custody.Action, str, str, str | None]],
    *,
    actor: str,
    now: datetime,
) -> None:
    """Append entries (action, item, purpose, sha256) to the incident's custody chain."""
    rows.lock_custody(session, incident)
    entries = [CustodyEntry.from_json(body) for body in rows.custody(session, incident)]
    head = entries[-1] if entries else None
    new: list[Json] = []
    for action, item, purpose, sha256 in facts:
        head = custody.append(
            head, at=isoformat(now), action=action, item=item, actor=actor, purpose=purpose, sha256=sha256
        )
        new.append(head.to_json())
    rows.add_custody(session, incident, new)


def stored_blob(of: Blob) -> blob.Blob:
    """The seal room's view of a blob row."""
    return blob.Blob(of.stored_sha256, of.stored_size, of.raw_sha256, of.raw_size, Encoding(of.encoding))


def _sealed_item(item: EvidenceItem, cluster: str) -> manifest.Item:
    verb, _, query = item.method.partition(" ")
    return manifest.Item(
        id=item.id,
        kind=item.kind,
        required=item.required,
        result=manifest.Result(item.result.value),
        reason=item.reason,
        source=manifest.Source(cluster_uid=cluster, path=item.source),
        method=manifest.Method(verb=verb, query=query),
        tool=_TOOL,
        operator=item.operator,
        authority=item.authority,
        started_at=isoformat(item.started_at),
        ended_at=isoformat(item.ended_at),
        clock_offset_ms=item.clock_offset_ms,
        volatility=item.volatility,
        changes_made=item.changes_made,
        media_type=item.media_type,
        blob=stored_blob(item.blob) if item.blob else None,
    )


def _timeline_entry(row: store_timeline.Row) -> timeline.TimelineEntry:
    return timeline.TimelineEntry(
        incident=row.incident,
        seq=row.seq,
        body=row.body.decode() if row.body is not None else None,
        body_sha256=row.body_sha256,
        prev_hash=row.prev_hash,
        hash=row.hash,
    )
