"""What tests on the lab's cluster share. None of them skips: what cannot run, fails and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import layout
from lab.layout import Lab
from tests.lab.admission import bound_namespace, kyverno
from tests.lab.gitops import argocd
from tests.lab.keda import keda
from tests.lab.program import canary_responder, office, responders
from tests.lab.space import space

__all__ = [
    "argocd",
    "bound_namespace",
    "canary_responder",
    "keda",
    "kyverno",
    "office",
    "responders",
    "space",
]  # Fixtures, for every test here.

REPOSITORY = Path(__file__).parents[2]


def run_lab(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """``python -m lab ARGUMENTS``. Its output is read to the end, so a daemon that kept it open would hang the test."""
    result = subprocess.run(
        [sys.executable, "-m", "lab", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=280
    )
    if check and result.returncode:
        pytest.fail(
            f"python -m lab {' '.join(arguments)} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
        )
    return result


@pytest.fixture(scope="session")
def root() -> None:
    if os.geteuid() != 0:
        pytest.fail("tests marked `lab` make namespaces and cgroups: run them as root (sudo -E make test-lab)")


@pytest.fixture(scope="session")
def lab(root: None) -> Iterator[Lab]:
    """The default lab with its bank. It stays up for the next run, unless RINGFENCE_LAB_KEEP=0."""
    run_lab("up")
    found = layout.find()
    assert found is not None
    yield found
    if os.environ.get("RINGFENCE_LAB_KEEP") == "0":
        run_lab("down")
