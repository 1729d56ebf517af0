"""The tables of docs/concepts/when-the-api-fails.md, written from the table that the lab's test plays.

``python -m tests.faults.page`` writes them; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ringfence.model.plan import Verb
from tests.faults import table
from tests.faults.table import Row, Want

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "when-the-api-fails.md"
BEGIN, END = "<!-- {}: written by python -m tests.faults.page -->\n", "<!-- end -->\n"
NEVER = "–"

_EVENTS = {
    "vanished": "the object is gone before the request arrives",
    "reverted": "the request is carried out, its answer lost, and somebody puts the object back as it was",
    "ended": "the request is carried out, its answer lost, and somebody deletes the object",
}


def rendered(text: str) -> str:
    """The page with its tables as they are to be."""
    for name, content in (("answers", answers()), ("of a node", of_a_node()), ("others", others())):
        begin = BEGIN.format(name)
        before, mark, rest = text.partition(begin)
        _old, end, after = rest.partition(END)
        if not (mark and end):
            raise SystemExit(f"{PAGE.name} has no place for the table {name}: {begin.strip()}")
        text = f"{before}{begin}{content}{END}{after}"
    return text


def answers() -> str:
    """One line for each answer."""
    by_name: dict[str, dict[str, Row]] = {}
    for row in table.rows():
        by_name.setdefault(row.name, {})["blind " * row.blind + row.arrives] = row
    lines = []
    for name, rows in by_name.items():
        lines.append((name, *(_words(rows.get(column)) for column in ("before", "after", "late"))))
    return _markdown(("what comes back", "not carried out", "carried out", "carried out after the answer"), lines)


def of_a_node() -> str:
    """One line for each answer, to a request that is passed on to a kubelet."""
    by_name: dict[str, dict[str, Row]] = {}
    for row in table.rows(of_node=True):
        by_name.setdefault(row.name, {})[row.arrives] = row
    lines = [
        (name, *(_words_of_node(rows.get(column)) for column in ("before", "after", "late")))
        for name, rows in by_name.items()
    ]
    return _markdown(("what comes back", "not carried out", "carried out", "carried out after the answer"), lines)


def _words_of_node(row: Row | None) -> str:
    if row is None:
        return NEVER
    alone, both = (table.expected(row, Verb.CREATE, witness=witness, of_node=True) for witness in (False, True))
    first = _outcome(alone.kind, alone.code if alone.kind == table.FAILED else "")
    return first if alone == both else f"{first}; with the log: {both.then}"


def others() -> str:
    """One line for each thing that somebody else does."""
    lines = []
    for what, words in _EVENTS.items():
        cells = []
        for verb in (Verb.CREATE, Verb.PATCH, Verb.DELETE):
            alone, both = (table.interfered(what, verb, witness=witness) for witness in (False, True))
            cell = _outcome(*alone) if alone else NEVER
            cells.append(cell if alone == both or both is None else f"{cell}; with the log: {_outcome(*both)}")
        lines.append((words, *cells))
    return _markdown(("what happens", "create", "patch", "delete"), lines)


def _words(row: Row | None) -> str:
    if row is None:
        return NEVER
    wants = {table.expected(row, verb) for verb in Verb}
    assert len(wants) == 1, "the columns hold for every verb"
    want: Want = wants.pop()
    first = _outcome(want.kind, want.code)
    then = _outcome(want.then, want.then_code)
    return first if first == then else f"{first}, then {then}"


def _outcome(kind: str, code: str) -> str:
    return f"{kind}: {code}" if code else kind


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *lines))


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
