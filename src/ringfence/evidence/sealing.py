"""From acquired items to a sealed bundle, and custody of both.

The gate's minimum for a pod: its object and the current log of every container that was ever started are collected;
previous logs are collected or the server said that there are none. Refused or failed is not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ringfence import __version__
from ringfence.errors import EvidenceError
from ringfence.evidence.chains import Chains, custody_entry
from ringfence.evidence.vault import Vault
from ringfence.model.base import Json, isoformat
from ringfence.model.evidence import Blob, Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident
from ringfence.model.objects import ObjectRef
from ringfence.seal import blob, custody, manifest, statement
from ringfence.seal.blob import Encoding
from ringfence.seal.canonical import FormatError
from ringfence.seal.signing import SigningKey
from ringfence.seal.verify import examine_bundle
from ringfence.seal.write import write_bundle
from ringfence.store import evidence as rows
from ringfence.store.database import Session, Store

_TOOL = manifest.Tool(name="ringfence", version=__version__)
_ABSENT_IS_ENOUGH = "/previous"


OBJECT = "object"
"""The id of the one item that preserves an object which is no pod."""


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
    if any(item.id == OBJECT and item.required for item in found):
        return tuple(lacking)  # what is preserved is no pod: it is all in its object
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
    after_seal: Callable[[Seal, str], None] | None = None
    """Called with a new seal, once it is recorded, and its actor: what comes after a seal may not undo it."""
    chains: Chains = field(default_factory=Chains)

    def seal(
        self, incident: Incident, subject: ObjectRef, items: Sequence[EvidenceItem], *, actor: str, key: str
    ) -> Seal:
        """Record the items, write the bundle, record the seal. The timeline inside ends just before the seal's event.

        ``key`` names what asks for it: the same step of the same run, begun again after a crash, makes one seal. Items
        that it recorded before stay and are sealed: they were taken nearer to the event than any that are read anew.

        Raises VaultError, StoreError, EvidenceError when something in it has no place in the format.
        """
        with self.store.write() as session:
            capture = rows.begin_capture(session, incident.id, key)
            if not rows.items(session, incident.id, capture):
                _record(session, incident.id, capture, _in_order(items), actor=actor)
        return self._sealed(incident, subject, capture, actor)

    def resume(self, incident: Incident, subject: ObjectRef, *, actor: str, key: str) -> Seal | None:
        """The seal of what was recorded under ``key`` before a crash; None when nothing was. Raises as ``seal``."""
        with self.store.read() as session:
            capture = rows.capture_for(session, incident.id, key)
            if capture is None or not rows.items(session, incident.id, capture):
                return None
        return self._sealed(incident, subject, capture, actor)

    def _sealed(self, incident: Incident, subject: ObjectRef, capture: int, actor: str) -> Seal:
        try:
            return self._seal(incident, subject, capture, actor)
        except FormatError as error:
            raise EvidenceError(
                "the evidence cannot be sealed as it is",
                why=str(error),
                next_step="keep the vault and the store as they are: the items themselves are in the vault",
            ) from error

    def _seal(self, incident: Incident, subject: ObjectRef, capture: int, actor: str) -> Seal:
        with self.store.read() as session:
            known = rows.seal_of_capture(session, incident.id, capture)
            if known is not None:
                return known
            items = _in_order(rows.items(session, incident.id, capture))
        chains = self.chains.read(self.store, incident.id)
        contents = tuple(_sealed_item(item, incident.cluster) for item in items)
        bundle = self._left_behind(incident.id, capture, contents)
        if bundle is None:
            facts = statement.SealFacts(
                seal_id=_seal_id(incident.id, capture),
                incident=incident.id,
                cluster_uid=incident.cluster,
                preserves=(
                    statement.ObjectRef(
                        subject.api_version, subject.kind, subject.namespace, subject.name, subject.uid
                    ),
                ),
                sealed_at=isoformat(datetime.now(UTC)),
                tool=_TOOL,
            )
            written = write_bundle(
                self.vault.bundle(incident.id, capture),
                facts=facts,
                items=contents,
                custody=chains.custody,
                timeline=chains.timeline,
                open_blob=self.vault.blobs(incident.id).open,
                key=self.key,
                vault_key=self.vault.key,
                walked=chains.walked,
            )
            bundle = _Bundle(written.path, written.sha256, written.key_id, datetime.fromisoformat(facts.sealed_at))
        lacking = shortfall(items)
        seal = Seal(
            id=_seal_id(incident.id, capture),
            incident=incident.id,
            subject_uid=subject.uid,
            path=str(bundle.path),
            bundle_sha256=bundle.sha256,
            key_id=bundle.key_id,
            sealed_at=bundle.sealed_at,
            acquired_at=max((item.ended_at for item in items if item.required), default=None),
            items=len(items),
            collected=sum(1 for item in items if item.result is Collected.COLLECTED),
            complete=not lacking,
            why_incomplete="; ".join(lacking),
        )
        with self.store.write() as session:
            now = datetime.now(UTC)
            rows.add_seal(session, seal, capture, actor=actor, now=now)
            stored = [(custody.Action.STORE, seal.id, str(bundle.path), bundle.sha256)]
            append_custody(session, incident.id, stored, actor=actor, now=now)
        if self.after_seal is not None:
            self.after_seal(seal, actor)
        return seal

    def _left_behind(self, incident: str, capture: int, items: tuple[manifest.Item, ...]) -> _Bundle | None:
        """The bundle that was written for this capture right before a crash, if it is whole, ours, and of these items.

        Another one beside it would be a second seal of the same evidence, and this one would be in no record.
        """
        for path in self.vault.bundles(incident, capture):
            found = examine_bundle(path, self.key.public_key, self.vault.open).seal
            if found is None or (found.predicate.seal_id, found.items) != (_seal_id(incident, capture), items):
                continue
            return _Bundle(path, found.sha256, found.key_id, datetime.fromisoformat(found.predicate.sealed_at))
        return None


class _Bundle(NamedTuple):
    """A bundle that lies in the vault, written now or before a crash."""

    path: Path
    sha256: str
    key_id: str
    sealed_at: datetime


def _seal_id(incident: str, capture: int) -> str:
    return f"{incident}/seal/{capture}"


def _in_order(items: Iterable[EvidenceItem]) -> tuple[EvidenceItem, ...]:
    """What is lost first comes first."""
    return tuple(sorted(items, key=lambda item: (item.volatility, item.id)))


def _record(session: Session, incident: str, capture: int, items: Sequence[EvidenceItem], *, actor: str) -> None:
    now = datetime.now(UTC)
    rows.add_items(session, incident, capture, items, actor=actor, now=now)
    acquired = [(custody.Action.ACQUIRE, item.id, item.source, item.blob.raw_sha256) for item in items if item.blob]
    append_custody(session, incident, acquired, actor=actor, now=now)
    sealing = (custody.Action.SEAL, _seal_id(incident, capture), "the bundle is written after this entry", None)
    append_custody(session, incident, [sealing], actor=actor, now=now)


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
    newest = rows.last_custody(session, incident)
    head = custody_entry(newest) if newest is not None else None
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
