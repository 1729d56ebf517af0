"""declare, note, classify, state, handover as they are typed. What they write: tests/response/test_record.py."""

from __future__ import annotations

import json

import pytest
import yaml
from markdown_it import MarkdownIt

from ringfence.cli.durations import instant_of
from ringfence.cli.incident_commands import DeterminationWord, SeverityWord, StateWord
from ringfence.errors import ExitCode
from ringfence.model.incident import Determination, Severity, State
from tests.cli.console import Console

pytestmark = pytest.mark.slow  # whole commands, one after the other

HOSTILE = "<img src=x>\x1b[2J\u202e [link](http://evil.test) | `code` contained"


@pytest.fixture
def declared(console: Console) -> Console:
    assert console("declare", "pod/cards-1", "-n", "bank", "--reason", "odd egress").code == 0
    return console


def test_the_words_of_the_options_are_the_models() -> None:
    """They are spelled out beside it, so that --help need not import it."""
    for words, model in ((SeverityWord, Severity), (DeterminationWord, Determination), (StateWord, State)):
        assert [word.value for word in words] == [member.value for member in model]


def test_declare_says_whether_it_joined(console: Console) -> None:
    first = console("declare", "cards-1", "-n", "bank", "--reason", "x", "-o", "json").data
    assert (first["incident"]["id"], first["incident"]["severity"], first["joined"]) == ("INC-1", "high", False)
    assert "joined" in console("declare", "pod/cards-1", "-n", "bank", "--reason", "y").out


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_reason_says_something(console: Console, reason: str) -> None:
    assert console("declare", "cards-1", "-n", "bank", "--reason", reason).code == ExitCode.USAGE


def test_a_note_comes_from_standard_input_whatever_its_bytes(declared: Console) -> None:
    assert declared("note", "1", "-", stdin=b"two\nlines \xff\n").code == 0
    notes = [e["event"] for e in declared("timeline", "INC-1", "-o", "json").data if e["event"]["type"] == "note.added"]
    assert notes[0]["text"] == "two\nlines \\xff\n"
    assert notes[0]["actor"] == "kubernetes:cluster-1/alice"


def test_nobody_can_write_in_another_name(declared: Console) -> None:
    assert declared("note", "1", "x", "--author", "bob").code == ExitCode.USAGE


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T02:40:00",
        "2026-11-23",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-11-23T02:40:00+25:00",
        "1763865600",
        "0001-01-01T00:00:00+14:00",
        "２026-11-23T02:40:00Z",
    ],
)
def test_a_time_without_its_offset_is_none(declared: Console, text: str) -> None:
    assert instant_of(text) is None
    done = declared("classify", "1", "--awareness", text, "--reason", "x")
    assert done.code == ExitCode.USAGE
    assert "offset" in done.err


def test_a_time_with_any_offset_is_the_same_moment() -> None:
    assert instant_of("2026-11-23T02:40:00+01:00") == instant_of("2026-11-23t01:40:00.0z") is not None


def test_an_error_of_ours_keeps_its_code(declared: Console) -> None:
    assert declared("classify", "1", "--awareness", "2999-01-01T00:00:00Z", "--reason", "x").code == ExitCode.USAGE
    assert declared("state", "1", "closed", "--reason", "x").code == ExitCode.REFUSED
    assert declared("state", "1", "recovering", "--reason", "x").code == ExitCode.NOT_FOUND
    assert declared("state", "1", "eradicated", "--reason", "x").code == ExitCode.USAGE
    assert declared("note", "7", "x").code == ExitCode.NOT_FOUND


def test_the_hand_over_is_the_same_in_every_format_and_written_down_each_time(declared: Console) -> None:
    as_json = declared("handover", "1", "--to", "bob/soc", "-o", "json").data
    as_yaml = yaml.safe_load(declared("handover", "1", "--to", "bob/soc", "-o", "yaml").out)
    assert as_json["recorded"]
    assert [row["path"] for row in as_yaml["open_rows"]] == [row["path"] for row in as_json["open_rows"]]
    assert "network.egress" in declared("handover", "1", "--to", "bob/soc").out
    events = [entry["event"]["type"] for entry in declared("timeline", "1", "-o", "json").data]
    assert events.count("handed-over") == 3


def test_hostile_words_stay_words_in_text_and_markdown(console: Console) -> None:
    console("declare", "cards-1", "-n", "bank", "--reason", HOSTILE)
    for out in ("text", "md"):
        page = console("handover", "1", "--to", HOSTILE, "--note", HOSTILE, "-o", out).out
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert "contained" not in page, "only the verdict may say so"
    tokens = MarkdownIt("commonmark").parse(page)
    kinds = {token.type for one in tokens for token in (one, *(one.children or ()))}
    assert not kinds & {"html_block", "html_inline", "link_open", "image"}
    assert sum(token.type == "heading_open" and token.tag == "h1" for token in tokens) == 1


def test_without_the_cluster_what_is_known_is_told_but_nobody_vouches_for_it(declared: Console) -> None:
    declared.settings["cluster"] = {"kubeconfig": str(declared.home / "none")}
    done = declared("handover", "1", "--to", "bob/soc", "-o", "json")
    assert done.code == ExitCode.UNREACHABLE
    page = json.loads(done.out)
    assert not page["recorded"]
    assert page["incident"]["id"] == "INC-1"
    assert "not on the timeline" in done.err
    assert "handed-over" not in [entry["event"]["type"] for entry in declared("timeline", "1", "-o", "json").data]
