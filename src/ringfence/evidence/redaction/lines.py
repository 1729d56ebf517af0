"""Texts, in flat memory: read in pieces that end with a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ringfence.evidence.redaction.rules import TOO_LONG, Scanner, marker
from ringfence.evidence.redaction.tally import Tally

_PIECE = 1 << 16
LONGEST_LINE = 1 << 18
"""Bytes. A longer line goes as a whole: what is cut into pieces cannot be searched."""


class NoText(ValueError):
    """There is a zero byte in it, as in no text but in most files that are none, UTF-16 among them."""


def redact_lines(
    chunks: Iterable[bytes], scanner: Scanner, item: str, write: Callable[[bytes], None], tally: Tally
) -> None:
    """Write the text without what goes; whatever is no UTF-8 in it stays as it is. Raises NoText, EvidenceError."""
    at = 0
    for piece in _pieces(chunks):
        if piece is None:
            text, spans = "", []
            put = marker(TOO_LONG).encode() + b"\n"
            tally.add(TOO_LONG, [at, at + len(put) - 1])
            write(put)
            at += len(put)
            continue
        text = piece.decode("utf-8", "surrogateescape")
        with scanner.rules.limited(item):
            spans = scanner.scan(text)
        if not spans:
            write(piece)
            at += len(piece)
            continue
        end = 0
        parts = []
        for span in spans:
            kept, put = text[end : span.start].encode("utf-8", "surrogateescape"), marker(span.rule).encode()
            at += len(kept)
            tally.add(span.rule, [at, at + len(put)])
            at += len(put)
            parts += [kept, put]
            end = span.end
        rest = text[end:].encode("utf-8", "surrogateescape")
        at += len(rest)
        write(b"".join((*parts, rest)))


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Whole lines, some at a time; None for a line that is too long."""
    held, dropping = b"", False
    for chunk in chunks:
        if b"\0" in chunk:
            raise NoText
        held += chunk
        if dropping:
            _, found, held = held.partition(b"\n")
            if not found:
                held = b""
                continue
            dropping = False
        if len(held) < _PIECE:
            continue
        whole, newline, held = held.rpartition(b"\n")
        if newline:
            yield from _bounded(whole + newline)
        if len(held) > LONGEST_LINE:
            yield None
            held, dropping = b"", True
    if held and not dropping:
        yield from _bounded(held)


def _bounded(piece: bytes) -> Iterator[bytes | None]:
    """The piece; but what is longer than a line may be in it goes."""
    if len(piece) <= LONGEST_LINE:
        yield piece
        return
    for line in piece.splitlines(keepends=True):
        yield line if len(line) <= LONGEST_LINE else None
