"""Offline verification of a bundle. The algorithm, cited by number in the code:

 1. *Archive.* The file is a tar in the one encoding of ``tar``: seal.json, manifest.json, custody.jsonl,
    timeline.jsonl, then the blobs sorted by name; every header, every padding byte and the end are compared.
 2. *Envelope.* seal.json is a DSSE envelope in its one spelling, with exactly one signature.
 3. *Signature.* It is in canonical form and verifies, over DSSE's pre-authentication encoding, with the caller's key.
    The envelope's key id, which DSSE does not sign, equals the key's fingerprint.
 4. *Statement.* The payload is an in-toto Statement v1 with our predicate, in canonical form, with no unknown members.
 5. *Documents.* The SHA-256 of manifest.json, custody.jsonl and timeline.jsonl are the ones in the statement.
 6. *Manifest.* It is a manifest of version 1, of this seal, with as many items as the statement says.
 7. *Custody.* Every entry follows the one before it, from the first to the head in the statement.
 8. *Timeline.* Likewise; every entry belongs to the incident, and every body that was not erased has its digest.
 9. *Blobs.* Each blob of the manifest is there once, and both its stored and its raw bytes have their size and SHA-256.
10. *Nothing else* is in the file.

Bytes are compared before they are parsed, or parsed in a way that a wrong digest overrules.

**Two kinds of bad news.** ``Tampered``: a comparison was made and failed; the bytes are not the ones that were sealed.
``Unverifiable``: a comparison could not be made: no key, another signer's key, an unreadable file, or a seal that is
intact but of a version that this program does not know. The key id decides between the two when a signature is bad:

=========== =================== ========================================================================================
signature   key id              verdict
=========== =================== ========================================================================================
good        the key's           goes on
good        another             Tampered: key id
bad         the key's           Tampered: signature (it claims to be by this key)
bad         another             Unverifiable: it claims to be by another key; give that one. Steps 4 to 10 still run
=========== =================== ========================================================================================

**What the caller still owes.** That the public key is the sealer's: compare its fingerprint with one that came another
way. That this is the seal that should exist: a bundle cannot show that a later one was withheld; heads of timelines
kept elsewhere can. That the claims are true: times are the sealer's clock, and what a source said is what it said.
Whether what was collected is enough: ``items`` says what could not be had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from ringfence.errors import Tampered, Unverifiable
from ringfence.seal import canonical, chain, custody, envelope, manifest, timeline
from ringfence.seal.blob import check_blob
from ringfence.seal.canonical import FormatError
from ringfence.seal.chain import Head
from ringfence.seal.custody import CustodyEntry
from ringfence.seal.envelope import Envelope
from ringfence.seal.keys import PublicKey, canonical_signature
from ringfence.seal.manifest import Item, Manifest
from ringfence.seal.statement import CUSTODY, MANIFEST, PAYLOAD_TYPE, SUBJECTS, TIMELINE, Predicate, Statement
from ringfence.seal.tar import Member, TarReader
from ringfence.seal.timeline import TimelineEntry
from ringfence.seal.walked import LARGEST, START, Place, Walked

DOCUMENTS = frozenset({envelope.NAME, *SUBJECTS})
BLOBS = "blobs/sha256/"

Problem = Tampered | Unverifiable

_GIVE_THE_KEY = "give the public key of the installation that sealed this"


@dataclass(frozen=True)
class VerifiedSeal:
    """What a bundle says, after all ten steps. ``sha256`` and ``size`` are the whole file's."""

    sha256: str
    size: int
    key_id: str
    predicate: Predicate
    items: tuple[Item, ...]
    erased_events: int


@dataclass(frozen=True)
class Examination:
    """Either ``seal`` or at least one problem, in the order in which they were found.

    ``stopped``: the last problem made it impossible to look at what comes after it.
    """

    seal: VerifiedSeal | None
    problems: tuple[Problem, ...]
    stopped: bool

    def __bool__(self) -> NoReturn:
        raise TypeError("an examination is neither true nor false: look at its problems, or call verify_bundle")

    def verdict(self) -> VerifiedSeal:
        """The seal, or the first problem raised; tampering comes before what could not be checked."""
        if self.problems:
            raise min(self.problems, key=lambda problem: isinstance(problem, Unverifiable))
        assert self.seal is not None
        return self.seal


Opener = Callable[[Path], BinaryIO]
"""How a bundle file is opened: a vault may keep it encrypted. Raises OSError and errors of ours."""


def verify_bundle(path: Path, key: PublicKey | None, opener: Opener | None = None) -> VerifiedSeal:
    """Verify a bundle file. Raises Tampered or Unverifiable: the first problem, the worse kind first."""
    return examine_bundle(path, key, opener).verdict()


def examine_bundle(path: Path, key: PublicKey | None, opener: Opener | None = None) -> Examination:
    """Verify a bundle file and list every problem that can be found. Never raises for what the file holds; what
    ``opener`` raises beside Tampered and Unverifiable is the caller's."""
    try:
        with _open(path, opener) as stream:
            return examine_stream(stream, key)
    except (Tampered, Unverifiable) as problem:
        return Examination(None, (problem,), stopped=True)


def examine_stream(stream: BinaryIO, key: PublicKey | None, walked: Walked | None = None) -> Examination:
    """``examine_bundle`` for an open stream, read once from where it is to its end. With ``walked``, lines of chains
    that are known are compared and not walked again; the verdict is the same."""
    problems: list[Problem] = []
    try:
        seal = _Walk(TarReader(stream), key, problems, walked).run()
    except (Tampered, Unverifiable) as problem:
        return Examination(None, (*problems, problem), stopped=True)
    return Examination(None if problems else seal, tuple(problems), stopped=False)


def read_envelope(path: Path) -> Envelope:
    """Steps 1 and 2 for seal.json alone: the envelope, **not verified**, for who wants to check it by other means."""
    with _open(path) as stream:
        return _read_envelope(TarReader(stream))


class _Walk:
    """One pass over one bundle. What is raised ends it; what is added to ``problems`` does not."""

    def __init__(
        self, tar: TarReader, key: PublicKey | None, problems: list[Problem], walked: Walked | None = None
    ) -> None:
        self._tar = tar
        self._key = key
        self._problems = problems
        self._walked = walked
        self._allowed = DOCUMENTS

    def run(self) -> VerifiedSeal:
        sealed = _read_envelope(self._tar)  # 1, 2
        if unchecked := _check_signature(sealed, self._key):  # 3
            self._problems.append(unchecked)
        statement = _read_statement(sealed)  # 4
        contents = self._read_manifest(statement)  # 5, 6
        if contents is not None:
            self._allowed |= {BLOBS + digest for digest in contents.blobs()}
        self._check_custody(statement)  # 5, 7
        erased = self._check_timeline(statement)  # 5, 8
        if contents is None:
            raise Unverifiable("blobs", missing="an intact manifest.json, which lists them")
        self._check_blobs(contents)  # 9
        self._tar.end()  # 10
        return VerifiedSeal(
            sha256=self._tar.sha256,
            size=self._tar.offset,
            key_id=sealed.key_id,
            predicate=statement.predicate,
            items=contents.items,
            erased_events=erased,
        )

    def _read_manifest(self, statement: Statement) -> Manifest | None:
        """None, and a problem more, when there is no manifest to go on with."""
        member = self._tar.member(MANIFEST, allowed=self._allowed)  # 1
        data = _read_whole(member, manifest.MAX_SIZE)
        if not self._has_digest(member, statement):  # 5
            return None
        try:
            contents = Manifest.from_bytes(data)  # 6
        except FormatError as error:
            self._problems.append(_unknown_format(MANIFEST, error))
            return None
        of = statement.predicate
        if (contents.seal_id, len(contents.items)) != (of.seal_id, of.items):
            raise Tampered(
                MANIFEST,
                expected=f"{of.items} items of seal {of.seal_id}",
                actual=f"{len(contents.items)} items of seal {contents.seal_id}",
            )
        return contents

    def _check_custody(self, statement: Statement) -> None:
        def step(at: Place, line: bytes) -> Place:
            entry = CustodyEntry.from_line(line)
            return Place(at.offset + len(line) + 1, chain.follow(at.head, entry, CUSTODY), 0)

        self._check_chain(CUSTODY, statement, statement.predicate.custody_head, custody.MAX_LINE, step)

    def _check_timeline(self, statement: Statement) -> int:
        def step(at: Place, line: bytes) -> Place:
            entry = TimelineEntry.from_line(line)
            head = timeline.follow(at.head, entry, statement.predicate.incident)
            return Place(at.offset + len(line) + 1, head, at.erased + (entry.body is None))

        return self._check_chain(TIMELINE, statement, statement.predicate.timeline_head, timeline.MAX_LINE, step).erased

    def _check_chain(
        self,
        name: str,
        statement: Statement,
        sealed_head: Head,
        max_line: int,
        step: Callable[[Place, bytes], Place],
    ) -> Place:
        member = self._tar.member(name, allowed=self._allowed)  # 1
        at, whole = START, b""
        walk: list[Place] = []
        if self._walked is not None and member.size <= LARGEST:
            whole = member.read()
            at = self._walked.furthest(name, whole)
        broken: Tampered | FormatError | None = None
        try:
            for line in _lines(member, max_line, whole[at.offset :]):
                at = step(at, line)  # 7, 8
                walk.append(at)
        except (Tampered, FormatError) as error:
            broken = error
        if self._walked is not None and broken is None:
            self._walked.keep(name, whole, walk)
        head = at.head
        # The digest decides. If it is wrong, the first entry that does not fit only tells where to look.
        intact = self._has_digest(member, statement)  # 5
        where = f"{name} entry {head.seq + 1}"
        if isinstance(broken, Tampered):
            self._problems.append(broken)
        elif broken is not None and intact:
            self._problems.append(_unknown_format(where, broken))
        elif broken is not None:
            self._problems.append(Tampered(where, expected="an entry of version 1", actual=str(broken)))
        elif head != sealed_head:
            self._problems.append(
                Tampered(
                    name,
                    expected=f"a chain of {sealed_head.seq} that ends in {sealed_head.hash}",
                    actual=f"one of {head.seq} that ends in {head.hash}",
                )
            )
        return at

    def _check_blobs(self, contents: Manifest) -> None:
        for digest, (blob, ids) in contents.blobs().items():
            name = BLOBS + digest
            member = self._tar.member(name, allowed=self._allowed, size=blob.stored_size)  # 1
            try:
                check_blob(member, blob, f"{', '.join(ids)}: {name}")  # 9
            except Tampered as problem:
                member.finish()  # raises, and ends the walk, when it is the file that ended too soon
                self._problems.append(problem)
            else:
                member.finish()

    def _has_digest(self, member: Member, statement: Statement) -> bool:
        """Whether the member is the one in the statement; else one problem more."""
        found, sealed = member.finish(), statement.sha256(member.name)
        if found != sealed:
            self._problems.append(Tampered(member.name, expected=f"sha256:{sealed}", actual=f"sha256:{found}"))
        return found == sealed


def _read_envelope(tar: TarReader) -> Envelope:
    member = tar.member(envelope.NAME, allowed=DOCUMENTS)  # 1
    data = _read_whole(member, envelope.MAX_SIZE)
    member.finish()
    try:
        return Envelope.from_bytes(data)  # 2
    except FormatError as error:
        raise Tampered(envelope.NAME, expected="a DSSE envelope in its canonical form", actual=str(error)) from error


def _check_signature(sealed: Envelope, key: PublicKey | None) -> Unverifiable | None:
    """Step 3 and the table above. Raises Tampered; returns what kept the signature from being checked."""
    item = f"{envelope.NAME} (signature)"
    claimed = canonical.shown(sealed.key_id)
    try:
        canonical_form = canonical_signature(sealed.signature)
    except ValueError as error:
        raise Tampered(item, expected="an ECDSA signature in DER", actual=str(error)) from error
    if canonical_form != sealed.signature:
        raise Tampered(item, expected="the canonical form (DER, low s)", actual="another form of a signature")
    if key is None:
        return Unverifiable(item, missing=f"the public key with the id {claimed}", next_step=_GIVE_THE_KEY)
    good = key.verifies(sealed.signature, sealed.pae())
    if good and sealed.key_id == key.key_id:
        return None
    if good:
        raise Tampered(f"{envelope.NAME} (key id)", expected=key.key_id, actual=claimed)
    if sealed.key_id == key.key_id:
        raise Tampered(item, expected=f"a signature of this statement by {key.key_id}", actual="none")
    return Unverifiable(
        item,
        missing=f"the public key with the id {claimed}; the key given is {key.key_id}",
        next_step=_GIVE_THE_KEY,
    )


def _read_statement(sealed: Envelope) -> Statement:
    item = f"{envelope.NAME} (statement)"
    if sealed.payload_type != PAYLOAD_TYPE:
        raise _unknown_format(item, f"its type is {canonical.shown(sealed.payload_type)}")
    try:
        return Statement.from_bytes(sealed.payload)  # 4
    except FormatError as error:
        raise _unknown_format(item, error) from error


def _unknown_format(item: str, why: object) -> Unverifiable:
    """For bytes that no comparison contradicts, but that are not what version 1 of the format holds."""
    return Unverifiable(item, missing=f"a reader of its format: {why}", next_step="use a newer ringfence-verify")


def _read_whole(member: Member, most: int) -> bytes:
    if member.size > most:
        raise Tampered(member.name, expected=f"at most {most} bytes", actual=f"{member.size}")
    return member.read()


def _lines(member: Member, most: int, begun: bytes = b"") -> Iterator[bytes]:
    """The lines of a member, each without its line feed, of which ``begun`` is read already. FormatError for one that
    is too long or has no end."""
    rest, chunk = b"", begun or member.read(1 << 16)
    while chunk:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > most:
            raise FormatError(f"longer than {most} bytes")
        chunk = member.read(1 << 16)
    if rest:
        raise FormatError("no line feed at the end")


def _open(path: Path, opener: Opener | None = None) -> BinaryIO:
    try:
        if path.exists() and not path.is_file():
            raise Unverifiable(str(path), missing="a file: this is something else", next_step="give the bundle itself")
        return opener(path) if opener is not None else path.open("rb")
    except OSError as error:
        raise Unverifiable(
            str(path), missing=f"the file: {error.strerror or error}", next_step="check the path and its permissions"
        ) from error
