"""Pod addresses from the network plugin's own records, known before a pod's first container starts.

kubelet tells the API a pod's address up to a second later, after its containers run: a policy that waited for it would
leave a new pod open for that long. libcni writes each ADD's result to ``results/NETWORK-SANDBOX-INTERFACE``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from lab.layout import Lab

# The pod's interface by Kubernetes' convention; every pod has a record for its loopback as well.
INTERFACE = "eth0"


class CniAddresses:
    """Addresses by pod uid. ``refresh`` is cheap enough to be called many times a second."""

    def __init__(self, lab: Lab) -> None:
        self._folder = lab.state / "cni" / "results"
        self._modified = 0
        self.by_uid: Mapping[str, str] = {}

    def refresh(self) -> bool:
        """Reads the records again if the folder changed; whether any address did."""
        try:
            modified = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            modified = 0
        if modified == self._modified:
            return False
        found, whole = self._read()
        # A record that is still being written is read again at the next call.
        self._modified = modified if whole else 0
        changed = found != self.by_uid
        self.by_uid = found
        return changed

    def _read(self) -> tuple[dict[str, str], bool]:
        records: list[tuple[int, str, str]] = []
        whole = True
        for file in self._folder.glob(f"*-{INTERFACE}"):
            with contextlib.suppress(FileNotFoundError):
                try:
                    content = json.loads(file.read_text())
                    uid = dict(content["cniArgs"])["K8S_POD_UID"]
                    address = content["result"]["ips"][0]["address"].partition("/")[0]
                    records.append((file.stat().st_mtime_ns, uid, address))
                except (json.JSONDecodeError, KeyError, IndexError):
                    whole = False
        # A sandbox made anew has a record beside the old one's: the youngest is in use.
        return {uid: address for _, uid, address in sorted(records)}, whole
