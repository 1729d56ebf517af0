"""A small, complete bundle: every kind of result, a shared blob, both encodings, an erased event."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ringfence.seal import canonical, custody, timeline
from ringfence.seal.blob import Blob, BlobFolder, Encoding
from ringfence.seal.chain import GENESIS
from ringfence.seal.custody import Action, CustodyEntry
from ringfence.seal.manifest import Item, Method, Result, Source, Tool
from ringfence.seal.signing import SigningKey
from ringfence.seal.statement import ObjectRef, SealFacts
from ringfence.seal.timeline import TimelineEntry, chain_hash
from ringfence.seal.write import SealedBundle, write_bundle

AT = "2026-01-31T03:04:05.000006Z"
POD_JSON = b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"cards-7d9f"}}'
LOG = b"".join(b"2026-01-31T03:0%d:00Z GET /cards/%d 200\n" % (minute, minute) for minute in range(9))

FACTS = SealFacts(
    seal_id="INC-1/seal/1",
    incident="INC-1",
    cluster_uid="0f0e6a8c-6a54-4dd0-9a21-5a0f8f1a1c11",
    preserves=(ObjectRef("v1", "Pod", "bank", "cards-7d9f", "9d1f7f0a-4a53-4d0c-8d43-0d0f6f9f3a55"),),
    sealed_at=AT,
    tool=Tool("ringfence", "0.1.0"),
)


def item(name: str, *, blob: Blob | None = None, result: Result = Result.COLLECTED, reason: str = "") -> Item:
    return Item(
        id=name,
        kind=name.split("/")[0],
        required=name in ("pod", "logs/cards/current"),
        result=result,
        reason=reason,
        source=Source(FACTS.cluster_uid, f"/api/v1/namespaces/bank/pods/cards-7d9f#{name}"),
        method=Method("get", "timestamps=true"),
        tool=Tool("ringfence", "0.1.0"),
        operator="user:ada",
        authority="INC-1",
        started_at=AT,
        ended_at=AT,
        clock_offset_ms=-12,
        volatility=1,
        changes_made=("one audit log line",),
        media_type="application/json",
        blob=blob,
    )


def store(folder: Path, data: bytes, encoding: Encoding = Encoding.ZSTD) -> Blob:
    with BlobFolder(folder).new(encoding=encoding) as writer:
        writer.write(data[:10])
        writer.write(data[10:])
        return writer.finish()


def items(folder: Path) -> tuple[Item, ...]:
    log = store(folder, LOG)
    return (
        item("pod", blob=store(folder, POD_JSON, Encoding.IDENTITY)),
        item("logs/cards/current", blob=log),
        item("logs/cards/again", blob=log),
        item("logs/cards/previous", result=Result.ABSENT, reason="previous terminated container not found"),
        item("events", result=Result.DENIED, reason="events is forbidden: \x1b[2J"),
    )


def custody_entries(count: int = 3) -> tuple[CustodyEntry, ...]:
    entries: list[CustodyEntry] = []
    for number in range(count):
        entries.append(
            custody.append(
                entries[-1] if entries else None,
                at=AT,
                action=list(Action)[number % len(Action)],
                item=f"item-{number}",
                actor="user:ada",
                purpose="INC-1",
                sha256=hashlib.sha256(b"%d" % number).hexdigest() if number % 2 else None,
            )
        )
    return tuple(entries)


def timeline_entries(
    bodies: Sequence[object] = ("declared", "erased", "cut"), incident: str = "INC-1"
) -> tuple[TimelineEntry, ...]:
    """The event ``erased`` has lost its body."""
    entries: list[TimelineEntry] = []
    for seq, said in enumerate(bodies, start=1):
        body = canonical.dumps({"type": said, "occurred_at": AT, "note": "naïve ☃"})
        digest = hashlib.sha256(body).hexdigest()
        previous = entries[-1].hash if entries else GENESIS.hash
        entry = TimelineEntry(
            incident=incident,
            seq=seq,
            body=body.decode(),
            body_sha256=digest,
            prev_hash=previous,
            hash=chain_hash(incident, seq, digest, previous),
        )
        entries.append(replace(entry, body=None) if said == "erased" else entry)
    return tuple(entries)


def write(path: Path, key: SigningKey, **changed: object) -> SealedBundle:
    """Write the sample bundle to ``path``; its blobs lie in ``blobs`` beside it. ``changed`` replaces arguments."""
    folder = path.parent / "blobs"
    folder.mkdir(exist_ok=True)
    if "items" not in changed:
        changed["items"] = items(folder)
    arguments: dict[str, object] = {
        "facts": FACTS,
        "custody": custody.strand(changed.pop("custody_entries", custody_entries())),  # type: ignore[arg-type]
        "timeline": timeline.strand(changed.pop("timeline_entries", timeline_entries()), FACTS.incident),  # type: ignore[arg-type]
        "open_blob": BlobFolder(folder).open,
        "key": key,
    }
    return write_bundle(path, **(arguments | changed))  # type: ignore[arg-type]
