"""The lab's container images, made from this machine's own Debian files: no registry, no pull, no engine.

An image is a tar in the form of ``docker save`` (configuration, layers, manifest.json). Files are sorted, owned by root
and dated to the epoch, so the same inputs give the same bytes, and with them the same image ID on every run. Finished
tars lie in the cache, named by a hash of their inputs, and are shared by all labs.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from lab import packages
from lab.errors import LabError, UnsupportedMachine
from lab.layout import Lab, cache_root

PAUSE = "ringfence.local/pause:1"
PYTHON = "ringfence.local/python:1"
BANK = "ringfence.local/bank:1"
MENDED_BANK = "ringfence.local/bank:2"
"""The same with its hole closed: what a recovery brings."""
DNS = "ringfence.local/dns:1"
ALL = (PAUSE, PYTHON, BANK, MENDED_BANK, DNS)

# The kernel's names of machines → those of images (Go's).
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

# Label of an image in containerd: the hash of what it was made from.
INPUTS_LABEL = "ringfence.local/inputs"
# Finished images that the cache keeps.
KEPT = 12
# The user of the bank's processes; numeric, because runAsNonRoot checks numbers only.
USER_ID = 10001

BANK_FOLDER = Path(__file__).with_name("bank")
# dash waits for every child it has, adopted ones too, and a trap interrupts its wait: that is all a sandbox needs.
PAUSE_SCRIPT = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait; done"


@dataclass(frozen=True)
class Member:
    """One file, folder or symbolic link of a layer; exactly one of ``source``, ``content`` and ``link``, or a folder.

    ``source`` is a file of this machine, ``content`` bytes, ``link`` a symbolic link's target.
    """

    mode: int = 0o644
    source: Path | None = None
    content: bytes | None = None
    link: str | None = None
    folder: bool = False

    def read(self) -> bytes:
        return self.source.read_bytes() if self.source else self.content or b""

    def identity(self) -> list[str | int]:
        """What stands for this member in the hash of inputs; Debian's files by size and date, ours by content."""
        if self.source:
            stat = self.source.stat()
            return [self.mode, str(self.source), stat.st_size, stat.st_mtime_ns]
        return [self.mode, hashlib.sha256(self.content or b"").hexdigest(), self.link or "", int(self.folder)]


@dataclass(frozen=True)
class Layer:
    """Path in the image (without a leading slash) → member. ``bytecode``: compile its Python files as well, since
    containers should start fast and write nothing of their own into their writable layer."""

    members: Mapping[str, Member]
    bytecode: bool = False


@dataclass(frozen=True)
class Image:
    """What to build. ``environment`` and the rest are those of the OCI image configuration."""

    reference: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "0:0"
    working_directory: str = "/"

    def inputs(self) -> str:
        """A hash over everything that decides what the finished image is, this program included."""
        layers = [
            [layer.bytecode, [[path, *member.identity()] for path, member in sorted(layer.members.items())]]
            for layer in self.layers
        ]
        ours = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        settings = [self.reference, list(self.entrypoint), sorted(self.environment.items()), self.user]
        return hashlib.sha256(json.dumps([ours, settings, self.working_directory, layers]).encode()).hexdigest()


@dataclass(frozen=True)
class Built:
    """A finished tar. ``digest`` is the image ID that Kubernetes shows (``sha256:`` and the configuration's hash)."""

    reference: str
    tar: Path
    digest: str
    inputs: str


def ensure(lab: Lab, references: Iterable[str] = ALL) -> list[str]:
    """Builds what is not in the cache and imports what the lab's containerd does not have. Returns what it imported.

    Raises:
        LabError: an unknown image, or containerd refused it (is the node up?).
        UnsupportedMachine: a Debian package that an image is made of is missing.
    """
    imported = []
    for reference in references:
        image = describe(reference)
        if _ctr(lab, "images", "list", "-q", f'name=={reference},labels."{INPUTS_LABEL}"=={image.inputs()}').strip():
            continue
        built = build(image)
        _ctr(lab, "images", "import", str(built.tar))
        _ctr(lab, "images", "label", reference, f"{INPUTS_LABEL}={built.inputs}")
        imported.append(reference)
    return imported


def describe(reference: str) -> Image:
    """The image of that name, from this machine's files.

    Raises:
        LabError: there is none of that name.
    """
    if reference not in _IMAGES:
        raise LabError(f"there is no image {reference}: choose from {', '.join(_IMAGES)}")
    return _IMAGES[reference]()


def build(image: Image, cache: Path | None = None) -> Built:
    """The image's tar, from the cache (by default the lab's) or newly built into it."""
    cache = cache or cache_root() / "images"
    inputs = image.inputs()
    folder = cache / inputs
    tar, digest_file = folder / "image.tar", folder / "digest"
    if not (tar.exists() and digest_file.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as temporary:
            digest = _write_image(image, temporary)
        Path(temporary.name).rename(tar)
        # Written last: its presence says that the tar is whole.
        digest_file.write_text(digest)
        _forget_old(cache)
    folder.touch()
    return Built(image.reference, tar, digest_file.read_text(), inputs)


def _forget_old(cache: Path) -> None:
    """Keeps the tars that were used last; every change of the bank's code makes another."""
    folders = sorted((entry for entry in cache.iterdir() if entry.is_dir()), key=lambda entry: -entry.stat().st_mtime)
    for folder in folders[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


# --- the tar ---------------------------------------------------------------------
def _write_image(image: Image, target: tempfile._TemporaryFileWrapper[bytes]) -> str:
    layers = [_layer_tar(layer) for layer in image.layers]
    configuration = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            "Env": [f"{name}={value}" for name, value in sorted(image.environment.items())],
            "User": image.user,
            "WorkingDir": image.working_directory,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
    }
    text = json.dumps(configuration, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    names = [f"{hashlib.sha256(layer).hexdigest()}/layer.tar" for layer in layers]
    manifest = [{"Config": f"{digest}.json", "RepoTags": [image.reference], "Layers": names}]
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in ((f"{digest}.json", text), *zip(names, layers, strict=True)):
            _add(archive, name, Member(content=content))
        _add(archive, "manifest.json", Member(content=json.dumps(manifest, sort_keys=True).encode()))
    return f"sha256:{digest}"


def _layer_tar(layer: Layer) -> bytes:
    members = dict(layer.members)
    if layer.bytecode:
        members |= _bytecode(members)
    for path in list(members):
        for parent in PurePosixPath(path).parents:
            if parent != PurePosixPath("."):
                members.setdefault(str(parent), Member(mode=0o755, folder=True))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(members):
            _add(archive, path, members[path])
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: str, member: Member) -> None:
    information = tarfile.TarInfo(path)
    information.mode = member.mode
    if member.folder:
        information.type = tarfile.DIRTYPE
        archive.addfile(information)
    elif member.link is not None:
        information.type, information.linkname, information.mode = tarfile.SYMTYPE, member.link, 0o777
        archive.addfile(information)
    else:
        content = member.read()
        information.size = len(content)
        archive.addfile(information, io.BytesIO(content))


def _bytecode(members: Mapping[str, Member]) -> dict[str, Member]:
    """The compiled form of the Python files. Hash-based and unchecked, for the dates in an image mean nothing."""
    sources = {path: member for path, member in members.items() if path.endswith(".py") and member.link is None}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path, member in sources.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(member.read())
        command = ["/usr/bin/python3", "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        # -s and -p: tracebacks show the path in the image. Python's own test inputs hold files that must not compile.
        subprocess.run(
            [*command, "-s", name, "-p", "/", name],
            env={"PYTHONHASHSEED": "0"},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        return {str(file.relative_to(root)): Member(content=file.read_bytes()) for file in root.rglob("*.pyc")}


# --- this machine's files --------------------------------------------------------
def machine_files(paths: Iterable[str | Path]) -> dict[str, Member]:
    """These files of this machine with the shared libraries they need; symbolic links come with their targets."""
    members: dict[str, Member] = {}
    binaries = []
    for path in paths:
        for real, member in _follow(Path(path)):
            members[str(real).lstrip("/")] = member
            if member.source and _is_elf(member.source):
                binaries.append(member.source)
    for library in _libraries(binaries):
        for real, member in _follow(library):
            members[str(real).lstrip("/")] = member
    return members


def _follow(path: Path) -> Iterator[tuple[Path, Member]]:
    # Folders such as /lib are links themselves; an image has them as links, too (_skeleton).
    path = path.parent.resolve() / path.name
    if path.is_symlink():
        yield path, Member(link=str(path.readlink()))
        target = path.parent / path.readlink()
        if target.exists() and not target.is_dir():
            yield from _follow(target)
    elif path.is_file():
        yield path, Member(mode=path.stat().st_mode & 0o777, source=path)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _libraries(binaries: Sequence[Path]) -> list[Path]:
    if not binaries:
        return []
    output = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    found = set()
    for line in output.splitlines():
        # "libc.so.6 => /lib/.../libc.so.6 (0x...)" or "/lib64/ld-linux-x86-64.so.2 (0x...)"
        words = line.rpartition("=>")[2].split()
        if line.startswith("\t") and words and words[0].startswith("/"):
            found.add(Path(words[0]))
    return sorted(found)


def _package_files(names: Sequence[str]) -> list[str]:
    result = subprocess.run(["dpkg", "-L", *names], capture_output=True, text=True)
    if result.returncode:
        raise UnsupportedMachine(
            f"an image needs the files of Debian's {', '.join(names)}: {result.stderr.strip()[:300]};"
            " install them with apt-get"
        )
    # Documentation and packaging helpers do nothing in a container.
    return sorted(path for path in set(result.stdout.split("\n")) if path and not path.startswith("/usr/share/"))


def _skeleton(*users: tuple[str, int]) -> dict[str, Member]:
    """What every image has: Debian's merged /usr, accounts, name lookup by file then DNS, a /tmp for everyone."""
    accounts = (("root", 0), *users, ("nobody", 65534))
    passwd = "".join(f"{name}:x:{number}:{number}:{name}:/:/usr/sbin/nologin\n" for name, number in accounts)
    group = "".join(f"{name}:x:{number}:\n" for name, number in accounts)
    links = {name: Member(link=f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")}
    return links | {
        "etc/passwd": Member(content=passwd.encode()),
        "etc/group": Member(content=group.encode()),
        "etc/nsswitch.conf": Member(content=b"passwd: files\ngroup: files\nhosts: files dns\n"),
        "tmp": Member(mode=0o1777, folder=True),
        "run": Member(mode=0o755, folder=True),
    }


# --- the images ------------------------------------------------------------------
def _pause() -> Image:
    files = machine_files(("/bin/dash", "/bin/sleep"))
    return Image(PAUSE, (Layer(_skeleton() | files),), ("/bin/dash", "-c", PAUSE_SCRIPT), {"PATH": "/usr/bin"})


@functools.cache
def _python_layer() -> Layer:
    version = Path("/usr/bin/python3").resolve().name
    names = ("python3-minimal", f"{version}-minimal", f"lib{version}-minimal", f"lib{version}-stdlib")
    helpers = ("/usr/bin/py3clean", "/usr/bin/py3compile", "/usr/bin/py3versions")
    files = [path for path in _package_files(names) if path not in helpers]
    return Layer(_skeleton(("bank", USER_ID)) | machine_files(files), bytecode=True)


_PYTHON_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}


def _python() -> Image:
    return Image(PYTHON, (_python_layer(),), ("/usr/bin/python3",), _PYTHON_ENVIRONMENT)


def _bank(reference: str = BANK, environment: Mapping[str, str] = MappingProxyType({})) -> Image:
    sources = [BANK_FOLDER / "main.py", *sorted((BANK_FOLDER / "services").glob("*.py"))]
    application = {f"app/{file.relative_to(BANK_FOLDER)}": Member(content=file.read_bytes()) for file in sources}
    return Image(
        reference,
        (_python_layer(), Layer(application, bytecode=True)),
        ("/usr/bin/python3", "/app/main.py"),
        {**_PYTHON_ENVIRONMENT, **environment},
        user=f"{USER_ID}:{USER_ID}",
        working_directory="/app",
    )


def _mended_bank() -> Image:
    return _bank(MENDED_BANK, {"STATEMENT_FORMATS": "names"})


def _dns() -> Image:
    files = machine_files((packages.find("dnsmasq"),))
    layer = Layer(_skeleton(("dnsmasq", 100)) | files)
    return Image(DNS, (layer,), ("/usr/sbin/dnsmasq",), {"PATH": "/usr/sbin:/usr/bin"})


_IMAGES: dict[str, Callable[[], Image]] = {
    PAUSE: _pause,
    PYTHON: _python,
    BANK: _bank,
    MENDED_BANK: _mended_bank,
    DNS: _dns,
}


def _ctr(lab: Lab, *arguments: str) -> str:
    command = [packages.find("ctr"), "--address", str(lab.containerd_socket), "-n", "k8s.io", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise LabError(f"ctr {' '.join(arguments[:2])} failed: {result.stderr.strip()[-500:]}; is the node up?")
    return result.stdout
