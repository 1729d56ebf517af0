"""Images made from local files: the same bytes for the same inputs, a form that containerd accepts, the cache.

Not covered here: that containers of the real images run (tests/lab/test_bank.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from lab import images
from lab.errors import LabError
from lab.images import Image, Layer, Member

pytestmark = pytest.mark.slow  # archives are made and read

REPOSITORY = Path(__file__).parents[2]
SOURCE = b'"""A module."""\n\nNAMES = {"a", "b", "c"}\n\n\ndef probe(name):\n    return name in {"x", "y", "z"}\n'


def image(content: bytes = SOURCE) -> Image:
    members = {
        "app/probe.py": Member(content=content),
        "tmp": Member(mode=0o1777, folder=True),
        "bin": Member(link="usr/bin"),
        "usr/bin/tool": Member(mode=0o755, content=b"#!/bin/sh\n"),
    }
    return Image("example.local/probe:1", (Layer(members, bytecode=True),), ("/usr/bin/tool",), {"B": "2", "A": "1"})


def contents(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {
            member.name: opened.read() for member in archive.getmembers() if (opened := archive.extractfile(member))
        }


def test_the_same_inputs_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """Another hash seed and another moment: what makes archives and byte code differ by accident."""
    program = (
        "import sys; from pathlib import Path; from tests.unit.test_images import image; from lab import images;"
        "print(images.build(image(), Path(sys.argv[1])).tar)"
    )
    tars = []
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        result = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / seed)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        tars.append(Path(result.stdout.strip()).read_bytes())
    assert tars[0] == tars[1]


def test_manifest_configuration_and_layers_name_each_other_by_their_digests(tmp_path: Path) -> None:
    built = images.build(image(), tmp_path)
    files = contents(built.tar.read_bytes())
    (manifest,) = json.loads(files["manifest.json"])
    assert manifest["RepoTags"] == ["example.local/probe:1"]
    configuration = files[manifest["Config"]]
    assert built.digest == f"sha256:{hashlib.sha256(configuration).hexdigest()}"
    assert manifest["Config"] == f"{built.digest.removeprefix('sha256:')}.json"
    layers = [f"sha256:{hashlib.sha256(files[name]).hexdigest()}" for name in manifest["Layers"]]
    assert json.loads(configuration)["rootfs"] == {"type": "layers", "diff_ids": layers}
    assert json.loads(configuration)["config"]["Env"] == ["A=1", "B=2"]


def test_every_member_is_roots_dated_to_the_epoch_and_below_a_folder_that_is_there(tmp_path: Path) -> None:
    built = images.build(image(), tmp_path)
    layer = next(content for name, content in contents(built.tar.read_bytes()).items() if name.endswith("layer.tar"))
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        members = archive.getmembers()
    seen = {"."}
    for member in members:
        assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", 0)
        assert str(Path(member.name).parent) in seen
        seen.add(member.name)
    modes = {member.name: member.mode for member in members}
    assert modes["tmp"] == 0o1777
    assert modes["usr/bin/tool"] == 0o755


def test_byte_code_is_used_without_a_look_at_the_sources_date(tmp_path: Path) -> None:
    """PEP 552: flags 0b01 mean hash-based and unchecked; dates in an image are all the epoch."""
    built = images.build(image(), tmp_path)
    layer = next(content for name, content in contents(built.tar.read_bytes()).items() if name.endswith("layer.tar"))
    (compiled,) = [content for name, content in contents(layer).items() if name.endswith(".pyc")]
    assert int.from_bytes(compiled[4:8], "little") == 0b01
    assert b"/app/probe.py" in compiled


def test_another_content_is_another_input_and_another_image(tmp_path: Path) -> None:
    first, second = image(), image(b"NAMES = set()\n")
    assert first.inputs() == image().inputs() != second.inputs()
    assert images.build(first, tmp_path / "a").digest != images.build(second, tmp_path / "b").digest


def test_an_interrupted_build_is_done_again(tmp_path: Path) -> None:
    half = tmp_path / image().inputs() / "image.tar"
    half.parent.mkdir()
    half.write_bytes(b"half")
    built = images.build(image(), tmp_path)
    assert built.tar == half
    assert json.loads(contents(built.tar.read_bytes())["manifest.json"])


def test_a_finished_build_is_not_done_again(tmp_path: Path) -> None:
    first = images.build(image(), tmp_path)
    written = first.tar.stat().st_mtime_ns
    assert images.build(image(), tmp_path) == first
    assert first.tar.stat().st_mtime_ns == written


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    first = images.build(image(b"FIRST = 1\n"), tmp_path)
    for number in range(images.KEPT):
        images.build(image(b"LATER = %d\n" % number), tmp_path)
        images.build(image(b"FIRST = 1\n"), tmp_path)
    assert len(list(tmp_path.iterdir())) == images.KEPT
    assert first.tar.exists()


def test_a_programs_libraries_and_loader_come_with_it() -> None:
    members = images.machine_files(["/bin/sh"])
    assert any("/libc.so" in path for path in members)
    assert any("/ld-" in path for path in members)
    for path, member in members.items():
        if member.link is not None:
            target = str(Path("/", path).resolve()).lstrip("/")
            assert target in members, f"{path} leads to {target}, which the image lacks"


def test_an_image_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(LabError, match=r"ringfence\.local/pause:1"):
        images.describe("ringfence.local/bank:9")


def test_the_pause_process_ends_at_once_when_it_is_told() -> None:
    process = subprocess.Popen(["/bin/dash", "-c", images.PAUSE_SCRIPT], start_new_session=True)
    try:
        time.sleep(0.2)
        process.terminate()
        assert process.wait(2) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Outside a container its sleep lives on.
