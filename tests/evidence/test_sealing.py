"""From items to a seal: what is enough, a bundle that an auditor verifies, and a custody chain that grows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import EvidenceError, Tampered, VaultError
from ringfence.evidence import sealing
from ringfence.evidence.acquire import Acquirer, What
from ringfence.evidence.sealing import Sealer, append_custody, shortfall
from ringfence.evidence.vault import Vault
from ringfence.model.base import isoformat
from ringfence.model.evidence import Blob, Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident, Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.principal import Principal
from ringfence.platform.kubernetes.client import Cluster
from ringfence.seal import custody
from ringfence.seal.signing import SigningKey
from ringfence.seal.verify import verify_bundle
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WHO = Principal(issuer="kubernetes:c1", subject="alice", kind="kubernetes")
TARGET = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")
BLOB = Blob(stored_sha256="a" * 64, stored_size=3, raw_sha256="b" * 64, raw_size=9, encoding="zstd")


def item(name: str, result: Collected = Collected.COLLECTED, *, required: bool = True, **changes: Any) -> EvidenceItem:
    facts: dict[str, Any] = {
        "id": name,
        "kind": "Pod",
        "required": required,
        "result": result,
        "reason": "" if result is Collected.COLLECTED else "the reason",
        "source": "/api",
        "method": "get",
        "operator": WHO.id,
        "authority": "incident INC-1",
        "started_at": NOW,
        "ended_at": NOW,
        "volatility": 2,
        "blob": BLOB if result is Collected.COLLECTED else None,
    }
    return EvidenceItem(**{**facts, **changes})


# --- what is enough -------------------------------------------------------------------------------------------------

ENOUGH = [item("pod"), item("logs/cards/current"), item("logs/cards/previous", Collected.ABSENT)]


def test_the_minimum_is_the_pod_and_its_logs() -> None:
    assert shortfall(ENOUGH) == ()
    assert shortfall(iter(ENOUGH)) == (), "the items are read once"


@pytest.mark.parametrize(
    ("name", "result"), list(itertools.product(("pod", "logs/cards/current", "logs/cards/previous"), Collected))
)
def test_a_required_item_is_collected_or_a_previous_log_is_said_not_to_exist(name: str, result: Collected) -> None:
    items = [other for other in ENOUGH if other.id != name] + [item(name, result)]
    enough = result is Collected.COLLECTED or (result is Collected.ABSENT and name.endswith("/previous"))
    lacking = shortfall(items)
    assert (lacking == ()) is enough
    if not enough:
        assert lacking == (f"{name}: {result}, the reason",)


@pytest.mark.parametrize("result", [result for result in Collected if result is not Collected.COLLECTED])
def test_what_is_not_required_keeps_no_gate_shut(result: Collected) -> None:
    assert shortfall([*ENOUGH, item("node", result, required=False)]) == ()


def test_a_container_called_previous_has_no_privilege() -> None:
    assert shortfall([*ENOUGH, item("logs/previous/current", Collected.ABSENT)]) != ()


@pytest.mark.parametrize("dropped", ["pod", "logs/"])
def test_what_was_never_asked_for_is_lacking(dropped: str) -> None:
    lacking = shortfall([other for other in ENOUGH if not other.id.startswith(dropped)])
    assert len(lacking) == 1
    assert "not asked for" in lacking[0]
    assert len(shortfall([])) == 2


# --- sealing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def incident(fresh_store: Store) -> Incident:
    with fresh_store.write() as session:
        return incidents.declare(
            session,
            target=TARGET,
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title="suspicious egress",
            principal=WHO,
            fence="f1",
            command="contain",
            now=NOW,
        )


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def sealer(fresh_store: Store, vault: Vault, signing_key: SigningKey) -> Sealer:
    return Sealer(fresh_store, vault, signing_key)


@pytest.fixture
def real_items(cluster: Cluster, vault: Vault, incident: Incident) -> Callable[[], list[EvidenceItem]]:
    """A pod, a log and an absence, with bytes in the vault."""
    acquirer = Acquirer(cluster, vault.blobs(incident.id), operator=WHO.id, authority=f"incident {incident.id}")

    def acquire() -> list[EvidenceItem]:
        return [
            acquirer.read(What("pod", "Pod", "/pods/x", "get", 2, required=True), lambda: (b'{"kind": "Pod"}',)),
            acquirer.read(What("logs/cards/current", "log", "/log", "get x=1", 2), lambda: (b"\xff\x00 log",)),
            acquirer.missing(What("memory", "process-memory", "the node", "none", 1), Collected.NOT_TAKEN, "no access"),
        ]

    return acquire


def test_a_bundle_verifies_with_the_public_key_alone(
    sealer: Sealer, incident: Incident, real_items: Callable[[], list[EvidenceItem]]
) -> None:
    seal = sealer.seal(incident, TARGET, real_items(), actor=WHO.id, key="a")
    verified = verify_bundle(Path(seal.path), sealer.key.public_key)
    assert (verified.sha256, verified.key_id) == (seal.bundle_sha256, seal.key_id)
    assert verified.predicate.incident == incident.id
    assert [(of.name, of.uid) for of in verified.predicate.preserves] == [("cards-1", "u1")]
    assert {i.id: i.result.value for i in verified.items} == {
        "memory": "not-taken",
        "pod": "collected",
        "logs/cards/current": "collected",
    }
    assert verified.items[0].id == "memory", "what is lost first comes first"
    assert (seal.items, seal.collected, seal.complete, seal.subject_uid) == (3, 2, True, "u1")


def test_a_seal_is_on_the_timeline_and_in_the_store(
    sealer: Sealer, incident: Incident, real_items: Callable[[], list[EvidenceItem]], fresh_store: Store
) -> None:
    items = real_items()
    seal = sealer.seal(incident, TARGET, items, actor=WHO.id, key="a")
    with fresh_store.read() as session:
        assert evidence.seals(session, incident.id) == (seal,)
        assert set(evidence.items(session, incident.id, 1)) == set(items)
        last = timeline.read(session, incident.id)[-1].event
    assert (last.type, getattr(last, "bundle_sha256", "")) == ("evidence.sealed", seal.bundle_sha256)


def test_a_second_seal_is_another_bundle_with_the_whole_chains(
    sealer: Sealer, incident: Incident, real_items: Callable[[], list[EvidenceItem]], fresh_store: Store
) -> None:
    first = sealer.seal(incident, TARGET, real_items(), actor=WHO.id, key="a")
    assert sealer.seal(incident, TARGET, real_items(), actor=WHO.id, key="a") == first, "asked for again by the same"
    second = sealer.seal(incident, TARGET, real_items(), actor=WHO.id, key="b")
    assert (first.id, second.id) == (f"{incident.id}/seal/1", f"{incident.id}/seal/2")
    assert first.path != second.path
    before, after = (verify_bundle(Path(seal.path), sealer.key.public_key).predicate for seal in (first, second))
    assert after.custody_head.seq > before.custody_head.seq
    assert after.timeline_head.seq > before.timeline_head.seq
    with fresh_store.read() as session:
        chain = [custody.CustodyEntry.from_json(json.loads(text)) for text in evidence.custody(session, incident.id)]
    custody.strand(chain)
    assert [entry.action.value for entry in chain] == ["acquire", "acquire", "seal", "store"] * 2
    assert chain[3].sha256 == first.bundle_sha256


def test_custody_goes_on_after_the_seal(
    sealer: Sealer, incident: Incident, real_items: Callable[[], list[EvidenceItem]], fresh_store: Store
) -> None:
    seal = sealer.seal(incident, TARGET, real_items(), actor=WHO.id, key="a")
    with fresh_store.write() as session:
        fact = (custody.Action.EXPORT, seal.id, "to legal", seal.bundle_sha256)
        append_custody(session, incident.id, [fact], actor=WHO.id, now=NOW)
    with fresh_store.read() as session:
        chain = [custody.CustodyEntry.from_json(json.loads(text)) for text in evidence.custody(session, incident.id)]
    assert custody.strand(chain).head.seq == 5


def test_an_incomplete_capture_is_sealed_and_says_so(
    sealer: Sealer, incident: Incident, real_items: Callable[[], list[EvidenceItem]]
) -> None:
    items = [*real_items(), item("logs/side/current", Collected.DENIED)]
    seal = sealer.seal(incident, TARGET, items, actor=WHO.id, key="a")
    assert not seal.complete
    assert "logs/side/current: denied" in seal.why_incomplete
    verify_bundle(Path(seal.path), sealer.key.public_key)


def test_a_blob_that_was_changed_in_the_vault_is_never_sealed(
    sealer: Sealer, incident: Incident, real_items: Callable[[], list[EvidenceItem]], vault: Vault, fresh_store: Store
) -> None:
    items = real_items()
    assert items[0].blob is not None
    path = vault.blobs(incident.id).path / items[0].blob.stored_sha256
    path.chmod(0o600)
    path.write_bytes(b"\x00" * items[0].blob.stored_size)
    with pytest.raises(Tampered, match="pod"):
        sealer.seal(incident, TARGET, items, actor=WHO.id, key="a")
    with fresh_store.read() as session:
        assert evidence.seals(session, incident.id) == ()
    assert not list(path.parent.parent.glob("*.tar"))


def test_a_seal_that_failed_is_made_under_its_number_when_it_is_asked_for_again(
    sealer: Sealer, incident: Incident, real_items: Callable[[], list[EvidenceItem]], vault: Vault
) -> None:
    items = real_items()
    gone = vault.blobs(incident.id).path / str(items[0].blob and items[0].blob.stored_sha256)
    kept = gone.read_bytes()
    gone.unlink()
    with pytest.raises(VaultError):
        sealer.seal(incident, TARGET, items, actor=WHO.id, key="a")
    gone.write_bytes(kept)
    seal: Seal = sealer.seal(incident, TARGET, items, actor=WHO.id, key="a")
    assert seal.id == f"{incident.id}/seal/1"
    verify_bundle(Path(seal.path), sealer.key.public_key)


# --- after a crash --------------------------------------------------------------------------------------------------


def bundles_of(vault: Vault, incident: Incident) -> list[Path]:
    return sorted((vault.root / incident.id).glob("*.tar"))


def test_what_was_recorded_before_a_crash_is_sealed_and_not_what_is_read_later(
    sealer: Sealer,
    incident: Incident,
    real_items: Callable[[], list[EvidenceItem]],
    fresh_store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The later reading is of a pod that is cut already: the first would be lost, and custody would have both."""
    items = real_items()
    with monkeypatch.context() as dying:
        dying.setattr(sealing, "write_bundle", crash)
        with pytest.raises(KeyboardInterrupt):
            sealer.seal(incident, TARGET, items, actor=WHO.id, key="a")
    later = [one.model_copy(update={"source": "/later"}) for one in real_items()]
    seal = sealer.seal(incident, TARGET, later, actor=WHO.id, key="a")
    verified = verify_bundle(Path(seal.path), sealer.key.public_key)
    assert {one.id: one.source.path for one in verified.items} == {one.id: one.source for one in items}
    assert seal.acquired_at == max(one.ended_at for one in items if one.required)
    with fresh_store.read() as session:
        actions = [json.loads(text)["action"] for text in evidence.custody(session, incident.id)]
        types = [entry.event.type for entry in timeline.read(session, incident.id)]
    assert actions == ["acquire", "acquire", "seal", "store"]
    assert types.count("evidence.acquired") == len(items)
    assert sealer.resume(incident, TARGET, actor=WHO.id, key="a") == seal


def test_a_bundle_that_was_written_right_before_a_crash_becomes_the_seal(
    sealer: Sealer,
    incident: Incident,
    real_items: Callable[[], list[EvidenceItem]],
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(evidence, "add_seal", crash)
        with pytest.raises(KeyboardInterrupt):
            sealer.seal(incident, TARGET, real_items(), actor=WHO.id, key="a")
    (left,) = bundles_of(vault, incident)
    seal = sealer.resume(incident, TARGET, actor=WHO.id, key="a")
    assert seal is not None
    assert (Path(seal.path), bundles_of(vault, incident)) == (left, [left])
    verified = verify_bundle(left, sealer.key.public_key)
    assert (seal.bundle_sha256, isoformat(seal.sealed_at)) == (verified.sha256, verified.predicate.sealed_at)


def test_a_bundle_in_its_place_that_is_not_ours_is_left_alone(
    sealer: Sealer,
    incident: Incident,
    real_items: Callable[[], list[EvidenceItem]],
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(evidence, "add_seal", crash)
        with pytest.raises(KeyboardInterrupt):
            sealer.seal(incident, TARGET, real_items(), actor=WHO.id, key="a")
    (left,) = bundles_of(vault, incident)
    left.chmod(0o600)
    with left.open("r+b") as file:
        file.seek(-2000, 2)
        file.write(b"x")
    seal = sealer.resume(incident, TARGET, actor=WHO.id, key="a")
    assert seal is not None
    assert Path(seal.path) != left
    verify_bundle(Path(seal.path), sealer.key.public_key)
    assert left in bundles_of(vault, incident)


def test_there_is_nothing_to_resume_where_nothing_was_acquired(sealer: Sealer, incident: Incident) -> None:
    assert sealer.resume(incident, TARGET, actor=WHO.id, key="a") is None


def crash(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_value_that_the_format_does_not_know_is_an_error_of_ours(
    sealer: Sealer, incident: Incident, real_items: Callable[[], list[EvidenceItem]]
) -> None:
    with pytest.raises(EvidenceError, match="cannot be sealed"):
        sealer.seal(incident, TARGET, [*real_items(), item("x" * 300, Collected.FAILED)], actor=WHO.id, key="a")
