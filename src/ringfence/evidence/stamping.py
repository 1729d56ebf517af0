"""Time stamps of seals: asked for after each seal, never in the way of one; what has none is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ringfence.errors import EvidenceError, PlatformError, Unverifiable
from ringfence.evidence.vault import Vault
from ringfence.model.custody import EvidenceDisposed, SealStamped
from ringfence.model.evidence import Seal
from ringfence.model.timeline import Event
from ringfence.platform.http import post
from ringfence.seal import stamp
from ringfence.seal.files import NewFile
from ringfence.store import timeline
from ringfence.store.database import Store


def stamp_path(seal: Seal) -> Path:
    return Path(seal.path + stamp.SUFFIX)


def was_stamped(events: Iterable[Event], seal: Seal) -> bool:
    """Whether the record says that there is a stamp (pure)."""
    return any(isinstance(one, SealStamped) and one.seal == seal.id and one.result == "stamped" for one in events)


def missing(events: Iterable[Event], seals: Iterable[Seal]) -> tuple[tuple[Seal, str], ...]:
    """The seals without a stamp, each with the reason (pure)."""
    known: dict[str, SealStamped] = {}
    gone: set[str] = set()
    for event in events:
        if isinstance(event, SealStamped) and (event.result == "stamped" or event.seal not in known):
            known[event.seal] = event
        elif isinstance(event, EvidenceDisposed):
            gone |= set(event.seals)
    return tuple(
        (seal, known[seal.id].why if seal.id in known else "nobody was asked")
        for seal in seals
        if seal.id not in gone and (seal.id not in known or known[seal.id].result != "stamped")
    )


def check_stamp(vault: Vault, seal: Seal, roots: Path | None) -> stamp.Stamp:
    """The stamp beside the bundle. Raises Tampered, Unverifiable when it, or the roots, are not to be had."""
    if roots is None:
        raise Unverifiable(
            "the time stamp", missing="root certificates", next_step="signing.timestamp_roots names their file"
        )
    try:
        answer, trusted = stamp_path(seal).read_bytes(), roots.read_bytes()
        return stamp.check(answer, _sealed(vault, seal), trusted)
    except OSError as error:
        raise Unverifiable("the time stamp", missing=f"{error.filename}: {error.strerror}") from error


def _sealed(vault: Vault, seal: Seal) -> bytes:
    with vault.open(Path(seal.path)) as bundle:
        return stamp.sealed_bytes(bundle, seal.path)


@dataclass(frozen=True)
class Stamper:
    """Asks one authority. ``roots`` is the PEM file of those that are trusted."""

    store: Store
    vault: Vault
    url: str
    roots: Path

    def after_seal(self, seal: Seal, actor: str) -> None:
        """Try once; what does not work is on the timeline, and no error. Raises StoreError."""
        self.ask(seal, actor)

    def ask(self, seal: Seal, actor: str, *, again: bool = False) -> SealStamped:
        """Have the seal stamped, keep the answer beside it, write down what became of it. Raises StoreError.

        ``again``: it is one try of several, and what is on the timeline already is not written there once more.
        """
        word = SealStamped(occurred_at=datetime.now(UTC), actor=actor, seal=seal.id, result="failed")
        try:
            made = self._made(seal)
            word = word.model_copy(update={"result": "stamped", "at": made.at, "serial": str(made.serial)})
        except (PlatformError, EvidenceError) as error:
            word = word.model_copy(update={"why": str(error)})
        except OSError as error:
            word = word.model_copy(update={"why": f"{error.filename}: {error.strerror or error}"})
        with self.store.write() as session:
            if again and word.result == "failed":
                said = [
                    one.event.why
                    for one in timeline.read(session, seal.incident)
                    if isinstance(one.event, SealStamped) and one.event.seal == seal.id
                ]
                if said and said[-1] == word.why:
                    return word
            timeline.append(session, seal.incident, word, datetime.now(UTC))
        return word

    def _made(self, seal: Seal) -> stamp.Stamp:
        path = stamp_path(seal)
        if path.exists():  # from a try that was broken off: a stamp is never replaced
            return check_stamp(self.vault, seal, self.roots)
        data, trusted = _sealed(self.vault, seal), self.roots.read_bytes()
        asked = stamp.query(data)
        reply = post(self.url, asked.as_bytes(), stamp.CONTENT_TYPE)
        if reply.status != 200:
            raise Unverifiable("the time stamp", missing=f"an answer: the authority said {reply.status}")
        made = stamp.check(reply.body, data, trusted, nonce=asked.nonce)
        with NewFile(path.parent, mode=0o400) as file:
            file.write(reply.body)
            file.publish(path)
        return made
