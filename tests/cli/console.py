"""The program as a user runs it, in this process: against the simulated API server, with a home of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ringfence.cli.commands import whole
from ringfence.errors import RingfenceError
from tests.wire import Wire, kubeconfig


@dataclass(frozen=True)
class Done:
    """``code`` is what the process would end with; ``error`` an error of ours, which ``run`` would print."""

    code: int
    out: str
    err: str
    error: RingfenceError | None

    @property
    def data(self) -> Any:
        assert self.code == 0, self.out + self.err + str(self.error)
        return json.loads(self.out)


class Console:
    """``settings`` are the configuration's sections."""

    def __init__(self, wire: Wire, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.settings: dict[str, Any] = {
            "cluster": {"kubeconfig": kubeconfig(home / "console-kubeconfig", wire.url), "timeout_seconds": 5},
            "store": {"url": f"sqlite:///{home}/console.db"},
            "vault": {"path": str(home / "console-vault")},
            "signing": {"key": str(home / "console-seal.pem")},
        }
        monkeypatch.setenv("RINGFENCE_CONFIG", str(home / "console.yaml"))

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Done:
        (self.home / "console.yaml").write_text(json.dumps(self.settings))
        result = CliRunner().invoke(whole(), list(arguments), input=stdin)
        error = result.exception if isinstance(result.exception, RingfenceError) else None
        if result.exception is not None and error is None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(int(error.exit_code) if error else result.exit_code, result.stdout, result.stderr, error)


@pytest.fixture
def console(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(wire, tmp_path, monkeypatch)
