"""The items of one seal, read twice: once to learn what must go, once to write them without that."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ringfence.errors import EvidenceError
from ringfence.evidence.redaction.hunt import Hunt
from ringfence.evidence.redaction.lines import NoText, redact_lines
from ringfence.evidence.redaction.rules import Rules, Scanner, without
from ringfence.evidence.redaction.tally import Tally
from ringfence.evidence.redaction.tree import LARGEST, NoJson, Walker
from ringfence.seal.blob import Blob, BlobFolder, read_blob
from ringfence.seal.manifest import Item
from ringfence.seal.verify import VerifiedSeal

RECORD = "disclosure"
"""The id of the item that says what the copy is."""
_MARKERS = re.compile(r"\[redacted:[^\]]*\]")
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json(?:;.*)?")
_TEXT = re.compile(r"text/[\w.+-]+(?:;.*)?")


@dataclass(frozen=True)
class Wish:
    """What is asked for. ``binary``: globs of items that are not searched and handed out as they are; ``omit``: of
    items that are left out besides those of the rules."""

    to: str
    reason: str
    rules: Rules
    binary: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()


@dataclass
class Fate:
    """What becomes of one item. ``why`` it is left out; ``blob`` of the copy otherwise."""

    item: Item
    id: str
    tally: Tally = field(default_factory=Tally)
    why: str = ""
    searched: bool = True
    blob: Blob | None = None
    described: Counter[str] = field(default_factory=Counter)
    """Redactions in the words about it."""

    @property
    def word(self) -> str:
        if self.item.blob is None:
            return "no bytes"
        if self.why:
            return "left out"
        if not self.searched:
            return "not searched"
        return "redacted" if self.tally.counts else "unchanged"


@dataclass
class Making:
    """The two passes over the items of one seal."""

    blobs: BlobFolder
    source: VerifiedSeal
    wish: Wish
    hunt: Hunt = field(default_factory=Hunt)
    known: re.Pattern[str] | None = None
    used: Counter[str] = field(default_factory=Counter)

    def redact(self, into: BlobFolder) -> list[Fate]:
        fates = [Fate(item, item.id) for item in self.source.items]
        for fate in fates:
            self._choose(fate)
        try:
            for fate in fates:
                self._pass(fate, lambda _data: None, learning=True)
        except OverflowError as error:
            raise EvidenceError(
                "there is more to take out than can be looked for everywhere",
                why=f"{error} values",
                next_step="leave the items with most of them out (--leave-out), then disclose again",
            ) from error
        self.known = self.hunt.pattern()
        taken: set[str] = set()
        for number, fate in enumerate(fates, start=1):
            self._write(fate, into)
            fate.id = self.named(fate.item.id, f"item-{number}", taken)
            if not fate.why:
                self.used.update(fate.tally.counts)
        return fates

    def text(self, text: str) -> str:
        """Any other words of the copy, without what goes."""
        scanner = Scanner(self.wish.rules, self.known)
        with self.wish.rules.limited("the manifest"):
            spans = scanner.scan(text)
        self.used.update(span.rule for span in spans)
        return without(text, spans) if spans else text

    def named(self, name: str, instead: str, taken: set[str]) -> str:
        """A name as the format wants it."""
        found = self.text(name)
        if found in taken or found == RECORD or not re.fullmatch("[!-~]{1,256}", found):
            found = instead
        taken.add(found)
        return found

    def _choose(self, fate: Fate) -> None:
        """What can be said before anything is read."""
        item, wish = fate.item, self.wish
        if item.blob is None:
            return
        for glob in (*wish.rules.omit, *wish.omit):
            if fnmatch.fnmatchcase(item.id, glob):
                fate.why = f"it is to be left out ({glob})"
                self.used[f"item:{glob}"] += 1
                return
        if any(fnmatch.fnmatchcase(item.id, glob) for glob in wish.binary):
            fate.searched = False
        elif _is_json(item):
            if item.blob.raw_size > LARGEST:
                fate.why = f"its JSON is too large to be taken apart: {item.blob.raw_size} bytes, at most {LARGEST}"
        elif not _TEXT.fullmatch(item.media_type):
            fate.why = f"it is binary ({item.media_type}), and was not asked for"

    def _write(self, fate: Fate, into: BlobFolder) -> None:
        if fate.item.blob is None or fate.why:
            return
        with into.new() as writer:
            self._pass(fate, writer.write, learning=False)
            if not fate.why:
                fate.blob = writer.finish()

    def _pass(self, fate: Fate, write: Callable[[bytes], None], *, learning: bool) -> None:
        item, blob = fate.item, fate.item.blob
        if blob is None or fate.why or (learning and not fate.searched):
            return
        tally = Tally() if learning else fate.tally
        scanner = Scanner(self.wish.rules, self.known, self._found if learning else _deaf)
        with self.blobs.open(blob) as stored:
            chunks = read_blob(stored, blob, item.id)
            if not fate.searched:
                for chunk in chunks:
                    write(chunk)
                return
            try:
                if _is_json(item):
                    walker = Walker(item.id, scanner, tally, self._surely if learning else _deaf)
                    write(self._whole(walker.redact(b"".join(chunks)), fate))
                else:
                    redact_lines(chunks, scanner, item.id, write, tally)
            except NoJson as error:
                fate.why = f"it is not JSON that can be searched: {error}"
            except NoText:
                fate.why = "it is binary (there are zero bytes in it), and was not asked for"

    def _whole(self, data: bytes, fate: Fate) -> bytes:
        """A value that is spread over JSON's own marks would still be there."""
        if self.known is not None and self.known.search(_MARKERS.sub("", data.decode("utf-8", "replace"))):
            fate.why = "what must go cannot be taken out of it without damage"
        return data

    def _found(self, value: str) -> None:
        self.hunt.add(value, structured=False)

    def _surely(self, value: str) -> None:
        self.hunt.add(value, structured=True)


def _deaf(_value: str) -> None:
    pass


def _is_json(item: Item) -> bool:
    return _JSON.fullmatch(item.media_type) is not None
