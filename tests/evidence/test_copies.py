"""Copies of bundles in S3, against servers that speak its API: written once, locked, read back, and said when missing.

moto is enough for most of it. What it gets wrong (it accepts a wrong checksum, and lets a compliance lock be shortened)
is tried on ministack.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ringfence.errors import Conflict, Invalid, NotSent, PlatformError, Tampered
from ringfence.evidence.copies import Copier, missing
from ringfence.evidence.retention import place_hold
from ringfence.evidence.vault import Vault
from ringfence.model.custody import EvidenceCopied
from ringfence.model.evidence import Seal
from ringfence.model.incident import Incident
from ringfence.platform.s3 import Bucket, Lock
from ringfence.response.readiness.copies import check_copies
from ringfence.store import evidence, incidents
from ringfence.store.database import Store
from tests.evidence.furniture import NOW, declare, events, record_bundle
from tests.evidence.servers import bucket_at, client, credentials, endpoint, free_port, ministack, moto

__all__ = ["credentials", "endpoint", "ministack", "moto"]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BUNDLE = b"a bundle"
SHA = hashlib.sha256(BUNDLE).hexdigest()
NO_LOCK = Lock("", None, False)


@pytest.fixture
def seal(fresh_store: Store, tmp_path: Path) -> Seal:
    return record_bundle(fresh_store, Vault(tmp_path / "vault"), declare(fresh_store), BUNDLE, SHA)


def copier(store: Store, bucket: Bucket, mode: str = "COMPLIANCE") -> Copier:
    return Copier(store, Vault(Path()), lambda: bucket, "s3://place", "unit/", mode, 30, False)


def incident_of(store: Store, seal: Seal) -> Incident:
    with store.read() as session:
        return incidents.get(session, seal.incident)


def test_a_copy_is_locked_read_back_and_recorded(endpoint: str, fresh_store: Store, seal: Seal) -> None:
    bucket = bucket_at(endpoint)
    sends = copier(fresh_store, bucket)
    assert missing(events(fresh_store, seal.incident), [seal], sends.place) == ((seal, "it was not sent"),)
    word = sends.send(seal, "local/a")
    assert (word.result, word.sha256, word.mode, word.why) == ("copied", SHA, "COMPLIANCE", "")
    assert word.version
    assert word.retain_until is not None
    assert word.retain_until > datetime.now(UTC) + timedelta(days=29)
    assert missing(events(fresh_store, seal.incident), [seal], sends.place) == ()
    assert "compliance lock" in sends.check(seal)
    with pytest.raises(Exception, match=r"AccessDenied|Access Denied"):
        client(endpoint).delete_object(Bucket=bucket.name, Key=word.key, VersionId=word.version)
    with fresh_store.read() as session:
        last = evidence.custody(session, seal.incident)[-1]
    assert word.version in last
    assert '"store"' in last


def test_sending_again_is_no_second_version(endpoint: str, fresh_store: Store, seal: Seal) -> None:
    bucket = bucket_at(endpoint)
    sends = copier(fresh_store, bucket)
    first, again = sends.send(seal, "local/a"), sends.send(seal, "local/a")
    assert (again.result, again.version) == ("copied", first.version)
    assert len(client(endpoint).list_object_versions(Bucket=bucket.name)["Versions"]) == 1


def test_a_name_that_is_taken_by_other_bytes_is_a_conflict(endpoint: str, tmp_path: Path) -> None:
    bucket = bucket_at(endpoint)
    client(endpoint).put_object(Bucket=bucket.name, Key="k", Body=b"somebody else's")
    (tmp_path / "b").write_bytes(BUNDLE)
    with pytest.raises(Conflict, match="other bytes"):
        bucket.put("k", tmp_path / "b", SHA, NO_LOCK)


def test_a_copy_that_was_replaced_is_tampered_with(endpoint: str, fresh_store: Store, seal: Seal) -> None:
    bucket = bucket_at(endpoint, locked=False)
    sends = copier(fresh_store, bucket, mode="")
    word = sends.send(seal, "local/a")
    client(endpoint).put_object(Bucket=bucket.name, Key=word.key, Body=b"forged")
    with pytest.raises(Tampered):
        sends.check(seal)


def test_a_bucket_without_a_lock_gets_no_copy_that_counts_and_doctor_names_it(
    endpoint: str, fresh_store: Store, seal: Seal
) -> None:
    sends = copier(fresh_store, bucket_at(endpoint, locked=False))
    assert sends.send(seal, "local/a").result != "copied"
    assert missing(events(fresh_store, seal.incident), [seal], sends.place) != ()
    found = list(check_copies(lambda: fresh_store, lambda _: sends))
    assert found[0].level.value == "fail"
    assert "no versioning and no Object Lock" in found[0].saw
    assert "seals have no copy" in found[1].saw


def test_doctor_is_content_with_a_locked_bucket(endpoint: str, fresh_store: Store, seal: Seal) -> None:
    sends = copier(fresh_store, bucket_at(endpoint))
    sends.send(seal, "local/a")
    assert [one.level.value for one in check_copies(lambda: fresh_store, lambda _: sends)] == ["ok", "ok"]


def test_a_legal_hold_reaches_the_copy_and_copies_made_under_one_have_it(
    endpoint: str, fresh_store: Store, seal: Seal
) -> None:
    bucket = bucket_at(endpoint)
    sends = copier(fresh_store, bucket, mode="")
    word = sends.send(seal, "local/a")
    assert sends.hold(seal.incident, on=True) == ()
    assert bucket.look(word.key, word.version).lock.legal_hold
    assert sends.hold(seal.incident, on=False) == ()
    assert not bucket.look(word.key, word.version).lock.legal_hold
    place_hold(fresh_store, incident_of(fresh_store, seal), "case 7", actor="local/a", now=NOW)
    assert sends.send(seal, "local/a").legal_hold


def test_silence_is_recorded_and_no_error_and_not_waited_for_twice(fresh_store: Store, seal: Seal) -> None:
    asked = []

    def connect() -> Bucket:
        asked.append(1)
        return Bucket("evidence", region="us-east-1", endpoint_url=f"http://127.0.0.1:{free_port()}")

    sends = Copier(fresh_store, Vault(Path()), connect, "s3://place", "", "COMPLIANCE", 30, False)
    sends.after_seal(seal, "local/a")
    sends.after_seal(seal, "local/a")
    assert len(asked) == 1
    words = [event for event in events(fresh_store, seal.incident) if isinstance(event, EvidenceCopied)]
    assert [word.result for word in words] == ["failed", "failed"]
    assert "cannot be reached" in words[0].why
    assert missing(events(fresh_store, seal.incident), [seal], "s3://place")[0][0] == seal


def test_without_credentials_nothing_is_sent(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = bucket_at(moto).name
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NotSent, match="credentials"):
        Bucket(name, region="us-east-1", endpoint_url=moto).look("k")


def test_a_bundle_that_changed_here_is_not_sent(moto: str, fresh_store: Store, seal: Seal) -> None:
    Path(seal.path).write_bytes(b"changed")
    word = copier(fresh_store, bucket_at(moto)).send(seal, "local/a")
    assert word.result == "failed"
    assert "not the one that was sealed" in word.why


# --- what moto gets wrong -------------------------------------------------------------------------------------------


def test_the_server_checks_the_checksum_on_write(ministack: str, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(BUNDLE)
    with pytest.raises(Invalid, match="BadDigest"):
        bucket_at(ministack).put("k", tmp_path / "b", "0" * 64, NO_LOCK)


def test_a_compliance_lock_does_not_shrink(ministack: str, tmp_path: Path) -> None:
    bucket = bucket_at(ministack)
    (tmp_path / "b").write_bytes(BUNDLE)
    until = datetime.now(UTC) + timedelta(days=30)
    stored = bucket.put("k", tmp_path / "b", SHA, Lock("COMPLIANCE", until, False))
    with pytest.raises(PlatformError):
        bucket.retain("k", stored.version, Lock("COMPLIANCE", datetime.now(UTC) + timedelta(days=1), False))
