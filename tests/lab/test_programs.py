"""Building the lab's programs: once for each version, all or nothing. With a tiny Go module instead of Kubernetes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab import programs
from lab.errors import LabError
from lab.programs import Part

pytestmark = pytest.mark.lab  # It needs Go, as the lab does.

PART = Part("hello", "hello", {"first": "./first", "second": "./second"}, "-s -w", "a moment")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the module; the cache is empty but for Go's own."""
    monkeypatch.setenv("GOCACHE", str(Path.home() / ".cache" / "go-build"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "LAB_FOLDER", tmp_path)
    monkeypatch.setattr(programs, "PARTS", (PART,))
    for name in PART.programs:
        (tmp_path / "hello" / name).mkdir(parents=True)
        (tmp_path / "hello" / name / "main.go").write_text("package main\n\nfunc main() {}\n")
    (tmp_path / "hello" / "go.mod").write_text("module example.test/hello\n\ngo 1.24\n")
    (tmp_path / "hello" / "go.sum").write_text("")
    return tmp_path / "hello"


def left_in_cache() -> list[str]:
    return sorted(path.name for path in PART.built.parent.iterdir() if path.is_dir())


def test_programs_are_built_once(source: Path) -> None:
    programs.ensure()
    first = programs.path("first").stat()
    programs.ensure()
    assert programs.path("first").stat().st_ino == first.st_ino
    assert left_in_cache() == [PART.built.name]


def test_what_no_cluster_needs_is_built_when_it_is_asked_for(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = Part("extra", "extra", {"second": "./second"}, "-s -w", "a moment", module="hello", on_demand=True)
    monkeypatch.setattr(programs, "PARTS", (extra,))
    programs.ensure()
    assert not extra.built.exists()
    assert programs.path("second").is_file()


def test_folders_of_a_module_are_kept_beside_its_programs(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "definitions" / "one").mkdir(parents=True)
    (source / "definitions" / "one" / "first.yaml").write_text("kind: First\n")
    (source / "definitions" / "one" / "first.yaml").chmod(0o444)  # As Go keeps every file of a module.
    assets = {"crds": ("example.test/hello", "definitions")}
    keeper = Part("keeper", "keeper", {"second": "./second"}, "-s -w", "a moment", module="hello", assets=assets)
    monkeypatch.setattr(programs, "PARTS", (keeper,))
    kept = programs.asset(keeper, "crds") / "one" / "first.yaml"
    shutil.rmtree(source / "definitions")
    assert kept.read_text() == "kind: First\n"
    assert kept.stat().st_mode & 0o200
    assert programs.path("second").parent == keeper.built


def test_another_version_is_another_folder(source: Path) -> None:
    programs.ensure()
    before = PART.built
    with (source / "go.mod").open("a") as file:
        file.write("\n// changed\n")
    assert PART.built != before
    programs.ensure()
    assert before.is_dir()
    assert PART.built.is_dir()


def test_a_failed_build_leaves_nothing_and_says_why(source: Path) -> None:
    (source / "second" / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(LabError, match=r"building hello failed:[^$]*undefined"):
        programs.ensure()
    assert left_in_cache() == []
    with pytest.raises(LabError, match="lab build"):
        programs.path("first")


def test_what_an_interrupted_build_left_is_removed_by_the_next(source: Path) -> None:
    half = PART.built.parent / ".hello-killed"
    half.mkdir(parents=True)
    (half / "first").write_text("half a program")
    programs.ensure()
    assert left_in_cache() == [PART.built.name]


def test_an_incomplete_go_sum_is_refused_and_not_mended(source: Path) -> None:
    with (source / "go.mod").open("a") as file:
        file.write("\nrequire golang.org/x/sync v0.12.0\n")
    (source / "first" / "main.go").write_text(
        'package main\n\nimport _ "golang.org/x/sync/errgroup"\n\nfunc main() {}\n'
    )
    with pytest.raises(LabError, match=r"go\.sum"):
        programs.ensure()
    assert (source / "go.sum").read_text() == ""


def test_an_unknown_program_is_an_error(source: Path) -> None:
    with pytest.raises(LabError, match="no program"):
        programs.path("kube-bouncer")
