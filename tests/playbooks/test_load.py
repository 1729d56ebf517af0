"""The loader: what each wrong playbook is told, and where; several mistakes at once; YAML's surprises kept out."""

from __future__ import annotations

import pytest

from ringfence.errors import ConfigError, ExitCode
from ringfence.model.incident import Severity
from ringfence.model.playbook import Phase, Reaction, TargetKind
from ringfence.playbooks import PlaybookError, load
from ringfence.playbooks.tree import MAX_BYTES
from tests.playbooks.bad import BAD
from tests.playbooks.pages import GOOD, mistakes_of, spoil


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_playbook_is_told_where_what_and_what_to_do(name: str) -> None:
    text, line, what, next_step = BAD[name]
    said = mistakes_of(text)
    assert any(at == line and what in words and next_step in advice for at, words, advice in said), (
        f"not said: {line}: {what}, {next_step}\n{said}"
    )


SEVERAL = ("an unknown key", "a null", "a list", "a directive", "half a character")


@pytest.mark.parametrize("name", [name for name in BAD if name not in SEVERAL])
def test_one_mistake_is_one_message(name: str) -> None:
    """A value that is refused already is not refused again for what it is not."""
    assert len(mistakes_of(BAD[name][0])) == 1


def test_the_good_one_is_read_whole() -> None:
    playbook = load(GOOD.encode(), "drill.yaml")
    assert (playbook.name, playbook.title, playbook.description) == ("drill", "A drill", "What the tests spoil.")
    assert (playbook.incident.type, playbook.incident.severity) == ("drill", Severity.HIGH)
    assert playbook.targets == (TargetKind.POD, TargetKind.DEPLOYMENT)
    assert [step.id for step in playbook.steps] == ["cut", "seal-it", "ask", "delete"]
    cut, seal, ask, delete = playbook.steps
    assert cut.params == {"shape": "fence"}
    assert (cut.on.refused, cut.on.failed, cut.on.skipped) == (Reaction.CONTINUE, Reaction.STOP, Reaction.CONTINUE)
    assert (seal.params, seal.when, seal.on.refused) == ({}, None, Reaction.STOP)
    assert ask.params == {"reason": "May they go", "expires_minutes": 60}
    assert delete.when == "incident.severity == 'high'"
    assert playbook.phases == (Phase.CONTAINING, Phase.ERADICATING)


def test_all_mistakes_are_said_at_once_in_the_order_of_the_lines() -> None:
    text = spoil(
        ("severity: high", "severity: urgent"),
        ("shape: fence", "shap: fence"),
        ("id: ask", "id: Ask"),
        ("action: pod.delete", "action: rm"),
        ("incident.severity", "incident.sev"),
        ("title: A drill", "title: &x A drill"),
    )
    with pytest.raises(PlaybookError) as caught:
        load(text.encode(), "ops/drill.yaml")
    lines = caught.value.why.split("\n")
    assert [line.split(": ")[0] for line in lines] == [f"ops/drill.yaml:{at}" for at in (5, 8, 15, 21, 28, 30)]
    assert caught.value.what == "the playbook ops/drill.yaml has 6 mistakes"


def test_a_playbook_error_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError) as caught:
        load(b"", "x.yaml")
    assert caught.value.exit_code is ExitCode.CONFIG
    assert caught.value.location == "x.yaml"


def test_a_message_is_one_line_per_mistake_whatever_the_file_holds() -> None:
    text = spoil(("action: pod.delete", 'action: "pod\\nforged.yaml:1: all is well\\u2028"'))
    with pytest.raises(PlaybookError) as caught:
        load(text.encode(), "drill.yaml\nforged")
    assert len(str(caught.value).splitlines()) == len(caught.value.mistakes) == 1


def test_a_thousand_mistakes_are_not_a_thousand_lines() -> None:
    with pytest.raises(PlaybookError) as caught:
        load("\n".join(f"k{number}: 1" for number in range(1000)).encode(), "x.yaml")
    assert len(caught.value.mistakes) > 1000
    assert len(str(caught.value).splitlines()) < 60
    assert "more" in str(caught.value).splitlines()[-1]


def test_too_many_bytes_and_no_text_are_refused_before_they_are_read() -> None:
    assert mistakes_of(b" " * (MAX_BYTES + 1))[0][1] == f"the file has {MAX_BYTES + 1} bytes"
    assert mistakes_of(b"a: b\nc: \xff\n") == [(2, "byte 0xff is not UTF-8", "save the file as UTF-8")]


def test_a_file_that_grows_when_read_is_refused() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    assert any("alias" in what for _line, what, _next in mistakes_of(bomb))


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "y", "n", "Yes", "OFF", "0x", "12:30:45", "2026-01-01", "=", "1_000"]
)
def test_words_of_yaml_1_1_stay_words(word: str) -> None:
    playbook = load(spoil(("title: A drill", f"title: {word}")).encode(), "drill.yaml")
    assert playbook.title == word


@pytest.mark.parametrize("word", ["true", "False", "12", "-1", "1.5", "0x1F", "0o17", "1e3", "null"])
def test_what_is_no_text_in_yaml_1_2_is_none_here(word: str) -> None:
    assert any("not text" in what for _line, what, _next in mistakes_of(spoil(("title: A drill", f"title: {word}"))))
    quoted = load(spoil(("title: A drill", f"title: '{word}'")).encode(), "drill.yaml")
    assert quoted.title == word


def test_an_octal_of_yaml_1_1_is_a_decimal_number() -> None:
    playbook = load(spoil(("May they go", "May they go, expires_minutes: 010")).encode(), "drill.yaml")
    assert playbook.step("ask").params["expires_minutes"] == 10


def test_a_name_is_held_against_a_file_and_not_against_other_sources() -> None:
    content = GOOD.encode()
    assert load(content, "drill (frozen in INC-1/run/1)").name == "drill"
    assert load(content, "/srv/playbooks/drill.yaml").name == "drill"
    with pytest.raises(PlaybookError):
        load(content, "/srv/playbooks/other.yaml")


def test_nothing_in_a_text_is_expanded() -> None:
    text = "$(id) ${HOME} {incident.id} {{ 7*7 }} %s `id` <script>"
    playbook = load(spoil(("title: A drill", f"title: '{text}'")).encode(), "drill.yaml")
    assert playbook.title == text
