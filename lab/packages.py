"""Debian packages that the lab needs: only what is missing is installed, and no service is started by it.

What is looked for are programs, not packages, so another distribution's packages (or Docker's ``containerd.io``)
are as good. A containerd that serves the machine itself is never touched: the lab runs its own on its own socket.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab import progress
from lab.errors import UnsupportedMachine

# Where these lie even when PATH lacks them (a plain user's PATH under sudo may lack sbin).
FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CNI_FOLDER = Path("/usr/lib/cni")
SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")

# Program, or pattern of a file (with slashes) → the Debian package that brings it.
NEEDED = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    f"{CNI_FOLDER}/ptp": "containernetworking-plugins",
    f"{CNI_FOLDER}/host-local": "containernetworking-plugins",
    f"{CNI_FOLDER}/loopback": "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "dnsmasq": "dnsmasq-base",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    # Process 1 of the node, and the pods' Python, whose images are made of these packages' files.
    "/usr/bin/python3": "python3",
    "/usr/lib/python3.*/http/server.py": "libpython3-stdlib",
}


def find(program: str) -> str:
    """The absolute path of a program that ``ensure`` has looked for.

    Raises:
        UnsupportedMachine: it is not there.
    """
    found = shutil.which(program, path=FOLDERS)
    if found is None:
        raise UnsupportedMachine(f"{program} is missing (Debian package {NEEDED.get(program, '?')})")
    return found


def missing(programs: Mapping[str, str] = NEEDED) -> list[str]:
    """The packages whose programs are not on this machine."""
    return sorted({package for needed, package in programs.items() if not _is_there(needed)})


def _is_there(needed: str) -> bool:
    if needed.startswith("/"):
        return any(Path("/").glob(needed.lstrip("/")))
    return shutil.which(needed, path=FOLDERS) is not None


def ensure(programs: Mapping[str, str] = NEEDED) -> None:
    """Installs what is missing of ``programs`` (program or path, and its Debian package).

    Raises:
        UnsupportedMachine: there is no apt-get, or it failed.
    """
    packages = missing(programs)
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise UnsupportedMachine(
            f"these are missing and there is no apt-get to install them: {', '.join(packages)} (Debian's names)"
        )
    with progress.step(f"installing {' '.join(packages)}"), _no_service_starts():
        install = ["install", "--yes", "--quiet", "--no-install-recommends", *packages]
        if _apt(install).returncode:
            _apt(["update", "--quiet"])  # The lists may be old or absent.
            if (result := _apt(install)).returncode:
                raise UnsupportedMachine(f"apt-get could not install {', '.join(packages)}:\n{result.stderr[-1500:]}")
        if "containerd" in packages and shutil.which("systemctl"):
            # Nothing of the lab's may run after the next boot.
            subprocess.run(["systemctl", "disable", "containerd.service"], capture_output=True)
    if still := missing(programs):
        raise UnsupportedMachine(f"apt-get installed {', '.join(still)}, yet their programs are not where they belong")


def _apt(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own way to keep installed services from starting (invoke-rc.d asks policy-rc.d; 101 forbids)."""
    if SERVICE_POLICY.exists():
        yield
        return
    SERVICE_POLICY.write_text("#!/bin/sh\nexit 101\n")
    SERVICE_POLICY.chmod(0o755)
    try:
        yield
    finally:
        SERVICE_POLICY.unlink(missing_ok=True)
