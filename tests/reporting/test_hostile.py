"""Text of unknown origin never becomes markup, a link, a table cell, a line or a terminal's command."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ringfence.reporting import html, markdown
from ringfence.reporting.text import LONGEST, visible
from tests.reporting.conftest import Written
from tests.reporting.pages import Tag, read, read_markdown
from tests.reporting.sample import report_of

pytestmark = pytest.mark.slow  # every payload in every field, in both formats

PLAIN = "plain"
HOSTILE = {
    "tag": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "quote": "' onmouseover='alert(1)",
    "end of style": "</style></table></body><svg onload=alert(1)>",
    "comment": "<!-- x --><![CDATA[ <?php ",
    "unclosed comment": "<!--",
    "entity": "&lt;b&gt;&#60;script&#62;&amp;",
    "pipe": "a | b || c",
    "escaped pipe": "\\| \\\\| \\",
    "backticks": "` `` ``` ~~~",
    "code and pipe": "`|` https://evil.example/`|`<b>",
    "link": "[x](javascript:alert(1)) ![y](data:text/html,z) [z][ref]",
    "reference": "[ref]: http://evil.example 'title'",
    "autolink": "<https://evil.example> <a@evil.example>",
    "bare link": "see https://evil.example/a?b=c www.evil.example mailto:a@evil.example",
    "mention": "@security please",
    "emphasis": "*a* _b_ **c** __d__ ~~e~~ ***",
    "heading": "# heading",
    "list": "- item",
    "plus": "+ item",
    "number": "1. item",
    "parenthesis": "2) item",
    "quotation": "> quote",
    "rule": "---",
    "underline": "===",
    "indent": "      code",
    "newlines": "\n\n# heading\n\n- item\r\n| a | b |\n",
    "tab": "\tcode",
    "separators": "a\u2028b\u2029c\x0bd\x0ce\x85f",
    "escape": "\x1b[2J\x1b]8;;http://evil.example\x07click\x1b]8;;\x07\x9b31m",
    "direction": "\u202eexe.drac\u202c\u2066x\u2069\u200f\u061c",
    "invisible": "\u200bz\u200c\u200d\u2060\ufeff\u00ad\u3164\u2800\ufe0f\U000e0041",
    "control": "\x00\x08\x7f",
    "template": "{{ 7*7 }} {% raw %} {# x #} ${7*7} <%= 1 %>",
    "mathematics": "$x^2$ $$y$$ [^1]",
    "marks": "a" + "\u0301" * 40,
}


def structure(tags: list[Tag]) -> list[Tag]:
    # Words that a renderer would turn into links by itself are shown as code.
    return [tag for tag in tags if tag[0] != "code"]


@pytest.fixture(scope="module")
def plain(written: Written) -> tuple[list[Tag], list[Tag], int]:
    report = report_of(written(PLAIN), PLAIN)
    page, text = html.render(report), markdown.render(report)
    return read(page).tags, structure(read_markdown(text).tags), len(text.splitlines())


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_report_full_of_hostile_text_has_the_structure_of_a_plain_one(
    payload: str, plain: tuple[list[Tag], list[Tag], int], written: Written
) -> None:
    report = report_of(written(payload), payload)
    page, text = html.render(report), markdown.render(report)
    in_html, in_markdown, lines = plain
    read_page = read(page)
    assert read_page.tags == in_html
    assert read_page.others == []
    assert read_page.open == []
    assert structure(read_markdown(text).tags) == in_markdown
    assert len(text.splitlines()) == lines
    for one in (page, text):
        assert all(character == "\n" or character.isprintable() for character in one)
        assert payload not in one or payload.isprintable()


@pytest.mark.parametrize("name", ["tag", "pipe", "template", "direction", "escape", "newlines", "emphasis"])
def test_hostile_text_is_shown_as_it_is_and_not_dropped(name: str, written: Written) -> None:
    report = report_of(written(HOSTILE[name]), HOSTILE[name])
    words = re.sub(r"\s+", " ", visible(HOSTILE[name] + "shell in the cards pod"))
    assert words in read(html.render(report)).text
    if name != "escape":  # its address is shown as code, with its angle brackets as escapes
        assert words in read_markdown(markdown.render(report)).text


def test_no_renderer_makes_links_of_addresses_in_markdown(written: Written) -> None:
    payload = HOSTILE["bare link"]
    outside_code = re.sub(r"`[^`]*`", "", markdown.render(report_of(written(payload), payload)))
    assert not re.search(r"://|www\.|@|mailto:", outside_code)


def test_a_long_text_is_cut_and_the_rest_is_counted() -> None:
    assert visible("x" * (LONGEST + 7)) == "x" * LONGEST + " … (7 characters more)"


_TEXT = st.text(max_size=40)
_NASTY = st.lists(st.sampled_from([*"|\\`*_<>[]()!&#-~ a\n", "1."])).map("".join)


@given(_TEXT | _NASTY)
def test_escaped_text_reads_in_markdown_as_the_text_itself(raw: str) -> None:
    text = markdown.escape(visible(raw))
    render = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render
    listed = read(render(f"- {text}\n- end\n"))
    tabled = read(render(f"| a | b |\n| --- | --- |\n| {text} | end |\n"))
    assert [name for name, _ in listed.tags if name != "code"] == ["ul", "li", "li"]
    assert [name for name, _ in tabled.tags if name not in ("code", "thead", "tbody")] == [
        *("table", "tr", "th", "th", "tr", "td", "td")
    ]
    # Addresses are shown as code, spaces at the edges as escapes: everything else reads as it is.
    if not re.search(r"@|:|www", raw) and raw == raw.strip():
        for page in (listed, tabled):
            assert visible(raw) in "".join(page.pieces)


@given(_TEXT | _NASTY)
def test_code_is_one_span_whatever_is_in_it(raw: str) -> None:
    text = markdown.code(visible(raw))
    render = MarkdownIt("commonmark", {"html": True}).enable(["table"]).render
    page = read(render(f"| a | b |\n| --- | --- |\n| {text} | end |\n"))
    assert [name for name, _ in page.tags if name in ("td", "code")] == (["td", "code", "td"] if raw else ["td", "td"])


@given(_TEXT)
def test_what_is_shown_can_be_seen(raw: str) -> None:
    assert visible(raw).isprintable()
