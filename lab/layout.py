"""Where a lab keeps things: every path, address, port and name of one lab, derived from its name and index.

Two labs side by side differ in name and index, so nothing here is shared but the cache of built programs.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from lab import files

DEFAULT_NAME = "ringfence"
STATE_ROOT = Path("/var/lib/ringfence-lab")
MAX_LABS = 50


def cache_root() -> Path:
    """The folder of built programs and images, shared by all labs of this user and kept by ``down``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ringfence-lab"


@dataclass(frozen=True)
class Lab:
    """One lab. ``index`` (0..49) numbers its addresses and ports."""

    name: str
    index: int

    # --- folders -----------------------------------------------------------------
    @property
    def state(self) -> Path:
        return STATE_ROOT / self.name

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def configuration(self) -> Path:
        """Generated configuration of the programs, and the kubeconfigs of everyone but the administrator."""
        return self.state / "configuration"

    @property
    def pids(self) -> Path:
        """One record for each daemon that was started; see ``lab.processes``."""
        return self.state / "pids"

    @property
    def registries(self) -> Path:
        """containerd's registry configuration: ``HOST:PORT/hosts.toml`` below it is read at each pull."""
        return self.state / "registries"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.jsonl"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd" / "containerd.sock"

    @property
    def dns_hosts(self) -> Path:
        """Folder of hosts files that the DNS pod serves (hostPath, watched by dnsmasq)."""
        return self.state / "dns-hosts"

    @property
    def attacker(self) -> Path:
        """What the attacker's host records: ``requests.jsonl`` and the token it received."""
        return self.state / "attacker"

    @property
    def argocd(self) -> Path:
        """What Argo CD keeps on the host, and the git repositories that it delivers from."""
        return self.state / "argocd"

    @property
    def profiles(self) -> Path:
        """A file for each profile that is on, by its name."""
        return self.state / "profiles"

    # --- names -------------------------------------------------------------------
    @property
    def node(self) -> str:
        """The Node's name in Kubernetes."""
        return f"{self.name}-node"

    @property
    def node_netns(self) -> str:
        return f"{self.name}-node"

    @property
    def attacker_netns(self) -> str:
        return f"{self.name}-attacker"

    def link(self, end: str) -> str:
        """A network interface's name (at most 15 characters)."""
        return f"rf{self.index}-{end}"

    @property
    def cgroup(self) -> str:
        """The lab's cgroup below each controller's root."""
        return f"/ringfence-lab-{self.name}"

    # --- addresses ---------------------------------------------------------------
    @property
    def host_address(self) -> str:
        """The host's end of the veth to the node; the API server is reached here from node and attacker."""
        return f"10.99.{self.index}.1"

    @property
    def node_address(self) -> str:
        return f"10.99.{self.index}.2"

    @property
    def attacker_gateway(self) -> str:
        """The node's end of the veth to the attacker's host."""
        return f"10.98.{self.index}.1"

    @property
    def attacker_address(self) -> str:
        return f"10.98.{self.index}.2"

    @property
    def pod_cidr(self) -> str:
        return f"10.244.{self.index}.0/24"

    @property
    def service_cidr(self) -> str:
        return f"10.96.{self.index}.0/24"

    @property
    def kubernetes_service(self) -> str:
        return f"10.96.{self.index}.1"

    @property
    def dns_service(self) -> str:
        return f"10.96.{self.index}.10"

    # --- ports -------------------------------------------------------------------
    @property
    def api_port(self) -> int:
        return 16443 + self.index

    @property
    def etcd_port(self) -> int:
        return 23790 + 2 * self.index

    @property
    def kyverno_port(self) -> int:
        """Where Kyverno answers the API server, on the host's loopback address."""
        return 19443 + self.index

    def argocd_port(self, number: int) -> int:
        """Where the parts of Argo CD listen on the host's loopback address; ``number`` is 0..9."""
        return 20100 + 10 * self.index + number

    @property
    def api_url(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def api_url_from_node(self) -> str:
        return f"https://{self.host_address}:{self.api_port}"


def find(name: str = DEFAULT_NAME) -> Lab | None:
    """The lab of that name if it has a state folder, else None."""
    index_file = STATE_ROOT / name / "index"
    if not index_file.is_file():
        return None
    return Lab(name, int(index_file.read_text()))


def claim(name: str = DEFAULT_NAME) -> Lab:
    """The lab of that name; a new one gets the smallest index that no other lab on this machine has."""
    if not name.isascii() or not name.replace("-", "").isalnum() or len(name) > 30:
        raise SystemExit(f"lab name {name!r}: use up to 30 letters, digits and dashes")
    STATE_ROOT.mkdir(parents=True, exist_ok=True)
    with (STATE_ROOT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if found := find(name):
            return found
        taken = {int(path.read_text()) for path in STATE_ROOT.glob("*/index")}
        index = next((i for i in range(MAX_LABS) if i not in taken), None)
        if index is None:
            raise SystemExit(f"{MAX_LABS} labs exist below {STATE_ROOT}: take one down first")
        lab = Lab(name, index)
        lab.state.mkdir(mode=0o755, exist_ok=True)
        files.write(lab.state / "index", str(index))  # Whole or not at all: it is what makes this a lab.
        return lab
