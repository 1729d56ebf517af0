"""The node helper's program, as far as it can be tried without a node: whom it takes for the victim, and what it reads.

The kernel's part (drop, freeze, a pod's layers) is tried on a real node: ``tests/lab/test_node.py``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ringfence.platform.kubernetes import node_helpers
from ringfence.platform.kubernetes.node_program import collect, folders, freezer, netlink, processes, victim
from ringfence.platform.kubernetes.node_program.freezer import Freezer
from ringfence.platform.kubernetes.node_program.victim import Impossible, Process

UID = "0f3c9a52-9f62-4b0e-8f0f-2f5d1a0c7b11"
OTHER = "0f3c9a52-9f62-4b0e-8f0f-2f5d1a0c7b12"


def proc(tmp_path: Path, **cgroups: str) -> str:
    for number, text in enumerate(cgroups.values(), 100):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cgroup").write_text(text)
    (tmp_path / "self").mkdir()
    return str(tmp_path)


@pytest.mark.parametrize(
    ("line", "path", "container"),
    [
        (f"6:freezer:/kubepods/burstable/pod{UID}/abc", f"/kubepods/burstable/pod{UID}", "abc"),
        (f"0::/lab/kubepods/pod{UID}", f"/lab/kubepods/pod{UID}", ""),
        (
            f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID.replace('-', '_')}.slice/"
            "cri-containerd-abc.scope",
            f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID.replace('-', '_')}.slice",
            "cri-containerd-abc.scope",
        ),
    ],
)
def test_a_process_of_the_pod_is_known_by_its_cgroup(tmp_path: Path, line: str, path: str, container: str) -> None:
    (found,) = victim.find(UID, proc(tmp_path, own=line + "\n"))
    assert (list(found.pod_paths.values()), found.container) == ([path], container)


@pytest.mark.parametrize(
    "line",
    [
        f"0::/kubepods/pod{OTHER}/abc",
        f"0::/kubepods/pod{UID}0/abc",
        f"0::/kubepods/xpod{UID}/abc",
        f"0::/kubepods/{UID}/abc",
        f"0::/kubepods/pod{UID}.scope/abc",
        "0::/",
    ],
)
def test_no_other_process_is_taken_for_one_of_it(tmp_path: Path, line: str) -> None:
    with pytest.raises(Impossible):
        victim.find(UID, proc(tmp_path, own=line + "\n"))


def test_a_process_on_the_nodes_network_is_no_way_to_the_pods(tmp_path: Path) -> None:
    for pid in ("1", "100"):
        (tmp_path / pid / "ns").mkdir(parents=True)
        (tmp_path / pid / "ns" / "net").symlink_to("/proc/self/ns/net")
    with pytest.raises(Impossible, match="node's network"):
        victim.networks((Process(100, {}, {}, ""),), str(tmp_path))


def test_attributes_come_back_as_they_went() -> None:
    data = netlink.attribute(1, netlink.text("a")) + netlink.attribute(2 | netlink.NESTED, netlink.attribute(3, b"xyz"))
    found = netlink.attributes(data)
    assert netlink.words(found[1]) == "a"
    assert netlink.attributes(found[2]) == {3: b"xyz"}
    assert netlink.attributes(data[:-5]) == {1: b"a\0"}


# --- files ------------------------------------------------------------------------
class Told:
    """What the program would have printed, put together again as the product does."""

    def __init__(self) -> None:
        self.items: dict[str, bytes] = {}
        self.why: dict[str, str] = {}
        self._name, self._number = "", 0

    def __call__(self, **words: Any) -> None:
        line = json.dumps(words)
        assert len(line) < 15 * 1024
        part = node_helpers.part(json.loads(line), self._number)
        if part.begin:
            self._name, self._number = part.begin, 0
            self.items[self._name] = b""
        elif part.end:
            assert part.sha256 == hashlib.sha256(self.items[self._name]).hexdigest()
            assert part.size == len(self.items[self._name])
            self.why[self._name] = part.why
        else:
            self.items[self._name] += part.data
            self._number += 1


def tar_of(folder: Path, room: int = 1 << 20) -> tuple[Told, str]:
    told = Told()
    item = collect._Item("x", "application/x-tar", [room], told)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        why = collect._tar(fd, item)
    except collect._Full:
        why = "full"
    finally:
        os.close(fd)
    item.end(why)
    return told, why


def test_a_tar_has_files_and_follows_no_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("of somebody else")
    folder = tmp_path / "layer"
    (folder / "sub").mkdir(parents=True)
    noise = os.urandom(100_000)
    (folder / "sub" / "noise").write_bytes(noise)
    (folder / "file").symlink_to(secret / "key")
    (folder / "folder").symlink_to(secret)
    os.mkfifo(folder / "pipe")
    told, why = tar_of(folder)
    assert why == ""
    with tarfile.open(fileobj=io.BytesIO(told.items["x"])) as archive:
        assert set(archive.getnames()) == {"sub", "sub/noise", "file", "folder", "pipe"}
        content = archive.extractfile("sub/noise")
        assert content is not None
        assert content.read() == noise
        assert archive.getmember("folder").issym()
        assert archive.getmember("pipe").isfifo()
    assert b"of somebody else" not in told.items["x"]


def test_the_room_is_for_everything_together(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 50_000)
    told, why = tar_of(tmp_path, room=20_000)
    assert why == "full"
    assert 0 < len(told.items["x"]) <= 20_000


def test_a_folder_without_an_end_is_cut(tmp_path: Path) -> None:
    place = tmp_path
    for _ in range(70):
        place = place / "d"
        place.mkdir()
    _, why = tar_of(tmp_path)
    assert "deeper than" in why


def test_a_file_that_shrinks_or_grows_keeps_its_length() -> None:
    assert collect._Exactly(io.BytesIO(b"ab"), 4).read() == b"ab"
    short = collect._Exactly(io.BytesIO(b"ab"), 4)
    assert b"".join(iter(lambda: short.read(3), b"")) == b"ab\0\0"
    assert collect._Exactly(io.BytesIO(b"abcdef"), 4).read(100) == b"abcd"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert folders.regular("pipe", folder) is None
        assert folders.regular("link", folder) is None
        found = folders.regular("file", folder)
        assert found is not None
        os.close(found)
    finally:
        os.close(folder)


def test_a_layer_is_only_where_runtimes_keep_them() -> None:
    good = (
        "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs",
        "/var/lib/docker/overlay2/x/diff",
    )
    bad = ("/etc", "/var/lib/kubelet/pods", "/srv/var/lib/docker/x", "/var/lib/containerdx/y")
    assert all(collect._STORES.fullmatch(one) for one in good)
    assert not any(collect._STORES.fullmatch(one) for one in bad)


def test_a_process_is_described_from_outside_with_what_it_deleted(tmp_path: Path) -> None:
    mine = Process(os.getpid(), {}, {}, "c")
    (found,) = processes.describe((mine,))
    executable = Path(f"/proc/{os.getpid()}/exe").read_bytes()
    assert found["executable_sha256"] == hashlib.sha256(executable).hexdigest()
    with (tmp_path / "gone").open("w") as file:
        (tmp_path / "gone").unlink()
        numbers = [number for _, number in processes.deleted((mine,))]
        assert str(file.fileno()) in numbers


# --- the freezer ------------------------------------------------------------------
def test_v1_is_frozen_when_the_kernel_says_so(tmp_path: Path) -> None:
    (tmp_path / "freezer.state").write_text("THAWED")
    group, root = Freezer("/", 1), os.open(tmp_path, os.O_PATH)
    assert freezer.freeze(group, root)
    assert (tmp_path / "freezer.state").read_text() == "FROZEN"
    assert freezer.thaw(group, root)


def test_v2_is_frozen_by_its_events_and_not_by_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezer, "_SECONDS", 0.1)
    (tmp_path / "cgroup.freeze").write_text("0")
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    group, root = Freezer("/", 2), os.open(tmp_path, os.O_PATH)
    assert not freezer.freeze(group, root)
    assert (tmp_path / "cgroup.freeze").read_text() == "1"
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert freezer.freeze(group, root)


def test_a_link_in_the_nodes_files_stays_within_its_root(tmp_path: Path) -> None:
    (tmp_path / "inside").write_text("inside")
    (tmp_path / "link").symlink_to("/inside")
    (tmp_path / "out").symlink_to("/../../../../etc/hostname")
    root = os.open(tmp_path, os.O_PATH)
    with folders.opened(root, "/link", os.O_RDONLY) as fd:
        assert os.read(fd, 10) == b"inside"
    with pytest.raises(FileNotFoundError):
        folders.open_in(root, "/out", os.O_RDONLY)
