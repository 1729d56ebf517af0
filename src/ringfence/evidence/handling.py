"""Handling sealed evidence: verify, read, with an entry in the custody chain and on the timeline for each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from ringfence.errors import Tampered
from ringfence.evidence.sealing import append_custody, stored_blob
from ringfence.evidence.vault import Vault
from ringfence.model.evidence import EvidenceItem, Seal
from ringfence.model.timeline import EvidenceHandled
from ringfence.seal import custody
from ringfence.seal.blob import read_blob
from ringfence.seal.keys import PublicKey
from ringfence.seal.verify import VerifiedSeal, verify_bundle
from ringfence.store import timeline
from ringfence.store.database import Store

_ACTIONS = {"verify": custody.Action.VERIFY, "export": custody.Action.EXPORT, "read": custody.Action.READ}


def verify_seal(vault: Vault, seal: Seal, key: PublicKey) -> VerifiedSeal:
    """The bundle is intact, and it is the one that was recorded. Raises Tampered, Unverifiable, VaultError."""
    verified = verify_bundle(Path(seal.path), key, vault.open)
    if verified.sha256 != seal.bundle_sha256:
        # A genuine seal of ours, but not this one: an older bundle put in its place.
        raise Tampered(seal.path, expected=f"sha256:{seal.bundle_sha256}", actual=f"sha256:{verified.sha256}")
    return verified


def read_item(vault: Vault, incident: str, item: EvidenceItem) -> Iterator[bytes]:
    """The raw bytes of a collected item, verified while they are read. Raises Tampered, VaultError."""
    assert item.blob is not None
    blob = stored_blob(item.blob)
    with vault.blobs(incident).open(blob) as source:
        yield from read_blob(source, blob, item.id)


def handled(
    store: Store,
    seal: Seal,
    action: Literal["verify", "export", "read"],
    result: str,
    *,
    actor: str,
    now: datetime,
    item: EvidenceItem | None = None,
) -> None:
    """Put a handling into the custody chain and on the timeline."""
    sha256 = item.blob.raw_sha256 if item and item.blob else seal.bundle_sha256
    event = EvidenceHandled(occurred_at=now, actor=actor, seal=seal.id, action=action, result=result)
    with store.write() as session:
        fact = (_ACTIONS[action], item.id if item else seal.id, result, sha256)
        append_custody(session, seal.incident, [fact], actor=actor, now=now)
        timeline.append(session, seal.incident, event, now)
