"""Retention, legal hold and disposal: what keeps evidence, who ended it, and what stays in the record."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ringfence.errors import Guarded, TargetError, VaultError
from ringfence.evidence import retention
from ringfence.evidence.vault import Vault
from ringfence.model.custody import DisposalOrdered, EvidenceDisposed, HoldLifted, HoldPlaced
from ringfence.model.incident import Incident, State
from ringfence.model.timeline import Refusal
from ringfence.seal import custody
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store
from tests.evidence.furniture import NOW, WHO, declare, events, record_bundle

DAYS = 30


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def incident(fresh_store: Store, vault: Vault) -> Incident:
    """With one seal, made now, whose bundle and blob are files."""
    declared = declare(fresh_store)
    with vault.blobs(declared.id).new() as blob:
        blob.write(b"evidence")
        blob.finish()
    record_bundle(fresh_store, vault, declared, b"a bundle", "a" * 64)
    return declared


def close(store: Store, incident: Incident, at: datetime) -> Incident:
    with store.write() as session:
        current = incidents.get(session, incident.id)
        incidents.move(session, current, State.CLOSED, actor=WHO.id, now=at, reason="over")
        return incidents.get(session, incident.id)


def dispose(store: Store, vault: Vault, incident: Incident, at: datetime) -> retention.Disposal:
    return retention.dispose(store, vault, incident.id, "time is up", retention_days=DAYS, actor="local/a", now=at)


def files(vault: Vault) -> list[Path]:
    return [path for path in vault.root.rglob("*") if path.is_file()]


def test_an_open_incident_keeps_its_evidence_however_old(fresh_store: Store, vault: Vault, incident: Incident) -> None:
    with pytest.raises(Guarded) as refused:
        dispose(fresh_store, vault, incident, NOW + timedelta(days=9999))
    assert "not closed" in refused.value.why
    assert len(files(vault)) == 2
    last = events(fresh_store, incident.id)[-1]
    assert isinstance(last, Refusal), "that somebody tried is kept"
    assert last.gate == "retention"


@pytest.mark.parametrize(
    ("after", "may"), [(timedelta(days=DAYS) - timedelta(seconds=1), False), (timedelta(DAYS), True)]
)
def test_retention_runs_from_the_closing(
    fresh_store: Store, vault: Vault, incident: Incident, after: timedelta, may: bool
) -> None:
    closed = NOW + timedelta(days=100)
    close(fresh_store, incident, closed)
    if may:
        assert dispose(fresh_store, vault, incident, closed + after).files == 2
        return
    with pytest.raises(Guarded, match="cannot be disposed of") as refused:
        dispose(fresh_store, vault, incident, closed + after)
    assert "retained until" in refused.value.why


def test_a_seal_that_is_newer_than_the_closing_counts(incident: Incident, fresh_store: Store) -> None:
    closed = close(fresh_store, incident, NOW)
    with fresh_store.read() as session:
        (seal,) = evidence.seals(session, incident.id)
        entries = [entry.event for entry in timeline.read(session, incident.id)]
    later = seal.model_copy(update={"sealed_at": NOW + timedelta(days=5)})
    found = retention.standing(closed, (later,), entries, DAYS)
    assert found.retained_until == NOW + timedelta(days=5 + DAYS)


def test_a_hold_outlasts_retention_until_it_is_lifted(fresh_store: Store, vault: Vault, incident: Incident) -> None:
    close(fresh_store, incident, NOW)
    late = NOW + timedelta(days=DAYS + 1)
    retention.place_hold(fresh_store, incident, "case 7", actor="local/a", now=NOW)
    with pytest.raises(Guarded) as refused:
        dispose(fresh_store, vault, incident, late)
    assert "case 7" in refused.value.why
    assert len(files(vault)) == 2
    retention.lift_hold(fresh_store, incident, "settled", actor="local/a", now=late)
    assert dispose(fresh_store, vault, incident, late).files == 2
    kinds = [type(event) for event in events(fresh_store, incident.id)]
    order = [kind for kind in kinds if kind in (HoldPlaced, HoldLifted, DisposalOrdered, EvidenceDisposed)]
    assert order == [HoldPlaced, HoldLifted, DisposalOrdered, EvidenceDisposed]


def test_a_second_hold_and_a_hold_that_is_not_there_are_errors(fresh_store: Store, incident: Incident) -> None:
    with pytest.raises(TargetError):
        retention.lift_hold(fresh_store, incident, "x", actor="local/a", now=NOW)
    retention.place_hold(fresh_store, incident, "case 7", actor="local/a", now=NOW)
    with pytest.raises(TargetError, match="already"):
        retention.place_hold(fresh_store, incident, "case 8", actor="local/b", now=NOW)


def test_digests_and_custody_stay(fresh_store: Store, vault: Vault, incident: Incident) -> None:
    close(fresh_store, incident, NOW)
    dispose(fresh_store, vault, incident, NOW + timedelta(days=DAYS))
    assert files(vault) == []
    with fresh_store.read() as session:
        entries = [custody.CustodyEntry.from_json(json.loads(text)) for text in evidence.custody(session, incident.id)]
        assert evidence.seals(session, incident.id)[0].bundle_sha256 == "a" * 64
    custody.strand(entries)
    assert (entries[-1].action, entries[-1].purpose, entries[-1].sha256) == (
        custody.Action.DISPOSE,
        "time is up",
        "a" * 64,
    )
    with pytest.raises(TargetError, match="no evidence"):
        dispose(fresh_store, vault, incident, NOW + timedelta(days=DAYS))


def test_a_disposal_that_was_broken_off_goes_on(
    fresh_store: Store, vault: Vault, incident: Incident, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(fresh_store, incident, NOW)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", _denied)
        with pytest.raises(VaultError):
            dispose(fresh_store, vault, incident, NOW + timedelta(days=DAYS))
    assert isinstance(events(fresh_store, incident.id)[-1], DisposalOrdered), "the order comes before the first file"
    assert len(files(vault)) == 2
    assert dispose(fresh_store, vault, incident, NOW + timedelta(days=DAYS)).files == 2


def test_what_is_not_ours_stays_and_a_link_is_not_followed(
    fresh_store: Store, vault: Vault, incident: Incident, tmp_path: Path
) -> None:
    folder = vault.root / incident.id
    (folder / "notes.txt").write_text("mine")
    other = tmp_path / "elsewhere"
    other.write_text("keep")
    (folder / f"{incident.id}-seal-9.tar").symlink_to(other)
    close(fresh_store, incident, NOW)
    done = dispose(fresh_store, vault, incident, NOW + timedelta(days=DAYS))
    assert done.left == ("notes.txt",)
    assert other.read_text() == "keep"


def _denied(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")
