"""A process of its own that captures, seals, verifies and shows the logs of one pod, and says how much memory it took.

``python -m tests.hostile.swallow KUBECONFIG FOLDER`` prints one JSON object; ``*_mb`` are peaks of resident memory
above what the process had before.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ringfence.cli.text import clean, lines
from ringfence.evidence.acquire import Acquirer
from ringfence.evidence.handling import read_item
from ringfence.evidence.logs import LogCapture
from ringfence.evidence.sealing import Sealer
from ringfence.evidence.vault import Vault
from ringfence.model.incident import Severity
from ringfence.model.objects import ObjectRef
from ringfence.model.principal import Principal
from ringfence.platform.kubernetes.client import connect
from ringfence.seal.signing import load_or_create
from ringfence.seal.verify import verify_bundle
from ringfence.store import incidents
from ringfence.store.database import open_store

POD: dict[str, Any] = {
    "metadata": {"name": "cards-1", "namespace": "bank", "uid": "u1"},
    "spec": {"containers": [{"name": "cards"}]},
    "status": {"containerStatuses": [{"name": "cards", "state": {"running": {}}}]},
}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(kubeconfig: str, folder: Path) -> None:
    found: dict[str, float | str] = {}

    def measured(name: str, work: Callable[[], Any]) -> Any:
        before, began = peak_mb(), time.monotonic()
        done = work()
        found[f"{name}_seconds"] = time.monotonic() - began
        found[f"{name}_mb"] = peak_mb() - before
        return done

    store = open_store(f"sqlite:///{folder / 'ringfence.db'}")
    who = Principal(issuer="kubernetes:c1", subject="alice", kind="kubernetes")
    target = ObjectRef(cluster="c1", api_version="v1", kind="Pod", namespace="bank", name="cards-1", uid="u1")
    with store.write() as session:
        incident = incidents.declare(
            session,
            target=target,
            incident_type="compromised-workload",
            severity=Severity.CRITICAL,
            title="a flood",
            principal=who,
            fence="f1",
            command="contain",
            now=datetime.now(UTC),
        )
    vault, key = Vault(folder / "vault"), load_or_create(folder / "seal.pem")
    cluster = connect(kubeconfig, None, 10)
    acquirer = Acquirer(cluster, vault.blobs(incident.id), operator=who.id, authority="incident INC-1")
    with ThreadPoolExecutor(4) as pool:
        items = measured("capture", lambda: LogCapture(acquirer, POD, pool).finish())
    sealed = measured("seal", lambda: Sealer(store, vault, key).seal(incident, target, items, actor=who.id, key="a"))
    measured("verify", lambda: verify_bundle(Path(sealed.path), key.public_key))
    (current,) = (item for item in items if item.id == "logs/cards/current")
    shown = measured("show", lambda: _show(vault, incident.id, current))
    cluster.close()
    store.close()
    print(json.dumps(found | shown | {"items": {item.id: item.blob and item.blob.raw_size for item in items}}))


def _show(vault: Vault, incident: str, item: Any) -> dict[str, float | str]:
    began, count = time.monotonic(), 0
    for line in lines(read_item(vault, incident, item)):
        clean(line, longest=None)
        count += 1
        if time.monotonic() - began > 3:  # a person would have stopped reading too
            break
    return {"lines": count, "raw_sha256": item.blob.raw_sha256}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
