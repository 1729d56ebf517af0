"""Every way out of the store, one hostile text in each of its words: screen, tables, JSON, YAML, timeline, report."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence import cli
from ringfence.cli import history, output, reports, screen
from ringfence.cli.output import Format
from ringfence.cli.view import Customers, View
from ringfence.config import load
from ringfence.errors import (
    ChainBroken,
    ConfigError,
    EvidenceError,
    Invalid,
    RingfenceError,
    StoreError,
    Tampered,
    TargetError,
    Unanswered,
    Unverifiable,
)
from ringfence.model.access import AccessPath, PathState
from ringfence.model.outcome import Failed, Outcome, Problem, Refused, Skipped, Unknown
from ringfence.model.proof import Level
from ringfence.model.run import Approval, Ceiling, Decision, Lease
from ringfence.model.timeline import HandedOver, NoteAdded, TargetJoined
from ringfence.reporting.html import render as render_html
from ringfence.reporting.markdown import render as render_markdown
from ringfence.store import access, evidence, incidents, timeline
from ringfence.store.database import Store
from tests.hostile.texts import HOSTILE, as_received, harm
from tests.reporting.conftest import Written, written  # noqa: F401
from tests.reporting.pages import read, read_markdown
from tests.reporting.sample import report_of

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
LONG = 2200
TYPICAL = ("hyperlink (OSC 8)", "newlines", "bidi overrides", "script")
table_of_texts = [pytest.param(as_received(HOSTILE[name]), id=name) for name in TYPICAL] + [
    pytest.param(as_received(text)[:LONG], id=name, marks=pytest.mark.slow)
    for name, text in HOSTILE.items()
    if name not in TYPICAL
]
ACTIVE = frozenset(
    (
        "script",
        "iframe",
        "object",
        "embed",
        "img",
        "svg",
        "form",
        "input",
        "button",
        "link",
        "base",
        "video",
        "audio",
        "a",
    )
)


def view_of(store: Store, text: str, outcome: Outcome | None) -> View:
    with store.read() as session:
        return View(
            incident=incidents.get(session, "INC-1"),
            rows=access.rows(session, "INC-1"),
            customers=(Customers(text, 1, 2, 0), Customers(text, 0, 2, 0), Customers(text, 1, None, 1)),
            customers_known=True,
            same_image=1,
            same_account=None,
            seals=evidence.seals(session, "INC-1"),
            items=evidence.items(session, "INC-1", 1),
            evidence_problem=text,
            unread=text,
            outcome=outcome,
            outcome_of="contain",
            seconds_to_cut=1.5,
            waiting=(approval(text),),
            lease=Lease(incident="INC-1", until=NOW, granted_by=text, granted_at=NOW),
        )


def approval(text: str) -> Approval:
    return Approval(
        id="INC-1/approval/1",
        incident="INC-1",
        run="INC-1/run/1",
        step=text,
        reason=text,
        ceiling=Ceiling(actions=(text,), targets=(text,), pods=1),
        second_person=True,
        requested_by=text,
        requested_at=NOW,
        expires_at=NOW,
        decision=Decision.PENDING,
    )


def outcomes(text: str) -> tuple[Outcome | None, ...]:
    problem = Problem(code="x", what=text, why=text, next_step=text)
    return (
        None,
        Refused(reason=text, next_step=text),
        Skipped(reason=text),
        Failed(problem=problem),
        Unknown(problem=problem),
    )


def more_events(store: Store, text: str) -> None:
    """What the sample does not hold."""
    with store.write() as session:
        target = incidents.get(session, "INC-1").target
        for event in (
            NoteAdded(occurred_at=NOW, actor=text, text=text),
            HandedOver(occurred_at=NOW, actor=text, to=text, open_rows=(text,), waiting=(text,), note=text),
            TargetJoined(occurred_at=NOW, actor=text, target=target, how=text),
        ):
            timeline.append(session, "INC-1", event, NOW)


def config_of(store: Store, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "store": {"url": str(store._engine.url)},
                "vault": {"path": str(tmp_path / "vault")},
                "signing": {"key": str(tmp_path / "seal.pem")},
            }
        )
    )
    return path


def printed(work: Callable[[], object]) -> str:
    said = io.StringIO()
    with redirect_stdout(said):
        work()
    return said.getvalue()


@pytest.mark.parametrize("text", table_of_texts)
def test_the_screen_is_harmless_in_every_outcome(text: str, written: Written) -> None:  # noqa: F811
    store = written(text)
    for outcome in outcomes(text):
        view = view_of(store, text, outcome)
        said = printed(lambda: (screen.show(view), screen.show_rows(view.rows), screen.show_runs(view)))  # noqa: B023
        assert harm(said) == []
        labels = [line[:11].strip() for line in said.splitlines()]
        assert labels.count("NEXT") == 1, "no line of the text's own making"
        assert labels.count("EVIDENCE") == 1
        for out in (Format.JSON, Format.YAML):
            data = printed(lambda: output.say_data(view.to_json(), out))  # noqa: B023
            assert harm(data) == []
            assert (json.loads(data) if out is Format.JSON else yaml.safe_load(data)) == view.to_json()


@pytest.mark.parametrize("text", table_of_texts)
def test_the_timeline_is_harmless_lossless_and_verified(text: str, written: Written) -> None:  # noqa: F811
    store = written(text)
    more_events(store, text)
    with store.read() as session:
        entries = timeline.read(session, "INC-1")
        for out in (Format.TEXT, Format.WIDE):
            said = printed(lambda: history.show(session, "INC-1", out))  # noqa: B023
            assert harm(said) == []
            assert f"chain verified: {len(entries)} events" in said
        data = printed(lambda: history.show(session, "INC-1", Format.JSON))
    assert harm(data) == []
    assert json.loads(data) == [entry.to_json() for entry in entries]
    note = next(entry.event for entry in entries if isinstance(entry.event, NoteAdded))
    assert note.text == text, "not one character lost"


@pytest.mark.parametrize("text", table_of_texts)
def test_the_reports_files_are_harmless_and_name_everything(
    text: str,
    written: Written,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = written(text)
    more_events(store, text)
    config = config_of(store, tmp_path)
    paths = {path.name: path for path in reports.write(load(config), "INC-1", str(tmp_path / "out"))}
    page, markdown = (paths[name].read_text("utf-8") for name in ("report.html", "report.md"))
    for one in (page, markdown):
        assert harm(one) == []
    html = read(page)
    assert {tag for tag, _ in html.tags} & (ACTIVE - {"a"}) == set()
    for tag, attributes in html.tags:
        for name, value in attributes:
            assert not name.startswith("on"), tag
            assert name != "src"
            assert name != "href" or (value or "").startswith("#"), "it leads nowhere but into itself"
    assert "default-src 'none'" in page
    assert {tag for tag, _ in read_markdown(markdown).tags} & ACTIVE == set()
    events = json.loads(paths["timeline.json"].read_bytes())
    with store.read() as session:
        assert [event["seq"] for event in events] == [row.seq for row in timeline.raw(session, "INC-1")][:-1]
    assert text in [event["event"].get("text") for event in events]


@pytest.mark.parametrize("text", table_of_texts)
def test_the_commands_that_read_the_store_print_harmless_text(
    text: str,
    written: Written,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of(written(text), tmp_path)
    unreachable = tmp_path / "kubeconfig"
    unreachable.write_text("{}")
    for command in (
        ["incidents"],
        ["timeline", "INC-1"],
        ["evidence", "list", "INC-1"],
        ["status", "INC-1", "--kubeconfig", str(unreachable)],
    ):
        for out in Format:
            monkeypatch.setattr(sys, "argv", ["ringfence", *command, "--config", str(config), "-o", out.value])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            said = capsys.readouterr()
            assert ended.value.code in (0, None), said.err
            assert harm(said.out + said.err) == []
            if out is Format.JSON:
                json.loads(said.out)
            if out is Format.YAML:
                yaml.safe_load(said.out)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_an_error_of_any_words_is_three_harmless_lines(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = as_received(text) or "x"
    facts: dict[str, Any] = {"system": text, "verb": text, "target": text, "why": text, "next_step": text}
    errors: tuple[RingfenceError, ...] = (
        RingfenceError(text, why=text, next_step=text),
        ConfigError(text, location=text, why=text, next_step=text),
        TargetError(text, why=text, next_step=text),
        StoreError(text, why=text, next_step=text),
        EvidenceError(text, why=text, next_step=text),
        ChainBroken(text, 7, text),
        Invalid(text, **facts),
        Unanswered(text, **facts),
        Tampered(text, expected=text, actual=text),
        Unverifiable(text, missing=text, next_step=text),
    )
    for error in errors:
        output.fail(error)
        said = capsys.readouterr()
        assert said.out == ""
        assert harm(said.err) == []
        assert [line[:9] for line in said.err.splitlines()][1:] == ["  why:  " + said.err.splitlines()[1][8:9]] + (
            ["  next: " + said.err.splitlines()[2][8:9]] if error.next_step else []
        )
        assert len(said.err) < 3 * 21_000


# --- streams that cannot take it ------------------------------------------------------------------------------------


class Narrow(io.TextIOWrapper):
    """A terminal of another locale."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    @property
    def said(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "cp437", "utf-8"])
def test_a_terminal_of_another_locale_shows_everything(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Narrow(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    output.say("→ first · line\ud800", "second")
    output.say("third")
    assert [line for line in stream.said.splitlines() if line in ("second", "third")] == ["second", "third"]
    assert "first" in stream.said


def test_a_full_disk_behind_the_output_stops_nothing() -> None:
    with Path("/dev/full").open("w") as full, redirect_stdout(full):
        output.say("x" * 100_000)
        output.say("more")


# --- whatever hypothesis finds --------------------------------------------------------------------------------------

anything = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=300)


@given(text=anything, why=anything, state=st.sampled_from([PathState.ALIVE, PathState.UNSEEN, PathState.DEAD]))
def test_any_row_on_any_screen(text: str, why: str, state: PathState) -> None:
    row = AccessPath(path="node", title=text, state=state, level=Level.OBSERVED, why=why, until=text, as_of=NOW)
    said = printed(lambda: screen.show_rows((row,)))
    assert harm(said) == []
    assert sum(1 for line in said.splitlines() if not line.startswith(" ")) == 1


@given(cells=st.lists(st.tuples(anything, anything, st.integers()), max_size=4))
def test_any_table(cells: list[tuple[str, str, int]]) -> None:
    said = printed(lambda: output.table(("one", "two", "three"), cells))
    assert harm(said) == []
    assert len(said.splitlines()) == 1 + len(cells)


_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)


@given(_value)
def test_any_data_as_json_and_yaml(value: Any) -> None:
    as_json = printed(lambda: output.say_data(value, Format.JSON))
    as_yaml = printed(lambda: output.say_data(value, Format.YAML))
    assert harm(as_json) == harm(as_yaml) == []
    assert json.loads(as_json) == value
    assert yaml.safe_load(as_yaml) == value


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=anything)
def test_any_report(text: str, written: Written) -> None:  # noqa: F811
    report = report_of(written(text), text)
    for one in (render_html(report), render_markdown(report)):
        assert harm(one) == []
    assert {tag for tag, _ in read(render_html(report)).tags} & (ACTIVE - {"a"}) == set()
    assert {tag for tag, _ in read_markdown(render_markdown(report)).tags} & ACTIVE == set()
