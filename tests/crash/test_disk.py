"""A disk that is full, on a real file system: a clear error, nothing lost, and it goes on when there is space again."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringfence.errors import ExitCode
from ringfence.platform.kubernetes.resources import POD
from tests.crash.conftest import MakePlace, Place, Undisturbed
from tests.crash.driver import FILLER, Trouble
from tests.crash.moments import Moment, states
from tests.crash.scenarios import Order, Scenario

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: only root may"),
]
CONTAIN = Scenario("contain", (Order("contain", target="pod/cards-1"),))
EVERY = 4
PARTS = 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """16 MB."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "ringfence-test", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fenced(place: Place) -> bool:
    pod = place.api.get(POD, "bank", "cards-1")
    assert pod is not None
    return "ringfence.dev/fence" in pod["metadata"]["labels"]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_full_disk_under_the_store(
    part: int, small_disk: Path, make_place: MakePlace, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    """Wherever it comes: the command ends with the error of storage, or did not need the space any more."""
    expected = undisturbed(CONTAIN)
    codes = []
    for moment in [one for one in states(expected.moments) if one.kind != "file"][part :: PARTS * EVERY // 2]:
        disk = small_disk / secrets.token_hex(4)
        disk.mkdir()
        with make_place(store=disk) as place:
            codes.append(place.run(CONTAIN.orders, Trouble("fill", at=moment, where=disk)))
            said = place.said()
            assert codes[-1] in (0, ExitCode.STORAGE), f"full {moment}: {said}"
            if codes[-1]:
                assert "error: " in said
                assert "full" in said or "disk I/O error" in said, said
                assert "Traceback" not in said, said
            (disk / FILLER).unlink(missing_ok=True)
            assert place.run(CONTAIN.orders) == 0, f"full {moment}: {place.said()}"
            ending, wrong = place.ending()
            problems = [*wrong, *expected.ending.differences(ending)]
            assert not problems, f"full {moment}: {problems}\n{place.said()}"
    assert ExitCode.STORAGE in codes, "the disk was not full enough to be a test"


def full_from(place: Place, moment: Moment, disk: Path) -> int:
    return place.run(CONTAIN.orders, Trouble("fill", at=moment, where=disk))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_full_disk_under_the_vault(
    when: str, small_disk: Path, make_place: MakePlace, undisturbed: Callable[[Scenario], Undisturbed]
) -> None:
    """The cut stands, the evidence says why it is not there, and can be collected when there is space."""
    moment = next(one for one in undisturbed(CONTAIN).moments if (one.when, one.where) == (when, "patch pods"))
    with make_place(vault=small_disk / "vault") as place:
        (small_disk / "vault").mkdir(mode=0o700)
        assert full_from(place, moment, small_disk) == 0, place.said()
        assert fenced(place)
        ending, wrong = place.ending()
        assert not wrong
        assert (ending.steps["INC-1/run/1/cut/Pod/cards-1"], ending.seals) == ("done", {})
        assert ending.steps["INC-1/run/1/seal/Pod/cards-1"] == "failed"
        assert "No space left" in ending.why["INC-1/run/1/seal/Pod/cards-1"]
        (small_disk / FILLER).unlink()
        assert place.run((Order("collect"),), resumes=False) == 0, place.said()
        ending, wrong = place.ending()
        assert (ending.seals, wrong) == ({"Pod/cards-1 1": True}, [])
