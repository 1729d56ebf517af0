"""What is signed: an in-toto Statement (v1) whose subjects are the bundle's documents, by digest.

The manifest lists the digests of every blob, so the statement covers the whole bundle. The predicate says what the
seal is of; all of it is the signer's claim, times included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ringfence.seal import canonical
from ringfence.seal.canonical import Count, FormatError, Instant, Name, Record, Sha256, exactly
from ringfence.seal.chain import Head
from ringfence.seal.manifest import Tool

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://ringfence.dev/seal/v1"

MANIFEST = "manifest.json"
CUSTODY = "custody.jsonl"
TIMELINE = "timeline.jsonl"
SUBJECTS = (MANIFEST, CUSTODY, TIMELINE)
"""The members that the statement names, in their order in the bundle."""


@dataclass(frozen=True)
class ObjectRef(Record):
    """An object of the cluster. ``namespace`` is empty for cluster-scoped objects."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class SealFacts(Record):
    """What the sealer says about the seal. ``preserves`` are the objects whose evidence this is."""

    seal_id: Name
    incident: Name
    cluster_uid: Name
    preserves: tuple[ObjectRef, ...]
    sealed_at: Instant
    tool: Tool


@dataclass(frozen=True)
class Predicate(SealFacts):
    """The facts, and what follows from the bundle's contents: heads of both chains, number of items."""

    version: Literal[1]
    items: Count
    custody_head: Head
    timeline_head: Head


@dataclass(frozen=True)
class Subject(Record):
    """A member of the bundle and the SHA-256 of its contents."""

    name: Name
    sha256: Sha256


@dataclass(frozen=True)
class Statement:
    """``subjects`` are ``SUBJECTS``, each with its digest."""

    subjects: tuple[Subject, ...]
    predicate: Predicate

    def sha256(self, name: str) -> str:
        """The digest that the statement gives for a member."""
        return next(subject.sha256 for subject in self.subjects if subject.name == name)

    def to_bytes(self) -> bytes:
        return canonical.dumps(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": one.name, "digest": {"sha256": one.sha256}} for one in self.subjects],
                "predicateType": PREDICATE_TYPE,
                "predicate": self.predicate.to_json(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Statement:
        """Raises FormatError unless ``data`` is the canonical encoding of a statement with this predicate type."""
        members = exactly(canonical.loads(data), "_type", "subject", "predicateType", "predicate")
        if (members["_type"], members["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise FormatError(
                f"expected {STATEMENT_TYPE} with {PREDICATE_TYPE}, "
                f"found {canonical.shown(members['_type'])} with {canonical.shown(members['predicateType'])}"
            )
        match members["subject"]:
            case list(listed):
                subjects = tuple(_subject(one) for one in listed)
            case _:
                raise FormatError("subject: expected a list")
        if tuple(subject.name for subject in subjects) != SUBJECTS:
            raise FormatError(f"subject: expected {', '.join(SUBJECTS)} in this order")
        return cls(subjects, Predicate.from_json(members["predicate"]))


def _subject(value: object) -> Subject:
    members = exactly(value, "name", "digest")
    digest = exactly(members["digest"], "sha256")
    return Subject.from_json({"name": members["name"], "sha256": digest["sha256"]})
