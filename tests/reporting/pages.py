"""Reading rendered reports back: the structure and the text that a reader's program makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from markdown_it import MarkdownIt

VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "wbr"})

Tag = tuple[str, tuple[tuple[str, str | None], ...]]


@dataclass
class Page(HTMLParser):
    """``tags`` in order with their attributes, ``text`` without style, ``open`` what was never closed."""

    tags: list[Tag] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # HTML knows no self-closing tags: <hr /> is void, <b /> stays open.
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        self.ends.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.pieces.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.pieces))


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    return page


def read_markdown(text: str) -> Page:
    """As a program shows it that obeys HTML inside Markdown."""
    return read(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))
