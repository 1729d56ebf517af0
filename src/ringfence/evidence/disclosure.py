"""Redacted copies for a supplier, a regulator or the police: a new signed bundle, and a list of what went.

The copy is a bundle of version 1 like any other, which ``ringfence-verify`` checks. Its first item, ``disclosure``,
says from which seal it was made, for whom and why, and lists every redaction; the text that went is nowhere in it. The
chain of custody is the copy's own, and it has no timeline: ours names people, and places inside the house. The original
stays as it is.

Every item is read twice: first to learn what must go, then to write it without that, wherever it stands.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ringfence import __version__
from ringfence.errors import TargetError, VaultError
from ringfence.evidence.handling import verify_seal
from ringfence.evidence.redaction.hunt import SHORTEST
from ringfence.evidence.redaction.items import RECORD, Fate, Making, Wish
from ringfence.evidence.sealing import append_custody
from ringfence.evidence.vault import Vault
from ringfence.model.base import Json, isoformat
from ringfence.model.custody import EvidenceDisclosed
from ringfence.model.evidence import Seal
from ringfence.seal import custody
from ringfence.seal.blob import Blob, BlobFolder
from ringfence.seal.chain import Strand
from ringfence.seal.manifest import Item, Method, Result, Source, Tool
from ringfence.seal.signing import SigningKey
from ringfence.seal.statement import ObjectRef, SealFacts
from ringfence.seal.write import write_bundle
from ringfence.store import timeline
from ringfence.store.database import Store

_TOOL = Tool(name="ringfence", version=__version__)


@dataclass(frozen=True)
class Disclosed:
    """The copy, the list beside it (the same bytes as the item ``disclosure``), and what became of the items."""

    id: str
    path: Path
    list_path: Path
    sha256: str
    items: int
    redacted: tuple[str, ...]
    left_out: tuple[str, ...]
    unsearched: tuple[str, ...]


def disclose(
    store: Store, vault: Vault, key: SigningKey, seal: Seal, folder: Path, wish: Wish, *, actor: str, now: datetime
) -> Disclosed:
    """Make the copy and its list in ``folder`` (made when missing), and write down that it was made.

    The record comes before the files get their names: no copy is without its entry. Raises Tampered, Unverifiable,
    VaultError, EvidenceError (patterns that take too long; too much to look for), TargetError (nothing is left).
    """
    verified = verify_seal(vault, seal, key.public_key)
    making = Making(vault.blobs(seal.incident), verified, wish)
    _make(folder)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as temporary:
        fates = making.redact(BlobFolder(Path(temporary)))
        if not any(fate.blob is not None for fate in fates):
            raise TargetError(
                f"nothing of {seal.id} is left to disclose",
                why="; ".join(f"{fate.id}: {fate.why or fate.item.reason}" for fate in fates[:5]),
                next_step="--binary ITEM hands an item out without a search",
            )
        salt = secrets.token_bytes(32)
        with store.read() as session:
            made = [one.event for one in timeline.read(session, seal.incident)]
        number = 1 + sum(isinstance(one, EvidenceDisclosed) for one in made)
        copy = _Copy(making, seal, f"{seal.incident}/disclosure/{number}", key, salt, actor, now)
        name = f"{copy.id.replace('/', '-')}.tar"
        items = [copy.item(fate) for fate in fates]
        listed = copy.record(fates)
        finished = copy.write(Path(temporary) / name, items, listed)
        word = EvidenceDisclosed(
            occurred_at=now,
            actor=actor,
            seal=seal.id,
            bundle_sha256=seal.bundle_sha256,
            disclosure=copy.id,
            sha256=finished,
            to=wish.to,
            reason=wish.reason,
            salt=salt.hex(),
            items=len(fates),
            redacted=tuple(fate.item.id for fate in fates if fate.word == "redacted"),
            left_out=tuple(fate.item.id for fate in fates if fate.word == "left out"),
            unsearched=tuple(fate.item.id for fate in fates if fate.word == "not searched"),
        )
        target, list_target = folder / name, folder / f"{name.removesuffix('.tar')}.redactions.json"
        for path in (target, list_target):
            if path.exists():
                raise _unwritable(folder, f"{path.name} exists already")
        with store.write() as session:
            purpose = f"redacted copy {copy.id}, sha256 {finished}, to {wish.to}: {wish.reason}"
            append_custody(
                session,
                seal.incident,
                [(custody.Action.EXPORT, seal.id, purpose, seal.bundle_sha256)],
                actor=actor,
                now=now,
            )
            timeline.append(session, seal.incident, word, now)
        try:
            with list_target.open("xb") as file:
                file.write(listed)
            os.link(Path(temporary) / name, target)
        except OSError as error:
            raise _unwritable(folder, error.strerror or str(error)) from error
    return Disclosed(copy.id, target, list_target, finished, len(fates), word.redacted, word.left_out, word.unsearched)


@dataclass(frozen=True)
class _Copy:
    """The bundle that is handed out."""

    making: Making
    seal: Seal
    id: str
    key: SigningKey
    salt: bytes
    actor: str
    now: datetime

    def record(self, fates: Sequence[Fate]) -> bytes:
        """The list of redactions, and what they were made from."""
        text, wish = self.making.text, self.making.wish
        body: Json = {
            "version": 1,
            "disclosure": self.id,
            "derived_from": {
                "seal": self.seal.id,
                "bundle_sha256": self.seal.bundle_sha256,
                "key_id": self.seal.key_id,
            },
            "made_at": isoformat(self.now),
            "made_by": text(self.actor),
            "to": text(wish.to),
            "reason": text(wish.reason),
            "tool": {"name": _TOOL.name, "version": _TOOL.version},
            "items": [self._fate(fate) for fate in fates],
            "left_out_of_every_copy": ["custody.jsonl and timeline.jsonl of the seal that it was made from"],
            "looked_for_everywhere": {
                "values": len(self.making.hunt.known),
                "only_where_found": self.making.hunt.unhunted,
                "shortest": SHORTEST,
            },
            "reading": (
                "places are JSON pointers (# leads into JSON inside of a text) or [first byte, byte after] of a marker "
                "in the copy; original_commitment is HMAC-SHA256 over the original's SHA-256 (32 bytes) with a salt "
                "that the maker keeps and can show"
            ),
        }
        words = [rule for glob in wish.omit if (rule := f"item:{glob}") not in wish.rules.names()]
        names = dict.fromkeys((*wish.rules.names(), *words))
        body["rules"] = [{"name": name, "count": self.making.used[name]} for name in names]
        return json.dumps(body, indent=1).encode()

    def _fate(self, fate: Fate) -> Json:
        told: Json = {"item": fate.id, "result": fate.word}
        blob = fate.item.blob
        if fate.why:
            told["why"] = self.making.text(fate.why)
        if fate.tally.counts and not fate.why:
            told["redactions"] = fate.tally.to_json()
        if fate.described:
            told["in_its_description"] = dict(sorted(fate.described.items()))
        if blob is not None and fate.word in ("unchanged", "not searched"):
            told["original_sha256"] = blob.raw_sha256
        elif blob is not None:
            # A digest would let anybody try short secrets in the place of a marker until it fits.
            digest = hmac.digest(self.salt, bytes.fromhex(blob.raw_sha256), hashlib.sha256)
            told["original_commitment"] = digest.hex()
        return told

    def write(self, path: Path, items: Sequence[Item], listed: bytes) -> str:
        """The bundle's SHA-256."""
        blobs = BlobFolder(path.parent)
        with blobs.new() as writer:
            writer.write(listed)
            blob = writer.finish()
        contents = (self._about(blob), *items)
        text, source, taken = self.making.text, self.making.source.predicate, set[str]()
        facts = SealFacts(
            seal_id=self.id,
            incident=source.incident,
            cluster_uid=self.making.named(source.cluster_uid, "redacted", taken),
            preserves=tuple(
                ObjectRef(text(of.api_version), text(of.kind), text(of.namespace), text(of.name), text(of.uid))
                for of in source.preserves
            ),
            sealed_at=isoformat(datetime.now(UTC)),
            tool=_TOOL,
        )
        return write_bundle(
            path,
            facts=facts,
            items=contents,
            custody=custody.strand(self._custody(contents)),
            timeline=Strand(),
            open_blob=blobs.open,
            key=self.key,
        ).sha256

    def _custody(self, items: Iterable[Item]) -> tuple[custody.CustodyEntry, ...]:
        text, at, actor = self.making.text, isoformat(self.now), self.making.text(self.actor)
        made_from = f"a redacted copy was made of {self.seal.id}, sha256 {self.seal.bundle_sha256}"
        purpose = f"{made_from}, for {text(self.making.wish.to)}: {text(self.making.wish.reason)}"
        entries = [
            custody.append(None, at=at, action=custody.Action.EXPORT, item=self.id, actor=actor, purpose=purpose)
        ]
        for item in items:
            if item.blob is not None:
                entries.append(
                    custody.append(
                        entries[-1],
                        at=at,
                        action=custody.Action.STORE,
                        item=item.id,
                        actor=actor,
                        purpose="in the copy",
                        sha256=item.blob.raw_sha256,
                    )
                )
        return tuple(entries)

    def _about(self, blob: Blob) -> Item:
        return Item(
            id=RECORD,
            kind=RECORD,
            required=True,
            result=Result.COLLECTED,
            reason="",
            source=Source(cluster_uid="", path=self.seal.id),
            method=Method(verb="disclose", query=""),
            tool=_TOOL,
            operator=self.making.text(self.actor),
            authority=self.making.text(f"{self.seal.incident}: {self.making.wish.reason}"),
            started_at=isoformat(self.now),
            ended_at=isoformat(self.now),
            clock_offset_ms=None,
            volatility=9,
            changes_made=(),
            media_type="application/json",
            blob=blob,
        )

    def item(self, fate: Fate) -> Item:
        """The manifest's words about an item of the copy."""
        item, text, before = fate.item, self.making.text, Counter(self.making.used)
        out = fate.item.blob is not None and fate.blob is None
        described = dataclasses.replace(
            item,
            id=fate.id,
            kind=self.making.named(item.kind, "redacted", set()),
            result=Result.NOT_TAKEN if out else item.result,
            reason=text(f"left out of this copy: {fate.why}" if out else item.reason),
            source=Source(self.making.named(item.source.cluster_uid, "redacted", set()), text(item.source.path))
            if item.source.cluster_uid
            else Source("", text(item.source.path)),
            method=Method(text(item.method.verb), text(item.method.query)),
            operator=text(item.operator),
            authority=text(item.authority),
            changes_made=tuple(map(text, item.changes_made)),
            media_type=text(item.media_type),
            blob=fate.blob,
        )
        fate.described = self.making.used - before
        return described


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error


def _unwritable(folder: Path, why: str) -> VaultError:
    return VaultError(f"the copy cannot be written to {folder}", why=why, next_step="choose another folder: --out")
