"""The enforcer's table in the kernel: replaced, read, counted, always inside the node's network namespace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.enforcer.render import TABLE
from lab.errors import LabError

NETNS = Path("/var/run/netns")
TIMEOUT = 10.0


class KernelRefused(LabError):
    """nft ended with an error; the rules in force are those of before."""


@dataclass(frozen=True)
class Drops:
    packets: int
    bytes: int


class Kernel:
    """The table ``ringfence_lab`` of one network namespace, named as below /var/run/netns."""

    def __init__(self, netns: str) -> None:
        self._netns = NETNS / netns

    def replace(self, transaction: str) -> None:
        """Runs one nftables transaction: all of it or nothing.

        Raises:
            KernelRefused: there is no such namespace, or nft refused the text.
        """
        self._nft("-f", "-", text=transaction)

    def listing(self) -> str | None:
        """The table as the kernel has it, without counts; None if it or the namespace is missing."""
        try:
            return self._nft("--stateless", "list", "table", *TABLE.split())
        except KernelRefused:
            return None

    def chains(self) -> frozenset[str]:
        """The pod chains that the kernel holds."""
        try:
            found = json.loads(self._nft("--json", "list", "chains"))["nftables"]
        except KernelRefused:
            return frozenset()
        family, table = TABLE.split()
        chains = (entry["chain"] for entry in found if "chain" in entry)
        return frozenset(
            chain["name"]
            for chain in chains
            if (chain["family"], chain["table"]) == (family, table) and "hook" not in chain
        )

    def drops(self) -> Mapping[str, Drops]:
        """What was dropped, by chain name (``render.chain_name``), and for ``spoofed`` and ``invalid`` packets.

        Raises:
            KernelRefused: the table or the namespace is missing.
        """
        found = json.loads(self._nft("--json", "list", "counters", "table", *TABLE.split()))["nftables"]
        counters = (entry["counter"] for entry in found if "counter" in entry)
        return {counter["name"]: Drops(counter["packets"], counter["bytes"]) for counter in counters}

    def _nft(self, *arguments: str, text: str | None = None) -> str:
        try:
            done = subprocess.run(
                ["nsenter", f"--net={self._netns}", "nft", *arguments],
                input=text,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KernelRefused(f"nft in {self._netns} did not run: {error}; install nftables, util-linux") from error
        if done.returncode != 0:
            raise KernelRefused(f"nft {' '.join(arguments)} in {self._netns}: {done.stderr.strip()[:1000]}")
        return done.stdout
