"""The whole command line against a hostile bank: contain, status, timeline, evidence, report; in text and as data."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ringfence import cli
from ringfence.cli.output import Format
from ringfence.errors import ExitCode
from ringfence.seal.cli import main as ringfence_verify
from tests.hostile.texts import HOSTILE, as_received, harm
from tests.hostile.world import hostile_bank
from tests.wire import Wire, kubeconfig

pytestmark = pytest.mark.slow

Said = tuple[int, str, str]
Ringfence = Callable[..., Said]


@pytest.fixture
def ringfence(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ringfence:
    """Runs a command in this process: its exit code, standard output and standard error."""
    config = tmp_path / "config.yaml"
    content = {
        "store": {"url": f"sqlite:///{tmp_path / 'ringfence.db'}"},
        "vault": {"path": str(tmp_path / "vault")},
        "signing": {"key": str(tmp_path / "seal.pem")},
    }
    config.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("RINGFENCE_CONFIG", str(config))

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["ringfence", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert harm(said.out + said.err) == []
        assert "Traceback" not in said.err
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pod_is_contained_sealed_and_reported(text: str, ringfence: Ringfence, tmp_path: Path) -> None:
    # As a shell hands over bytes that are no text.
    reason = os.fsdecode(text[:1000].encode("utf-8", "surrogatepass")).replace("\0", "") or "x"
    with Wire(hostile_bank(text)) as wire:
        api = ["--kubeconfig", kubeconfig(tmp_path / "kubeconfig", wire.url)]
        for plan in (["--dry-run"], ["--print-kubectl"]):
            code, _, _ = ringfence("contain", "pod/cards-1", "-n", "bank", *plan, *api)
            assert code in (ExitCode.OK, ExitCode.REFUSED, ExitCode.INCOMPLETE, ExitCode.NOT_FOUND)
        code, out, err = ringfence("contain", "pod/cards-1", "-n", "bank", "--reason", reason, "-o", "json", *api)
        assert code in (ExitCode.OK, ExitCode.REFUSED, ExitCode.INCOMPLETE), err
        view = json.loads(out)
        incident = view["incident"]["id"]
        assert view["incident"]["title"] == (as_received(reason).strip() or "Pod bank/cards-1 is suspected")
        for form in Format:
            code, out, err = ringfence("status", incident, "-o", form.value, *api)
            assert code == 0, err
        ringfence("evidence", "collect", incident, *api)
    for command in (["timeline"], ["evidence", "list"], ["evidence", "verify"]):
        for form in (Format.TEXT, Format.WIDE, Format.JSON):
            code, out, err = ringfence(*command, incident, "-o", form.value)
            assert code == 0, err
            if form is Format.JSON:
                json.loads(out)
    for item in ("pod", "logs/cards/current", "events/core"):
        assert ringfence("evidence", "show", incident, item)[0] == 0
    assert ringfence("report", incident, "--out", str(tmp_path / "report"))[0] == 0
    for name in ("report.md", "report.html"):
        assert harm((tmp_path / "report" / name).read_text("utf-8")) == []
    json.loads((tmp_path / "report" / "timeline.json").read_bytes())
    bundles = sorted((tmp_path / "vault" / incident).glob("*.tar"))
    assert bundles
    for bundle in bundles:
        assert ringfence_verify([str(bundle), "--key", str(tmp_path / "seal.pem.pub"), "--list"]) == 0


HOSTILE_ARGUMENTS = [name for name in HOSTILE if "200 KB" not in name and name != "empty"]


@pytest.mark.parametrize("name", HOSTILE_ARGUMENTS)
def test_a_hostile_argument_is_an_error_of_ours(name: str, ringfence: Ringfence, tmp_path: Path) -> None:
    argument = os.fsdecode(HOSTILE[name].encode("utf-8", "surrogatepass")).replace("\0", "")
    (tmp_path / "kubeconfig").write_text("{}")
    for command in (
        ["timeline", "--", argument],
        ["evidence", "list", "--seal", argument, "--", "INC-1"],
        ["report", "--out", "/dev/null", "--", argument],
        ["contain", "-n", argument, "--kubeconfig", str(tmp_path / "kubeconfig"), "--", argument],
    ):
        code, _, err = ringfence(*command)
        assert code not in (ExitCode.OK, ExitCode.INTERNAL), err
        assert err
