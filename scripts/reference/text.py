"""Markdown that all pages share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

GENERATED = "<!-- Generated from the code by scripts/generate.py: edit the code, not this page. -->"


def document(title: str, *parts: str) -> str:
    """A page: the note that it is generated, its title, its parts with a blank line between them."""
    return "\n\n".join((GENERATED, f"# {title}", *(part.strip("\n") for part in parts if part.strip()))) + "\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of GitHub's Markdown; empty without rows."""
    lines = [" | ".join(map(cell, row)) for row in rows]
    if not lines:
        return ""
    head = [" | ".join(headers), " | ".join("---" for _ in headers)]
    return "\n".join(f"| {line} |" for line in (*head, *lines))


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "–"


def code(text: object) -> str:
    return f"`{text}`"


def prose(text: str) -> str:
    """A docstring as Markdown: code spans with one backtick, references to Python objects as code spans."""
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", text.replace("``", "`")).strip()


def doc(thing: object) -> str:
    """The docstring as Markdown. Raises ValueError without one: then the page would lack a sentence."""
    text = inspect.getdoc(thing)
    if not text:
        raise ValueError(f"{thing} has no docstring")
    return prose(text)


def sentence(thing: object) -> str:
    """The docstring's first paragraph in one line."""
    return " ".join(doc(thing).split("\n\n", 1)[0].split())
