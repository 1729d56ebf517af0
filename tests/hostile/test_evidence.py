"""Hostile objects, logs and errors as evidence: kept byte for byte, sealed, verified offline, listed harmlessly."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.actions.base import Settings
from ringfence.actions.network import Quarantine
from ringfence.cli import bundles
from ringfence.cli.output import Format, fail, table
from ringfence.cli.text import lines
from ringfence.config import Config, StoreSection, VaultSection
from ringfence.errors import ExitCode, RingfenceError, Tampered
from ringfence.evidence.acquire import Acquirer
from ringfence.evidence.handling import read_item
from ringfence.evidence.sealing import Sealer
from ringfence.evidence.vault import Vault
from ringfence.model.evidence import Collected, EvidenceItem, Seal
from ringfence.model.incident import Incident, Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.outcome import Refused
from ringfence.model.plan import Plan
from ringfence.model.principal import Principal
from ringfence.platform.kubernetes.client import connect
from ringfence.platform.kubernetes.resources import POD
from ringfence.platform.kubernetes.surroundings import Surroundings, reference
from ringfence.seal.cli import main as ringfence_verify
from ringfence.seal.signing import SigningKey
from ringfence.store import evidence, incidents, timeline
from ringfence.store.database import Store
from tests.hostile.texts import BYTES, HOSTILE, as_received, harm
from tests.hostile.world import Recorder, captured, hostile_bank
from tests.wire import Wire, kubeconfig

pytestmark = pytest.mark.slow

WHO = Principal(issuer="kubernetes:c1", subject="alice", kind="kubernetes")
TYPICAL = ("clipboard (OSC 52)", "lone surrogates", "script")
table_of_texts = [pytest.param(HOSTILE[name], id=name) for name in TYPICAL] + [
    pytest.param(text, id=name, marks=pytest.mark.slow) for name, text in HOSTILE.items() if name not in TYPICAL
]


class Sealed(NamedTuple):
    store: Store
    vault: Vault
    incident: Incident
    around: Surroundings
    items: tuple[EvidenceItem, ...]
    seal: Seal
    sent: Recorder


def declared(store: Store, text: str) -> Incident:
    """An incident whose every word is the text; each has a fence of its own."""
    target = ObjectRef(cluster="cluster-1", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")
    with store.write() as session:
        return incidents.declare(
            session,
            target=target,
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title=as_received(text),
            principal=WHO,
            fence=uuid.uuid4().hex[:16],
            command=as_received(f"ringfence contain --reason {text}"),
            now=datetime.now(UTC),
        )


@contextmanager
def sealed(
    text: str, store: Store, signing_key: SigningKey, folder: Path, log: bytes | None = None
) -> Iterator[Sealed]:
    """The hostile bank's suspect, captured and sealed."""
    recorder = Recorder(hostile_bank(text, log))
    vault = Vault(folder / "vault")
    incident = declared(store, text)
    with Wire(recorder) as wire, ThreadPoolExecutor(4) as pool, ExitStack() as ends:
        cluster = connect(kubeconfig(folder / "kubeconfig", wire.url), None, 20)
        ends.callback(cluster.close)
        acquirer = Acquirer(cluster, vault.blobs(incident.id), operator=WHO.id, authority=f"incident {incident.id}")
        around, items = captured(acquirer, pool)
        seal = Sealer(store, vault, signing_key).seal(
            incident, reference("cluster-1", around.pod), items, actor=WHO.id, key="a"
        )
        yield Sealed(store, vault, incident, around, tuple(items), seal, recorder)


def raw(of: Sealed, name: str) -> bytes:
    (item,) = (item for item in of.items if item.id == name)
    return b"".join(read_item(of.vault, of.incident.id, item))


@pytest.mark.parametrize("text", table_of_texts)
def test_nothing_is_lost_and_everything_verifies(
    text: str, fresh_store: Store, signing_key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sealed(text, fresh_store, signing_key, tmp_path) as of:
        # The originals, byte for byte.
        assert raw(of, "pod") in of.sent.bodies("/api/v1/namespaces/bank/pods/cards-1")
        assert raw(of, "events/core") in of.sent.bodies("/api/v1/events")
        assert raw(of, "namespace/networkpolicies") in of.sent.bodies(
            "/apis/networking.k8s.io/v1/namespaces/bank/networkpolicies"
        )
        for name in ("current", "previous"):
            assert raw(of, f"logs/cards/{name}") == as_received(text).encode()
        assert json.loads(raw(of, "pod"))["metadata"]["annotations"]["note"] == text
        # What the server would not give is an item with the server's words.
        denied = {item.id: item for item in of.items if item.result is not Collected.COLLECTED}
        assert as_received(text)[:200] in denied["rbac/clusterrolebindings"].reason
        assert all(len(item.reason) < 4100 for item in of.items)
        # The store: rows as they were written, chains that verify.
        with fresh_store.read() as session:
            assert set(evidence.items(session, of.incident.id, 1)) == set(of.items)
            events = timeline.read(session, of.incident.id)
        assert events[0].event.type == "incident.declared"
        assert getattr(events[0].event, "title", None) == as_received(text)
        # The bundle, as an auditor sees it.
        key = tmp_path / "seal.pub"
        key.write_bytes(signing_key.public_key.to_pem())
        for output in ("text", "json"):
            assert ringfence_verify([of.seal.path, "--key", str(key), "--list", "-o", output]) == ExitCode.OK
            printed = capsys.readouterr().out
            assert harm(printed) == []
        said = json.loads(printed)
        assert said["verdict"] == "ok"
        assert {item["id"] for item in said["items"]} == {item.id for item in of.items}
        # And as a table.
        table(("item", "result", "reason"), [(i.id, i.result.value, i.reason) for i in of.items])
        assert harm(capsys.readouterr().out) == []


@pytest.mark.parametrize("text", table_of_texts)
def test_a_plan_in_a_hostile_bank_is_a_plan_or_an_error_of_ours(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        Wire(hostile_bank(text)) as wire,
        ThreadPoolExecutor(4) as pool,
        closing(connect(kubeconfig(tmp_path / "kubeconfig", wire.url), None, 20)) as cluster,
    ):
        action = Quarantine(cluster, Settings("f00d", 1))
        target = reference("cluster-1", cluster.get(POD, "bank", "cards-1"))
        try:
            plan: Plan | Refused = action.plan(target, action.look("cluster-1", target, pool))
        except RingfenceError as error:
            fail(error)
        else:
            printed_as_plan(target, plan)
    printed = "".join(capsys.readouterr())
    assert printed
    assert harm(printed) == []


def printed_as_plan(target: ObjectRef, plan: Plan | Refused) -> None:
    from ringfence.cli import plans
    from ringfence.response.preview import Preview

    for out in Format:
        plans.show([Preview(target, plan)], out)
    try:
        plans.print_kubectl([Preview(target, plan)])
    except RingfenceError as error:  # a name that cannot be typed
        fail(error)


@pytest.mark.parametrize("log", BYTES.values(), ids=BYTES)
def test_any_bytes_are_a_log(
    log: bytes, fresh_store: Store, signing_key: SigningKey, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with sealed("x", fresh_store, signing_key, tmp_path, log) as of:
        assert raw(of, "logs/cards/current") == log
        config = Config(
            store=StoreSection(url=str(fresh_store._engine.url)),
            vault=VaultSection(path=tmp_path / "vault"),
        )
        capfdbinary.readouterr()
        bundles.show_item(config, of.incident.id, None, "logs/cards/current", raw=False)
        shown = capfdbinary.readouterr().out.decode()
        assert harm(shown) == []
        assert shown.count("\n") == len(list(lines([log])))
        bundles.show_item(config, of.incident.id, None, "logs/cards/current", raw=True)
        assert capfdbinary.readouterr().out == log
        key = tmp_path / "seal.pub"
        key.write_bytes(signing_key.public_key.to_pem())
        done = subprocess.run(
            [sys.executable, "-m", "ringfence.seal.cli", of.seal.path, "--key", str(key)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_of_a_tampered_item_is_shown(
    fresh_store: Store, signing_key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sealed("x", fresh_store, signing_key, tmp_path, b"a line\n" * 100_000) as of:
        (item,) = (item for item in of.items if item.id == "logs/cards/current")
        assert item.blob is not None
        stored = of.vault.blobs(of.incident.id).path / item.blob.stored_sha256
        data = bytearray(stored.read_bytes())
        data[-1] ^= 1
        stored.chmod(0o600)
        stored.write_bytes(data)
        config = Config(
            store=StoreSection(url=str(fresh_store._engine.url)),
            vault=VaultSection(path=tmp_path / "vault"),
        )
        capsys.readouterr()
        with pytest.raises(Tampered):
            bundles.show_item(config, of.incident.id, None, "logs/cards/current", raw=False)
        assert capsys.readouterr().out == ""


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(), min_size=1, max_size=60), log=st.binary(max_size=200))
def test_whatever_a_cluster_holds_can_be_sealed(
    text: str, log: bytes, fresh_store: Store, signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with sealed(text, fresh_store, signing_key, tmp_path_factory.mktemp("sealed"), log) as of:
        assert raw(of, "logs/cards/current") == log
        assert json.loads(raw(of, "pod"))["metadata"]["annotations"]["note"] == text
