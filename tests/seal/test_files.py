"""A file under construction is nowhere to be seen, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ringfence.seal.files import NewFile


def test_a_file_under_construction_has_no_name_that_a_killed_process_could_leave(tmp_path: Path) -> None:
    with NewFile(tmp_path, mode=0o400) as file:
        file.write(b"half")
        file.stream.flush()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nameless", [True, False])
def test_a_published_file_is_whole_read_only_and_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    if not nameless:
        no_nameless_files(monkeypatch)
    for content, made in ((b"first", True), (b"second", False)):
        with NewFile(tmp_path, mode=0o400) as file:
            file.write(content)
            assert file.publish(tmp_path / "x") is made
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"first")]
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o400


def no_nameless_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system without O_TMPFILE (NFS, for one)."""
    really = os.open

    def refuse(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return really(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
