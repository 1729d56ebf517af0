"""Anchors: a timeline that was rewritten so that it fits in itself is found out, by its first event that differs."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import rfc8785
import sqlalchemy as sa

from ringfence.errors import ChainBroken, Conflict, NotSent, Tampered, Unanswered, Unverifiable
from ringfence.evidence.anchoring import Anchorer, GitPlace, Place, S3Place, unanchored
from ringfence.model.custody import HeadAnchored
from ringfence.model.incident import Incident
from ringfence.model.timeline import NoteAdded
from ringfence.platform.git import Branch
from ringfence.seal import anchor as anchors
from ringfence.seal.signing import SigningKey, load_or_create
from ringfence.store import tables, timeline
from ringfence.store.database import Store
from tests.evidence.furniture import NOW, declare, events
from tests.evidence.servers import bucket_at, client, credentials, endpoint, ministack, moto

__all__ = ["credentials", "endpoint", "ministack", "moto"]

pytestmark = [pytest.mark.filterwarnings("ignore")]


@dataclass
class Memory:
    """A place that is a dictionary; ``broken``: why nothing works."""

    name: str = "memory"
    kept: dict[str, bytes] = field(default_factory=dict)
    broken: str = ""

    def write(self, name: str, data: bytes) -> None:
        self._check()
        self.kept[name] = data

    def read(self, incident: str) -> dict[str, bytes]:
        self._check()
        return {name: data for name, data in self.kept.items() if name.startswith(f"{incident}/")}

    def _check(self) -> None:
        if self.broken:
            raise NotSent(self.broken, system="memory", verb="put", target="x")


@pytest.fixture
def incident(fresh_store: Store) -> Incident:
    return declare(fresh_store)


def note(store: Store, incident: Incident, text: str) -> None:
    with store.write() as session:
        timeline.append(session, incident.id, NoteAdded(occurred_at=NOW, actor="a", text=text), NOW)


def anchorer(store: Store, key: SigningKey, *places: Place) -> Anchorer:
    return Anchorer(store, lambda: key, places)


def rewrite(store: Store, incident: Incident, first: int, *, drop: bool = False, member: str = "actor") -> None:
    """Change event ``first`` (or drop it and what follows), and forge the chain so that it fits again."""
    table = tables.event
    with store.write() as session:
        rows = [row._mapping for row in session.execute(sa.select(table).order_by(table.c.seq))]
        session.execute(sa.delete(table))
        kept = [dict(row) for row in rows if not drop or row["seq"] < first]
        previous = "0" * 64
        for row in kept:
            if row["seq"] == first:
                body = json.loads(row["body"])
                body[member] = "forged"
                row["body"] = rfc8785.dumps(body)
                row["body_sha256"] = hashlib.sha256(row["body"]).hexdigest()
            row["prev_hash"] = previous
            previous = row["hash"] = timeline.chain_hash(row["incident"], row["seq"], row["body_sha256"], previous)
            session.execute(sa.insert(table).values(**row))
        session.execute(sa.update(tables.incident).values(seq=len(kept), head_hash=previous))


def test_a_timeline_that_goes_on_is_still_the_one_that_was_anchored(
    fresh_store: Store, signing_key: SigningKey, incident: Incident
) -> None:
    place = Memory()
    keeps = anchorer(fresh_store, signing_key, place)
    (word,) = keeps.anchor(incident, "local/a")
    assert (word.result, word.seq) == ("anchored", 1)
    assert isinstance(events(fresh_store, incident.id)[-1], HeadAnchored)
    assert keeps.anchor(incident, "local/a") == [], "only the anchor itself came after it"
    note(fresh_store, incident, "one")
    (second,) = keeps.anchor(incident, "local/a")
    assert second.seq == 3
    checked = keeps.check(incident, signing_key.public_key)
    assert checked.error() is None
    assert (checked.anchors, checked.newest, checked.events) == ({"memory": 2}, 3, 4)


@pytest.mark.parametrize("first", [2, 4, 5])
@pytest.mark.parametrize("drop", [False, True])
def test_a_forged_history_is_named_by_its_first_event_that_differs(
    fresh_store: Store, signing_key: SigningKey, incident: Incident, first: int, drop: bool
) -> None:
    place = Memory()
    keeps = anchorer(fresh_store, signing_key, place)
    for text in ("one", "two", "three"):
        note(fresh_store, incident, text)
    keeps.anchor(incident, "local/a")
    for text in ("four", "five"):
        note(fresh_store, incident, text)
    keeps.anchor(incident, "local/a")
    rewrite(fresh_store, incident, first, drop=drop)
    with fresh_store.read() as session:
        timeline.read(session, incident.id)  # in itself the forged chain fits
    problem = keeps.check(incident, signing_key.public_key).error()
    assert isinstance(problem, ChainBroken)
    assert problem.seq == first


def test_an_event_that_no_version_knows_hides_nothing(
    fresh_store: Store, signing_key: SigningKey, incident: Incident
) -> None:
    keeps = anchorer(fresh_store, signing_key, Memory())
    note(fresh_store, incident, "one")
    keeps.anchor(incident, "local/a")
    rewrite(fresh_store, incident, 2, member="unknown")
    problem = keeps.check(incident, signing_key.public_key).error()
    assert isinstance(problem, ChainBroken)
    assert problem.seq == 2


def test_an_anchor_that_is_gone_or_forged_or_a_strangers_is_named(
    fresh_store: Store, signing_key: SigningKey, incident: Incident, tmp_path: Path
) -> None:
    place = Memory()
    keeps = anchorer(fresh_store, signing_key, place)
    (word,) = keeps.anchor(incident, "local/a")
    original = place.kept.pop(word.name)
    assert isinstance(keeps.check(incident, signing_key.public_key).error(), Tampered)
    place.kept[word.name] = original
    other = load_or_create(tmp_path / "other.pem")
    foreign = anchors.sign(anchors.Anchor(1, incident.id, "c1", 1, "2026-11-23T03:00:00.000000Z", ("a" * 64,)), other)
    place.kept[f"{incident.id}/9.json"] = foreign.replace(other.key_id.encode(), signing_key.key_id.encode())
    problem = keeps.check(incident, signing_key.public_key).error()
    assert isinstance(problem, Tampered), "it says that we signed it, and we did not"
    place.kept[f"{incident.id}/9.json"] = foreign
    problem = keeps.check(incident, signing_key.public_key).error()
    assert isinstance(problem, Unverifiable), "a stranger's word does not accuse"
    assert "public key" in str(problem)
    place.kept[f"{incident.id}/9.json"] = b"\x1b[31mnot an anchor"
    assert isinstance(keeps.check(incident, signing_key.public_key).error(), Unverifiable)


def test_without_any_anchor_nothing_is_known(fresh_store: Store, signing_key: SigningKey, incident: Incident) -> None:
    assert isinstance(
        anchorer(fresh_store, signing_key, Memory()).check(incident, signing_key.public_key).error(), Unverifiable
    )


def test_a_place_that_is_out_keeps_no_other_from_its_anchor_and_is_told_once(
    fresh_store: Store, signing_key: SigningKey, incident: Incident
) -> None:
    good, bad = Memory("good"), Memory("bad", broken="it is out")
    keeps = anchorer(fresh_store, signing_key, bad, good)
    assert [word.result for word in keeps.anchor(incident, "local/a")] == ["failed", "anchored"]
    before = len(events(fresh_store, incident.id))
    assert [word.result for word in keeps.anchor(incident, "local/a", again=True)] == ["failed"]
    assert len(events(fresh_store, incident.id)) == before, "the same reason is not written down again"
    bad.broken = ""
    assert [word.result for word in keeps.anchor(incident, "local/a", again=True)] == ["anchored"]
    with fresh_store.read() as session:
        assert unanchored(timeline.read(session, incident.id), "bad") == 0


# --- S3 -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_anchors_in_a_locked_bucket(
    endpoint: str, fresh_store: Store, signing_key: SigningKey, incident: Incident
) -> None:
    bucket = bucket_at(endpoint)
    place = S3Place("s3://place", lambda: bucket, "anchors/", "COMPLIANCE", 30, False)
    keeps = anchorer(fresh_store, signing_key, place)
    (word,) = keeps.anchor(incident, "local/a")
    assert word.result == "anchored", word.why
    lock = bucket.look(f"anchors/{word.name}").lock
    assert lock.mode == "COMPLIANCE"
    assert lock.until is not None
    assert lock.until > datetime.now(UTC) + timedelta(days=29)
    assert keeps.check(incident, signing_key.public_key).error() is None
    # A marker of deletion hides it, though its version stays.
    client(endpoint).delete_object(Bucket=bucket.name, Key=f"anchors/{word.name}")
    assert isinstance(keeps.check(incident, signing_key.public_key).error(), Tampered)


# --- Git ------------------------------------------------------------------------------------------------------------


def git(*arguments: str, at: Path) -> str:
    done = subprocess.run(["git", "-C", str(at), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "anchors.git"
    path.mkdir()
    git("init", "--bare", "--quiet", at=path)
    return path


def branch(place: Path | str) -> Branch:
    return Branch(str(place), "ringfence-anchors", 20)


def test_anchors_in_a_git_repository(
    fresh_store: Store, signing_key: SigningKey, incident: Incident, bare: Path
) -> None:
    keeps = anchorer(fresh_store, signing_key, GitPlace(branch(bare), "git"))
    keeps.anchor(incident, "local/a")
    note(fresh_store, incident, "one")
    (word,) = keeps.anchor(incident, "local/a")
    assert word.result == "anchored", word.why
    assert git("rev-list", "--count", "ringfence-anchors", at=bare) == "2"
    assert keeps.check(incident, signing_key.public_key).error() is None
    rewrite(fresh_store, incident, 1)
    problem = keeps.check(incident, signing_key.public_key).error()
    assert isinstance(problem, ChainBroken)
    assert problem.seq == 1


def test_a_branch_that_others_write_to_only_grows(bare: Path) -> None:
    one = branch(f"file://{bare}")
    first = one.add("INC-1/a.json", b"a", "first")
    assert one.add("INC-1/a.json", b"a", "again") == first, "what is there already is no second commit"
    second = one.add("INC-2/b.json", b"b", "second")
    assert git("rev-parse", f"{second}^", at=bare) == first
    assert one.files("INC-1", 9, 9) == {"INC-1/a.json": b"a"}
    with pytest.raises(Conflict, match="other bytes"):
        one.add("INC-1/a.json", b"forged", "third")
    with pytest.raises(Conflict, match="too many"):
        one.files("INC-1", 0, 9)


def test_a_push_that_lost_a_race_is_made_again(bare: Path, tmp_path: Path) -> None:
    """The first push finds that somebody else was faster: a hook of the receiver puts another commit there."""
    slow, fast = branch(bare), branch(bare)
    fast.add("INC-1/0.json", b"0", "zero")
    hook = bare / "hooks" / "update"
    hook.write_text(f"#!/bin/sh\n[ -e {tmp_path}/once ] && exit 0\ntouch {tmp_path}/once\nexit 1\n")
    hook.chmod(0o755)
    slow.add("INC-1/1.json", b"1", "one")
    assert set(slow.files("INC-1", 9, 9)) == {"INC-1/0.json", "INC-1/1.json"}


def test_what_the_other_side_refuses_is_said_in_its_words_and_cut_short(bare: Path) -> None:
    hook = bare / "hooks" / "update"
    hook.write_text("#!/bin/sh\nprintf '\\033[31mno'; head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Unanswered) as refused:
        branch(bare).add("INC-1/a.json", b"a", "m")
    assert len(refused.value.why) <= 2000


def test_a_repository_that_is_not_there_or_is_none_is_an_error_and_nobody_is_asked(tmp_path: Path) -> None:
    for place in (tmp_path / "none", "https://127.0.0.1:9/x.git", "ssh://127.0.0.1:9/x.git"):
        with pytest.raises(NotSent):
            branch(place).add("INC-1/a.json", b"a", "m")


def test_a_git_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/child\nwait\n")
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(Unanswered, match="longer than"):
        Branch("/nowhere", "b", 0.5).add("INC-1/a.json", b"a", "m")
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(child)


def _alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False


def test_the_environment_does_not_turn_git_to_another_repository(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    branch(bare).add("INC-1/a.json", b"a", "m")
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "index").exists()
