"""What is missing is tried again, with patience, and what fails is written down once for each reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ringfence.errors import NotSent
from ringfence.evidence.anchoring import Anchorer
from ringfence.evidence.copies import Copier
from ringfence.evidence.vault import Vault
from ringfence.model.custody import EvidenceCopied, HeadAnchored
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident, State
from ringfence.model.timeline import NoteAdded
from ringfence.platform.s3 import Bucket, Lock, Stored
from ringfence.response.readiness.outside import check_anchors, check_stamps
from ringfence.response.upkeep import Backoff, Upkeep
from ringfence.seal.signing import SigningKey
from ringfence.store import incidents, timeline
from ringfence.store.database import Store
from tests.evidence.furniture import NOW, declare, events, record_bundle


class Place:
    """A place for anchors, and a bucket for copies, which both may be out."""

    def __init__(self) -> None:
        self.name = "memory"
        self.kept: dict[str, bytes] = {}
        self.out = True
        self.tries = 0

    def write(self, name: str, data: bytes) -> None:
        self._check()
        self.kept[name] = data

    def read(self, incident: str) -> dict[str, bytes]:
        self._check()
        return {name: data for name, data in self.kept.items() if name.startswith(incident)}

    def _check(self) -> None:
        self.tries += 1
        if self.out:
            raise NotSent("it is out", system="memory", verb="put", target="x")


@dataclass
class Scene:
    store: Store
    incident: Incident
    seal: Seal
    place: Place
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0
    now: datetime = NOW
    upkeep: Upkeep | None = None

    def round(self) -> None:
        assert self.upkeep is not None
        self.upkeep.round()

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in events(self.store, self.incident.id))


class FakeBucket(Bucket):
    """Takes what it is given when its place is not out. The real ones are in tests/evidence/test_copies.py."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def put(self, key: str, path: Path, sha256: str, lock: Lock) -> Stored:
        self.place.write(key, path.read_bytes())
        return Stored("1", 1, sha256, lock)

    def look(self, key: str, version: str = "") -> Stored:
        return Stored(version, 1, "", Lock("", None, False))


@pytest.fixture
def scene(fresh_store: Store, signing_key: SigningKey, tmp_path: Path) -> Scene:
    vault, incident, place = Vault(tmp_path / "vault"), declare(fresh_store), Place()
    seal = record_bundle(fresh_store, vault, incident, b"a bundle", hashlib.sha256(b"a bundle").hexdigest())
    made = Scene(fresh_store, incident, seal, place)
    made.upkeep = Upkeep(
        fresh_store,
        copier=Copier(fresh_store, vault, lambda: FakeBucket(place), "s3://place", "", "", 30, False),
        stamper=None,
        anchorer=Anchorer(fresh_store, lambda: signing_key, (place,)),
        anchor_every=timedelta(minutes=60),
        actor="kubernetes:c1/watch",
        say=made.said.append,
        backoff=Backoff(clock=lambda: made.seconds),
        now=lambda: made.now,
    )
    return made


def test_an_outage_is_waited_out_and_told_once(scene: Scene) -> None:
    scene.round()
    assert (scene.count(EvidenceCopied), scene.count(HeadAnchored)) == (1, 1)
    tried = scene.place.tries
    scene.round()
    assert scene.place.tries == tried, "not again so soon"
    for _ in range(8):
        scene.seconds += 3600
        scene.round()
    assert scene.place.tries == tried * 9
    assert (scene.count(EvidenceCopied), scene.count(HeadAnchored)) == (1, 1), "a long night is no long timeline"
    scene.place.out = False
    scene.seconds += 3600
    scene.round()
    words = events(scene.store, scene.incident.id)
    assert [word.result for word in words if isinstance(word, EvidenceCopied)] == ["failed", "copied"]
    assert [word.result for word in words if isinstance(word, HeadAnchored)] == ["failed", "anchored"]
    assert scene.said[-2:] == ["INC-1/seal/1: copy made", "INC-1: anchor made"]


def test_pauses_double_up_to_an_hour() -> None:
    seconds = 0.0
    backoff, pauses = Backoff(clock=lambda: seconds), []
    for _ in range(9):
        backoff.failed(("x",))
        begun = seconds
        while not backoff.may(("x",)):
            seconds += 30
        pauses.append(seconds - begun)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    backoff.done(("x",))
    backoff.failed(("x",))
    seconds += 60
    assert backoff.may(("x",))


def test_an_open_incident_is_anchored_at_intervals_and_a_closed_one_at_once(scene: Scene) -> None:
    scene.place.out = False
    scene.now = datetime.now(UTC)
    scene.round()
    scene.round()
    assert scene.count(HeadAnchored) == 1, "nothing but its anchor came after it"
    with scene.store.write() as session:
        timeline.append(session, scene.incident.id, NoteAdded(occurred_at=NOW, actor="a", text="x"), NOW)
    scene.round()
    assert scene.count(HeadAnchored) == 1
    scene.now += timedelta(minutes=61)
    scene.round()
    assert scene.count(HeadAnchored) == 2
    scene.now = datetime.now(UTC)
    with scene.store.write() as session:
        incidents.move(session, incidents.get(session, scene.incident.id), State.CLOSED, actor="a", now=NOW, reason="x")
    scene.round()
    assert scene.count(HeadAnchored) == 3
    scene.round()
    assert scene.count(HeadAnchored) == 3


def test_its_thread_ends_with_the_block(scene: Scene) -> None:
    assert scene.upkeep is not None
    with scene.upkeep.running():
        pass
    assert scene.upkeep._stopped.is_set()


def test_doctor_names_seals_without_a_stamp_and_timelines_without_an_anchor(scene: Scene) -> None:
    assert scene.upkeep is not None
    anchorer = scene.upkeep.anchorer
    opened: Callable[[], Store] = lambda: scene.store  # noqa: E731
    (stamps,) = check_stamps(opened, True)
    assert (stamps.level.value, "INC-1/seal/1" in stamps.saw) == ("warn", True)
    assert list(check_stamps(opened, False)) == []
    (out,) = check_anchors(opened, lambda _: anchorer)
    assert out.level.value == "fail"
    scene.place.out = False
    (never,) = check_anchors(opened, lambda _: anchorer)
    assert (never.level.value, "INC-1" in never.saw) == ("warn", True)
    scene.round()
    (well,) = check_anchors(opened, lambda _: anchorer)
    assert well.level.value == "ok"
    assert list(check_anchors(opened, lambda _: None)) == []
