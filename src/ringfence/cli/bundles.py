"""What the evidence commands do: find a seal, verify, read, export; each is an entry in the custody chain."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ringfence import app as wiring
from ringfence.cli.output import say
from ringfence.cli.text import clean, lines
from ringfence.config import Config
from ringfence.errors import Tampered, TargetError, Unverifiable, VaultError
from ringfence.evidence.handling import handled, read_item, verify_seal
from ringfence.evidence.stamping import check_stamp, stamp_path, was_stamped
from ringfence.model.base import Json, isoformat
from ringfence.model.custody import DisposalOrdered
from ringfence.model.entry import TimelineEntry
from ringfence.model.evidence import EvidenceItem, Seal
from ringfence.model.incident import Incident
from ringfence.seal import stamp
from ringfence.seal.files import ENCRYPTED
from ringfence.seal.keys import PublicKey, public_key_from_pem
from ringfence.seal.manifest import Result
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store


@dataclass(frozen=True)
class SealView:
    store: Store
    incident: Incident
    seal: Seal
    items: tuple[EvidenceItem, ...]


def open_seal(config: Config, incident_id: str, seal_id: str | None) -> SealView:
    """A seal of an incident, the newest by default. Raises TargetError, StoreError."""
    store = wiring.store(config)
    with store.read() as session:
        incident = incidents.get(session, incident_id)
        seals = evidence.seals(session, incident.id)
        if not seals:
            raise TargetError(
                f"{incident.id} has no sealed evidence", next_step=f"ringfence evidence collect {incident.id}"
            )
        chosen = next((seal for seal in seals if seal_id in (None, seal.id, seal.id.rsplit("/", 1)[1])), None)
        chosen = seals[-1] if seal_id is None else chosen
        if chosen is None:
            raise TargetError(
                f"{incident.id} has no seal {seal_id!r}", why="seals: " + ", ".join(seal.id for seal in seals)
            )
        items = evidence.items(session, incident.id, evidence.capture_of(session, chosen.id))
        if not os.path.exists(chosen.path):  # noqa: PTH110  # a path that is none is not there, and no error
            _check_not_disposed(timeline.read(session, incident.id), chosen)
    return SealView(store, incident, chosen, items)


def has_seal(config: Config, incident_id: str) -> bool:
    """Whether anything of the incident is sealed. Raises TargetError when there is no such incident."""
    with wiring.store(config).read() as session:
        return bool(evidence.seals(session, incidents.get(session, incident_id).id))


def _check_not_disposed(entries: Iterable[TimelineEntry], seal: Seal) -> None:
    """A file that is missing because somebody disposed of it is no damage."""
    for entry in entries:
        if isinstance(entry.event, DisposalOrdered) and seal.id in entry.event.seals:
            raise TargetError(
                f"{seal.id} was disposed of at {isoformat(entry.event.occurred_at)} by {entry.event.actor}",
                why=entry.event.reason,
                next_step=f"its digest stays in the record: sha256 {seal.bundle_sha256}",
            )


def verify(config: Config, incident_id: str, seal_id: str | None) -> Json:
    """Verify the bundle file against our key and against what the store says of it. Raises Tampered, Unverifiable."""
    view = open_seal(config, incident_id, seal_id)
    actor = wiring.local_principal().id
    stamped: stamp.Stamp | None = None
    try:
        verified = verify_seal(wiring.vault(config), view.seal, public_key(config))
        with view.store.read() as session:
            promised = was_stamped([entry.event for entry in timeline.read(session, view.incident.id)], view.seal)
        if promised or stamp_path(view.seal).exists():
            roots = config.signing.timestamp_roots
            stamped = check_stamp(wiring.vault(config), view.seal, roots.expanduser() if roots is not None else None)
    except (Tampered, Unverifiable) as error:
        handled(view.store, view.seal, "verify", str(error), actor=actor, now=datetime.now(UTC))
        raise
    handled(view.store, view.seal, "verify", "verified", actor=actor, now=datetime.now(UTC))
    return {
        "seal": view.seal.id,
        "bundle": view.seal.path,
        "sha256": verified.sha256,
        "items": len(verified.items),
        "collected": sum(item.result is Result.COLLECTED for item in verified.items),
        "key_id": verified.key_id,
        "public_key": str(wiring.public_key_path(config)),
        "time_stamp": isoformat(stamped.at) if stamped is not None else None,
        "verified": True,
    }


def export(config: Config, incident_id: str, seal_id: str | None, to: Path) -> list[str]:
    """Copy bundle and public key. Raises Tampered, Unverifiable, VaultError."""
    view = open_seal(config, incident_id, seal_id)
    verify_seal(wiring.vault(config), view.seal, public_key(config))
    source, key = Path(view.seal.path), wiring.public_key_path(config)
    try:
        to.mkdir(parents=True, exist_ok=True)
        name = source.name.removesuffix(ENCRYPTED)  # what leaves the vault is as it was sealed
        copies = [to / "seal.pub.pem"]
        originals = [key]
        with wiring.vault(config).open(source) as bundle, (to / name).open("wb") as copied:
            shutil.copyfileobj(bundle, copied)
        if (stamped := stamp_path(view.seal)).exists():
            originals.append(stamped)
            copies.append(to / (name + stamp.SUFFIX))
        for original, copy in zip(originals, copies, strict=True):
            shutil.copyfile(original, copy)
    except OSError as error:
        raise VaultError(
            f"the bundle cannot be exported to {to}",
            why=error.strerror or str(error),
            next_step="choose another folder",
        ) from error
    handled(view.store, view.seal, "export", f"to {to}", actor=wiring.local_principal().id, now=datetime.now(UTC))
    return [str(copy) for copy in (to / name, *copies)]


def show_item(config: Config, incident_id: str, seal_id: str | None, item_id: str, *, raw: bool) -> None:
    """Print an item's bytes. Raises TargetError, Tampered, Unverifiable."""
    view = open_seal(config, incident_id, seal_id)
    item = next((item for item in view.items if item.id == item_id), None)
    if item is None or item.blob is None:
        why = f"{item.result.value}: {item.reason}" if item else "items: " + ", ".join(i.id for i in view.items)
        raise TargetError(
            f"{view.seal.id} holds no bytes of {item_id!r}", why=why, next_step=f"ringfence evidence list {incident_id}"
        )
    for _ in read_item(wiring.vault(config), view.incident.id, item):
        pass  # only at the end are the bytes known to be right: nothing of a tampered item is shown
    chunks = read_item(wiring.vault(config), view.incident.id, item)
    handled(view.store, view.seal, "read", item.id, actor=wiring.local_principal().id, now=datetime.now(UTC), item=item)
    if raw:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    for line in lines(chunks):
        say(clean(line, longest=None))


def public_key(config: Config) -> PublicKey:
    path = wiring.public_key_path(config)
    try:
        return public_key_from_pem(path.read_bytes())
    except OSError as error:
        raise Unverifiable(
            "the bundle", missing=f"the public key {path}: {error.strerror}", next_step="signing.key names its place"
        ) from error
