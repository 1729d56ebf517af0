"""What tests of several rooms share: a store, a simulated API server with a small bank in it, a response's context."""

from __future__ import annotations

import functools
import gc
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ringfence.evidence.sealing import Sealer
from ringfence.evidence.vault import Vault
from ringfence.platform.kubernetes.client import Cluster, connect
from ringfence.platform.kubernetes.identity import whoami
from ringfence.response.context import Context, Policy
from ringfence.seal.signing import SigningKey, load_or_create
from ringfence.store.database import Store, open_store
from tests.response.steps_of import let_go
from tests.simulator import Simulator
from tests.small_bank import furnish
from tests.wire import Wire, kubeconfig


def pytest_collection_finish() -> None:
    """What is collected stays until the end: the garbage collector need not walk it again and again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests talk to this machine, whatever its environment says about proxies."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is migrated once: each test gets a copy."""
    path = tmp_path_factory.mktemp("store") / "ringfence.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def fresh_store(_migrated: Path, tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{shutil.copy(_migrated, tmp_path / 'fresh.db')}")

    @sa.event.listens_for(store._engine, "connect")
    def relax(connection: Any, _record: Any) -> None:
        # No test pulls the plug: waiting for the disk at each commit is most of a test's time.
        connection.execute("PRAGMA synchronous=OFF")

    store._engine.dispose()
    yield store
    store.close()


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return load_or_create(tmp_path_factory.mktemp("keys") / "seal.pem")


@pytest.fixture
def api() -> Simulator:
    """An API server with the small bank in it."""
    simulator = Simulator()
    furnish(simulator)
    return simulator


@pytest.fixture
def wire(api: Simulator) -> Iterator[Wire]:
    with Wire(api) as server:
        yield server


@pytest.fixture
def cluster(wire: Wire, tmp_path: Path) -> Iterator[Cluster]:
    """A connection to the simulated API server, as alice."""
    connected = connect(kubeconfig(tmp_path / "kubeconfig", wire.url), None, 5.0)
    yield connected
    connected.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


@pytest.fixture
def context(
    cluster: Cluster, fresh_store: Store, signing_key: SigningKey, tmp_path: Path, pool: ThreadPoolExecutor
) -> Iterator[Context]:
    vault = Vault(tmp_path / "vault")
    with ThreadPoolExecutor(8) as logs_pool:
        yield Context(
            cluster=cluster,
            cluster_id="cluster-1",
            principal=whoami(cluster, "cluster-1"),
            store=fresh_store,
            vault=vault,
            sealer=functools.cache(lambda: Sealer(fresh_store, vault, signing_key)),
            policy=Policy(
                serving_floor=1,
                pre_cut_wait_ms=200,
                seal_max_age_seconds=900,
                delete_wait_seconds=2,
                token_canary=True,
                protected_namespaces=("kube-system",),
                protected_label="ringfence.dev/protected",
            ),
            pool=pool,
            logs_pool=logs_pool,
        )
        let_go()


@pytest.fixture
def with_policy(context: Context) -> Callable[..., Context]:
    """The same context under a changed policy."""
    return lambda **changes: replace(context, policy=replace(context.policy, **changes))
