"""An incident, a bundle that is only recorded, and a seal of given items: what tests about keeping evidence share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ringfence.evidence.sealing import Sealer
from ringfence.evidence.vault import Vault
from ringfence.model.evidence import Blob, Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident, Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.principal import Principal
from ringfence.model.timeline import Event
from ringfence.seal.signing import SigningKey
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WHO = Principal(issuer="kubernetes:c1", subject="alice", kind="kubernetes")
TARGET = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")


def declare(store: Store, fence: str = "f1") -> Incident:
    with store.write() as session:
        return incidents.declare(
            session,
            target=TARGET,
            incident_type="compromised-workload",
            severity=Severity.HIGH,
            title="odd egress",
            principal=WHO,
            fence=fence,
            command="contain",
            now=NOW,
        )


def record_bundle(store: Store, vault: Vault, incident: Incident, bundle: bytes, sha256: str) -> Seal:
    """A bundle that is none: a file with these bytes, and the record of it, made at ``NOW``."""
    vault.blobs(incident.id)
    path = vault.bundle(incident.id, 1)
    path.write_bytes(bundle)
    seal = Seal(
        id=f"{incident.id}/seal/1",
        incident=incident.id,
        subject_uid="u1",
        path=str(path),
        bundle_sha256=sha256,
        key_id="k",
        sealed_at=NOW,
        items=1,
        collected=1,
        complete=True,
    )
    with store.write() as session:
        evidence.add_seal(session, seal, evidence.begin_capture(session, incident.id, "k"), actor=WHO.id, now=NOW)
    return seal


def seal_items(
    store: Store, vault: Vault, key: SigningKey, incident: Incident, contents: Mapping[str, tuple[str, bytes]]
) -> Seal:
    """A real seal of these items: name → media type and bytes."""
    items = [_item(vault, incident, name, media, data) for name, (media, data) in contents.items()]
    return Sealer(store, vault, key).seal(incident, TARGET, items, actor=WHO.id, key="k")


def _item(vault: Vault, incident: Incident, name: str, media: str, data: bytes) -> EvidenceItem:
    with vault.blobs(incident.id).new() as writer:
        for start in range(0, len(data), 1 << 17):
            writer.write(data[start : start + (1 << 17)])
        blob = writer.finish()
    return EvidenceItem(
        id=name,
        kind="log",
        required=False,
        result=Collected.COLLECTED,
        source=f"/api/v1/{name}",
        method="get",
        operator=WHO.id,
        authority=incident.id,
        started_at=NOW,
        ended_at=NOW,
        volatility=2,
        media_type=media,
        blob=Blob(
            stored_sha256=blob.stored_sha256,
            stored_size=blob.stored_size,
            raw_sha256=blob.raw_sha256,
            raw_size=blob.raw_size,
            encoding=blob.encoding.value,
        ),
    )


def events(store: Store, incident: str) -> list[Event]:
    with store.read() as session:
        return [entry.event for entry in timeline.read(session, incident)]
