"""Logs of hundreds of megabytes, and of a gigabyte: captured, sealed, verified and shown in memory that stays flat."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ringfence.evidence.acquire import Acquirer, StreamLimits
from ringfence.evidence.logs import LogCapture
from ringfence.evidence.vault import Vault
from ringfence.model.evidence import Collected
from ringfence.platform.kubernetes.client import connect
from tests.hostile.firehose import BLOCK, Firehose, Flood
from tests.hostile.swallow import POD
from tests.wire import kubeconfig

MB = 1 << 20


def swallowed(tmp_path: Path, size: int) -> dict[str, Any]:
    """What a process of its own made of a current log of that size; the others are empty."""
    with Firehose(lambda path: Flood(0 if "previous" in path or "sinceTime" in path else size)) as hose:
        config = kubeconfig(tmp_path / "kubeconfig", hose.url)
        done = subprocess.run(
            [sys.executable, "-m", "tests.hostile.swallow", config, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def digest(size: int) -> str:
    sha256, left = hashlib.sha256(), size
    while left > 0:
        sha256.update(BLOCK[:left])
        left -= len(BLOCK[:left])
    return sha256.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("size", [200 * MB, 1024 * MB], ids=["200 MB", "1 GB"])
def test_memory_stays_flat_from_the_stream_to_the_screen(tmp_path: Path, size: int) -> None:
    found = swallowed(tmp_path, size)
    assert found["items"]["logs/cards/current"] == size
    assert found["raw_sha256"] == digest(size), "not one byte lost"
    peaks = {name: value for name, value in found.items() if name.endswith("_mb")}
    assert sum(peaks.values()) < 100, f"{peaks}: far from 300 MB, and the same for both sizes"


def test_a_stream_is_not_gathered_in_memory(tmp_path: Path) -> None:
    """The quick one: what Python allocates while 24 MB pass by."""
    with Firehose(Flood(24 * MB)) as hose, ThreadPoolExecutor(1) as pool:
        cluster = connect(kubeconfig(tmp_path / "kubeconfig", hose.url), None, 10)
        acquirer = Acquirer(cluster, Vault(tmp_path / "vault").blobs("INC-1"), operator="o", authority="a")
        tracemalloc.start()
        try:
            items = LogCapture(acquirer, POD, pool).finish()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            cluster.close()
    assert [item.blob and item.blob.raw_size for item in items] == [24 * MB] * 3
    assert peak < 8 * MB


def test_a_log_without_end_is_cut_and_the_connection_closed(tmp_path: Path) -> None:
    with Firehose(Flood(1 << 40)) as hose, ThreadPoolExecutor(1) as pool:
        cluster = connect(kubeconfig(tmp_path / "kubeconfig", hose.url), None, 10)
        acquirer = Acquirer(cluster, Vault(tmp_path / "vault").blobs("INC-1"), operator="o", authority="a")
        items = {item.id: item for item in LogCapture(acquirer, POD, pool, StreamLimits(max_bytes=5 * MB)).finish()}
        cluster.close()
        assert hose.sent < 3 * (5 + 40) * MB, "what was not read was not sent for long: only what the sockets hold"
    for name in ("current", "after-cut", "previous"):
        assert items[f"logs/cards/{name}"].result is Collected.FAILED
        part = items[f"logs/cards/{name}.partial"]
        assert part.blob is not None
        assert part.blob.raw_size == 5 * MB


def test_a_log_that_breaks_off_after_megabytes_is_kept_up_to_there(tmp_path: Path) -> None:
    with Firehose(Flood(1 << 40, breaks_at=9 * MB + 17)) as hose, ThreadPoolExecutor(1) as pool:
        cluster = connect(kubeconfig(tmp_path / "kubeconfig", hose.url), None, 10)
        acquirer = Acquirer(cluster, Vault(tmp_path / "vault").blobs("INC-1"), operator="o", authority="a")
        items = {item.id: item for item in LogCapture(acquirer, POD, pool).finish()}
        cluster.close()
    part = items["logs/cards/current.partial"]
    assert part.blob is not None
    assert (part.blob.raw_size, part.blob.raw_sha256) == (9 * MB + 17, digest(9 * MB + 17))


def test_a_log_that_dribbles_for_ever_is_cut_by_the_clock(tmp_path: Path) -> None:
    def drops() -> Iterator[bytes]:
        while True:
            yield b"."

    with Firehose(Flood(1, source=drops, pause=0.02)) as hose, ThreadPoolExecutor(3) as pool:
        cluster = connect(kubeconfig(tmp_path / "kubeconfig", hose.url), None, 10)
        acquirer = Acquirer(cluster, Vault(tmp_path / "vault").blobs("INC-1"), operator="o", authority="a")
        items = {item.id: item for item in LogCapture(acquirer, POD, pool, StreamLimits(max_seconds=0.3)).finish()}
        cluster.close()
    assert "limit of 0.3 s" in items["logs/cards/current"].reason
    assert items["logs/cards/current.partial"].blob is not None
